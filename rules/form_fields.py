"""The fields of forms: each is a text that a person types or a browser sends."""

import re
from datetime import UTC, datetime
from typing import Any

from marshmallow import ValidationError

from rules.errors import ApiError, Fault
from rules.fields import Field, Number, Text
from rules.strict_json import parse


def typed(text: str) -> str:
    """Return a text of a form as it was typed: a browser sends its line breaks as CR LF."""
    return text.replace("\r\n", "\n")


class Day(Text):
    """A date, with the offset of its zone or in UTC: `2026-11-22`, `2026-11-22+01:00`.

    Loads as its first second plus `seconds` (of the field's metadata).
    """

    def read(self, value: Any) -> Any:
        try:
            has_zone = len(value) > len("2026-11-22")
            start = datetime.strptime(value, "%Y-%m-%d%z" if has_zone else "%Y-%m-%d")
            second = int((start if has_zone else start.replace(tzinfo=UTC)).timestamp())
        except ValueError as error:
            sentence = "Write it as year-month-day, for example 2026-11-22."
            raise ValidationError(Fault("invalid_value", sentence)) from error
        return max(0, second + self.metadata["seconds"])


class MalformedPair(Text):
    """A metadata filter without `=`: rules/pairs.py renames all others."""

    def read(self, value: Any) -> Any:
        raise ValidationError(Fault("invalid_value", "Write it as key=value."))


class NumberText(Number):
    """A number in a text, written with a decimal point; small ones are shown with an exponent."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if re.fullmatch(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]{1,3})?", value.strip().lower()):
            value = float(value)
        return super()._deserialize(value, attr, data, **kwargs)


class JsonText(Text):
    """A JSON array or object in a text, loaded by another field; any other text is a word."""

    def __init__(self, field: Field, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.field = field

    def read(self, value: Any) -> Any:
        text = value.strip()
        try:
            return self.field.deserialize(parse(text.encode()) if text[:1] in "{[" else text)
        except ApiError as refusal:
            fault = Fault(refusal.code, refusal.message)
            raise ValidationError(fault) from refusal
