"""The form of the page that adds a fault rule."""

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError

from mock.schemas import FaultForm
from rules.errors import first_fault

PRESETS: dict[str, dict[str, Any]] = {
    "429 twice": {"status": "429", "times": "2"},
    "2 s slow": {"delay_ms": 2_000},
    "Drop after": {"drop": "after", "times": "1"},
}
_SCHEMA = FaultForm()


def read(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the rule of a form: a preset, else what was typed. Raises ApiError 400."""
    texts = {name: form.get(name, "").strip() for name in ("path", "status", "times")}
    typed = {name: text for name, text in texts.items() if text}
    try:
        rule: dict[str, Any] = _SCHEMA.load(PRESETS.get(form.get("preset", ""), typed))
    except ValidationError as error:
        raise first_fault(error) from error
    return rule
