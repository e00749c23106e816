"""The sources of ids and times. The mock controls may fix both."""

import os
import time
from collections.abc import Callable

_ID_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_TO_ID_CHARACTER = bytes(_ID_CHARACTERS[byte % 62] for byte in range(256))


class Sources:
    """The clock, and the source of random bytes."""

    def __init__(self) -> None:
        self.now: Callable[[], float] = time.time
        self.is_set = False  # the mock controls set the clock
        self.random: Callable[[int], bytes] = os.urandom


sources = Sources()


def unix_now() -> int:
    """Return the time in whole seconds since 1970."""
    return int(sources.now())


def new_id(prefix: str) -> str:
    """Return `prefix_` and 24 random characters of [A-Za-z0-9], like the hosted API."""
    return f"{prefix}_{sources.random(24).translate(_TO_ID_CHARACTER).decode()}"


def new_vector_store_id() -> str:
    """Return `vs_` and 32 hexadecimal digits, like the hosted API."""
    return f"vs_{sources.random(16).hex()}"
