"""THREADS_CORS_ORIGINS: which pages may call the API; the Node SDK in Chromium."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Server, serving
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page

TOOL = "https://tool.example"
OTHER = "https://other.example"
SDK_HEADERS = [
    "authorization",
    "content-type",
    "openai-beta",
    "x-mock-fault",
    "x-stainless-arch",
    "x-stainless-lang",
    "x-stainless-os",
    "x-stainless-package-version",
    "x-stainless-retry-count",
    "x-stainless-runtime",
    "x-stainless-runtime-version",
    "x-stainless-timeout",
    "x-stainless-something-new",
]
PREFIXES = ("", "/v1", "/openai", "/openai/v1")
BESIDE = ("/_mock", "/healthz", "/readyz")
"""What the API document has besides the API."""
EXPOSED = ["Retry-After", "openai-processing-ms", "retry-after-ms", "x-request-id"]
ROUND_TRIP = """async ([baseURL, options]) => {
    const { default: OpenAI } = await import("openai");
    const { threads } = new OpenAI({
        baseURL, apiKey: "any", maxRetries: 2, dangerouslyAllowBrowser: true, ...options,
    }).beta;
    const thread = await threads.create({ metadata: { a: "1" } });
    const where = { thread_id: thread.id };
    await threads.messages.create(thread.id, { role: "user", content: "Hé" });
    const texts = [];
    for await (const message of threads.messages.list(thread.id))
        texts.push(message.content[0].text.value);
    await threads.update(thread.id, { metadata: { a: "2" } });
    const { metadata } = await threads.retrieve(thread.id);
    const { deleted } = await threads.delete(thread.id);
    const refused = await threads.retrieve(thread.id).catch((error) => error.status);
    return { metadata, texts, deleted, refused, named: thread._request_id.startsWith("req_") };
}"""
CREATE = """async ([baseURL]) => {
    const { default: OpenAI } = await import("openai");
    const options = { apiKey: "any", maxRetries: 0, dangerouslyAllowBrowser: true };
    const { threads } = new OpenAI({ baseURL, ...options }).beta;
    return threads.create().then(() => "created", (error) => error.constructor.name);
}"""


@pytest.fixture
def client(client_with: Callable[..., FlaskClient]) -> FlaskClient:
    return client_with(CORS_ORIGINS=[TOOL])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, pages: int, node: str) -> Iterator[Server]:
    """A live server that pages of http://127.0.0.1 may call, and none of http://localhost."""
    folder = tmp_path_factory.mktemp("cors")
    with serving(folder / "log", CORS_ORIGINS=f"http://127.0.0.1:{pages}") as server:
        yield server


@pytest.fixture
def page(browser: Browser, pages: int) -> Iterator[Page]:
    """A page of the allowed origin."""
    with browser.new_page() as page:
        page.goto(f"http://127.0.0.1:{pages}/")
        yield page


def preflight(client: FlaskClient, path: str, origin: str, method: str = "POST") -> Any:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": ",".join(SDK_HEADERS),
    }
    return client.options(path, headers=headers)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/threads", "/v1/threads", "/v1/threads/thread_a/messages"])
def test_a_preflight_reflects_whatever_headers_the_sdk_sends(
    client: FlaskClient, path: str, method: str
) -> None:
    answer = preflight(client, path, TOOL, method)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == TOOL
    assert answer.headers["Access-Control-Allow-Headers"].split(", ") == sorted(SDK_HEADERS)
    assert method in answer.headers["Access-Control-Allow-Methods"].split(", ")
    assert answer.headers["Access-Control-Max-Age"] == "600"


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_address_of_the_api_answers_a_preflight(client: FlaskClient, prefix: str) -> None:
    paths = client.get("/openapi.json").json["paths"]
    of_api = {path for path in paths if not path.startswith(BESIDE)}
    assert len(of_api) > 10
    for path in of_api:
        answer = preflight(client, prefix + path, TOOL)
        assert answer.headers.get("Access-Control-Allow-Origin") == TOOL, path


@pytest.mark.parametrize(
    "path", ["/v1/threads", "/v1/threads/thread_a", "/v1/models", "/v1/models/none"]
)
def test_answers_and_refusals_are_shown_to_an_allowed_origin(
    client: FlaskClient, path: str
) -> None:
    headers = client.get(path, headers={"Origin": TOOL}).headers
    assert headers["Access-Control-Allow-Origin"] == TOOL
    assert set(EXPOSED) <= set(headers["Access-Control-Expose-Headers"].split(", "))
    assert "Access-Control-Allow-Credentials" not in headers


def test_an_answer_of_the_mock_is_shown_with_its_times_to_retry(client: FlaskClient) -> None:
    answer = client.get("/v1/threads", headers={"Origin": TOOL, "X-Mock-Fault": "429"})
    assert answer.headers["Access-Control-Allow-Origin"] == TOOL
    assert answer.headers["retry-after-ms"] == "10"


@pytest.mark.parametrize(
    "origin", [OTHER, f"{TOOL}:8443", f"{TOOL}.other.example", "http://tool.example", "null"]
)
def test_no_other_origin_is_allowed(client: FlaskClient, origin: str) -> None:
    answers = [preflight(client, "/v1/threads", origin)]
    answers.append(client.get("/v1/threads", headers={"Origin": origin}))
    for answer in answers:
        assert not [
            name for name, _ in answer.headers.to_wsgi_list() if name.startswith("Access-Control")
        ]


@pytest.mark.parametrize(
    "path", ["/_mock/reset", "/_mock/requests", "/metrics", "/openapi.json", "/v1/threadsafe"]
)
def test_only_the_api_is_shown_to_an_allowed_origin(client: FlaskClient, path: str) -> None:
    answer = preflight(client, path, TOOL)
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("origin", ["http://[::1]:3000", "null"])
def test_an_origin_is_meant_as_it_is_written(
    client_with: Callable[..., FlaskClient], origin: str
) -> None:
    client = client_with(CORS_ORIGINS=[origin])
    allowed = preflight(client, "/v1/threads", origin).headers["Access-Control-Allow-Origin"]
    assert allowed == origin
    assert client.post("/v1/threads", headers={"Origin": origin}).status_code == 200


def test_a_preflight_needs_no_beta_header(client_with: Callable[..., FlaskClient]) -> None:
    client = client_with(CORS_ORIGINS=[TOOL], REQUIRE_BETA=True)
    assert preflight(client, "/v1/threads", TOOL).status_code == 200
    assert client.post("/v1/threads", headers={"Origin": TOOL}).status_code == 400


def test_nothing_is_allowed_by_default(client_with: Callable[..., FlaskClient]) -> None:
    answer = preflight(client_with(), "/v1/threads", TOOL)
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_several_origins_are_allowed_one_by_one(client_with: Callable[..., FlaskClient]) -> None:
    client = client_with(CORS_ORIGINS=[TOOL, OTHER])
    for origin in (TOOL, OTHER):
        answer = client.get("/v1/threads", headers={"Origin": origin})
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert answer.headers["Vary"] == "Origin"


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "options", [{}, {"timeout": 5000, "organization": "org", "project": "proj"}], ids=str
)
def test_the_node_sdk_works_on_a_page_of_an_allowed_origin(
    server: Server, page: Page, options: Any
) -> None:
    assert page.evaluate(ROUND_TRIP, [server.base_url, options]) == {
        "metadata": {"a": "2"},
        "texts": ["Hé"],
        "deleted": True,
        "refused": 404,
        "named": True,
    }


@pytest.mark.timeout(400)
def test_the_node_sdk_retries_on_a_page(server: Server, page: Page) -> None:
    with server.sdk() as sdk:
        sdk.post(
            f"{server.root_url}/_mock/faults",
            cast_to=object,
            body={"rules": [{"status": 429, "method": "POST", "times": 2}]},
        )
    assert page.evaluate(ROUND_TRIP, [server.base_url, {}])["deleted"]


@pytest.mark.timeout(400)
def test_the_node_sdk_is_refused_on_a_page_of_another_origin(
    server: Server, browser: Browser, pages: int
) -> None:
    with browser.new_page() as page:
        page.goto(f"http://localhost:{pages}/")
        assert page.evaluate(CREATE, [server.base_url]) == "APIConnectionError"
