"""Metadata that a person types: as a filter, and in the rows of a form."""

from collections import Counter
from collections.abc import Mapping

from marshmallow import ValidationError

from rules.errors import faults_by_path
from rules.fields import Metadata
from rules.form_fields import typed

_NO_KEY = "Give this value a key."


def read_filters(args: Mapping[str, str]) -> dict[str, str]:
    """Return a URL's arguments without blank ones, `pair=key=value` as `metadata[key]=value`."""
    args = {typed(name): typed(text) for name, text in args.items()}
    # Blank metadata is a filter, too.
    filters = {name: text for name, text in args.items() if text.strip() or name[:9] == "metadata["}
    key, equals, value = filters.get("pair", "").partition("=")
    if equals:
        del filters["pair"]
        filters[f"metadata[{key.strip()}]"] = value.strip()
    return filters


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
