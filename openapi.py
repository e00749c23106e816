"""The API document: OpenAPI 3.1 from the schemas that validate and one table of operations."""

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import orjson
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema, missing

import schemas
from schemas import (
    Clock,
    CopyThread,
    CreateMessage,
    CreateThread,
    ErrorResponse,
    FaultRules,
    IdSeed,
    ListMessages,
    ListThreads,
    MessageDeleted,
    MessageList,
    MessageObject,
    ModifyMessage,
    ModifyThread,
    RequestFilter,
    ThreadDeleted,
    ThreadList,
    ThreadObject,
)

_THREADS = "/threads"
_THREAD = "/threads/{thread_id}"
_COPY = "/threads/{thread_id}/copy"
_MESSAGES = "/threads/{thread_id}/messages"
_MESSAGE = "/threads/{thread_id}/messages/{message_id}"
_DESCRIPTION = (
    "The OpenAI Threads API on your own machine. Every address also answers without `/v1`. "
    "Errors are the OpenAI envelope; `x-request-id` names the request in the server's log. "
    "While the controls under `/_mock` are on, the headers `X-Mock-Fault` (a status, `drop` or "
    "`drop-after`) and `X-Mock-Delay` (`250ms`, `2s`) let one request fail or wait."
)
_PATH_IDS = {"thread_id": "thread", "message_id": "msg"}


class Operation(NamedTuple):
    """One operation: where it is, what it is called, the schemas of body, answer and query."""

    method: str
    path: str
    name: str
    summary: str
    body: type[Schema] | None
    answer: type[Schema] | None
    query: type[Schema] | None = None


OPERATIONS = (
    Operation("post", _THREADS, "createThread", "Create a thread", CreateThread, ThreadObject),
    Operation("get", _THREADS, "listThreads", "List threads", None, ThreadList, ListThreads),
    Operation("get", _THREAD, "getThread", "Retrieve a thread", None, ThreadObject),
    Operation("post", _THREAD, "modifyThread", "Modify a thread", ModifyThread, ThreadObject),
    Operation("delete", _THREAD, "deleteThread", "Delete a thread", None, ThreadDeleted),
    Operation("post", _COPY, "copyThread", "Copy a thread", CopyThread, ThreadObject),
    Operation("post", _MESSAGES, "createMessage", "Add a message", CreateMessage, MessageObject),
    Operation("get", _MESSAGES, "listMessages", "List messages", None, MessageList, ListMessages),
    Operation("get", _MESSAGE, "getMessage", "Retrieve a message", None, MessageObject),
    Operation("post", _MESSAGE, "modifyMessage", "Modify a message", ModifyMessage, MessageObject),
    Operation("delete", _MESSAGE, "deleteMessage", "Delete a message", None, MessageDeleted),
    Operation("post", "/_mock/reset", "resetMock", "Return to the seed", None, None),
    Operation("post", "/_mock/seed", "seedMock", "Load JSON Lines (the body)", None, None),
    Operation("post", "/_mock/snapshot", "takeSnapshot", "Remember everything", None, None),
    Operation("post", "/_mock/restore", "restoreSnapshot", "Return to the snapshot", None, None),
    Operation("get", "/_mock/faults", "getFaults", "Show the fault rules", None, None),
    Operation("post", "/_mock/faults", "setFaults", "Set the fault rules", FaultRules, None),
    Operation("delete", "/_mock/faults", "clearFaults", "Clear the fault rules", None, None),
    Operation("get", "/_mock/requests", "getRequests", "Show the log", None, None, RequestFilter),
    Operation("delete", "/_mock/requests", "clearRequests", "Clear the log", None, None),
    Operation("put", "/_mock/ids", "seedIds", "Make ids repeat", IdSeed, None),
    Operation("put", "/_mock/clock", "setClock", "Freeze or move the clock", Clock, None),
    Operation("get", "/healthz", "isAlive", "Answer while the process lives", None, None),
    Operation("get", "/readyz", "isReady", "Tell whether requests can be served", None, None),
)


@cache
def document() -> bytes:
    """Return the document as JSON, built once per process."""
    plugin = MarshmallowPlugin()
    spec = APISpec(
        "Threads server",
        "1.0.0",
        "3.1.0",
        plugins=[plugin],
        info={"description": _DESCRIPTION},
        servers=[{"url": "/v1"}],
    )
    assert plugin.converter is not None
    plugin.converter.add_attribute_function(_describe)  # type: ignore[no-untyped-call]
    spec.components.schema("ErrorResponse", schema=ErrorResponse)
    for operation in OPERATIONS:
        described = _describe_operation(operation)
        if not operation.path.startswith(_THREADS):
            described["servers"] = [{"url": "/"}]
        spec.path(operation.path, operations={operation.method: described})
    return orjson.dumps(spec.to_dict())


def _describe_operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation.path), *_query_parameters(operation.query)],
        "responses": {
            "200": {"description": "Done", "content": _json(operation.answer)},
            "default": {"description": "Refused or failed", "content": _json(ErrorResponse)},
        },
    }
    if operation.body:
        needed = any(field.required for field in operation.body().fields.values())
        described["requestBody"] = {"required": needed, "content": _json(operation.body)}
    return described


def _json(schema: type[Schema] | None) -> dict[str, Any]:
    return {"application/json": {"schema": schema or {"type": "object"}}}


def _path_parameters(path: str) -> Iterator[dict[str, Any]]:
    for name, prefix in _PATH_IDS.items():
        if f"{{{name}}}" in path:
            schema = schemas.ObjectId(prefix).json_schema()
            yield {"in": "path", "name": name, "required": True, "schema": schema}


def _query_parameters(query: type[Schema] | None) -> Iterator[dict[str, Any]]:
    fields: dict[str, Any] = query().fields if query else {}
    for name, field in fields.items():
        schema = field.json_schema()
        if field.load_default is not missing:
            schema["default"] = field.load_default
        parameter = {"in": "query", "name": name, "schema": schema}
        if isinstance(field, schemas.Metadata):
            parameter |= {"style": "deepObject", "explode": True}
            schema["type"] = "object"
        yield parameter


def _describe(self: Any, field: Any, **_: Any) -> dict[str, Any]:
    """Say in JSON Schema what apispec cannot know of a Wire field."""
    match field:
        case schemas.Content():
            text = schemas.Text(maximum=schemas.MAX_TEXT_CHARACTERS).json_schema()
            return {"oneOf": [text, self.field2property(field.parts)]}
        case schemas.Variant():
            return {"oneOf": [self.resolve_nested_schema(each) for each in field.variants.values()]}
        case schemas.Array():
            return field.length_bounds()
        case schemas.Object():
            return {}
        case schemas.Wire():
            schema = field.json_schema()
            if field.allow_none and isinstance(schema["type"], str):
                schema["type"] = [schema["type"], "null"]
            return schema
    return {}
