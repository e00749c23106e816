"""THREADS_REPLIES: the reply rules of a start."""

import sys
from pathlib import Path

from marshmallow import ValidationError

from mock.schemas import ReplyRules
from rules.errors import ApiError, first_fault
from rules.strict_json import parse_object
from store.objects import Object

_kept: dict[str, list[Object]] = {}


def keep(path: str) -> None:
    """Read the rules for this process and its forks: a file that breaks later stops no worker.

    Raises SystemExit, and the earlier rules stay.
    """
    _kept[path] = read(path)


def of_start(path: str) -> list[Object]:
    """Return the rules that were kept, else those of the file. Raises SystemExit."""
    return _kept[path] if path in _kept else read(path)


def read(path: str) -> list[Object]:
    """Return the loaded rules of a JSON file; none without a path. Raises SystemExit."""
    if not path:
        return []
    try:
        rules: list[Object] = ReplyRules().load(parse_object(Path(path).read_bytes()))["rules"]
    except OSError as error:
        sys.exit(f"THREADS_REPLIES: {path}: {error.strerror}.")
    except ValidationError as error:
        sys.exit(f"THREADS_REPLIES: {path}: {first_fault(error)}")
    except ApiError as refusal:
        sys.exit(f"THREADS_REPLIES: {path}: {refusal}")
    return rules
