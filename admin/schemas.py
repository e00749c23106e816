"""The schemas of the page's query strings."""

from datetime import UTC, datetime
from typing import Any

from marshmallow import ValidationError

from rules import errors, fields
from schemas import ListThreads

MESSAGES_A_PAGE = 50


class Day(fields.Text):
    """A date (UTC); loads as its first second plus `seconds` (of the field's metadata)."""

    def read(self, value: Any) -> Any:
        try:
            start = datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError as error:
            sentence = "Write it as year-month-day, for example 2026-11-22."
            raise ValidationError(errors.Fault("invalid_value", sentence)) from error
        return max(0, int(start.timestamp()) + self.metadata["seconds"])


class MalformedPair(fields.Text):
    """A metadata filter without `=`: forms.read_filters renames all others."""

    def read(self, value: Any) -> Any:
        raise ValidationError(errors.Fault("invalid_value", "Write it as key=value."))


class BrowseThreads(ListThreads):
    """The filters of the list, with dates instead of seconds."""

    since = Day(attribute="created_after", metadata={"seconds": -1})
    until = Day(attribute="created_before", metadata={"seconds": 86_400})
    pair = MalformedPair()

    class Meta(fields.StrictSchema.Meta):
        exclude = ("created_after", "created_before")


class ExportThread(fields.StrictSchema):
    form = fields.Choice("json", "jsonl", "markdown", data_key="as", load_default="jsonl")


class ExportThreads(ExportThread, BrowseThreads):
    pass


class BrowseMessages(fields.StrictSchema):
    """A page of a transcript: after or before a message, or the page that holds one (`at`)."""

    limit = fields.QueryInteger(1, 100, load_default=MESSAGES_A_PAGE)
    order = fields.Choice("asc", load_default="asc")
    after = fields.ObjectId("msg")
    before = fields.ObjectId("msg")
    at = fields.ObjectId("msg")
