"""THREADS_REPLIES: the reply rules of a start."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marshmallow import ValidationError

from mock.schemas import ReplyRules
from rules.errors import ApiError, first_fault
from rules.strict_json import parse_object
from store.objects import Object


def may_count(settings: Mapping[str, Any]) -> bool:
    """Return whether the settings allow the mock controls, whose rules they are."""
    mode, workers = settings["MOCK"], settings["WORKERS"]
    return bool(mode == "on" or (mode == "auto" and workers in (None, 1)))


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
