"""What comes in: field types, then request bodies, then (for the document) what goes out.

Every refusal is a Fault with the hosted API's sentence and code; PARAM is filled in with the
path by errors.first_fault. Sources: wire reference, table 1.1.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields

from errors import PARAM, Fault

MAX_TEXT_CHARACTERS = 256_000
MAX_METADATA_PAIRS = 16
MAX_METADATA_KEY_CHARACTERS = 64
MAX_METADATA_VALUE_CHARACTERS = 512
MAX_ATTACHMENTS = 10
MAX_ID_CHARACTERS = 64
STORABLE = "^[^\\u0000]*$"
HTTP_URL = "^https?://[^\\u0000-\\u0020\\u007f]+$"
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
    return value if len(value) <= 200 else f"{value[:200]}..."


def _too_long(maximum: int, length: int) -> Fault:
    return Fault(
        "string_above_max_length",
        f"Invalid '{PARAM}': string too long. Expected a string with maximum length {maximum}, "
        f"but got a string with length {length} instead.",
    )


def _empty_string() -> Fault:
    return Fault(
        "empty_string",
        f"Invalid '{PARAM}': empty string. Expected a string with minimum length 1, "
        "but got an empty string instead.",
    )


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
        return schema | ({} if self.maximum is None else {"maxLength": self.maximum})


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
    """A whole number between two bounds, either of which may be open."""

    expected = "an integer"

    def __init__(
        self, minimum: int | None = None, maximum: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.minimum, self.maximum = minimum, maximum

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
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
        code, side, relation, bound = "integer_below_min_value", "below minimum", ">=", minimum
    elif maximum is not None and value > maximum:
        code, side, relation, bound = "integer_above_max_value", "above maximum", "<=", maximum
    else:
        return None
    sentence = (
        f"Invalid '{PARAM}': integer {side} value. Expected a value {relation} {bound}, "
        f"but got {value} instead."
    )
    return Fault(code, sentence)


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
    return Fault(
        "object_above_max_properties",
        f"Invalid '{PARAM}': too many properties. Expected an object with at most "
        f"{MAX_METADATA_PAIRS} properties, but got an object with {count} properties instead.",
    )


def _pair_fault(key: str, value: Any) -> Fault | None:
    if len(key) > MAX_METADATA_KEY_CHARACTERS:
        return Fault(
            "property_name_above_max_length",
            f"Invalid property name in 'metadata': '{key[:3]}...{key[-3:]}' is too long. "
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
        if fault := self._length_fault(len(value)):
            raise ValidationError(fault)
        return super()._deserialize(value, attr, data)

    def _length_fault(self, length: int) -> Fault | None:
        if self.maximum is not None and length > self.maximum:
            return Fault(
                "array_above_max_length",
                f"Invalid '{PARAM}': array too long. Expected an array with maximum length "
                f"{self.maximum}, but got an array with length {length} instead.",
            )
        if length < self.minimum:
            return Fault(
                "empty_array",
                f"Invalid '{PARAM}': empty array. Expected an array with minimum length "
                f"{self.minimum}, but got an empty array instead.",
            )
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


class Tool(Body):
    type = Choice("code_interpreter", "file_search", required=True)


class Attachment(Body):
    file_id = FileId(required=True)
    tools = Array(Object(Tool), required=True)


class ModifyMessage(Body):
    metadata = Metadata()


class CreateMessage(Body):
    role = Choice("user", "assistant", required=True)
    content = Content(
        Variant({"text": TextPart(), "image_file": ImageFilePart(), "image_url": ImageUrlPart()}),
        required=True,
    )
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


class ThreadObject(Body):
    id = Text(required=True)
    object = Choice("thread", required=True)
    created_at = Whole(required=True)
    metadata = Metadata(required=True)
    tool_resources = Object(ToolResources, required=True)


class ThreadDeleted(Body):
    id = Text(required=True)
    object = Choice("thread.deleted", required=True)
    deleted = fields.Boolean(required=True)


class Error(Body):
    message = Text(required=True)
    type = Text(required=True)
    param = Text(required=True, allow_none=True)
    code = Text(required=True, allow_none=True)


class ErrorResponse(Body):
    error = Object(Error, required=True)
