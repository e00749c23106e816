"""The marshmallow fields of the API. Their sentences are from the wire reference, table 1.1."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar, Self

from marshmallow import RAISE, Schema, ValidationError, fields

from rules.errors import FIRST, LAST, PARAM, PARENT, Fault, place_of, shown

Bound = int | None
MAX_METADATA_PAIRS = 16
MAX_METADATA_KEY_CHARACTERS = 64
MAX_METADATA_VALUE_CHARACTERS = 512
MAX_ID_CHARACTERS = 64
MAX_FILE_ID_CHARACTERS = 256
MAX_URL_CHARACTERS = 8_192
MAX_NAME_CHARACTERS = 64
MAX_LEVELS = 100
"""The deepest nesting of an object of any content."""
NAME = "^[a-zA-Z0-9_-]+$"
FILE_PREFIXES = ("file", "assistant-")
PATH_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
STORABLE = "^[^\\u0000]*$"
HTTP_URL = "^[Hh][Tt][Tt][Pp][Ss]?://[^\\u0000-\\u0020\\u007f]+$"
"""It has no `\\s`: beyond ASCII, Python, JavaScript and Rust read it differently."""

_EXACT_FLOATS = 1 << 53
_KINDS: dict[type, str] = {bool: "a boolean", int: "an integer", float: "a decimal number"}
_KINDS |= {str: "a string", list: "an array", dict: "an object", type(None): "null"}
_MISSING = Fault("missing_required_parameter", f"Missing required parameter: '{PARAM}'.")


class _UnknownKey(Fault):
    """The fault of an unknown key. The similar key is looked for when the fault is told."""

    key: str
    known: Iterable[str]

    @classmethod
    def of(cls, key: str, known: Iterable[str]) -> Self:
        """Return the fault of a key that is none of the known ones."""
        fault = cls("unknown_parameter", f"Unknown parameter: '{PARAM}'.")
        fault.key, fault.known = key, known
        return fault

    def at(self, path: str, parent: str = "") -> str:
        is_short = len(self.key) <= MAX_METADATA_KEY_CHARACTERS
        similar = get_close_matches(self.key, self.known, n=1, cutoff=0.8) if is_short else []
        return super().at(path, parent) + "".join(f" Did you mean '{key}'?" for key in similar)


def kind_of(value: Any) -> str:
    """Return the name of a JSON value's type with its article."""
    return _KINDS[type(value)]


def wrong_type(expected: str, value: Any) -> Fault:
    """Return the fault of a value of another JSON type."""
    sentence = f"Invalid type for '{PARAM}': expected {expected}, but got {kind_of(value)} instead."
    return Fault("invalid_type", sentence)


def not_supported(value: str, supported: Sequence[str]) -> Fault:
    """Return the fault of a string outside a closed set."""
    *most, last = [f"'{word}'" for word in supported]
    comma = "," if len(most) > 1 else ""
    listed = f"{', '.join(most)}{comma} and {last}" if most else last
    sentence = f"Invalid value: '{_shown(value)}'. Supported values are: {listed}."
    return Fault("invalid_value", sentence)


def wrong_prefix(value: str, prefix: str) -> Fault:
    """Return the fault of an id of another kind."""
    sentence = f"Invalid '{PARAM}': '{_shown(value)}'. Expected an ID that begins with '{prefix}'."
    return Fault("invalid_value", sentence)


def out_of_range(
    value: float, minimum: Bound, maximum: Bound, kind: str = "integer"
) -> Fault | None:
    """Return the fault of a number outside its bounds, or None; its kind may be `decimal`."""
    if minimum is not None and value < minimum:
        problem, expected = f"{kind} below minimum value", f"a value >= {minimum}"
        return _out_of_bounds(f"{kind}_below_min_value", problem, expected, value)
    if maximum is not None and value > maximum:
        problem, expected = f"{kind} above maximum value", f"a value <= {maximum}"
        return _out_of_bounds(f"{kind}_above_max_value", problem, expected, value)
    return None


def _shown(value: str) -> str:
    return shown(value.replace(PARAM, "\ufffd"))


def _out_of_bounds(code: str, problem: str, expected: str, actual: Any) -> Fault:
    sentence = f"Invalid '{PARAM}': {problem}. Expected {expected}, but got {actual} instead."
    return Fault(code, sentence)


def too_long(maximum: int, length: int) -> Fault:
    """Return the fault of a string above its maximum length."""
    expected, actual = f"a string with maximum length {maximum}", f"a string with length {length}"
    return _out_of_bounds("string_above_max_length", "string too long", expected, actual)


def _bounds(**bounds: Bound) -> dict[str, Any]:
    return {name: bound for name, bound in bounds.items() if bound is not None}


class Field(fields.Field[Any]):
    """A field of one JSON type. A subclass names the type and checks the value in `read`."""

    json_type: ClassVar[type] = dict
    expected: ClassVar[str | None] = None
    default_error_messages = {"required": _MISSING}

    def __init__(self, *args: Any, null_as: Any = None, **kwargs: Any) -> None:
        """Take what a field of marshmallow takes, and what null loads as: `missing` is absent."""
        super().__init__(*args, **kwargs)
        self.null_as = null_as
        self.allow_none = self.allow_none or null_as is not None

    def deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        return super().deserialize(self.null_as if value is None else value, *args, **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if type(value) is not self.json_type:
            raise self.wrong_type(value)
        return self.read(value)

    def wrong_type(self, value: Any) -> ValidationError:
        """Return the error of a value of another JSON type."""
        return ValidationError(wrong_type(self.expected or _KINDS[self.json_type], value))

    def read(self, value: Any) -> Any:
        """Return the loaded value of the right JSON type. Raises ValidationError."""
        return value

    def make_error(self, key: str, **kwargs: Any) -> ValidationError:
        """Return the Fault itself: marshmallow would make a plain string of it."""
        if key == "null":
            return self.wrong_type(None)
        return ValidationError(self.error_messages[key])

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of an accepted value."""
        raise NotImplementedError


class Text(Field):
    """A string; the bounds of its length count characters."""

    json_type = str

    def __init__(self, minimum: int = 1, maximum: Bound = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.minimum, self.maximum = minimum, maximum

    def read(self, value: Any) -> Any:
        if len(value) < self.minimum:
            expected, actual = "a string with minimum length 1", "an empty string"
            raise ValidationError(_out_of_bounds("empty_string", "empty string", expected, actual))
        if self.maximum is not None and len(value) > self.maximum:
            raise ValidationError(too_long(self.maximum, len(value)))
        return value

    def json_schema(self) -> dict[str, Any]:
        schema = {"type": "string", "minLength": self.minimum, "pattern": STORABLE}
        bounds = _bounds(maxLength=self.maximum)
        return {**schema, **bounds, "examples": ["text"], **self.metadata}


class Url(Text):
    """An http or https URL; the hosted API refused data URLs, too."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(maximum=MAX_URL_CHARACTERS, **kwargs)

    def read(self, value: Any) -> Any:
        if not re.fullmatch(HTTP_URL, super().read(value)):
            problem = "Expected a valid URL, but got a value with an invalid format."
            raise ValidationError(Fault("invalid_value", f"Invalid '{PARAM}'. {problem}"))
        return value

    def json_schema(self) -> dict[str, Any]:
        schema = {"type": "string", "maxLength": self.maximum, "pattern": HTTP_URL}
        return schema | {"examples": ["https://example.com/cat.png"]}


class Name(Text):
    """The name of a function or a format, as a model may write it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(maximum=MAX_NAME_CHARACTERS, **kwargs)

    def read(self, value: Any) -> Any:
        if not PATH_ID.fullmatch(super().read(value)):
            expected = f"Expected a string that matches the pattern '{NAME}'."
            sentence = f"Invalid '{PARAM}': string does not match pattern. {expected}"
            raise ValidationError(Fault("invalid_value", sentence))
        return value

    def json_schema(self) -> dict[str, Any]:
        schema = {"type": "string", "maxLength": self.maximum, "pattern": NAME}
        return schema | {"examples": ["get_weather"]}


class FileId(Text):
    """The id of a file: it begins with `file`, Azure's with `assistant-`. None is looked up."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(maximum=MAX_FILE_ID_CHARACTERS, **kwargs)

    def read(self, value: Any) -> Any:
        if not super().read(value).startswith(FILE_PREFIXES):
            raise ValidationError(wrong_prefix(value, "file"))
        return value

    def json_schema(self) -> dict[str, Any]:
        pattern = f"^({'|'.join(FILE_PREFIXES)})[^\\u0000]*$"
        schema = {"type": "string", "maxLength": self.maximum, "pattern": pattern}
        return schema | {"examples": ["file-abc123"]}


class ObjectId(Text):
    """The id of an object, as it may stand in a path."""

    def __init__(self, prefix: str, **kwargs: Any) -> None:
        super().__init__(maximum=MAX_ID_CHARACTERS, **kwargs)
        self.prefix = prefix

    def read(self, value: Any) -> Any:
        if not super().read(value).startswith(self.prefix):
            raise ValidationError(wrong_prefix(value, self.prefix))
        if not PATH_ID.fullmatch(value):
            sentence = f"Invalid '{PARAM}': ids hold letters, digits, '_' and '-' only."
            raise ValidationError(Fault("invalid_value", sentence))
        return value

    def json_schema(self) -> dict[str, Any]:
        rest = MAX_ID_CHARACTERS - len(self.prefix)
        pattern = f"^{self.prefix}[A-Za-z0-9_-]{{0,{rest}}}$"
        return {"type": "string", "pattern": pattern, "examples": [f"{self.prefix}_abc123"]}


class Choice(Text):
    """One word of a closed set."""

    def __init__(self, *supported: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supported = supported

    def read(self, value: Any) -> Any:
        if value not in self.supported:
            raise ValidationError(not_supported(value, self.supported))
        return value

    def json_schema(self) -> dict[str, Any]:
        null = [None] if self.allow_none else []
        return {"type": "string", "enum": [*self.supported, *null]}


class Boolean(Field):
    """true or false."""

    json_type = bool

    def json_schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


class Integer(Field):
    """An integer, with or without bounds; 800.0 is one, too."""

    json_type = int

    def __init__(self, minimum: Bound = None, maximum: Bound = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.minimum, self.maximum = minimum, maximum

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if type(value) is float and value.is_integer() and abs(value) < _EXACT_FLOATS:
            value = int(value)
        return super()._deserialize(value, attr, data, **kwargs)

    def read(self, value: Any) -> Any:
        if fault := out_of_range(value, self.minimum, self.maximum):
            raise ValidationError(fault)
        return value

    def json_schema(self) -> dict[str, Any]:
        return {"type": "integer"} | _bounds(minimum=self.minimum, maximum=self.maximum)


class Number(Field):
    """A number within bounds; it loads as a float."""

    json_type = float
    expected = "a decimal"

    def __init__(self, minimum: int, maximum: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.minimum, self.maximum = minimum, maximum

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if type(value) not in (int, float):
            raise self.wrong_type(value)
        if fault := out_of_range(value, self.minimum, self.maximum, "decimal"):
            raise ValidationError(fault)
        return float(value)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": self.minimum, "maximum": self.maximum}


class QueryInteger(Integer):
    """An integer in a query string or a form: ASCII digits only.

    It needs both bounds: strict JSON has some for the integers of a body, a text has none.
    """

    def __init__(self, minimum: int, maximum: int, **kwargs: Any) -> None:
        super().__init__(minimum, maximum, **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if not re.fullmatch("-?[0-9]{1,400}", value):
            raise self.wrong_type(value)
        return super()._deserialize(int(value), attr, data, **kwargs)


class Metadata(Field):
    """At most 16 pairs of strings; null stands for none."""

    expected = "a metadata object"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_none=True, **kwargs)

    def read(self, value: Any) -> Any:
        if len(value) > MAX_METADATA_PAIRS:
            expected = f"an object with at most {MAX_METADATA_PAIRS} properties"
            actual = f"an object with {len(value)} properties"
            code, problem = "object_above_max_properties", "too many properties"
            raise ValidationError(_out_of_bounds(code, problem, expected, actual))
        faults = {key: [fault] for key, text in value.items() if (fault := _pair_fault(key, text))}
        if faults:
            raise ValidationError(faults)
        return value

    def json_schema(self) -> dict[str, Any]:
        value = {"type": "string", "maxLength": MAX_METADATA_VALUE_CHARACTERS, "pattern": STORABLE}
        most = f"{MAX_METADATA_KEY_CHARACTERS}, values of at most {MAX_METADATA_VALUE_CHARACTERS}"
        return {
            "type": ["object", "null"],
            "description": f"Up to {MAX_METADATA_PAIRS} pairs; keys of at most {most} characters.",
            "maxProperties": MAX_METADATA_PAIRS,
            "propertyNames": {"maxLength": MAX_METADATA_KEY_CHARACTERS, "pattern": STORABLE},
            "additionalProperties": value,
            "examples": [{"user": "u3"}],
        }


def _pair_fault(key: str, value: Any) -> Fault | None:
    if len(key) > MAX_METADATA_KEY_CHARACTERS:
        problem = f"Invalid property name in '{PARENT}': '{key[:3]}...{key[-3:]}' is too long."
        expected = f"Expected a string with maximum length {MAX_METADATA_KEY_CHARACTERS}"
        sentence = f"{problem} {expected}, but got a string with length {len(key)} instead."
        return Fault("property_name_above_max_length", sentence)
    if type(value) is not str:
        return wrong_type("a string", value)
    if len(value) > MAX_METADATA_VALUE_CHARACTERS:
        return too_long(MAX_METADATA_VALUE_CHARACTERS, len(value))
    return None


class Object(Field, fields.Nested):  # type: ignore[misc]
    """A nested object of a schema."""

    def read(self, value: Any) -> Any:
        return self.schema.load(value)


class AnyObject(Field):
    """An object of any content, as a JSON Schema is one."""

    def read(self, value: Any) -> Any:
        level = [value]
        for _ in range(MAX_LEVELS):
            level = [item for each in level for item in _items(each)]
            if not level:
                return value
        sentence = f"Invalid '{PARAM}': nested too deeply. Expected at most {MAX_LEVELS} levels."
        raise ValidationError(Fault("invalid_value", sentence))

    def json_schema(self) -> dict[str, Any]:
        return {"type": "object", "description": f"Nested in at most {MAX_LEVELS} levels."}


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


class Array(Field, fields.List[Any]):
    """An array with bounds on its length."""

    json_type = list

    def __init__(self, items: Any, minimum: int = 0, maximum: Bound = None, **kwargs: Any) -> None:
        super().__init__(items, **kwargs)
        self.minimum, self.maximum = minimum, maximum

    def read(self, value: Any) -> Any:
        fault = self._length_fault(len(value))
        loaded, report = self._load(value[: self.maximum])
        if report and not (fault and place_of(report) >= LAST):
            raise report
        if fault:
            raise ValidationError(fault)
        return loaded

    def _load(self, items: list[Any]) -> tuple[list[Any], ValidationError | None]:
        """Return the loaded items, and the report of the one whose fault goes first."""
        loaded: list[Any] = []
        report, place = None, LAST
        json_type = getattr(self.inner, "json_type", None)
        for index, item in enumerate(items):
            if report and type(item) is not json_type:
                continue  # a second fault of a type, which nobody is told
            try:
                loaded.append(self.inner.deserialize(item))
            except ValidationError as error:
                told = ValidationError({index: error.messages})
                if report is None or place_of(told) < place:
                    report, place = told, place_of(told)
                if place == FIRST:
                    break
        return loaded, report

    def _length_fault(self, length: int) -> Fault | None:
        if self.maximum is not None and length > self.maximum:
            expected = f"an array with maximum length {self.maximum}"
            actual = f"an array with length {length}"
            return _out_of_bounds("array_above_max_length", "array too long", expected, actual)
        if length < self.minimum:
            expected = f"an array with minimum length {self.minimum}"
            return _out_of_bounds("empty_array", "empty array", expected, "an empty array")
        return None

    def length_bounds(self) -> dict[str, int]:
        """Return the bounds in the words of JSON Schema."""
        return _bounds(minItems=self.minimum or None, maxItems=self.maximum)


class Variant(Field):
    """An object whose `type` names the schema that reads it."""

    def __init__(self, variants: Mapping[str, Schema], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.variants = variants

    def read(self, value: Any) -> Any:
        if "type" not in value:
            raise ValidationError({"type": [_MISSING]})
        kind = value["type"]
        if type(kind) is not str:
            raise ValidationError({"type": [wrong_type("a string", kind)]})
        if kind not in self.variants:
            raise ValidationError({"type": [not_supported(kind, list(self.variants))]})
        return self.variants[kind].load(value)


class WordOrVariant(Variant):
    """One word of a closed set, or an object; it loads as it is sent."""

    expected = "one of a string or object"

    def __init__(self, words: Sequence[str], variants: Mapping[str, Schema], **kwargs: Any) -> None:
        super().__init__(variants, **kwargs)
        self.word = Choice(*words)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if type(value) is str:
            return self.word.read(value)
        super()._deserialize(value, attr, data, **kwargs)
        return value


class StrictSchema(Schema):
    """A JSON object without unknown keys."""

    example: ClassVar[dict[str, Any] | None] = None
    """What the API document shows of a request body."""
    error_messages = {"unknown": "unknown"}

    def load(self, data: Any, **options: Any) -> Any:
        """Return the loaded object. Raises ValidationError."""
        # Of unknown keys the first by name is told, so that no others are looked at.
        if len(data) > len(self.load_fields):
            keys = {field.data_key or name for name, field in self.load_fields.items()}
            told = min(data.keys() - keys, default=None)
            data = {key: value for key, value in data.items() if key in keys or key == told}
        return super().load(data, **options)

    def handle_error(self, error: ValidationError, data: Any, **_: Any) -> None:
        """Make the fault of an unknown key, which knows the keys of this schema."""
        messages: dict[str, Any] = error.normalized_messages()  # type: ignore[no-untyped-call]
        for key, faults in messages.items():
            if faults == [self.error_messages["unknown"]]:
                messages[key] = [_UnknownKey.of(key, self.load_fields)]

    class Meta:
        unknown = RAISE
