"""The sources of ids and times. The mock controls may fix both."""

import os
import random
import time
from collections.abc import Callable

_ID_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_TO_ID_CHARACTER = bytes(_ID_CHARACTERS[byte % 62] for byte in range(256))

Random = Callable[[int], bytes]
"""A source of random bytes: it takes their number."""


class Sources:
    """The clock, and the source of random bytes."""

    def __init__(self) -> None:
        self.now: Callable[[], float] = time.time
        self.is_set = False  # the mock controls set the clock
        self.random: Random = os.urandom

    def stream(self, name: str) -> Random:
        """Return a source of its own, which repeats for a name if the mock controls seed the ids.

        What other threads draw meanwhile does not change it.
        """
        # Seeds of a repeatable test are no secrets.
        return self.random if self.random is os.urandom else random.Random(name).randbytes  # noqa: S311


sources = Sources()


def unix_now() -> int:
    """Return the time in whole seconds since 1970."""
    return int(sources.now())


def new_id(prefix: str, source: Random | None = None) -> str:
    """Return `prefix_` and 24 random characters of [A-Za-z0-9], like the hosted API."""
    drawn = (source or sources.random)(24)
    return f"{prefix}_{drawn.translate(_TO_ID_CHARACTER).decode()}"


def new_vector_store_id() -> str:
    """Return `vs_` and 32 hexadecimal digits, like the hosted API."""
    return f"vs_{sources.random(16).hex()}"
