"""The schemas of the page's query strings."""

from datetime import UTC, datetime
from typing import Any

from marshmallow import ValidationError

from rules.errors import Fault
from rules.fields import Choice, ObjectId, QueryInteger, StrictSchema, Text
from schemas import ListThreads

MESSAGES_A_PAGE = 50


class Day(Text):
    """A date (UTC); loads as the second that is `seconds` (of its metadata) after its beginning."""

    def read(self, value: Any) -> Any:
        try:
            start = datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError as error:
            fault = Fault("invalid_value", "Write it as year-month-day, for example 2026-11-22.")
            raise ValidationError(fault) from error
        return max(0, int(start.timestamp()) + self.metadata["seconds"])


class MalformedPair(Text):
    """A metadata filter without `=`: forms.read_filters leaves no other under this name."""

    def read(self, value: Any) -> Any:
        raise ValidationError(Fault("invalid_value", "Write it as key=value."))


class BrowseThreads(ListThreads):
    """The filters of the list, with dates instead of seconds."""

    since = Day(attribute="created_after", metadata={"seconds": -1})
    until = Day(attribute="created_before", metadata={"seconds": 86_400})
    pair = MalformedPair()

    class Meta(StrictSchema.Meta):
        exclude = ("created_after", "created_before")


class ExportThread(StrictSchema):
    form = Choice("json", "jsonl", "markdown", data_key="as", load_default="jsonl")


class ExportThreads(ExportThread, BrowseThreads):
    pass


class BrowseMessages(StrictSchema):
    """A page of a transcript: after or before a message, or the page that holds one (`at`)."""

    limit = QueryInteger(1, 100, load_default=MESSAGES_A_PAGE)
    order = Choice("asc", load_default="asc")
    after = ObjectId("msg")
    before = ObjectId("msg")
    at = ObjectId("msg")
