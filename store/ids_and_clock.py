"""Where ids and times come from. The mock controls may fix either."""

import os
import time
from collections.abc import Callable

_ID_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_TO_ID_CHARACTER = bytes(_ID_CHARACTERS[byte % 62] for byte in range(256))


class Sources:
    """The clock, and the source of random bytes."""

    def __init__(self) -> None:
        self.now: Callable[[], float] = time.time
        self.random: Callable[[int], bytes] = os.urandom


sources = Sources()


def unix_now() -> int:
    """Return the time in whole seconds since 1970, as `created_at` has it."""
    return int(sources.now())


def new_id(prefix: str) -> str:
    """Return `prefix_` and 24 random characters of [A-Za-z0-9], as recorded ids have."""
    return f"{prefix}_{sources.random(24).translate(_TO_ID_CHARACTER).decode()}"


def new_vector_store_id() -> str:
    """Return `vs_` and 32 hexadecimal digits, as recorded ids have."""
    return f"vs_{sources.random(16).hex()}"
