"""The forms of a word: Unicode writes the same one in several ways."""

from unicodedata import normalize

_FULL_WIDTH = {ord(normalize("NFKC", chr(sign))): sign for sign in range(0xFF01, 0xFF5F)}
_HALF_WIDTH = {ord(normalize("NFKC", chr(sign))): sign for sign in range(0xFF66, 0xFFA0)}


def forms(phrase: str) -> list[str]:
    """Return a phrase as others may have written it: composed or not, in full or half width."""
    plain = normalize("NFKC", phrase).replace('"', " ").lower()
    apart = normalize("NFD", plain)
    wide, narrow = plain.translate(_FULL_WIDTH), apart.translate(_HALF_WIDTH)
    return list(dict.fromkeys([phrase, plain, apart, wide, narrow]))
