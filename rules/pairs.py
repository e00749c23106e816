"""The faults of metadata that a person types, row by row."""

from collections import Counter

from marshmallow import ValidationError

from rules.errors import faults_by_path
from rules.fields import Metadata

_NO_KEY = "Give this value a key."


def pair_faults(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Return the faults of each row of metadata, by its field: `pairs[0].key`."""
    counts = Counter(key for key, _ in pairs)
    faults = {}
    for number, (key, value) in enumerate(pairs):
        twice = "This key is given twice." if counts[key] > 1 else ""
        faults[f"pairs[{number}].key"] = (twice or _too_long(key, "")) if key else _NO_KEY
        faults[f"pairs[{number}].value"] = _too_long("", value)
    return {place: sentence for place, sentence in faults.items() if sentence}


def _too_long(key: str, value: str) -> str:
    """Return what the API says of a pair that is too long, else an empty text."""
    try:
        Metadata().read({key: value})
    except ValidationError as error:
        return " ".join(faults_by_path(ValidationError({"metadata": error.messages})).values())
    return ""
