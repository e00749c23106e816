"""The one reader of requests: strict JSON bodies and query strings, then a marshmallow schema."""

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from flask import current_app, g, request
from marshmallow import Schema
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from errors import ApiError
from schemas import kind_of

_INVALID_JSON = (
    "Invalid body: failed to parse JSON value. Please check the value to ensure it is valid JSON. "
    "(Common errors include trailing commas, missing closing brackets, missing quotation marks, "
    "etc.)"
)

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_DUPLICATE = (
    "Duplicate parameter: '{name}'. You provided multiple values for this parameter, whereas only "
    "one is allowed."
)


def read_body(schema: Schema) -> dict[str, Any]:
    """Return the request's JSON object as the schema loads it; no body at all is `{}`.

    Raises ApiError 400, 413 or 415, and ValidationError (400).
    """
    return schema.load(read_object())  # type: ignore[no-any-return]


def read_query(schema: Schema) -> dict[str, Any]:
    """Return the query string as the schema loads it; `metadata[key]=value` becomes one dict.

    Raises ApiError and ValidationError (400).
    """
    given: dict[str, Any] = {}
    pairs: dict[str, str] = {}
    for name, values in request.args.lists():
        if name == "api-version":  # AzureOpenAI sends it with every request
            continue
        if len(values) > 1:
            raise ApiError(400, _DUPLICATE.format(name=name), name, "duplicate_parameter")
        if "\0" in name + values[0]:
            raise ApiError(400, "Query parameters cannot hold the NUL character (U+0000).")
        if name.startswith("metadata[") and name.endswith("]"):
            pairs[name[9:-1]] = values[0]
        else:
            given[name] = values[0]
    if pairs:
        given.setdefault("metadata", pairs)
    return schema.load(given)  # type: ignore[no-any-return]


def read_object() -> dict[str, Any]:
    """Return the request's JSON object. Raises ApiError 400, 413 or 415."""
    data = read_bytes()
    if not data:
        return {}
    asked = request._get_current_object()  # type: ignore[attr-defined]
    if not asked.is_json or asked.headers.get("Content-Encoding", "identity").lower() != "identity":
        message = "Send the body as plain JSON with the header Content-Type: application/json."
        raise ApiError(415, message, code="unsupported_media_type")
    return parse_object(data)


def read_bytes() -> bytes:
    """Return the whole body; it is read once. Raises ApiError 400 when it is cut short, and 413.

    The server hands a body cut short on as if it were whole, and reports bad chunks by exceptions
    of its own; either leaves the connection unusable.
    """
    context, asked = g._get_current_object(), request._get_current_object()  # type: ignore[attr-defined]
    if "body" in context:
        return bytes(context.body)
    try:
        data: bytes = asked.get_data(cache=False)
    except (OSError, ValueError, ClientDisconnected) as error:
        raise _cut_short() from error
    except Exception as error:
        if type(error).__module__.startswith("gunicorn."):
            raise _cut_short() from error
        raise
    if len(data) < (asked.content_length or 0):
        raise _cut_short()
    if len(data) > current_app.config["MAX_BODY_BYTES"]:
        raise RequestEntityTooLarge
    context.body = data
    return data


def _cut_short() -> ApiError:
    message = "Invalid body: the request body ended early or its chunks are malformed."
    return ApiError(400, message, code="invalid_request_error", headers={"Connection": "close"})


def parse_object(data: bytes) -> dict[str, Any]:
    """Return a strict JSON object. Raises ApiError 400."""
    value = parse_json(data)
    if not isinstance(value, dict):
        message = f"Invalid type: expected an object, but got {kind_of(value)} instead."
        raise ApiError(400, message, code="invalid_request_error")
    return value


def parse_json(data: bytes) -> Any:
    """Return a strict JSON value: UTF-8, no duplicate keys, nothing that cannot be stored.

    Raises ApiError 400.
    """
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        message = (
            "Invalid body: encountered a unicode decode error when parsing this JSON value. "
            "Send it as UTF-8."
        )
        raise ApiError(400, message, code="invalid_request_error") from error
    try:
        value = _DECODER.decode(text)
        if "\\u" in text:
            _refuse_unstorable(value)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, _INVALID_JSON, code="invalid_json") from error
    return value


def _refuse_unstorable(value: Any) -> None:
    """Refuse what only an escape can smuggle in: lone surrogates (ValueError) and U+0000."""
    text = json.dumps(value, ensure_ascii=False)
    text.encode()
    if _NUL.search(text):
        message = "Invalid body: strings cannot hold the NUL character (U+0000)."
        raise ApiError(400, message, code="invalid_request_error")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        message = (
            f"Invalid body: duplicate JSON key '{twice}'. Duplicate JSON keys are not supported."
        )
        raise ApiError(400, message, code="invalid_request_error")
    return value


def _bounded(convert: Callable[[str], Any], fits: Callable[[Any], bool]) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        value = convert(text)
        return value if fits(value) else _refuse_constant(text)

    return number


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(text)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_bounded(int, lambda value: -(2**63) <= value < 2**63),
    parse_float=_bounded(float, math.isfinite),
    parse_constant=_refuse_constant,
)
