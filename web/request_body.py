"""Reads requests: strict JSON bodies and query strings, then a marshmallow schema."""

from typing import Any

from flask import current_app
from marshmallow import Schema
from werkzeug.exceptions import ClientDisconnected

from rules import refusals
from rules.strict_json import parse_object
from web.request import Request, current


def read_body(schema: Schema) -> dict[str, Any]:
    """Load the JSON body; no body is `{}`. Raises ApiError 400, 413, 415, ValidationError (400)."""
    data, request = read_bytes(), current()
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if data and not (request.is_json and encoding == "identity"):
        raise refusals.no_plain_json()
    return schema.load(parse_object(data) if data else {})  # type: ignore[no-any-return]


def read_query(schema: Schema) -> dict[str, Any]:
    """Load the query string, `metadata[k]=v` as a dict. Raises ApiError, ValidationError (400)."""
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
    """Return the whole body. Raises ApiError 400 for one that is cut short, and 413."""
    request = current()
    if request.body is None:
        request.body = _read_stream(request)
    return request.body


def _read_stream(request: Request) -> bytes:
    try:
        data: bytes = request.get_data(cache=False)
    except Exception as error:
        is_cut_short = isinstance(error, (OSError, ValueError, ClientDisconnected))
        if is_cut_short or type(error).__module__.startswith("gunicorn."):  # bad chunks
            raise refusals.body_cut_short() from error
        raise
    # The server hands on a body that is cut short as if it were whole.
    if len(data) < (request.content_length or 0):
        raise refusals.body_cut_short()
    if len(data) > current_app.config["MAX_BODY_BYTES"]:
        raise refusals.body_too_large()
    return data
