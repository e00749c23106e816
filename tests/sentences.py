"""How the API refuses a value: the message, param and code that tests expect."""

from typing import Any

Refusal = tuple[str, str | None, str | None]
"""Message, param and code of an error."""

NUL_IN_QUERY: Refusal = (
    "Query parameters cannot hold the NUL character (U+0000).",
    None,
    None,
)


def refusal_of(answer: Any, status: int = 400) -> Refusal:
    """Check the status and the envelope of a refusal; return what it says."""
    assert answer.status_code == status, answer.text[:300]
    error = answer.json["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["type"] == "invalid_request_error"
    return error["message"], error["param"], error["code"]


def missing(path: str) -> Refusal:
    return f"Missing required parameter: '{path}'.", path, "missing_required_parameter"


def unknown(path: str, meant: str = "") -> Refusal:
    hint = f" Did you mean '{meant}'?" if meant else ""
    return f"Unknown parameter: '{path}'.{hint}", path, "unknown_parameter"


def duplicate(path: str) -> Refusal:
    sentence = (
        f"Duplicate parameter: '{path}'. You provided multiple values for this parameter, "
        "whereas only one is allowed."
    )
    return sentence, path, "duplicate_parameter"


def wrong_type(path: str, expected: str, actual: str) -> Refusal:
    sentence = f"Invalid type for '{path}': expected {expected}, but got {actual} instead."
    return sentence, path, "invalid_type"


def unsupported(path: str, value: str, supported: str) -> Refusal:
    sentence = f"Invalid value: '{value}'. Supported values are: {supported}."
    return sentence, path, "invalid_value"


def wrong_prefix(path: str, value: str, prefix: str) -> Refusal:
    sentence = f"Invalid '{path}': '{value}'. Expected an ID that begins with '{prefix}'."
    return sentence, path, "invalid_value"


def not_a_file(path: str, value: str) -> Refusal:
    return wrong_prefix(path, value, "file")


def not_a_url(path: str) -> Refusal:
    sentence = f"Invalid '{path}'. Expected a valid URL, but got a value with an invalid format."
    return sentence, path, "invalid_value"


def no_object(kind: str, id_: str) -> Refusal:
    return f"No {kind} found with id '{id_}'.", None, None


def _invalid(path: str, fault: str, expected: str, actual: object, code: str) -> Refusal:
    sentence = f"Invalid '{path}': {fault}. Expected {expected}, but got {actual} instead."
    return sentence, path, code


def long_string(path: str, maximum: int, length: int) -> Refusal:
    expected, actual = f"a string with maximum length {maximum}", f"a string with length {length}"
    return _invalid(path, "string too long", expected, actual, "string_above_max_length")


def empty_string(path: str) -> Refusal:
    expected = "a string with minimum length 1"
    return _invalid(path, "empty string", expected, "an empty string", "empty_string")


def long_array(path: str, maximum: int, length: int) -> Refusal:
    expected, actual = f"an array with maximum length {maximum}", f"an array with length {length}"
    return _invalid(path, "array too long", expected, actual, "array_above_max_length")


def empty_array(path: str) -> Refusal:
    expected = "an array with minimum length 1"
    return _invalid(path, "empty array", expected, "an empty array", "empty_array")


def low_integer(path: str, bound: int, value: int) -> Refusal:
    fault, code = "integer below minimum value", "integer_below_min_value"
    return _invalid(path, fault, f"a value >= {bound}", value, code)


def high_integer(path: str, bound: int, value: int) -> Refusal:
    fault, code = "integer above maximum value", "integer_above_max_value"
    return _invalid(path, fault, f"a value <= {bound}", value, code)


def many_pairs(path: str, count: int) -> Refusal:
    expected, actual = "an object with at most 16 properties", f"an object with {count} properties"
    return _invalid(path, "too many properties", expected, actual, "object_above_max_properties")


def long_key(path: str, key: str, length: int) -> Refusal:
    sentence = (
        f"Invalid property name in 'metadata': '{key}' is too long. Expected a string with "
        f"maximum length 64, but got a string with length {length} instead."
    )
    return sentence, path, "property_name_above_max_length"
