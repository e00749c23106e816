"""Reads requests: strict JSON bodies and query strings, then a marshmallow schema."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from flask import current_app
from marshmallow import EXCLUDE, Schema
from werkzeug.exceptions import ClientDisconnected

from database.waits import Places
from rules import refusals
from rules.strict_json import parse_object
from web.request import Request, current

_PIECE_BYTES = _LARGE_BYTES = 64 << 10
_IGNORED = ("api-version", "include[]")
"""AzureOpenAI sends its version with every request; `include` asks for results of file searches."""
_PLACES = Places(2)


def read_body(schema: Schema) -> dict[str, Any]:
    """Load the JSON body; no body is `{}`. Raises ApiError 400, 413, 415, ValidationError (400)."""
    data, request = read_bytes(), current()
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if data and not (request.is_json and encoding == "identity"):
        raise refusals.no_plain_json()
    # PHP writes an empty object as an empty array.
    if data.strip() == b"[]" and not any(field.required for field in schema.fields.values()):
        data = b""
    return schema.load(parse_object(data) if data else {})  # type: ignore[no-any-return]


def read_query(schema: Schema) -> dict[str, Any]:
    """Load the query string, `metadata[k]=v` as a dict. Raises ApiError, ValidationError (400).

    A schema that excludes unknown keys (that of a page) reads its own parameters only.
    """
    return dict(_load_query(schema, current().query_string))


@lru_cache(maxsize=128)
def _load_query(schema: Schema, _query_string: bytes) -> dict[str, Any]:
    """Load the arguments of the current request, which its query string decides.

    Most clients ask the same again and again.
    """
    texts: dict[str, Any] = {}
    pairs: dict[str, str] = {}
    for name, values in current().args.lists():
        if name in _IGNORED or (schema.unknown == EXCLUDE and not is_known(schema, name)):
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


def is_known(schema: Schema, name: str) -> bool:
    """Return whether a schema has a field for a parameter."""
    keys = {field.data_key or key for key, field in schema.load_fields.items()}
    is_pair = name.startswith("metadata[") and name.endswith("]")
    return ("metadata" if is_pair else name) in keys


def read_bytes() -> bytes:
    """Return the whole body. Few large ones are in memory at once, until `give_back_place`.

    Raises ApiError 400 for one that is cut short, 408, 413, and 503 when the others take too long.
    """
    request = current()
    if request.body is None:
        with _received(request) as file:
            if file.tell() >= _LARGE_BYTES:
                _PLACES.take()
                request.has_place = True
            file.seek(0)
            request.body = file.read()
        request.stream = BytesIO(request.body)  # for a form
    return request.body


def give_back_place() -> None:
    """Let the large body of another request into memory, if this request has one."""
    request = current()
    if request.has_place:
        request.has_place = False
        _PLACES.give_back()


def is_ahead(request: Request) -> bool:
    """Return whether a request has a body that is not read yet."""
    length = request.environ.get("CONTENT_LENGTH", "")
    comes = length not in ("", "0") or "HTTP_TRANSFER_ENCODING" in request.environ
    return comes and request.body is None


@contextmanager
def _received(request: Request) -> Iterator[IO[bytes]]:
    """Wait for the whole body, and yield it as a file: that of a slow client fills no memory.

    The file is at its end.
    """
    most = current_app.config["MAX_BODY_BYTES"]
    with SpooledTemporaryFile(_LARGE_BYTES) as file:
        for piece in _pieces(request):
            file.write(piece)
            if file.tell() > most:
                raise refusals.body_too_large()
        # The server hands on a body that is cut short as if it were whole.
        if file.tell() < (request.content_length or 0):
            raise refusals.body_cut_short()
        yield file


def _pieces(request: Request) -> Iterator[bytes]:
    try:
        yield from iter(lambda: request.stream.read(_PIECE_BYTES), b"")
    except Exception as error:
        if isinstance(error.__context__, TimeoutError):
            raise refusals.body_too_slow() from error
        is_cut_short = isinstance(error, (OSError, ValueError, ClientDisconnected))
        if is_cut_short or type(error).__module__.startswith("gunicorn."):  # bad chunks
            raise refusals.body_cut_short() from error
        raise
