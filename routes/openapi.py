"""The API document: OpenAPI 3.1, made of the operations and their schemas."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import orjson
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import Schema, missing

import schemas
from rules import fields
from web.addresses import without_prefix
from web.operations import PATH_IDS, Operation

_DESCRIPTION = (
    "The OpenAI Assistants API on your own machine. Every address also answers without `/v1`. "
    "A server without API keys takes any; once it has keys, *Authorize* takes one. "
    "Errors are the OpenAI envelope; `x-request-id` names the request in the server's log. "
    "While the controls under `/_mock` are on, the headers `X-Mock-Fault` (a status, `drop` or "
    "`drop-after`) and `X-Mock-Delay` (`250ms`, `2s`) let one request fail or wait."
)

_TAGS = {
    "Threads": "Conversations: make, find, copy and delete them.",
    "Messages": "What was said in a thread.",
    "Assistants": "A model with instructions and tools.",
    "Runs": "An assistant answers a thread.",
    "Mock": "Controls for tests, while they are on.",
    "Service": "Health of the server.",
}
_OPTIONS: dict[str, Any] = {
    "info": {"description": _DESCRIPTION},
    "servers": [{"url": "/v1"}],
    "security": [{"bearer": []}, {}],
    "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
}
_EVENT = {
    "type": "object",
    "description": "One event: its name, and JSON or `[DONE]`.",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["event", "data"],
}


@lru_cache(maxsize=8)
def document(app: Flask) -> bytes:
    """Return the document as JSON; it is built once."""
    plugin = MarshmallowPlugin()
    spec = APISpec("Threads server", "1.0.0", "3.1.0", [plugin], **_OPTIONS)
    assert plugin.converter is not None
    plugin.converter.add_attribute_function(_describe)  # type: ignore[no-untyped-call]
    spec.components.schema("ErrorResponse", schema=schemas.ErrorResponse)
    spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})
    for path, method, operation, blueprint in _operations(app):
        described = _describe_operation(path, operation) | _describe_place(blueprint)
        spec.path(path, operations={method: described})
    return orjson.dumps(spec.to_dict())


def _operations(app: Flask) -> Iterator[tuple[str, str, Operation, str]]:
    """Yield each operation once: path, method, operation, and the name of its blueprint."""
    for rule in app.url_map.iter_rules():
        operation = getattr(app.view_functions[rule.endpoint], "operation", None)
        if operation is None or without_prefix(rule.rule) != rule.rule:
            continue
        path = re.sub(r"<(?:path:)?(\w+)>", r"{\1}", rule.rule)
        for method in sorted({"GET", "POST", "PUT", "DELETE"} & (rule.methods or set())):
            blueprint = rule.endpoint.partition(".")[0].removeprefix("api_")
            yield path, method.lower(), operation, blueprint


def _describe_place(blueprint: str) -> dict[str, Any]:
    """Describe what the operations of a blueprint have in common."""
    tag = "Runs" if blueprint == "models" else blueprint.capitalize()
    place: dict[str, Any] = {"tags": [tag]}
    if blueprint in ("mock", "service"):
        place["servers"] = [{"url": "/"}]
    return place | ({"security": []} if blueprint == "service" else {})


def _describe_operation(path: str, operation: Operation) -> dict[str, Any]:
    done: dict[str, Any] = {"description": "Done", "content": _json(operation.answers)}
    if operation.body and "stream" in operation.body().fields:
        done["content"] |= {"text/event-stream": {"schema": _EVENT}}
    failed = {"description": "Refused or failed", "content": _json(schemas.ErrorResponse)}
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [*_path_parameters(path), *_query_parameters(operation.query)],
        "responses": {"200": done, "default": failed},
    }
    if operation.body:
        described["requestBody"] = _describe_body(operation.body)
    if operation.lines:
        lines = {"schema": {"type": "string"}, "example": operation.lines}
        described["requestBody"] = {"content": {"application/jsonl": lines}}
    return described


def _describe_body(body: type[Schema]) -> dict[str, Any]:
    """Describe a body; where nothing is required, an empty array stands for an empty object."""
    is_required = any(field.required for field in body().fields.values())
    nothing = {"type": "array", "maxItems": 0}
    content = _json(body if is_required else {"anyOf": [body, nothing]})
    content["application/json"]["example"] = getattr(body, "example", None)
    return {"required": is_required, "content": content}


def _json(schema: type[Schema] | dict[str, Any] | None) -> dict[str, Any]:
    return {"application/json": {"schema": schema or {"type": "object"}}}


def _path_parameters(path: str) -> Iterator[dict[str, Any]]:
    for name, (prefix, _) in PATH_IDS.items():
        if f"{{{name}}}" in path:
            yield _path_parameter(name, fields.ObjectId(prefix).json_schema())
    if "{model_id}" in path:
        yield _path_parameter("model_id", {"type": "string", "examples": ["script"]})


def _path_parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Describe a part of a path. The page fills in `example`, but not `examples` of a schema."""
    place = {"in": "path", "name": name, "required": True}
    return place | {"schema": schema, "example": schema["examples"][0]}


def _query_parameters(query: type[Schema] | None) -> Iterator[dict[str, Any]]:
    parameters: dict[str, Any] = query().fields if query else {}
    for name, field in parameters.items():
        schema = field.json_schema() | field.metadata
        if field.load_default is not missing:
            schema["default"] = field.load_default
        parameter = {"in": "query", "name": name, "schema": schema}
        if isinstance(field, fields.Metadata):
            parameter |= {"style": "deepObject", "explode": True, "example": {}}
            schema["type"] = "object"
        yield parameter


def _describe(self: Any, field: Any, **_: Any) -> dict[str, Any]:
    """Describe in JSON Schema what apispec cannot know of a field of ours."""
    match field:
        case schemas.Content():
            return {"oneOf": [field.json_schema(), self.field2property(field.parts)]}
        case fields.Variant():
            words = [field.word.json_schema()] if isinstance(field, fields.WordOrVariant) else []
            null = [{"type": "null"}] if field.allow_none else []
            objects = [self.resolve_nested_schema(each) for each in field.variants.values()]
            return {"oneOf": [*words, *objects, *null]}
        case fields.Array():
            return field.length_bounds()
        case fields.Object():
            return {}
        case fields.Field():
            schema = field.json_schema()
            if field.allow_none and isinstance(schema["type"], str):
                schema["type"] = [schema["type"], "null"]
            return schema
    return {}
