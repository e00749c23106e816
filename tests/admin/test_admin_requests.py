"""/admin/requests: the requests as they come, and the fault rules."""

import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pages import token_in
from werkzeug.test import TestResponse

from access import api_keys
from mock.schemas import MAX_RULES

PAGE = "/admin/requests"
HOSTILE = "</textarea></title><script>alert(1)</script>\"'"
HELLO = {"role": "user", "content": "hello"}


@pytest.fixture
def mocked(client_with: Callable[..., FlaskClient]) -> FlaskClient:
    """The client of an app with THREADS_MOCK=on."""
    return client_with(MOCK="on")


def token_of(client: FlaskClient, address: str = PAGE) -> str:
    return token_in(client.get(address).text)


def submit(client: FlaskClient, below: str, **texts: str) -> TestResponse:
    return client.post(f"{PAGE}/{below}", data={"csrf_token": token_of(client)} | texts)


def rules(client: FlaskClient) -> list[Any]:
    return list(client.get("/_mock/faults").json["rules"])


def rows(client: FlaskClient, after: str = "") -> list[Any]:
    return list(client.get(f"{PAGE}.json", query_string={"after": after}).json["data"])


def shown(client: FlaskClient) -> list[str]:
    """Return the ids of the requests on the page, as they stand there."""
    return re.findall(r'<tr data-id="(req_\w+)"', client.get(PAGE).text)


def detail(client: FlaskClient, number: int = 0) -> str:
    return client.get(f"{PAGE}/{rows(client)[number]['request_id']}").text


# where it is


@pytest.mark.parametrize("settings", [{"MOCK": "off"}, {"WORKERS": 2}], ids=str)
def test_it_is_404_with_the_reason_while_the_controls_are_off(
    client_with: Callable[..., FlaskClient], settings: dict[str, Any]
) -> None:
    client = client_with(**settings)
    for address in (PAGE, f"{PAGE}.json", f"{PAGE}/req_1"):
        answer = client.get(address)
        assert answer.status_code == 404
        assert "here they are off" in answer.text
    assert f'href="{PAGE}"' not in client.get("/admin/").text


def test_every_page_leads_to_it_while_they_are_on(mocked: FlaskClient) -> None:
    for address in ("/admin/", "/admin/assistants", PAGE):
        assert f'href="{PAGE}"' in mocked.get(address).text


def test_a_key_closes_it(make_app: Callable[..., Flask]) -> None:
    app = make_app()
    with app.app_context():
        secret = api_keys.create("default", "", None)
    client = app.test_client()
    assert client.get(PAGE).location.startswith("/admin/sign-in")
    sign_in(client, secret)
    assert client.get(PAGE).status_code == 404


def sign_in(client: FlaskClient, secret: str) -> None:
    form = {"key": secret, "csrf_token": token_of(client, "/admin/sign-in")}
    assert client.post("/admin/sign-in", data=form).status_code == 303


def test_a_project_sees_and_clears_its_own_requests_only(make_app: Callable[..., Flask]) -> None:
    app = make_app(MOCK="on")
    with app.app_context():
        ours, theirs = (api_keys.create(project, "", None) for project in "ab")
    client = app.test_client()
    for secret in (ours, theirs):
        client.get("/v1/threads", headers={"Authorization": f"Bearer {secret}"})
    sign_in(client, ours)
    [row] = rows(client)
    submit(client, "clear")
    assert rows(client) == []
    client = app.test_client()
    sign_in(client, theirs)
    assert len(rows(client)) == 1
    assert client.get(f"{PAGE}/{row['request_id']}").status_code == 404


# the table


def test_an_empty_table_says_how_to_fill_it(mocked: FlaskClient) -> None:
    page = mocked.get(PAGE, base_url="http://localhost:4567").text
    assert "No request has come yet." in page
    assert 'base_url="http://localhost:4567/v1"' in page


def test_requests_stand_newest_first_on_the_page_and_in_its_twin(mocked: FlaskClient) -> None:
    mocked.post("/v1/threads", json={"metadata": {"a": "1"}})
    mocked.get("/v1/threads?limit=1")
    second, first = rows(mocked)
    assert (first["method"], first["address"]) == ("POST", "/v1/threads")
    assert (second["method"], second["address"]) == ("GET", "/v1/threads?limit=1")
    assert (first["status"], first["fault"], first["retry_of"]) == (200, "", None)
    assert shown(mocked) == [second["request_id"], first["request_id"]]


def test_the_twin_tells_what_came_after_a_request(mocked: FlaskClient) -> None:
    mocked.get("/v1/threads")
    [first] = rows(mocked)
    assert rows(mocked, first["request_id"]) == []
    mocked.get("/v1/assistants")
    answer = mocked.get(f"{PAGE}.json?after={first['request_id']}").json
    assert [row["address"] for row in answer["data"]] == ["/v1/assistants"]
    assert answer["is_whole"] is False


def test_the_twin_tells_all_when_that_request_is_gone(mocked: FlaskClient) -> None:
    mocked.get("/v1/threads")
    [first] = rows(mocked)
    submit(mocked, "clear")
    mocked.get("/v1/assistants")
    answer = mocked.get(f"{PAGE}.json?after={first['request_id']}").json
    assert [row["address"] for row in answer["data"]] == ["/v1/assistants"]
    assert answer["is_whole"] is True


def test_a_request_that_repeats_a_failed_one_is_its_retry(mocked: FlaskClient) -> None:
    submit(mocked, "faults", preset="429 twice")
    for _ in range(4):
        mocked.post("/v1/threads", json={"metadata": {"a": "1"}})
    fourth, third, second, first = rows(mocked)
    assert [row["fault"] for row in (first, second, third)] == ["429", "429", ""]
    ids = [row["request_id"] for row in (first, second)]
    assert [row["retry_of"] for row in (first, second, third, fourth)] == [None, *ids, None]


def test_another_body_is_no_retry(mocked: FlaskClient) -> None:
    submit(mocked, "faults", preset="429 twice")
    for value in "12":
        mocked.post("/v1/threads", json={"metadata": {"a": value}})
    assert [row["retry_of"] for row in rows(mocked)] == [None, None]


def test_a_dropped_answer_is_retried(mocked: FlaskClient) -> None:
    submit(mocked, "faults", preset="Drop after")
    for _ in range(2):
        mocked.post("/v1/threads", json={})
    second, first = rows(mocked)
    assert (first["fault"], second["retry_of"]) == ("drop after", first["request_id"])


def test_a_stream_that_goes_on_has_no_time_yet(mocked: FlaskClient) -> None:
    assistant = mocked.post("/v1/assistants", json={"model": "m", "instructions": "i"}).json
    body = {"assistant_id": assistant["id"], "stream": True}
    stream = mocked.post("/v1/threads/runs", json=body)
    assert rows(mocked)[0]["milliseconds"] is None
    assert "The stream goes on" in detail(mocked)
    stream.get_data()
    stream.close()
    assert isinstance(rows(mocked)[0]["milliseconds"], int)
    page = detail(mocked)
    assert "event: thread.message.completed" in page
    assert re.search(r'href="/admin/threads/thread_\w+#run_\w+"', page)


# one request


def test_a_request_is_shown_with_its_body_answer_and_headers(mocked: FlaskClient) -> None:
    secrets = {"Authorization": "Bearer sk-secret", "Cookie": "a=sk-secret"}
    headers = secrets | {"X-Stainless-Lang": "python"}
    thread = mocked.post("/v1/threads", json={"messages": [HELLO]}, headers=headers).json
    page = detail(mocked)
    assert "&#34;content&#34;: &#34;hello&#34;" in page
    assert f'href="/admin/threads/{thread["id"]}"' in page
    assert "X-Stainless-Lang" in page
    assert "sk-secret" not in page


@pytest.mark.parametrize(
    ("path", "body"),
    [("", {"messages": [HELLO]}), ("/{}/messages", HELLO), ("/{}", {"metadata": {}})],
    ids=["create", "message", "modify"],
)
def test_a_request_leads_to_its_thread(mocked: FlaskClient, path: str, body: Any) -> None:
    thread_id = mocked.post("/v1/threads", json={}).json["id"]
    made = mocked.post(f"/v1/threads{path.format(thread_id)}", json=body).json
    found = made.get("thread_id", made["id"])
    assert f'href="/admin/threads/{found}"' in detail(mocked)


def test_a_list_of_threads_leads_to_none(mocked: FlaskClient) -> None:
    mocked.post("/v1/threads", json={})
    mocked.get("/v1/threads")
    assert "Its thread" not in detail(mocked)


def test_a_request_is_a_curl_command_without_its_key(mocked: FlaskClient) -> None:
    body = '{"metadata": {"it\'s": "$HOME `x`\\n@file"}}'
    headers = {"Authorization": "Bearer sk-secret", "OpenAI-Beta": "assistants=v2"}
    mocked.post(
        "/v1/threads?metadata[a]=b%20c", data=body, content_type="application/json", headers=headers
    )
    page = detail(mocked)
    found = re.search(r'data-copy="Copy as curl"><code>(.*?)</code>', page, re.DOTALL)
    assert found
    command = found[1].replace("&#34;", '"').replace("&#39;", "'").replace("&amp;", "&")
    assert shlex.split(command.replace("\\\n", "")) == [
        *("curl", "-g", "-X", "POST", "http://localhost/v1/threads?metadata[a]=b%20c"),
        *("-H", "Authorization: Bearer $OPENAI_API_KEY"),
        *("-H", "Content-Type: application/json", "-H", "Openai-Beta: assistants=v2"),
        *("--data-raw", body),
    ]


def test_a_method_is_one_word_of_the_curl_command(mocked: FlaskClient) -> None:
    mocked.open("/v1/threads", method="GET`X`&Y")
    assert "curl -g -X &#39;GET`X`&amp;Y&#39; http://localhost/v1/threads" in detail(mocked)


def test_a_request_that_is_not_logged_is_404(mocked: FlaskClient) -> None:
    answer = mocked.get(f"{PAGE}/req_nowhere")
    assert answer.status_code == 404
    assert "req_nowhere" in answer.text


def test_hostile_text_stays_text(mocked: FlaskClient) -> None:
    mocked.post(f"/v1/{HOSTILE}", data=HOSTILE, headers={"X-Own": HOSTILE})
    submit(mocked, "faults", path=HOSTILE, status="500")
    for page in (mocked.get(PAGE).text, detail(mocked)):
        assert "alert(1)" in page
        assert "<script>alert" not in page


# the faults


@pytest.mark.parametrize(
    ("texts", "rule"),
    [
        ({"preset": "429 twice"}, {"status": 429, "times": 2}),
        ({"preset": "2 s slow"}, {"delay_ms": [2000, 2000]}),
        ({"preset": "Drop after"}, {"drop": "after", "times": 1}),
        ({"status": "503"}, {"status": 503}),
        (
            {"status": "503", "times": "3", "path": " */messages "},
            {"status": 503, "times": 3, "path": "*/messages"},
        ),
    ],
    ids=["429", "slow", "drop", "status", "all"],
)
def test_the_form_adds_a_rule(mocked: FlaskClient, texts: dict[str, str], rule: Any) -> None:
    answer = submit(mocked, "faults", **texts)
    assert (answer.status_code, answer.location) == (303, PAGE)
    assert rules(mocked) == [rule | {"matched": 0, "fired": 0}]


def test_a_second_rule_leaves_the_counts_of_the_first(mocked: FlaskClient) -> None:
    submit(mocked, "faults", preset="429 twice")
    mocked.get("/v1/threads")
    submit(mocked, "faults", status="500")
    assert [rule["fired"] for rule in rules(mocked)] == [1, 0]
    page = mocked.get(PAGE).text
    assert "429 · every API request · times 2 · fired 1 of 1 matched" in page
    assert mocked.get(f"{PAGE}.json").json["rules"][1].startswith("500 ·")


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ({}, "the rule does nothing"),
        ({"status": "200"}, "integer below minimum value"),
        ({"status": "many"}, "status"),
        ({"status": "500", "times": "0"}, "times"),
        ({"status": "500", "times": "9" * 30}, "integer above maximum value"),
        ({"preset": "nothing"}, "the rule does nothing"),
    ],
    ids=str,
)
def test_a_wrong_rule_is_refused_and_shown_again(
    mocked: FlaskClient, texts: dict[str, str], sentence: str
) -> None:
    answer = submit(mocked, "faults", path="/typed", **texts)
    assert answer.status_code == 400
    assert sentence in answer.text
    assert 'value="/typed"' in answer.text
    assert rules(mocked) == []


def test_rules_have_a_most(mocked: FlaskClient) -> None:
    mocked.post("/_mock/faults", json={"rules": [{"status": 500}] * MAX_RULES})
    answer = submit(mocked, "faults", status="500")
    assert answer.status_code == 400
    assert "clear them first" in answer.text


def test_rules_are_cleared(mocked: FlaskClient) -> None:
    submit(mocked, "faults", preset="429 twice")
    assert submit(mocked, "faults/clear").status_code == 303
    assert rules(mocked) == []


def test_no_rule_reaches_the_page_itself(mocked: FlaskClient) -> None:
    mocked.post("/_mock/faults", json={"rules": [{"path": "*", "status": 500}]})
    assert mocked.get(PAGE).status_code == 200
    assert submit(mocked, "faults/clear").status_code == 303


def test_a_form_without_its_token_changes_nothing(mocked: FlaskClient) -> None:
    mocked.get("/v1/threads")
    for below in ("faults", "faults/clear", "clear", "reset"):
        assert mocked.post(f"{PAGE}/{below}", data={"status": "500"}).status_code == 400
    assert (rules(mocked), len(rows(mocked))) == ([], 1)


# reset


@pytest.mark.sqlite_only("reset copies SQLite's file")
def test_reset_is_confirmed_and_returns_to_the_seed(mocked: FlaskClient) -> None:
    mocked.post("/v1/threads", json={})
    assert "Reset everything" in mocked.get(PAGE).text
    assert submit(mocked, "reset").status_code == 303
    assert mocked.get("/v1/threads").json["data"] == []


def test_a_reset_is_offered_where_it_works(mocked: FlaskClient) -> None:
    is_offered = "Reset everything" in mocked.get(PAGE).text
    assert submit(mocked, "reset").status_code == (303 if is_offered else 403)
    assert is_offered == (mocked.post("/_mock/reset").status_code == 200)


def test_a_database_that_is_kept_offers_no_reset_and_refuses_it(client: FlaskClient) -> None:
    client.post("/v1/threads", json={})
    assert "Reset" not in client.get(PAGE).text
    answer = submit(client, "reset")
    assert answer.status_code == 403
    assert "keeps its database" in answer.text
    assert len(client.get("/v1/threads").json["data"]) == 1
