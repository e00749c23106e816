"""The one reader of requests: strict JSON bodies and query strings, then a marshmallow schema."""

from typing import Any

from flask import current_app
from marshmallow import Schema
from werkzeug.exceptions import ClientDisconnected

from rules import refusals
from rules.strict_json import parse_object
from web.request import current


def read_body(schema: Schema) -> dict[str, Any]:
    """Return the request's JSON object as the schema loads it; no body at all is `{}`.

    Raises ApiError 400, 413 or 415, and ValidationError (400).
    """
    return schema.load(_read_object())  # type: ignore[no-any-return]


def read_query(schema: Schema) -> dict[str, Any]:
    """Return the query string as the schema loads it; `metadata[key]=value` becomes one dict.

    Raises ApiError and ValidationError (400).
    """
    texts: dict[str, Any] = {}
    pairs: dict[str, str] = {}
    for name, values in current().args.lists():
        if name == "api-version":  # AzureOpenAI sends it with every request
            continue
        if len(values) > 1:
            raise refusals.duplicate_parameter(name)
        if "\0" in name + values[0]:
            raise refusals.nul_in_query()
        if name.startswith("metadata[") and name.endswith("]"):
            pairs[name[9:-1]] = values[0]
        else:
            texts[name] = values[0]
    if pairs:
        texts.setdefault("metadata", pairs)
    return schema.load(texts)  # type: ignore[no-any-return]


def read_bytes() -> bytes:
    """Return the whole body; it is read once. Raises ApiError 400 when it is cut short, and 413.

    The server hands on a body that is cut short as if it were whole, and reports bad chunks by
    exceptions of its own; either leaves the connection unusable.
    """
    request = current()
    if request.body is None:
        request.body = _read_stream()
    return request.body


def _read_stream() -> bytes:
    request = current()
    try:
        data: bytes = request.get_data(cache=False)
    except (OSError, ValueError, ClientDisconnected) as error:
        raise refusals.body_cut_short() from error
    except Exception as error:
        if type(error).__module__.startswith("gunicorn."):
            raise refusals.body_cut_short() from error
        raise
    if len(data) < (request.content_length or 0):
        raise refusals.body_cut_short()
    if len(data) > current_app.config["MAX_BODY_BYTES"]:
        raise refusals.body_too_large()
    return data


def _read_object() -> dict[str, Any]:
    data, request = read_bytes(), current()
    if not data:
        return {}
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if not request.is_json or encoding != "identity":
        raise refusals.no_plain_json()
    return parse_object(data)
