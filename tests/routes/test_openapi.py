"""The API document tells what the server does, and the page that shows it is self-contained."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import Server, schemathesis
from flask import Flask
from flask.testing import FlaskClient

from routes import openapi
from web.addresses import without_prefix

METADATA = {
    "maxProperties": 16,
    "propertyNames": {"maxLength": 64, "pattern": "^[^\\u0000]*$"},
    "additionalProperties": {"type": "string", "maxLength": 512, "pattern": "^[^\\u0000]*$"},
}
FILE_IDS = "tool_resources/code_interpreter/file_ids"
STORES = "tool_resources/file_search/vector_stores"
CONTENT = "messages/*/content"


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    answer = client.get("/openapi.json")
    assert answer.content_type == "application/json"
    return answer.json


def at(document: dict[str, Any], schema: str, path: str) -> dict[str, Any]:
    """Follow property names, `*` for items and numbers for variants, through references."""

    def resolved(node: dict[str, Any]) -> dict[str, Any]:
        for part in [node, *node.get("anyOf", []), *node.get("allOf", [])]:
            if "$ref" in part:
                return document["components"]["schemas"][part["$ref"].rpartition("/")[2]]
        return node

    node = document["components"]["schemas"][schema]
    for step in filter(None, path.split("/")):
        if step == "*":
            node = node["items"]
        else:
            node = node["oneOf"][int(step)] if step.isdigit() else node["properties"][step]
        node = resolved(node)
    return node


def test_the_document_is_made_once(client: FlaskClient) -> None:
    before = openapi.document.cache_info().misses
    documents = {client.get("/openapi.json").data for _ in range(3)}
    assert len(documents) == 1
    assert openapi.document.cache_info().misses == before + 1


def test_the_document_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["servers"] == [{"url": "/v1"}]


NOT_DESCRIBED = {"/", "/admin", "/docs", "/docs/{name}", "/openapi.json", "/metrics"}


def test_its_operations_are_those_of_the_server(app: Flask, document: dict[str, Any]) -> None:
    served = {
        (method.lower(), without_prefix(re.sub("<(?:path:)?([a-z_]+)>", r"{\1}", rule.rule)))
        for rule in app.url_map.iter_rules()
        if not rule.endpoint.startswith(("static", "admin."))
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    served = {(method, path) for method, path in served if path not in NOT_DESCRIBED}
    described = {(method, path) for path, item in document["paths"].items() for method in item}
    assert described == served


def test_every_api_address_answers_with_and_without_v1(app: Flask) -> None:
    rules = [rule.rule for rule in app.url_map.iter_rules()]
    plain = {rule for rule in rules if rule.startswith(("/threads", "/assistants", "/models"))}
    assert {f"/v1{rule}" for rule in plain} == {rule for rule in rules if rule[:3] == "/v1"}


def test_its_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
    ]
    assert len(names) == len(set(names))


def test_it_takes_path_ids_as_the_server_does(document: dict[str, Any]) -> None:
    patterns = {
        parameter["schema"]["pattern"]
        for operation in document["paths"]["/threads/{thread_id}"].values()
        for parameter in operation["parameters"]
    }
    assert patterns == {"^thread[A-Za-z0-9_-]{0,58}$"}


@pytest.mark.parametrize(
    ("schema", "path", "limits"),
    [
        ("CreateThread", "metadata", METADATA),
        ("ModifyThread", "metadata", METADATA),
        ("CreateThread", "messages/*/metadata", METADATA),
        ("CreateThread", f"{STORES}/*/metadata", METADATA),
        ("CreateThread", FILE_IDS, {"maxItems": 20}),
        ("ModifyThread", FILE_IDS, {"maxItems": 20}),
        ("CreateThread", f"{FILE_IDS}/*", {"minLength": 1, "maxLength": 64}),
        ("CreateThread", "tool_resources/file_search/vector_store_ids", {"maxItems": 1}),
        ("ModifyThread", "tool_resources/file_search/vector_store_ids", {"maxItems": 1}),
        ("CreateThread", STORES, {"maxItems": 1}),
        ("CreateThread", "messages/*", {"required": ["content", "role"]}),
        ("CreateThread", "messages/*/role", {"enum": ["user", "assistant"]}),
        ("CreateThread", "messages/*/attachments", {"maxItems": 10}),
        ("CreateThread", "messages/*/attachments/*", {"required": ["file_id", "tools"]}),
        (
            "CreateThread",
            "messages/*/attachments/*/file_id",
            {"type": "string", "maxLength": 256, "pattern": "^(file|assistant-)[^\\u0000]*$"},
        ),
        ("CreateThread", "messages", {"maxItems": 1_000}),
        ("CreateThread", "messages/*/attachments/*/tools", {"maxItems": 10}),
        ("CreateThread", f"{CONTENT}/1/*/2/image_url/url", {"maxLength": 8_192}),
        (
            "CreateThread",
            f"{CONTENT}/0",
            {"minLength": 1, "maxLength": 256_000, "pattern": "^[^\\u0000]*$"},
        ),
        ("CreateThread", f"{CONTENT}/1", {"type": "array", "minItems": 1, "maxItems": 100}),
        ("CreateThread", f"{CONTENT}/1/*/0/text", {"minLength": 1, "maxLength": 256_000}),
        (
            "CreateThread",
            f"{CONTENT}/1/*/1/image_file/detail",
            {"enum": ["auto", "low", "high", None], "default": "auto"},
        ),
        (
            "CreateThread",
            f"{CONTENT}/1/*/2/image_url/url",
            {"pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^\\u0000-\\u0020\\u007f]+$"},
        ),
        (
            "CreateThread",
            f"{STORES}/*/chunking_strategy/1/static/max_chunk_size_tokens",
            {"type": "integer", "minimum": 100, "maximum": 4096},
        ),
        ("CreateAssistant", "", {"required": ["model"]}),
        ("CreateAssistant", "model", {"type": "string", "maxLength": 256}),
        ("ModifyAssistant", "name", {"type": ["string", "null"], "maxLength": 256}),
        ("ModifyAssistant", "description", {"maxLength": 512}),
        ("ModifyAssistant", "instructions", {"maxLength": 256_000}),
        ("ModifyAssistant", "tools", {"type": "array", "maxItems": 128}),
        ("ModifyAssistant", "temperature", {"minimum": 0, "maximum": 2}),
        ("ModifyAssistant", "top_p", {"minimum": 0, "maximum": 1}),
        ("CreateAssistant", "tools/*/1/function", {"required": ["name"]}),
        (
            "CreateAssistant",
            "tools/*/1/function/name",
            {"maxLength": 64, "pattern": "^[a-zA-Z0-9_-]+$"},
        ),
        ("CreateAssistant", "tools/*/1/function/parameters", {"type": ["object", "null"]}),
        (
            "CreateAssistant",
            "tools/*/2/file_search/max_num_results",
            {"minimum": 1, "maximum": 50},
        ),
        ("CreateAssistant", "response_format/0", {"enum": ["auto"]}),
        ("CreateAssistant", "response_format/4", {"type": "null"}),
    ],
)
def test_it_tells_every_limit(
    document: dict[str, Any], schema: str, path: str, limits: dict[str, Any]
) -> None:
    node = at(document, schema, path)
    assert {name: node.get(name) for name in limits} == limits


def test_it_tells_what_may_be_a_stream(document: dict[str, Any]) -> None:
    kinds = {
        operation["operationId"]: list(operation["responses"]["200"]["content"])
        for item in document["paths"].values()
        for operation in item.values()
    }
    streams = [name for name, content in kinds.items() if "text/event-stream" in content]
    assert sorted(streams) == ["createRun", "createThreadAndRun", "submitToolOutputs"]


@pytest.mark.parametrize("schema", ["CreateThread", "ModifyThread"])
@pytest.mark.parametrize("name", ["metadata", "tool_resources"])
def test_it_tells_what_may_be_null(document: dict[str, Any], schema: str, name: str) -> None:
    assert "null" in json.dumps(document["components"]["schemas"][schema]["properties"][name])


def test_every_object_names_all_its_keys(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert {
        name: schema["additionalProperties"] for name, schema in schemas.items()
    } == dict.fromkeys(schemas, False)


def test_every_reference_leads_to_a_schema(document: dict[str, Any]) -> None:
    references = set(re.findall('"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references == set(document["components"]["schemas"])


# the page


class References(HTMLParser):
    """Collects every address that a page names, and any code written into it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inline: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        self.addresses += [
            value for name in ("href", "src", "data-document") if (value := named.get(name))
        ]
        self.inline += [name for name in named if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and not named.get("src")):
            self.inline.append(tag)


def test_the_docs_page_names_no_other_host(client: FlaskClient) -> None:
    page = References(client.get("/docs").text)
    assert page.addresses
    assert {urlsplit(address)[:2] for address in page.addresses} == {("", "")}


def test_the_docs_page_holds_no_inline_code(client: FlaskClient) -> None:
    assert References(client.get("/docs").text).inline == []


def test_all_that_the_docs_page_names_is_served(client: FlaskClient) -> None:
    for address in References(client.get("/docs").text).addresses:
        answer = client.get(address, buffered=True)
        assert (address, answer.status_code) == (address, 200)
        assert answer.data


def test_the_style_sheet_loads_nothing_from_elsewhere(client: FlaskClient) -> None:
    css = client.get("/docs/swagger-ui.css", buffered=True).text
    assert all(url.startswith("data:") for url in re.findall(r"url\(['\"]?([^)]*)", css))
    assert "@import" not in css


def test_the_docs_page_has_a_policy_that_admits_only_this_server(client: FlaskClient) -> None:
    policy = client.get("/docs").headers["Content-Security-Policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == directives["connect-src"] == "'self'"
    assert directives["frame-ancestors"] == "'none'"
    assert "http" not in policy


@pytest.mark.parametrize("name", ["../app.py", "..%2F..%2F__init__.py", "nothing.js", "%00", ""])
def test_no_other_file_is_served(client: FlaskClient, name: str) -> None:
    assert client.get(f"/docs/{name}").status_code == 404


# the document against the server


@pytest.mark.timeout(300)
def test_the_server_does_what_the_document_says(serve: Callable[..., Any], tmp_path: Path) -> None:
    """One worker: the script answers runs only there."""
    options = ("--phases=fuzzing,stateful", "--max-examples=6", "--seed=1")
    with serve(WORKERS=1) as server:
        report = schemathesis(server, tmp_path, *options, "--generation-deterministic")
        assert_whole(server, report)


def assert_whole(server: Server, report: str) -> None:
    """Check that a report is of every operation of the API."""
    paths = json.loads(server.call("GET", "/openapi.json").body)["paths"]
    tested = sum(len(methods) for path, methods in paths.items() if not path.startswith("/_mock"))
    assert f"Tested: {tested}" in report
