"""The schemas of the page's query strings, and of the texts in its forms."""

from typing import Any

from marshmallow import EXCLUDE, missing, pre_load

from rules import fields
from rules.form_fields import Day, JsonText, MalformedPair, NumberText, typed
from schemas import FORMATS, MAX_TOOLS, SORTS, TOOLS, ListThreads, ModifyAssistant

MESSAGES_A_PAGE, MAX_MESSAGES_A_PAGE = 50, 1_000


class BrowseThreads(ListThreads):
    """The filters of the list, with dates instead of seconds; a page ignores all else."""

    since = Day(attribute="created_after", metadata={"seconds": -1})
    until = Day(attribute="created_before", metadata={"seconds": 86_400})
    pair = MalformedPair()
    sort = fields.Choice(*SORTS, load_default="last_active_at")

    class Meta(fields.StrictSchema.Meta):
        exclude = ("created_after", "created_before")
        unknown = EXCLUDE

    @pre_load
    def read_typed(self, texts: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Return the texts with the line breaks that were typed."""
        return {
            name: typed(value) if isinstance(value, str) else _typed_pairs(value)
            for name, value in texts.items()
        }


def _typed_pairs(pairs: dict[str, str]) -> dict[str, str]:
    return {typed(key): typed(value) for key, value in pairs.items()}


class ExportThread(fields.StrictSchema):
    form = fields.Choice("json", "jsonl", "markdown", data_key="as", load_default="jsonl")

    class Meta(fields.StrictSchema.Meta):
        unknown = EXCLUDE


class ExportThreads(ExportThread, BrowseThreads):
    class Meta(BrowseThreads.Meta):
        pass


class BrowseMessages(fields.StrictSchema):
    """A page of a transcript: after or before a message, or the page that holds one (`at`).

    Without any of these it is the last page, or the first one (`order=asc`).
    """

    limit = fields.QueryInteger(1, MAX_MESSAGES_A_PAGE, load_default=MESSAGES_A_PAGE)
    order = fields.Choice("asc", "desc", load_default="desc")
    after = fields.ObjectId("msg")
    before = fields.ObjectId("msg")
    at = fields.ObjectId("msg")
    q = fields.Text(0, 512)
    view = fields.Choice("rendered", "source", load_default="rendered")

    class Meta(fields.StrictSchema.Meta):
        unknown = EXCLUDE


_TOOLS = JsonText(fields.Array(fields.Variant(TOOLS), maximum=MAX_TOOLS), null_as="[]")
_FORMAT = JsonText(fields.WordOrVariant(["auto"], FORMATS), allow_none=True)


class EditAssistant(ModifyAssistant):
    """The form of an assistant: a blank text stands for null."""

    temperature = NumberText(0, 2, allow_none=True)
    top_p = NumberText(0, 1, allow_none=True)
    tools = _TOOLS  # type: ignore[assignment]
    response_format = _FORMAT  # type: ignore[assignment]

    class Meta(fields.StrictSchema.Meta):
        exclude = ("tool_resources",)

    @pre_load
    def read_blanks(self, texts: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Return the texts with None for blank ones. A model is never blank."""
        return {
            name: text if name in ("metadata", "model") or text.strip() else None
            for name, text in texts.items()
        }


class NewAssistant(EditAssistant):
    """The form of a new assistant, which may have an id of its own."""

    id = fields.ObjectId("asst", null_as=missing)


class ImportLines(fields.StrictSchema):
    lines = fields.Text(0)
    on_conflict = fields.Choice("skip", "replace")
