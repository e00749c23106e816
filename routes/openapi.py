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
    "The OpenAI Threads API on your own machine. Every address also answers without `/v1`. "
    "Errors are the OpenAI envelope; `x-request-id` names the request in the server's log. "
    "While the controls under `/_mock` are on, the headers `X-Mock-Fault` (a status, `drop` or "
    "`drop-after`) and `X-Mock-Delay` (`250ms`, `2s`) let one request fail or wait."
)

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
    info, servers = {"description": _DESCRIPTION}, [{"url": "/v1"}]
    spec = APISpec("Threads server", "1.0.0", "3.1.0", [plugin], info=info, servers=servers)
    assert plugin.converter is not None
    plugin.converter.add_attribute_function(_describe)  # type: ignore[no-untyped-call]
    spec.components.schema("ErrorResponse", schema=schemas.ErrorResponse)
    for path, method, operation, is_api in _operations(app):
        described = _describe_operation(path, operation)
        if not is_api:
            described["servers"] = [{"url": "/"}]
        spec.path(path, operations={method: described})
    return orjson.dumps(spec.to_dict())


def _operations(app: Flask) -> Iterator[tuple[str, str, Operation, bool]]:
    """Yield each operation once: path, method, operation, and whether `/v1` may stand before."""
    paths = {rule.rule for rule in app.url_map.iter_rules()}
    for rule in app.url_map.iter_rules():
        operation = getattr(app.view_functions[rule.endpoint], "operation", None)
        if operation is None or without_prefix(rule.rule) != rule.rule:
            continue
        path = re.sub(r"<(?:path:)?(\w+)>", r"{\1}", rule.rule)
        for method in sorted({"GET", "POST", "PUT", "DELETE"} & (rule.methods or set())):
            yield path, method.lower(), operation, f"/v1{rule.rule}" in paths


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
    return described


def _describe_body(body: type[Schema]) -> dict[str, Any]:
    """Describe a body; where nothing is required, an empty array stands for an empty object."""
    if any(field.required for field in body().fields.values()):
        return {"required": True, "content": _json(body)}
    nothing = {"type": "array", "maxItems": 0}
    return {"required": False, "content": _json({"anyOf": [body, nothing]})}


def _json(schema: type[Schema] | dict[str, Any] | None) -> dict[str, Any]:
    return {"application/json": {"schema": schema or {"type": "object"}}}


def _path_parameters(path: str) -> Iterator[dict[str, Any]]:
    for name, (prefix, _) in PATH_IDS.items():
        if f"{{{name}}}" in path:
            schema = fields.ObjectId(prefix).json_schema()
            yield {"in": "path", "name": name, "required": True, "schema": schema}
    if "{model_id}" in path:
        yield {"in": "path", "name": "model_id", "required": True, "schema": {"type": "string"}}


def _query_parameters(query: type[Schema] | None) -> Iterator[dict[str, Any]]:
    parameters: dict[str, Any] = query().fields if query else {}
    for name, field in parameters.items():
        schema = field.json_schema()
        if field.load_default is not missing:
            schema["default"] = field.load_default
        parameter = {"in": "query", "name": name, "schema": schema}
        if isinstance(field, fields.Metadata):
            parameter |= {"style": "deepObject", "explode": True}
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
