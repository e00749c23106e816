"""The schemas of the API: what comes in, what goes out, and one line of an import."""

from typing import Any

from marshmallow import Schema, ValidationError

from rules.errors import Fault
from rules.fields import (
    MAX_ID_CHARACTERS,
    Array,
    Boolean,
    Choice,
    Field,
    FileId,
    Integer,
    Metadata,
    Object,
    ObjectId,
    QueryInteger,
    StrictSchema,
    Text,
    Url,
    Variant,
    too_long,
)

MAX_TEXT_CHARACTERS = 256_000
MAX_ATTACHMENTS = 10
MAX_QUERY_CHARACTERS = 512
MAX_SECONDS = 253_402_300_799
"""The last second of the year 9999: a program that sends a later one means milliseconds."""
A_WORD = '^[^\\u0000]*[^\\s"\\u0000][^\\u0000]*$'


# Parts of a message


class TextPart(StrictSchema):
    type = Choice("text", required=True)
    text = Text(maximum=MAX_TEXT_CHARACTERS, required=True)


class ImageFile(StrictSchema):
    file_id = FileId(required=True)
    detail = Choice("auto", "low", "high", load_default="auto")


class ImageFilePart(StrictSchema):
    type = Choice("image_file", required=True)
    image_file = Object(ImageFile, required=True)


class ImageUrl(StrictSchema):
    url = Url(required=True)
    detail = Choice("auto", "low", "high", load_default="auto")


class ImageUrlPart(StrictSchema):
    type = Choice("image_url", required=True)
    image_url = Object(ImageUrl, required=True)


_IMAGES: dict[str, Schema] = {"image_file": ImageFilePart(), "image_url": ImageUrlPart()}


class Content(Field):
    """The content of a message: one string, or an array of parts; loads as an array of parts."""

    json_type = str
    expected = "one of a string or array of objects"

    def __init__(self, part: Variant, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts = Array(part, minimum=1)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if type(value) is list:
            return self.parts.read(value)
        return super()._deserialize(value, attr, data, **kwargs)

    def read(self, value: Any) -> Any:
        if not value:
            raise ValidationError(Fault(None, "Message content must be non-empty."))
        if len(value) > MAX_TEXT_CHARACTERS:
            raise ValidationError(too_long(MAX_TEXT_CHARACTERS, len(value)))
        return [{"type": "text", "text": value}]


class Tool(StrictSchema):
    type = Choice("code_interpreter", "file_search", required=True)


class Attachment(StrictSchema):
    file_id = FileId(required=True)
    tools = Array(Object(Tool), required=True)


# Tool resources


class AutoChunking(StrictSchema):
    type = Choice("auto", required=True)


class StaticSizes(StrictSchema):
    max_chunk_size_tokens = Integer(100, 4096, required=True)
    chunk_overlap_tokens = Integer(required=True)


class StaticChunking(StrictSchema):
    type = Choice("static", required=True)
    static = Object(StaticSizes, required=True)


class VectorStore(StrictSchema):
    file_ids = Array(Text(maximum=MAX_ID_CHARACTERS))
    chunking_strategy = Variant({"auto": AutoChunking(), "static": StaticChunking()})
    metadata = Metadata()


class CodeInterpreter(StrictSchema):
    file_ids = Array(Text(maximum=MAX_ID_CHARACTERS), maximum=20)


class FileSearch(StrictSchema):
    vector_store_ids = Array(Text(maximum=MAX_ID_CHARACTERS), maximum=1)


class CreateFileSearch(FileSearch):
    vector_stores = Array(Object(VectorStore), maximum=1)


class ToolResources(StrictSchema):
    code_interpreter = Object(CodeInterpreter)
    file_search = Object(FileSearch)


class CreateToolResources(ToolResources):
    file_search = Object(CreateFileSearch)


# Request bodies


class CreateMessage(StrictSchema):
    role = Choice("user", "assistant", required=True)
    content = Content(Variant({"text": TextPart(), **_IMAGES}), required=True)
    attachments = Array(Object(Attachment), maximum=MAX_ATTACHMENTS, allow_none=True)
    metadata = Metadata()


class ModifyMessage(StrictSchema):
    metadata = Metadata()


class CreateThread(StrictSchema):
    messages = Array(Object(CreateMessage))
    tool_resources = Object(CreateToolResources, allow_none=True)
    metadata = Metadata()


class ModifyThread(StrictSchema):
    tool_resources = Object(ToolResources, allow_none=True)
    metadata = Metadata()


class CopyThread(StrictSchema):
    metadata = Metadata()


# Query strings


class ListMessages(StrictSchema):
    limit = QueryInteger(1, 100, load_default=20)
    order = Choice("asc", "desc", load_default="desc")
    after = ObjectId("msg")
    before = ObjectId("msg")
    run_id = Text(maximum=MAX_ID_CHARACTERS)


class ListThreads(StrictSchema):
    limit = QueryInteger(1, 100, load_default=20)
    order = Choice("asc", "desc", load_default="desc")
    after = ObjectId("thread")
    before = ObjectId("thread")
    metadata = Metadata()
    created_after = QueryInteger(0, MAX_SECONDS)
    created_before = QueryInteger(0, MAX_SECONDS)
    q = Text(maximum=MAX_QUERY_CHARACTERS, metadata={"pattern": A_WORD})


# Objects that go out


class ThreadObject(StrictSchema):
    id = ObjectId("thread", required=True)
    object = Choice("thread", required=True)
    created_at = Integer(0, MAX_SECONDS, required=True)
    metadata = Metadata(required=True)
    tool_resources = Object(ToolResources, required=True, allow_none=True)


class FileReference(StrictSchema):
    file_id = Text(required=True)


class FileCitation(StrictSchema):
    type = Choice("file_citation", required=True)
    text = Text(0, required=True)
    start_index = Integer(0, required=True)
    end_index = Integer(0, required=True)
    file_citation = Object(FileReference, required=True)


class FilePath(StrictSchema):
    type = Choice("file_path", required=True)
    text = Text(0, required=True)
    start_index = Integer(0, required=True)
    end_index = Integer(0, required=True)
    file_path = Object(FileReference, required=True)


class TextValue(StrictSchema):
    value = Text(0, required=True)
    annotations = Array(
        Variant({"file_citation": FileCitation(), "file_path": FilePath()}), required=True
    )


class TextPartObject(StrictSchema):
    type = Choice("text", required=True)
    text = Object(TextValue, required=True)


class RefusalPart(StrictSchema):
    type = Choice("refusal", required=True)
    refusal = Text(0, required=True)


class IncompleteDetails(StrictSchema):
    reason = Text(required=True)


_STORED_PARTS = {"text": TextPartObject(), **_IMAGES, "refusal": RefusalPart()}


class MessageObject(StrictSchema):
    id = ObjectId("msg", required=True)
    object = Choice("thread.message", required=True)
    created_at = Integer(0, MAX_SECONDS, required=True)
    assistant_id = Text(required=True, allow_none=True)
    thread_id = ObjectId("thread", required=True)
    run_id = Text(maximum=MAX_ID_CHARACTERS, required=True, allow_none=True)
    status = Choice("in_progress", "incomplete", "completed", required=True)
    incomplete_details = Object(IncompleteDetails, required=True, allow_none=True)
    completed_at = Integer(0, MAX_SECONDS, required=True, allow_none=True)
    incomplete_at = Integer(0, MAX_SECONDS, required=True, allow_none=True)
    role = Choice("user", "assistant", required=True)
    content = Array(Variant(_STORED_PARTS), required=True)
    attachments = Array(Object(Attachment), required=True, allow_none=True)
    metadata = Metadata(required=True)


class ThreadList(StrictSchema):
    object = Choice("list", required=True)
    data = Array(Object(ThreadObject), required=True)
    first_id = ObjectId("thread", required=True, allow_none=True)
    last_id = ObjectId("thread", required=True, allow_none=True)
    has_more = Boolean(required=True)


class MessageList(ThreadList):
    data = Array(Object(MessageObject), required=True)
    first_id = ObjectId("msg", required=True, allow_none=True)
    last_id = ObjectId("msg", required=True, allow_none=True)


class ThreadDeleted(StrictSchema):
    id = ObjectId("thread", required=True)
    object = Choice("thread.deleted", required=True)
    deleted = Boolean(required=True)


class MessageDeleted(StrictSchema):
    id = ObjectId("msg", required=True)
    object = Choice("thread.message.deleted", required=True)
    deleted = Boolean(required=True)


class Error(StrictSchema):
    message = Text(required=True)
    type = Text(required=True)
    param = Text(0, required=True, allow_none=True)
    code = Text(required=True, allow_none=True)


class ErrorResponse(StrictSchema):
    error = Object(Error, required=True)


# One line of an import


class _Tolerant(StrictSchema):
    """An object of an export: what may be null may also be absent, as the hosted API left it out.

    It loads as null.
    """

    def on_bind_field(self, field_name: str, field_obj: Any) -> None:
        if field_obj.allow_none:
            field_obj.required, field_obj.load_default = False, None


class ImportedThread(_Tolerant, ThreadObject):
    pass


class ImportedMessage(_Tolerant, MessageObject):
    status = Choice("in_progress", "incomplete", "completed", load_default="completed")


class ImportedLine(StrictSchema):
    """One line of the exchange format: a thread and its messages, oldest first."""

    thread = Object(ImportedThread, required=True)
    messages = Array(Object(ImportedMessage), required=True)
