"""What comes in: field types, then request bodies, then (for the document) what goes out.

Every refusal is a Fault with the hosted API's sentence and code; PARAM is filled in with the
path by errors.first_fault. Sources: wire reference, table 1.1.
"""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields

from errors import PARAM, PARENT, Fault, is_first

MAX_TEXT_CHARACTERS = 256_000
MAX_METADATA_PAIRS = 16
MAX_METADATA_KEY_CHARACTERS = 64
MAX_METADATA_VALUE_CHARACTERS = 512
MAX_ATTACHMENTS = 10
MAX_ID_CHARACTERS = 64
MAX_QUERY_CHARACTERS = 512
MAX_SECONDS = 253_402_300_799
"""The last second of the year 9999: what a program takes for a later one is milliseconds."""
MAX_DELAY_MILLISECONDS = 60_000
_EXACT_FLOATS = 1 << 53
_NEAR = 0.8
STORABLE = "^[^\\u0000]*$"
A_WORD = '^[^\\u0000]*[^\\s"\\u0000][^\\u0000]*$'
HTTP_URL = "^[Hh][Tt][Tt][Pp][Ss]?://[^\\u0000-\\u0020\\u007f]+$"
"""No `\\s` in it: Python, JavaScript and Rust disagree on what that holds beyond ASCII."""

_KINDS = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal number",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}
_MISSING = Fault("missing_required_parameter", f"Missing required parameter: '{PARAM}'.")
_UNKNOWN = Fault("unknown_parameter", f"Unknown parameter: '{PARAM}'.")
PATH_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_DIGITS = re.compile(r"-?[0-9]{1,400}", re.ASCII)
_HTTP_URL = re.compile(HTTP_URL)


def kind_of(value: Any) -> str:
    """Name a JSON value's type with its article, as the hosted API does."""
    return _KINDS[type(value)]


def wrong_type(expected: str, value: Any) -> Fault:
    """Return the fault for a value of another JSON type."""
    found = kind_of(value)
    sentence = f"Invalid type for '{PARAM}': expected {expected}, but got {found} instead."
    return Fault("invalid_type", sentence)


def not_supported(value: str, supported: Sequence[str]) -> Fault:
    """Return the fault for a string outside a closed set."""
    quoted = [f"'{word}'" for word in supported]
    listed = (
        " and ".join(quoted) if len(quoted) < 3 else f"{', '.join(quoted[:-1])}, and {quoted[-1]}"
    )
    return Fault(
        "invalid_value", f"Invalid value: '{_shown(value)}'. Supported values are: {listed}."
    )


def wrong_prefix(value: str, prefix: str) -> Fault:
    """Return the fault for an id of another kind."""
    sentence = f"Invalid '{PARAM}': '{_shown(value)}'. Expected an ID that begins with '{prefix}'."
    return Fault("invalid_value", sentence)


def _shown(value: str) -> str:
    shown = value.replace(PARAM, "\ufffd")
    return shown if len(shown) <= 200 else f"{shown[:200]}..."


def _invalid(code: str, problem: str, expected: str, found: Any) -> Fault:
    sentence = f"Invalid '{PARAM}': {problem}. Expected {expected}, but got {found} instead."
    return Fault(code, sentence)


def _too_long(maximum: int, length: int) -> Fault:
    expected, found = f"a string with maximum length {maximum}", f"a string with length {length}"
    return _invalid("string_above_max_length", "string too long", expected, found)


def _empty_string() -> Fault:
    expected = "a string with minimum length 1"
    return _invalid("empty_string", "empty string", expected, "an empty string")


class Wire(fields.Field[Any]):
    """A field that refuses with Faults and describes itself in JSON Schema."""

    default_error_messages = {"required": _MISSING}
    expected = "a value"

    def make_error(self, key: str, **kwargs: Any) -> ValidationError:
        """Keep the Fault whole: marshmallow would format it into a plain string."""
        if key == "null":
            return ValidationError(wrong_type(self.expected, None))
        return ValidationError(self.error_messages[key])

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of an accepted value."""
        raise NotImplementedError


class Text(Wire):
    """A string of 1 to MAX_TEXT_CHARACTERS characters."""

    expected = "a string"

    def __init__(self, minimum: int = 1, maximum: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.minimum, self.maximum = minimum, maximum

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        if type(value) is not str:
            raise ValidationError(wrong_type(self.expected, value))
        if len(value) < self.minimum:
            raise ValidationError(_empty_string())
        if self.maximum is not None and len(value) > self.maximum:
            raise ValidationError(_too_long(self.maximum, len(value)))
        return value

    def json_schema(self) -> dict[str, Any]:
        schema = {"type": "string", "minLength": self.minimum, "pattern": STORABLE}
        bound = {} if self.maximum is None else {"maxLength": self.maximum}
        return {**schema, **bound, **self.metadata}


class Url(Text):
    """An http or https URL; data URLs were refused by the hosted API too."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not _HTTP_URL.fullmatch(text):
            sentence = (
                f"Invalid '{PARAM}'. Expected a valid URL, but got a value with an invalid format."
            )
            raise ValidationError(Fault("invalid_value", sentence))
        return text

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": HTTP_URL}


class FileId(Text):
    """A file's id: any string that begins with `file`, for there is no file service."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not text.startswith("file"):
            raise ValidationError(wrong_prefix(text, "file"))
        return text

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^file[^\\u0000]*$"}


class Delay(Wire):
    """Milliseconds: one number, or an array of the least and the most."""

    expected = "an integer or an array of two integers"

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> tuple[int, int]:
        bounds = value if type(value) is list else [value, value]
        if len(bounds) != 2 or any(type(bound) is not int for bound in bounds):
            raise ValidationError(wrong_type(self.expected, value))
        for bound in bounds:
            if fault := out_of_range(bound, 0, MAX_DELAY_MILLISECONDS):
                raise ValidationError(fault)
        return min(bounds), max(bounds)

    def json_schema(self) -> dict[str, Any]:
        number = {"type": "integer", "minimum": 0, "maximum": MAX_DELAY_MILLISECONDS}
        return {"oneOf": [number, {"type": "array", "items": number, "minItems": 2, "maxItems": 2}]}


class Share(Wire):
    """A number from 0 to 1."""

    expected = "a number from 0 to 1"

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> float:
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise ValidationError(wrong_type(self.expected, value))
        return float(value)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": 0, "maximum": 1}


class Flag(Wire):
    """true or false."""

    expected = "a boolean"

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> bool:
        if type(value) is not bool:
            raise ValidationError(wrong_type(self.expected, value))
        return value

    def json_schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


class ObjectId(Text):
    """The id of a thread or message, as it may stand in a path."""

    def __init__(self, prefix: str, **kwargs: Any) -> None:
        super().__init__(maximum=MAX_ID_CHARACTERS, **kwargs)
        self.prefix = prefix

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not text.startswith(self.prefix):
            raise ValidationError(wrong_prefix(text, self.prefix))
        if not PATH_ID.fullmatch(text):
            sentence = f"Invalid '{PARAM}': ids hold letters, digits, '_' and '-' only."
            raise ValidationError(Fault("invalid_value", sentence))
        return text

    def json_schema(self) -> dict[str, Any]:
        rest = MAX_ID_CHARACTERS - len(self.prefix)
        return {"type": "string", "pattern": f"^{self.prefix}[A-Za-z0-9_-]{{0,{rest}}}$"}


class Choice(Wire):
    """One word of a closed set."""

    expected = "a string"

    def __init__(self, *supported: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supported = supported

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        if type(value) is not str:
            raise ValidationError(wrong_type(self.expected, value))
        if value not in self.supported:
            raise ValidationError(not_supported(value, self.supported))
        return value

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.supported)}


class Whole(Wire):
    """A whole number between two bounds, either of which may be open; 800.0 is one, too."""

    expected = "an integer"

    def __init__(
        self, minimum: int | None = None, maximum: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.minimum, self.maximum = minimum, maximum

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
        if type(value) is float and value.is_integer() and abs(value) < _EXACT_FLOATS:
            value = int(value)
        if type(value) is not int:
            raise ValidationError(wrong_type(self.expected, value))
        if fault := out_of_range(value, self.minimum, self.maximum):
            raise ValidationError(fault)
        return value

    def json_schema(self) -> dict[str, Any]:
        bounds = {"minimum": self.minimum, "maximum": self.maximum}
        return {"type": "integer"} | {
            key: bound for key, bound in bounds.items() if bound is not None
        }


def out_of_range(value: int, minimum: int | None, maximum: int | None) -> Fault | None:
    """Return the fault of a number outside its bounds, if it is."""
    if minimum is not None and value < minimum:
        problem, expected = "integer below minimum value", f"a value >= {minimum}"
        return _invalid("integer_below_min_value", problem, expected, value)
    if maximum is not None and value > maximum:
        problem, expected = "integer above maximum value", f"a value <= {maximum}"
        return _invalid("integer_above_max_value", problem, expected, value)
    return None


class Metadata(Wire):
    """At most 16 pairs of strings; null stands for none."""

    expected = "a metadata object"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_none=True, **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> dict[str, str]:
        if type(value) is not dict:
            raise ValidationError(wrong_type(self.expected, value))
        if len(value) > MAX_METADATA_PAIRS:
            raise ValidationError(_too_many_pairs(len(value)))
        faults = {key: [fault] for key, text in value.items() if (fault := _pair_fault(key, text))}
        if faults:
            raise ValidationError(faults)
        return value

    def json_schema(self) -> dict[str, Any]:
        return {
            "type": ["object", "null"],
            "description": "Up to 16 pairs; keys of at most 64, values of at most 512 characters.",
            "maxProperties": MAX_METADATA_PAIRS,
            "propertyNames": {"maxLength": MAX_METADATA_KEY_CHARACTERS, "pattern": STORABLE},
            "additionalProperties": {
                "type": "string",
                "maxLength": MAX_METADATA_VALUE_CHARACTERS,
                "pattern": STORABLE,
            },
        }


def _too_many_pairs(count: int) -> Fault:
    expected = f"an object with at most {MAX_METADATA_PAIRS} properties"
    found = f"an object with {count} properties"
    return _invalid("object_above_max_properties", "too many properties", expected, found)


def _pair_fault(key: str, value: Any) -> Fault | None:
    if len(key) > MAX_METADATA_KEY_CHARACTERS:
        return Fault(
            "property_name_above_max_length",
            f"Invalid property name in '{PARENT}': '{key[:3]}...{key[-3:]}' is too long. "
            f"Expected a string with maximum length {MAX_METADATA_KEY_CHARACTERS}, "
            f"but got a string with length {len(key)} instead.",
        )
    if type(value) is not str:
        return wrong_type("a string", value)
    if len(value) > MAX_METADATA_VALUE_CHARACTERS:
        return _too_long(MAX_METADATA_VALUE_CHARACTERS, len(value))
    return None


class Object(Wire, fields.Nested):
    """A nested object."""

    expected = "an object"

    def _deserialize(
        self, value: Any, attr: Any, data: Any, partial: Any = None, **kwargs: Any
    ) -> Any:
        if type(value) is not dict:
            raise ValidationError(wrong_type(self.expected, value))
        return super()._deserialize(value, attr, data, partial)


class Array(Wire, fields.List[Any]):
    """An array with bounds on its length."""

    expected = "an array"

    def __init__(
        self, items: fields.Field[Any], minimum: int = 0, maximum: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(items, **kwargs)
        self.minimum, self.maximum = minimum, maximum

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> list[Any]:
        if type(value) is not list:
            raise ValidationError(wrong_type(self.expected, value))
        fault = self._length_fault(len(value))
        try:
            loaded = super()._deserialize(value, attr, data)
        except ValidationError as error:
            if fault and not is_first(error):
                raise ValidationError(fault) from error
            raise
        if fault:
            raise ValidationError(fault)
        return loaded

    def _length_fault(self, length: int) -> Fault | None:
        if self.maximum is not None and length > self.maximum:
            expected = f"an array with maximum length {self.maximum}"
            found = f"an array with length {length}"
            return _invalid("array_above_max_length", "array too long", expected, found)
        if length < self.minimum:
            expected = f"an array with minimum length {self.minimum}"
            return _invalid("empty_array", "empty array", expected, "an empty array")
        return None

    def length_bounds(self) -> dict[str, int]:
        """Return the bounds in JSON Schema's words."""
        bounds = {"minItems": self.minimum or None, "maxItems": self.maximum}
        return {key: bound for key, bound in bounds.items() if bound is not None}


class Variant(Wire):
    """An object whose `type` names the schema that it is read by."""

    expected = "an object"

    def __init__(self, variants: Mapping[str, Schema], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.variants = variants

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if type(value) is not dict:
            raise ValidationError(wrong_type(self.expected, value))
        if "type" not in value:
            raise ValidationError({"type": [_MISSING]})
        kind = value["type"]
        if type(kind) is not str:
            raise ValidationError({"type": [wrong_type("a string", kind)]})
        if kind not in self.variants:
            raise ValidationError({"type": [not_supported(kind, list(self.variants))]})
        return self.variants[kind].load(value)


class Content(Wire):
    """A message's content: one string, or an array of parts; loads as an array of parts."""

    expected = "one of a string or array of objects"

    def __init__(self, part: Variant, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts = Array(part, minimum=1)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> list[Any]:
        if type(value) is list:
            return self.parts._deserialize(value, attr, data)
        if type(value) is not str:
            raise ValidationError(wrong_type(self.expected, value))
        if not value:
            raise ValidationError(Fault(None, "Message content must be non-empty."))
        if len(value) > MAX_TEXT_CHARACTERS:
            raise ValidationError(_too_long(MAX_TEXT_CHARACTERS, len(value)))
        return [{"type": "text", "text": value}]


class Body(Schema):
    """A JSON object that names every key it takes."""

    error_messages = {"unknown": _UNKNOWN}

    def handle_error(self, error: ValidationError, data: Any, **_: Any) -> None:
        """Name the key that was probably meant by an unknown one."""
        messages: dict[str, Any] = error.normalized_messages()  # type: ignore[no-untyped-call]
        for key, faults in messages.items():
            if faults == [_UNKNOWN] and len(key) <= MAX_METADATA_KEY_CHARACTERS:
                for meant in get_close_matches(key, self.load_fields, 1, _NEAR):
                    hint = f"{_UNKNOWN} Did you mean '{meant}'?"
                    messages[key] = [Fault("unknown_parameter", hint)]

    class Meta:
        unknown = RAISE


class TextPart(Body):
    type = Choice("text", required=True)
    text = Text(maximum=MAX_TEXT_CHARACTERS, required=True)


class ImageFile(Body):
    file_id = FileId(required=True)
    detail = Choice("auto", "low", "high", load_default="auto")


class ImageFilePart(Body):
    type = Choice("image_file", required=True)
    image_file = Object(ImageFile, required=True)


class ImageUrl(Body):
    url = Url(required=True)
    detail = Choice("auto", "low", "high", load_default="auto")


class ImageUrlPart(Body):
    type = Choice("image_url", required=True)
    image_url = Object(ImageUrl, required=True)


_IMAGES: dict[str, Schema] = {"image_file": ImageFilePart(), "image_url": ImageUrlPart()}


class Tool(Body):
    type = Choice("code_interpreter", "file_search", required=True)


class Attachment(Body):
    file_id = FileId(required=True)
    tools = Array(Object(Tool), required=True)


class ModifyMessage(Body):
    metadata = Metadata()


class CreateMessage(Body):
    role = Choice("user", "assistant", required=True)
    content = Content(Variant({"text": TextPart(), **_IMAGES}), required=True)
    attachments = Array(Object(Attachment), maximum=MAX_ATTACHMENTS, allow_none=True)
    metadata = Metadata()


class AutoChunking(Body):
    type = Choice("auto", required=True)


class StaticSizes(Body):
    max_chunk_size_tokens = Whole(100, 4096, required=True)
    chunk_overlap_tokens = Whole(required=True)


class StaticChunking(Body):
    type = Choice("static", required=True)
    static = Object(StaticSizes, required=True)


class VectorStore(Body):
    file_ids = Array(Text(maximum=MAX_ID_CHARACTERS))
    chunking_strategy = Variant({"auto": AutoChunking(), "static": StaticChunking()})
    metadata = Metadata()


class CodeInterpreter(Body):
    file_ids = Array(Text(maximum=MAX_ID_CHARACTERS), maximum=20)


class FileSearch(Body):
    vector_store_ids = Array(Text(maximum=MAX_ID_CHARACTERS), maximum=1)


class CreateFileSearch(FileSearch):
    vector_stores = Array(Object(VectorStore), maximum=1)


class ToolResources(Body):
    code_interpreter = Object(CodeInterpreter)
    file_search = Object(FileSearch)


class CreateToolResources(ToolResources):
    file_search = Object(CreateFileSearch)


class ModifyThread(Body):
    tool_resources = Object(ToolResources, allow_none=True)
    metadata = Metadata()


class CreateThread(Body):
    messages = Array(Object(CreateMessage))
    tool_resources = Object(CreateToolResources, allow_none=True)
    metadata = Metadata()


class QueryWhole(Whole):
    """A whole number in a query string; nothing that Python alone would take for one."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
        if not _DIGITS.fullmatch(value):
            raise ValidationError(wrong_type(self.expected, value))
        return super()._deserialize(int(value), attr, data)


class ListMessages(Body):
    limit = QueryWhole(1, 100, load_default=20)
    order = Choice("asc", "desc", load_default="desc")
    after = ObjectId("msg")
    before = ObjectId("msg")
    run_id = Text(maximum=MAX_ID_CHARACTERS)


class ListThreads(Body):
    limit = QueryWhole(1, 100, load_default=20)
    order = Choice("asc", "desc", load_default="desc")
    after = ObjectId("thread")
    before = ObjectId("thread")
    metadata = Metadata()
    created_after = QueryWhole(0, MAX_SECONDS)
    created_before = QueryWhole(0, MAX_SECONDS)
    q = Text(maximum=MAX_QUERY_CHARACTERS, metadata={"pattern": A_WORD})


class CopyThread(Body):
    metadata = Metadata()


class ThreadObject(Body):
    id = ObjectId("thread", required=True)
    object = Choice("thread", required=True)
    created_at = Whole(0, MAX_SECONDS, required=True)
    metadata = Metadata(required=True)
    tool_resources = Object(ToolResources, required=True, allow_none=True)


class FileReference(Body):
    file_id = Text(required=True)


class FileCitation(Body):
    type = Choice("file_citation", required=True)
    text = Text(0, required=True)
    start_index = Whole(0, required=True)
    end_index = Whole(0, required=True)
    file_citation = Object(FileReference, required=True)


class FilePath(Body):
    type = Choice("file_path", required=True)
    text = Text(0, required=True)
    start_index = Whole(0, required=True)
    end_index = Whole(0, required=True)
    file_path = Object(FileReference, required=True)


class TextValue(Body):
    value = Text(0, required=True)
    annotations = Array(
        Variant({"file_citation": FileCitation(), "file_path": FilePath()}), required=True
    )


class TextPartObject(Body):
    type = Choice("text", required=True)
    text = Object(TextValue, required=True)


class RefusalPart(Body):
    type = Choice("refusal", required=True)
    refusal = Text(0, required=True)


class IncompleteDetails(Body):
    reason = Text(required=True)


_STORED_PARTS = {"text": TextPartObject(), **_IMAGES, "refusal": RefusalPart()}


class MessageObject(Body):
    id = ObjectId("msg", required=True)
    object = Choice("thread.message", required=True)
    created_at = Whole(0, MAX_SECONDS, required=True)
    assistant_id = Text(required=True, allow_none=True)
    thread_id = ObjectId("thread", required=True)
    run_id = Text(maximum=MAX_ID_CHARACTERS, required=True, allow_none=True)
    status = Choice("in_progress", "incomplete", "completed", required=True)
    incomplete_details = Object(IncompleteDetails, required=True, allow_none=True)
    completed_at = Whole(0, MAX_SECONDS, required=True, allow_none=True)
    incomplete_at = Whole(0, MAX_SECONDS, required=True, allow_none=True)
    role = Choice("user", "assistant", required=True)
    content = Array(Variant(_STORED_PARTS), required=True)
    attachments = Array(Object(Attachment), required=True, allow_none=True)
    metadata = Metadata(required=True)


class ExportedThread(Body):
    """One line of the exchange format."""

    thread = Object(ThreadObject, required=True)
    messages = Array(Object(MessageObject), required=True)


class ThreadList(Body):
    object = Choice("list", required=True)
    data = Array(Object(ThreadObject), required=True)
    first_id = ObjectId("thread", required=True, allow_none=True)
    last_id = ObjectId("thread", required=True, allow_none=True)
    has_more = Flag(required=True)


class MessageList(ThreadList):
    data = Array(Object(MessageObject), required=True)
    first_id = ObjectId("msg", required=True, allow_none=True)
    last_id = ObjectId("msg", required=True, allow_none=True)


class MessageDeleted(Body):
    id = ObjectId("msg", required=True)
    object = Choice("thread.message.deleted", required=True)
    deleted = Flag(required=True)


class ThreadDeleted(Body):
    id = ObjectId("thread", required=True)
    object = Choice("thread.deleted", required=True)
    deleted = Flag(required=True)


class Error(Body):
    message = Text(required=True)
    type = Text(required=True)
    param = Text(0, required=True, allow_none=True)
    code = Text(required=True, allow_none=True)


class ErrorResponse(Body):
    error = Object(Error, required=True)


class FaultRule(Body):
    method = Choice("GET", "POST", "DELETE")
    path = Text(load_default="*")
    status = Whole(400, 599)
    delay_ms = Delay()
    drop = Choice("before", "after")
    times = Whole(1)
    every = Whole(1)
    rate = Share()
    seed = Whole()
    retry_after = Whole(0)
    retry_after_ms = Whole(0)
    should_retry = Flag()


class FaultRules(Body):
    rules = Array(Object(FaultRule), maximum=100, required=True)


class IdSeed(Body):
    seed = Whole(required=True, allow_none=True)


class Clock(Body):
    frozen_at = Whole(0, MAX_SECONDS, allow_none=True)
    offset_seconds = Whole(-MAX_SECONDS, MAX_SECONDS)


class RequestFilter(Body):
    path = Text(load_default="*")
    since = Text()
