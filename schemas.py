"""The schemas of the API: what comes in, what goes out, and one line of an import."""

from typing import Any

from marshmallow import Schema, ValidationError, missing

from models import ACTIVE_STATUSES
from rules import errors, fields

MAX_TEXT_CHARACTERS = 256_000
MAX_MESSAGE_CHARACTERS = 2_048_000
"""The longest text of all parts of a message."""
MAX_PARTS = 100
MAX_FIRST_MESSAGES = 1_000
MAX_STORE_FILES = 10_000
MAX_MODEL_CHARACTERS = 256
MAX_TOOLS = 128
MAX_TOKENS = 1_000_000_000
MAX_CALL_ID_CHARACTERS = 256
END_STATUSES = ("completed", "incomplete", "failed", "cancelled", "expired")
STEP_STATUSES = ("in_progress", "completed", "failed", "cancelled", "expired")
MAX_SECONDS = 253_402_300_799
"""The last second of the year 9999. A greater number is a time in milliseconds, by mistake."""
A_WORD = '^[^\\u0000]*[^\\s"\\u0000][^\\u0000]*$'


class _Given(fields.StrictSchema):
    """An object of a body: clients that write every key give null for what is absent."""

    def on_bind_field(self, field_name: str, field_obj: Any) -> None:
        if not field_obj.required and not field_obj.allow_none:
            field_obj.null_as, field_obj.allow_none = missing, True


class Seconds(fields.Integer):
    """Seconds since 1970."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(0, MAX_SECONDS, **kwargs)

    def json_schema(self) -> dict[str, Any]:
        return super().json_schema() | {"examples": [1_704_067_200]}


# Parts of a message


class TextPart(fields.StrictSchema):
    type = fields.Choice("text", required=True)
    text = fields.Text(maximum=MAX_TEXT_CHARACTERS, required=True)


class ImageFile(_Given):
    file_id = fields.FileId(required=True)
    detail = fields.Choice("auto", "low", "high", load_default="auto")


class ImageFilePart(fields.StrictSchema):
    type = fields.Choice("image_file", required=True)
    image_file = fields.Object(ImageFile, required=True)


class ImageUrl(_Given):
    url = fields.Url(required=True)
    detail = fields.Choice("auto", "low", "high", load_default="auto")


class ImageUrlPart(fields.StrictSchema):
    type = fields.Choice("image_url", required=True)
    image_url = fields.Object(ImageUrl, required=True)


_IMAGES: dict[str, Schema] = {"image_file": ImageFilePart(), "image_url": ImageUrlPart()}


class Content(fields.Text):
    """The content of a message: one string, or an array of parts; loads as an array of parts."""

    expected = "one of a string or array of objects"

    def __init__(self, part: fields.Variant, **kwargs: Any) -> None:
        super().__init__(maximum=MAX_TEXT_CHARACTERS, **kwargs)
        most = {"description": f"At most {MAX_MESSAGE_CHARACTERS} characters of text in all."}
        self.parts = fields.Array(part, minimum=1, maximum=MAX_PARTS, metadata=most)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if type(value) is not list:
            return super()._deserialize(value, attr, data, **kwargs)
        parts = self.parts.read(value)
        length = sum(len(part.get("text", "")) for part in parts)
        if length > MAX_MESSAGE_CHARACTERS:
            raise ValidationError(fields.too_long(MAX_MESSAGE_CHARACTERS, length))
        return parts

    def read(self, value: Any) -> Any:
        if not value:
            raise ValidationError(errors.Fault(None, "Message content must be non-empty."))
        return [{"type": "text", "text": super().read(value)}]


class Tool(fields.StrictSchema):
    type = fields.Choice("code_interpreter", "file_search", required=True)


class Attachment(fields.StrictSchema):
    file_id = fields.FileId(required=True)
    tools = fields.Array(fields.Object(Tool), maximum=10, required=True, null_as=[])


# Tool resources


class AutoChunking(fields.StrictSchema):
    type = fields.Choice("auto", required=True)


class StaticSizes(fields.StrictSchema):
    max_chunk_size_tokens = fields.Integer(100, 4096, required=True)
    chunk_overlap_tokens = fields.Integer(required=True)


class StaticChunking(fields.StrictSchema):
    type = fields.Choice("static", required=True)
    static = fields.Object(StaticSizes, required=True)


class VectorStore(_Given):
    file_ids = fields.Array(fields.Text(maximum=fields.MAX_ID_CHARACTERS), maximum=MAX_STORE_FILES)
    chunking_strategy = fields.Variant({"auto": AutoChunking(), "static": StaticChunking()})
    metadata = fields.Metadata()


class CodeInterpreter(_Given):
    file_ids = fields.Array(fields.Text(maximum=fields.MAX_ID_CHARACTERS), maximum=20)


class FileSearch(_Given):
    vector_store_ids = fields.Array(fields.Text(maximum=fields.MAX_ID_CHARACTERS), maximum=1)


class CreateFileSearch(FileSearch):
    vector_stores = fields.Array(fields.Object(VectorStore), maximum=1)


class ToolResources(_Given):
    code_interpreter = fields.Object(CodeInterpreter)
    file_search = fields.Object(FileSearch)


class CreateToolResources(ToolResources):
    file_search = fields.Object(CreateFileSearch)


# Request bodies


_ONE_PAIR = {"metadata": {"user": "u3"}}


class CreateMessage(fields.StrictSchema):
    example = {"role": "user", "content": "Which tram goes up to the castle?"}
    role = fields.Choice("user", "assistant", required=True)
    content = Content(fields.Variant({"text": TextPart(), **_IMAGES}), required=True)
    attachments = fields.Array(fields.Object(Attachment), maximum=10, allow_none=True)
    metadata = fields.Metadata()


class ModifyMessage(fields.StrictSchema):
    example = _ONE_PAIR
    metadata = fields.Metadata()


class CreateThread(_Given):
    example = {"messages": [CreateMessage.example], "metadata": {"user": "u3", "topic": "trams"}}
    messages = fields.Array(fields.Object(CreateMessage), maximum=MAX_FIRST_MESSAGES)
    tool_resources = fields.Object(CreateToolResources, allow_none=True)
    metadata = fields.Metadata()


class ModifyThread(fields.StrictSchema):
    example = _ONE_PAIR
    tool_resources = fields.Object(ToolResources, allow_none=True)
    metadata = fields.Metadata()


class CopyThread(fields.StrictSchema):
    example = _ONE_PAIR
    metadata = fields.Metadata()


# Query strings


class _Page(fields.StrictSchema):
    limit = fields.QueryInteger(1, 100, load_default=20)
    order = fields.Choice("asc", "desc", load_default="desc")


class ListAssistants(_Page):
    after = fields.ObjectId("asst")
    before = fields.ObjectId("asst")


class ListMessages(_Page):
    after = fields.ObjectId("msg")
    before = fields.ObjectId("msg")
    run_id = fields.Text(maximum=fields.MAX_ID_CHARACTERS, metadata={"examples": ["run_abc123"]})


SORTS = ("created_at", "last_active_at")


class ListThreads(_Page):
    after = fields.ObjectId("thread")
    before = fields.ObjectId("thread")
    metadata = fields.Metadata()
    created_after = fields.QueryInteger(0, MAX_SECONDS, metadata={"examples": [1_704_067_200]})
    created_before = fields.QueryInteger(0, MAX_SECONDS, metadata={"examples": [1_704_153_600]})
    sort = fields.Choice(*SORTS, load_default="created_at")
    q = fields.Text(maximum=512, metadata={"pattern": A_WORD, "examples": ["castle tram"]})


# Objects that go out


class ThreadObject(fields.StrictSchema):
    id = fields.ObjectId("thread", required=True)
    object = fields.Choice("thread", required=True)
    created_at = Seconds(required=True)
    metadata = fields.Metadata(required=True)
    tool_resources = fields.Object(ToolResources, required=True, allow_none=True)


class FileReference(fields.StrictSchema):
    file_id = fields.Text(required=True)


class FileCitation(fields.StrictSchema):
    type = fields.Choice("file_citation", required=True)
    text = fields.Text(0, required=True)
    start_index = fields.Integer(0, required=True)
    end_index = fields.Integer(0, required=True)
    file_citation = fields.Object(FileReference, required=True)


class FilePath(fields.StrictSchema):
    type = fields.Choice("file_path", required=True)
    text = fields.Text(0, required=True)
    start_index = fields.Integer(0, required=True)
    end_index = fields.Integer(0, required=True)
    file_path = fields.Object(FileReference, required=True)


class Link(fields.StrictSchema):
    url = fields.Text(maximum=fields.MAX_URL_CHARACTERS, required=True)
    title = fields.Text(0)


class UrlCitation(fields.StrictSchema):
    """Azure's reference to a page; it comes with an import."""

    type = fields.Choice("url_citation", required=True)
    text = fields.Text(0, required=True)
    start_index = fields.Integer(0, required=True)
    end_index = fields.Integer(0, required=True)
    url_citation = fields.Object(Link, required=True)


_ANNOTATIONS: dict[str, Schema] = {"file_citation": FileCitation(), "file_path": FilePath()}
_ANNOTATIONS["url_citation"] = UrlCitation()


class TextValue(fields.StrictSchema):
    value = fields.Text(0, required=True)
    annotations = fields.Array(fields.Variant(_ANNOTATIONS), required=True)


class TextPartObject(fields.StrictSchema):
    type = fields.Choice("text", required=True)
    text = fields.Object(TextValue, required=True)


class RefusalPart(fields.StrictSchema):
    type = fields.Choice("refusal", required=True)
    refusal = fields.Text(0, required=True)


class IncompleteDetails(fields.StrictSchema):
    reason = fields.Text(maximum=512, required=True)


_STORED_PARTS = {"text": TextPartObject(), **_IMAGES, "refusal": RefusalPart()}


class MessageObject(fields.StrictSchema):
    id = fields.ObjectId("msg", required=True)
    object = fields.Choice("thread.message", required=True)
    created_at = Seconds(required=True)
    assistant_id = fields.Text(maximum=fields.MAX_ID_CHARACTERS, required=True, allow_none=True)
    thread_id = fields.ObjectId("thread", required=True)
    run_id = fields.Text(maximum=fields.MAX_ID_CHARACTERS, required=True, allow_none=True)
    status = fields.Choice("in_progress", "incomplete", "completed", required=True)
    incomplete_details = fields.Object(IncompleteDetails, required=True, allow_none=True)
    incomplete_at = Seconds(required=True, allow_none=True)
    completed_at = Seconds(required=True, allow_none=True)
    role = fields.Choice("user", "assistant", required=True)
    content = fields.Array(fields.Variant(_STORED_PARTS), required=True)
    attachments = fields.Array(
        fields.Object(Attachment), maximum=20, required=True, allow_none=True
    )
    metadata = fields.Metadata(required=True)


class ThreadList(fields.StrictSchema):
    object = fields.Choice("list", required=True)
    data = fields.Array(fields.Object(ThreadObject), required=True)
    first_id = fields.ObjectId("thread", required=True, allow_none=True)
    last_id = fields.ObjectId("thread", required=True, allow_none=True)
    has_more = fields.Boolean(required=True)


class MessageList(ThreadList):
    data = fields.Array(fields.Object(MessageObject), required=True)
    first_id = fields.ObjectId("msg", required=True, allow_none=True)
    last_id = fields.ObjectId("msg", required=True, allow_none=True)


class ThreadDeleted(fields.StrictSchema):
    id = fields.ObjectId("thread", required=True)
    object = fields.Choice("thread.deleted", required=True)
    deleted = fields.Boolean(required=True)


class MessageDeleted(ThreadDeleted):
    id = fields.ObjectId("msg", required=True)
    object = fields.Choice("thread.message.deleted", required=True)


class Error(fields.StrictSchema):
    message = fields.Text(required=True)
    type = fields.Text(required=True)
    param = fields.Text(0, required=True, allow_none=True)
    code = fields.Text(required=True, allow_none=True)


class ErrorResponse(fields.StrictSchema):
    error = fields.Object(Error, required=True)


# Assistants: what a load adds to a tool is what the hosted API filled in


class FunctionDefinition(_Given):
    name = fields.Name(required=True)
    description = fields.Text(0)
    parameters = fields.AnyObject(load_default=lambda: {"type": "object", "properties": {}})
    strict = fields.Boolean(load_default=False)


class FunctionTool(fields.StrictSchema):
    type = fields.Choice("function", required=True)
    function = fields.Object(FunctionDefinition, required=True)


class RankingOptions(_Given):
    ranker = fields.Choice("auto", "default_2024_08_21", load_default="default_2024_08_21")
    score_threshold = fields.Number(0, 1, required=True)
    hybrid_search = fields.AnyObject(allow_none=True, load_default=None)


class FileSearchOptions(_Given):
    max_num_results = fields.Integer(1, 50)
    ranking_options = fields.Object(
        RankingOptions, load_default=lambda: RankingOptions().load({"score_threshold": 0})
    )


class FileSearchTool(_Given):
    type = fields.Choice("file_search", required=True)
    file_search = fields.Object(
        FileSearchOptions, load_default=lambda: FileSearchOptions().load({})
    )


class CodeInterpreterTool(fields.StrictSchema):
    type = fields.Choice("code_interpreter", required=True)


class TextFormat(fields.StrictSchema):
    type = fields.Choice("text", required=True)


class JsonObjectFormat(fields.StrictSchema):
    type = fields.Choice("json_object", required=True)


class FormatSchema(_Given):
    name = fields.Name(required=True)
    description = fields.Text(0)
    schema = fields.AnyObject()
    strict = fields.Boolean()


class JsonSchemaFormat(fields.StrictSchema):
    type = fields.Choice("json_schema", required=True)
    json_schema = fields.Object(FormatSchema, required=True)


EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
TOOLS: dict[str, Schema] = {
    "code_interpreter": CodeInterpreterTool(),
    "function": FunctionTool(),
    "file_search": FileSearchTool(),
}
FORMATS: dict[str, Schema] = {
    "text": TextFormat(),
    "json_object": JsonObjectFormat(),
    "json_schema": JsonSchemaFormat(),
}


class ModifyAssistant(fields.StrictSchema):
    example = {"instructions": "Be brief and kind."}
    model = fields.Text(maximum=MAX_MODEL_CHARACTERS)
    name = fields.Text(0, 256, allow_none=True)
    description = fields.Text(0, 512, allow_none=True)
    instructions = fields.Text(0, MAX_TEXT_CHARACTERS, allow_none=True)
    tools = fields.Array(fields.Variant(TOOLS), maximum=MAX_TOOLS)
    tool_resources = fields.Object(ToolResources, allow_none=True)
    metadata = fields.Metadata()
    top_p = fields.Number(0, 1, allow_none=True)
    temperature = fields.Number(0, 2, allow_none=True)
    reasoning_effort = fields.Choice(*EFFORTS, allow_none=True)
    response_format = fields.WordOrVariant(["auto"], FORMATS, allow_none=True)


class CreateAssistant(ModifyAssistant):
    example = {"model": "gpt-4o", "name": "Guide", "instructions": "Be brief."}
    model = fields.Text(maximum=MAX_MODEL_CHARACTERS, required=True)
    tool_resources = fields.Object(CreateToolResources, allow_none=True)


class AssistantObject(fields.StrictSchema):
    id = fields.ObjectId("asst", required=True)
    object = fields.Choice("assistant", required=True)
    created_at = Seconds(required=True)
    name = fields.Text(0, 256, required=True, allow_none=True)
    description = fields.Text(0, 512, required=True, allow_none=True)
    model = fields.Text(maximum=MAX_MODEL_CHARACTERS, required=True)
    instructions = fields.Text(0, MAX_TEXT_CHARACTERS, required=True, allow_none=True)
    tools = fields.Array(fields.Variant(TOOLS), maximum=MAX_TOOLS, required=True)
    top_p = fields.Number(0, 1, required=True, allow_none=True)
    temperature = fields.Number(0, 2, required=True, allow_none=True)
    reasoning_effort = fields.Choice(*EFFORTS, required=True, allow_none=True)
    tool_resources = fields.Object(ToolResources, required=True, allow_none=True)
    metadata = fields.Metadata(required=True)
    response_format = fields.WordOrVariant(["auto"], FORMATS, required=True, allow_none=True)


class AssistantList(ThreadList):
    data = fields.Array(fields.Object(AssistantObject), required=True)
    first_id = fields.ObjectId("asst", required=True, allow_none=True)
    last_id = fields.ObjectId("asst", required=True, allow_none=True)


class AssistantDeleted(ThreadDeleted):
    id = fields.ObjectId("asst", required=True)
    object = fields.Choice("assistant.deleted", required=True)


# Runs


class TruncationStrategy(_Given):
    type = fields.Choice("auto", "last_messages", required=True)
    last_messages = fields.Integer(1, allow_none=True, load_default=None)


class FunctionName(fields.StrictSchema):
    name = fields.Name(required=True)


class FunctionChoice(fields.StrictSchema):
    type = fields.Choice("function", required=True)
    function = fields.Object(FunctionName, required=True)


class FileSearchChoice(fields.StrictSchema):
    type = fields.Choice("file_search", required=True)


CHOICES: dict[str, Schema] = {
    "function": FunctionChoice(),
    "file_search": FileSearchChoice(),
    "code_interpreter": CodeInterpreterTool(),
}
CHOICE_WORDS = ("none", "auto", "required")


class CreateThreadAndRun(_Given):
    example = {"assistant_id": "asst_abc123", "thread": CreateThread.example}
    assistant_id = fields.ObjectId("asst", required=True)
    thread = fields.Object(CreateThread)
    model = fields.Text(maximum=MAX_MODEL_CHARACTERS)
    instructions = fields.Text(0, MAX_TEXT_CHARACTERS)
    tools = fields.Array(fields.Variant(TOOLS), maximum=MAX_TOOLS)
    tool_resources = fields.Object(ToolResources)
    metadata = fields.Metadata()
    temperature = fields.Number(0, 2)
    top_p = fields.Number(0, 1)
    max_prompt_tokens = fields.Integer(1, MAX_TOKENS)
    max_completion_tokens = fields.Integer(1, MAX_TOKENS)
    truncation_strategy = fields.Object(TruncationStrategy)
    tool_choice = fields.WordOrVariant(CHOICE_WORDS, CHOICES)
    parallel_tool_calls = fields.Boolean()
    response_format = fields.WordOrVariant(["auto"], FORMATS)
    stream = fields.Boolean()


class CreateRun(CreateThreadAndRun):
    example = {"assistant_id": "asst_abc123"}
    additional_instructions = fields.Text(0, MAX_TEXT_CHARACTERS)
    additional_messages = fields.Array(fields.Object(CreateMessage), maximum=MAX_FIRST_MESSAGES)
    reasoning_effort = fields.Choice(*EFFORTS)

    class Meta:
        exclude = ("thread", "tool_resources")


class ModifyRun(fields.StrictSchema):
    example = _ONE_PAIR
    metadata = fields.Metadata()


class ToolOutput(_Given):
    tool_call_id = fields.Text(maximum=MAX_CALL_ID_CHARACTERS)
    output = fields.Text(0)


class SubmitToolOutputs(_Given):
    example = {"tool_outputs": [{"tool_call_id": "call_abc123", "output": "20 degrees"}]}
    tool_outputs = fields.Array(fields.Object(ToolOutput), maximum=MAX_TOOLS, required=True)
    stream = fields.Boolean()


class ListRuns(_Page):
    after = fields.ObjectId("run")
    before = fields.ObjectId("run")


class ListSteps(_Page):
    after = fields.ObjectId("step")
    before = fields.ObjectId("step")


class Function(fields.StrictSchema):
    name = fields.Text(0, required=True)
    arguments = fields.Text(0, required=True)


class FunctionCall(fields.StrictSchema):
    id = fields.Text(maximum=MAX_CALL_ID_CHARACTERS, required=True)
    type = fields.Choice("function", required=True)
    function = fields.Object(Function, required=True)


class ToolCalls(fields.StrictSchema):
    tool_calls = fields.Array(fields.Object(FunctionCall), required=True)


class RequiredAction(fields.StrictSchema):
    type = fields.Choice("submit_tool_outputs", required=True)
    submit_tool_outputs = fields.Object(ToolCalls, required=True)


class LastError(fields.StrictSchema):
    code = fields.Text(maximum=512, required=True)
    message = fields.Text(0, required=True)


class CachedTokens(fields.StrictSchema):
    cached_tokens = fields.Integer(0, required=True)


class ReasoningTokens(fields.StrictSchema):
    reasoning_tokens = fields.Integer(0, required=True)


class Usage(fields.StrictSchema):
    prompt_tokens = fields.Integer(0, required=True)
    completion_tokens = fields.Integer(0, required=True)
    total_tokens = fields.Integer(0, required=True)
    prompt_token_details = fields.Object(CachedTokens)
    completion_tokens_details = fields.Object(ReasoningTokens)


class RunObject(fields.StrictSchema):
    id = fields.ObjectId("run", required=True)
    object = fields.Choice("thread.run", required=True)
    created_at = Seconds(required=True)
    assistant_id = fields.ObjectId("asst", required=True)
    thread_id = fields.ObjectId("thread", required=True)
    status = fields.Choice(*ACTIVE_STATUSES, *END_STATUSES, required=True)
    started_at = Seconds(required=True, allow_none=True)
    expires_at = Seconds(required=True, allow_none=True)
    cancelled_at = Seconds(required=True, allow_none=True)
    failed_at = Seconds(required=True, allow_none=True)
    completed_at = Seconds(required=True, allow_none=True)
    required_action = fields.Object(RequiredAction, required=True, allow_none=True)
    last_error = fields.Object(LastError, required=True, allow_none=True)
    model = fields.Text(maximum=MAX_MODEL_CHARACTERS, required=True)
    instructions = fields.Text(0, required=True, allow_none=True)
    tools = fields.Array(fields.Variant(TOOLS), maximum=MAX_TOOLS, required=True)
    tool_resources = fields.Object(ToolResources, required=True, allow_none=True)
    metadata = fields.Metadata(required=True)
    temperature = fields.Number(0, 2, required=True, allow_none=True)
    top_p = fields.Number(0, 1, required=True, allow_none=True)
    reasoning_effort = fields.Choice(*EFFORTS, required=True, allow_none=True)
    max_completion_tokens = fields.Integer(1, MAX_TOKENS, required=True, allow_none=True)
    max_prompt_tokens = fields.Integer(1, MAX_TOKENS, required=True, allow_none=True)
    truncation_strategy = fields.Object(TruncationStrategy, required=True, allow_none=True)
    incomplete_details = fields.Object(IncompleteDetails, required=True, allow_none=True)
    usage = fields.Object(Usage, required=True, allow_none=True)
    response_format = fields.WordOrVariant(["auto"], FORMATS, required=True, allow_none=True)
    tool_choice = fields.WordOrVariant(CHOICE_WORDS, CHOICES, required=True, allow_none=True)
    parallel_tool_calls = fields.Boolean(required=True)


class FunctionOutput(Function):
    output = fields.Text(0, required=True, allow_none=True)


class FunctionStepCall(FunctionCall):
    function = fields.Object(FunctionOutput, required=True)


class FileSearchStepCall(fields.StrictSchema):
    id = fields.Text(maximum=MAX_CALL_ID_CHARACTERS, required=True)
    type = fields.Choice("file_search", required=True)
    file_search = fields.AnyObject(required=True)


class CodeStepCall(fields.StrictSchema):
    id = fields.Text(maximum=MAX_CALL_ID_CHARACTERS, required=True)
    type = fields.Choice("code_interpreter", required=True)
    code_interpreter = fields.AnyObject(required=True)


_STEP_CALLS: dict[str, Schema] = {
    "function": FunctionStepCall(),
    "file_search": FileSearchStepCall(),
    "code_interpreter": CodeStepCall(),
}


class MessageId(fields.StrictSchema):
    message_id = fields.ObjectId("msg", required=True)


class MessageDetails(fields.StrictSchema):
    type = fields.Choice("message_creation", required=True)
    message_creation = fields.Object(MessageId, required=True)


class ToolDetails(fields.StrictSchema):
    type = fields.Choice("tool_calls", required=True)
    tool_calls = fields.Array(fields.Variant(_STEP_CALLS), required=True)


STEP_DETAILS: dict[str, Schema] = {
    "message_creation": MessageDetails(),
    "tool_calls": ToolDetails(),
}


class StepObject(fields.StrictSchema):
    id = fields.ObjectId("step", required=True)
    object = fields.Choice("thread.run.step", required=True)
    created_at = Seconds(required=True)
    run_id = fields.ObjectId("run", required=True)
    assistant_id = fields.ObjectId("asst", required=True)
    thread_id = fields.ObjectId("thread", required=True)
    type = fields.Choice(*STEP_DETAILS, required=True)
    status = fields.Choice(*STEP_STATUSES, required=True)
    cancelled_at = Seconds(required=True, allow_none=True)
    completed_at = Seconds(required=True, allow_none=True)
    expires_at = Seconds(required=True, allow_none=True)
    failed_at = Seconds(required=True, allow_none=True)
    last_error = fields.Object(LastError, required=True, allow_none=True)
    step_details = fields.Variant(STEP_DETAILS, required=True)
    usage = fields.Object(Usage, required=True, allow_none=True)


class RunList(ThreadList):
    data = fields.Array(fields.Object(RunObject), required=True)
    first_id = fields.ObjectId("run", required=True, allow_none=True)
    last_id = fields.ObjectId("run", required=True, allow_none=True)


class StepList(ThreadList):
    data = fields.Array(fields.Object(StepObject), required=True)
    first_id = fields.ObjectId("step", required=True, allow_none=True)
    last_id = fields.ObjectId("step", required=True, allow_none=True)


# Models


class ModelObject(fields.StrictSchema):
    id = fields.Text(required=True)
    object = fields.Choice("model", required=True)
    created = Seconds(required=True)
    owned_by = fields.Text(required=True)


class ModelList(fields.StrictSchema):
    object = fields.Choice("list", required=True)
    data = fields.Array(fields.Object(ModelObject), required=True)


# One line of an import


class _Tolerant(fields.StrictSchema):
    """An object of an export: an absent value loads as null where null is allowed."""

    def on_bind_field(self, field_name: str, field_obj: Any) -> None:
        if field_obj.allow_none:
            field_obj.required, field_obj.load_default = False, None


class ImportedThread(_Tolerant, ThreadObject):
    pass


class ImportedMessage(_Tolerant, MessageObject):
    status = fields.Choice("in_progress", "incomplete", "completed", load_default="completed")


class ImportedAssistant(_Tolerant, AssistantObject):
    pass


class AssistantLine(fields.StrictSchema):
    """One line of the exchange format: an assistant."""

    assistant = fields.Object(ImportedAssistant, required=True)


class ImportedStep(_Tolerant, StepObject):
    pass


class ImportedRun(_Tolerant, RunObject):
    parallel_tool_calls = fields.Boolean(load_default=True)
    steps = fields.Array(fields.Object(ImportedStep), load_default=list)


class ImportedLine(fields.StrictSchema):
    """One line of the exchange format: a thread, its messages and its runs, oldest first."""

    thread = fields.Object(ImportedThread, required=True)
    messages = fields.Array(fields.Object(ImportedMessage), required=True)
    runs = fields.Array(fields.Object(ImportedRun), load_default=list)
