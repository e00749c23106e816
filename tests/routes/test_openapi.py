"""The API document tells what the server does, and the page that shows it is self-contained."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema_rs
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import Server, schemathesis
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page, Request, expect

from routes import openapi
from schemas import CreateThread
from web.addresses import without_prefix
from web.operations import Operation

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


# what the page offers to send


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for item in document["paths"].values():
        yield from item.values()


def test_every_body_and_parameter_has_an_example(document: dict[str, Any]) -> None:
    for operation in operations(document):
        for content in operation.get("requestBody", {"content": {}})["content"].values():
            assert content["example"], operation["operationId"]
        for parameter in operation["parameters"]:
            told = {"example", "examples", "default"} & {*parameter, *parameter["schema"]}
            assert told, (operation["operationId"], parameter["name"])


def test_the_server_takes_every_example(app: Flask) -> None:
    for view in app.view_functions.values():
        operation: Operation | None = getattr(view, "operation", None)
        if operation and operation.body:
            body: Any = operation.body
            assert body().load(copy.deepcopy(body.example)), body
        for field in operation.query().fields.values() if operation and operation.query else ():
            for value in field.json_schema().get("examples", []):  # type: ignore[attr-defined]
                field.deserialize(str(value) if isinstance(value, int) else value)


def test_every_example_keeps_its_own_schema(document: dict[str, Any]) -> None:
    found = list(examples(document))
    assert len(found) > 100
    for schema, example in found:
        whole = {**schema, "components": document["components"]}
        jsonschema_rs.validate(whole, example)


def examples(node: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield each schema of a part of the document with each of its examples."""
    if isinstance(node, list):
        for part in node:
            yield from examples(part)
    elif isinstance(node, dict):
        if "example" in node:
            yield node["schema"], node["example"]
        yield from ((node, example) for example in node.get("examples", []))
        for part in node.values():
            yield from examples(part)


def test_a_filter_is_empty_unless_it_has_a_default(document: dict[str, Any]) -> None:
    filters = document["paths"]["/threads"]["get"]["parameters"]
    assert {each["name"]: each.get("example") for each in filters if "example" in each} == {
        "metadata": {}
    }


def test_every_operation_has_one_of_the_tags(document: dict[str, Any]) -> None:
    tags = ["Threads", "Messages", "Assistants", "Runs", "Mock", "Service"]
    assert [tag["name"] for tag in document["tags"]] == tags
    for operation in operations(document):
        assert len(operation["tags"]) == 1
        assert operation["tags"][0] in tags


def test_a_key_is_a_bearer_token_and_may_be_absent(document: dict[str, Any]) -> None:
    scheme = document["components"]["securitySchemes"]["bearer"]
    assert scheme == {"type": "http", "scheme": "bearer"}
    assert document["security"] == [{"bearer": []}, {}]
    free = {each["operationId"] for each in operations(document) if each.get("security") == []}
    assert free == {"isAlive", "isReady"}


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


def test_the_docs_page_leads_back(client: FlaskClient) -> None:
    assert "/admin/" in References(client.get("/docs").text).addresses


@pytest.mark.timeout(120)
def test_try_it_out_sends_what_makes_sense_with_the_key_and_axe_finds_nothing(
    serve: Callable[..., Any], browser: Browser
) -> None:
    with serve() as server:
        page = browser.new_page(base_url=server.root_url)
        sent: list[Request] = []
        page.on("request", lambda request: sent.append(request))
        page.goto("/docs")
        execute(page, "Threads-createThread", "light")
        assert sent[-1].post_data_json == CreateThread.example
        [thread] = json.loads(server.call("GET", "/v1/threads").body)["data"]
        assert thread["metadata"] == CreateThread.example["metadata"]
        page.locator(".btn.authorize").click()
        page.locator(".auth-container input").fill("sk-some")
        page.locator(".auth-btn-wrapper .authorize").click()
        assert_clean(page, "light")
        page.locator(".btn-done").click()
        execute(page, "Threads-listThreads", "dark")
        assert urlsplit(sent[-1].url).query == "limit=20&order=desc&sort=created_at"
        assert sent[-1].headers["authorization"] == "Bearer sk-some"
        page.close()


def execute(page: Page, operation: str, theme: str) -> None:
    """Send a request of the page as it stands there; let axe look."""
    shown = page.locator(f"#operations-{operation}")
    shown.locator(".opblock-summary-control").click()
    shown.locator(".try-out__btn").click()
    shown.locator(".execute").click()
    expect(shown.locator(".live-responses-table .response-col_status")).to_contain_text(["200"])
    assert_clean(page, theme)


def assert_clean(page: Page, theme: Any) -> None:
    page.emulate_media(color_scheme=theme)
    report = Axe().run(page, options={"resultTypes": ["violations"]})
    assert report.violations_count == 0, report.generate_report()


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
