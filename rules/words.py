"""The forms of a word: Unicode writes the same one in several ways."""

from functools import lru_cache
from unicodedata import normalize

_FULL_WIDTH = {ord(normalize("NFKC", chr(sign))): sign for sign in range(0xFF01, 0xFF5F)}
_HALF_WIDTH = {ord(normalize("NFKC", chr(sign))): sign for sign in range(0xFF66, 0xFFA0)}


@lru_cache(maxsize=256)
def forms(phrase: str) -> tuple[str, ...]:
    """Return a phrase as others may have written it: composed or not, in full or half width."""
    plain = normalize("NFKC", phrase).replace('"', " ").lower()
    apart = normalize("NFD", plain)
    wide, narrow = plain.translate(_FULL_WIDTH), apart.translate(_HALF_WIDTH)
    return tuple(dict.fromkeys([phrase, plain, apart, wide, narrow]))
