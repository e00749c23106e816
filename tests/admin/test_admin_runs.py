"""Runs on the browse page: what a thread shows of them, and what its forms do."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pages import token_in
from runs_client import CALL, RunsClient, Wire, calls_of
from werkzeug.test import TestResponse

from access import api_keys
from exchange import imports
from models import DEFAULT_PROJECT
from runs.summaries import MAX_SILENT

HOSTILE = "</code></pre><script>alert(1)</script>\"'"
ESCAPED = "&lt;/code&gt;&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;"
LOCKED = "The thread is locked: it takes messages when the run is over."
NO_RUN = f"run_{'x' * 24}"


@pytest.fixture
def runs(client_with: Callable[..., FlaskClient]) -> RunsClient:
    return RunsClient(client_with(MOCK="on"))


@pytest.fixture
def assistant(runs: RunsClient) -> str:
    return runs.assistant(name="Tutor", model="gpt-4o")


@pytest.fixture
def thread(runs: RunsClient) -> str:
    return runs.thread("weather?")


def page(runs: RunsClient, thread: str, query: str = "") -> str:
    answer = runs.client.get(f"/admin/threads/{thread}{query}")
    assert answer.status_code == 200, answer.text
    return answer.text


def words(html: str) -> str:
    """Return what a person reads of a piece of HTML."""
    return " ".join(re.sub("<[^>]+>", " ", html).replace("&#34;", '"').split())


def run_blocks(html: str) -> dict[str, str]:
    """Return the words about each run, by its id."""
    found = re.findall(r'<section class="run" id="(\w+)".*?</section>', html, re.DOTALL)
    blocks = re.findall(r'<section class="run".*?</section>', html, re.DOTALL)
    return dict(zip(found, map(words, blocks), strict=True))


def order(html: str) -> list[str]:
    """Return the ids of messages and runs in the order of the page."""
    return re.findall(r'<(?:article|section) class="(?:message|run)[^"]*" id="(\w+)"', html)


def post(runs: RunsClient, thread: str, path: str, **texts: Any) -> TestResponse:
    """Send a form of the thread's page with its token."""
    data = {"csrf_token": token_in(page(runs, thread))} | texts
    return runs.client.post(f"/admin/threads/{thread}/runs{path}", data=data)


def test_a_run_stands_between_the_messages_it_answered(
    runs: RunsClient, assistant: str, thread: str
) -> None:
    runs.reply({"text": "20 degrees."})
    runs.call("PUT", "/_mock/clock", {"frozen_at": 2_000_000_000})
    run = runs.finished(thread, assistant)
    question, reply = (message["id"] for message in runs.messages(thread))
    html = page(runs, thread)
    assert order(html) == [question, run["id"], reply]
    total = run["usage"]["total_tokens"]
    for said in ("completed", "Run by Tutor", "gpt-4o", "under 1 s", f"{total} tokens", "1 step"):
        assert said in run_blocks(html)[run["id"]]
    assert f'href="/admin/assistants/{assistant}"' in html
    assert "/v1" not in runs.client.get(f"/admin/threads/{thread}.json").text


def test_a_run_names_an_assistant_that_is_deleted(
    runs: RunsClient, assistant: str, thread: str
) -> None:
    run = runs.finished(thread, assistant)
    runs.call("DELETE", f"/v1/assistants/{assistant}")
    html = page(runs, thread)
    assert f"{assistant} (deleted)" in run_blocks(html)[run["id"]]
    assert f'href="/admin/assistants/{assistant}"' not in html


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (
            {"error": {"code": "server_error", "message": HOSTILE}},
            "failed .* server_error: &lt;/code&gt;",
        ),
        ({"text": "20", "incomplete": "max_completion_tokens"}, "incomplete .* max completion"),
    ],
)
def test_a_run_says_why_it_ended(
    runs: RunsClient, assistant: str, thread: str, reply: Wire, said: str
) -> None:
    runs.reply(reply)
    run = runs.finished(thread, assistant)
    html = page(runs, thread)
    assert "<script>alert" not in html
    assert re.search(said, run_blocks(html)[run["id"]])


def test_steps_and_calls_unfold_with_their_json_in_lines(
    runs: RunsClient, assistant: str, thread: str
) -> None:
    call = {"name": "get", "arguments": {"city": HOSTILE}}
    runs.reply({"tool_calls": [call]}, {"text": "20 degrees."})
    run = runs.wait(runs.run(thread, assistant), "requires_action")
    runs.submit(run, '{"degrees":[20,12345678901234567890123]}')
    runs.wait(run)
    html = page(runs, thread)
    assert "<script>alert" not in html
    block = html[html.index('<section class="run"') :]
    assert "<code>get</code>" in block
    assert "{\n  &#34;city&#34;: &#34;&lt;/code&gt;" in block
    assert "  &#34;degrees&#34;: [\n    20,\n    12345678901234567890123\n" in block
    assert "2 steps" in run_blocks(html)[run["id"]]


def test_calls_of_hosted_tools_are_shown_as_they_were_imported(
    app: Flask, client: FlaskClient
) -> None:
    runs = RunsClient(client)
    thread = runs.thread("weather?")
    run = runs.finished(thread, runs.assistant())
    exported = runs.client.get(f"/admin/threads/{thread}/export?as=json").json
    step = exported["runs"][0]["steps"][0]
    calls = [
        {"id": "call_1", "type": kind, kind: {"input": HOSTILE, "outputs": [1]}}
        for kind in ("code_interpreter", "file_search")
    ]
    step |= {"type": "tool_calls", "step_details": {"type": "tool_calls", "tool_calls": calls}}
    with app.app_context():
        encoded = json.dumps(exported).encode()
        outcomes = list(imports.import_lines(DEFAULT_PROJECT, [encoded], "replace"))
    assert [outcome.reason for outcome in outcomes] == [""]
    html = page(runs, thread)
    assert "<script>alert" not in html
    assert "code interpreter" in run_blocks(html)[run["id"]]
    assert "{\n  &#34;input&#34;: &#34;&lt;/code&gt;" in html


def test_a_run_without_a_message_stands_after_the_message_before_it(
    runs: RunsClient, assistant: str, thread: str
) -> None:
    runs.reply({"error": {"code": "rate_limit_exceeded", "message": "Slow down."}})
    failed = runs.finished(thread, assistant)
    runs.move_clock(10)
    runs.say(thread)
    runs.reply({"text": "20"})
    answered = runs.finished(thread, assistant)
    first, second, reply = (message["id"] for message in runs.messages(thread))
    expected = [first, failed["id"], second, answered["id"], reply]
    assert order(page(runs, thread)) == expected
    assert order(page(runs, thread, "?order=asc&limit=1")) == expected[:2]
    assert order(page(runs, thread, f"?after={first}")) == expected[2:]


def test_runs_of_the_same_second_keep_their_order(
    runs: RunsClient, assistant: str, thread: str
) -> None:
    made = []
    for reply in ({"error": {"code": "server_error", "message": "no"}}, {"text": "20"}):
        runs.reply(reply)
        made.append(runs.finished(thread, assistant)["id"])
    assert [each for each in order(page(runs, thread)) if each.startswith("run")] == made


@pytest.mark.sqlite_only("it traces the statements of SQLite")
def test_a_page_reads_a_bounded_number_of_runs_in_a_bounded_number_of_statements(
    client: FlaskClient, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "CACHED_SECONDS", 1000)
    runs = RunsClient(client)
    thread, assistant = runs.thread("hi"), runs.assistant()
    runs.reply({"error": {"code": "server_error", "message": "no"}})
    selects = []
    for count in (2, MAX_SILENT):
        for _ in range(count):
            runs.finished(thread, assistant)
        statements.clear()
        html = page(runs, thread)
        selects.append(len([each for each in statements if each.startswith("SELECT")]))
    assert selects[0] == selects[1]
    assert len(run_blocks(html)) == MAX_SILENT


def test_run_makes_a_run_and_leads_to_the_end_of_the_thread(
    runs: RunsClient, assistant: str, thread: str
) -> None:
    runs.reply({"text": "20 degrees."})
    texts = {"assistant_id": assistant, "additional_instructions": "Be brief."}
    answer = post(runs, thread, "", **texts)
    assert answer.status_code == 303
    assert re.fullmatch(rf"/admin/threads/{thread}\?at=msg_\w+#end", answer.location)
    run = runs.get(f"/v1/threads/{thread}/runs")["data"][0]
    assert runs.wait(run)["instructions"] == "Be brief."
    assert runs.texts(thread) == ["weather?", "20 degrees."]


def test_run_refuses_beside_the_wrong_field_and_keeps_what_was_typed(
    runs: RunsClient, assistant: str, thread: str
) -> None:
    texts = {"assistant_id": "asst_missing", "additional_instructions": HOSTILE}
    for answer, status in (
        (post(runs, thread, "", **texts), 404),
        (post(runs, thread, "", **texts | {"assistant_id": "x"}), 400),
        (runs.client.post(f"/admin/threads/{thread}/runs", data=texts), 400),
    ):
        assert answer.status_code == status
        assert "<h1>Run an assistant</h1>" in answer.text
        assert ESCAPED in answer.text
    assert runs.get(f"/v1/threads/{thread}/runs")["data"] == []


def test_a_server_where_nothing_answers_says_so_instead_of_the_form(
    client_with: Callable[..., FlaskClient],
) -> None:
    runs = RunsClient(client_with(MOCK="off"))
    thread, assistant = runs.thread("hi"), runs.assistant()
    html = page(runs, thread)
    assert "Nothing answers a run here" in html
    assert f'action="/admin/threads/{thread}/runs"' not in html
    answer = post(runs, thread, "", assistant_id=assistant)
    assert answer.status_code == 400
    assert "Nothing answers a run here" in answer.text


def test_without_an_assistant_the_page_says_where_to_make_one(runs: RunsClient) -> None:
    assert "Make an assistant</a> first" in page(runs, runs.thread("hi"))


def test_a_thread_with_an_active_run_is_locked_and_reloads_by_itself(
    runs: RunsClient, assistant: str, thread: str
) -> None:
    runs.slow(thread, assistant)
    answer = runs.client.get(f"/admin/threads/{thread}")
    reload = '<noscript><meta http-equiv="refresh" content="{}"></noscript>'
    assert reload.format("2") in answer.text
    at = runs.messages(thread)[0]["id"]
    for query, reloads in ((f"?at={at}", f"2; url=/admin/threads/{thread}/end"), ("?limit=1", "2")):
        at_anchor = runs.client.get(f"/admin/threads/{thread}{query}")
        assert reload.format(reloads) in at_anchor.text
    assert LOCKED in answer.text
    assert "<fieldset disabled>" in answer.text
    assert f'action="/admin/threads/{thread}/runs"' not in answer.text
    row = runs.client.get("/admin/").text
    assert '<span class="state in_progress">in progress</span>' in row


def test_a_thread_without_an_active_run_stays_as_it_is(
    runs: RunsClient, assistant: str, thread: str
) -> None:
    runs.finished(thread, assistant)
    answer = runs.client.get(f"/admin/threads/{thread}")
    assert "http-equiv" not in answer.text
    assert LOCKED not in answer.text
    assert 'class="state' not in runs.client.get("/admin/").text


def test_the_message_that_is_being_written_is_shown_and_marked(
    runs: RunsClient, assistant: str, thread: str
) -> None:
    run = runs.writing(thread, assistant)
    html = page(runs, thread)
    assert order(html)[1] == run["id"]
    draft = html[html.index(f'id="{order(html)[2]}"') : html.index('<div id="end"')]
    assert "Half" in draft
    assert "being written" in draft
    assert "/delete" not in draft
    assert "being written" not in runs.client.get(f"/admin/threads/{thread}.json").text
    runs.cancel(run)


def test_cancel_ends_a_run_and_says_so(runs: RunsClient, assistant: str, thread: str) -> None:
    run = runs.waiting(thread, assistant)
    answer = post(runs, thread, f"/{run['id']}/cancel")
    assert (answer.status_code, answer.location.endswith("#end")) == (303, True)
    html = page(runs, thread)
    assert "The run is cancelled." in html
    assert "cancelled" in run_blocks(html)[run["id"]]
    answer = post(runs, thread, f"/{run['id']}/cancel")
    assert answer.status_code == 303
    assert "Cannot cancel run with status" in page(runs, thread)


def test_outputs_are_asked_for_and_sent_without_a_reload(
    runs: RunsClient, assistant: str, thread: str
) -> None:
    runs.reply({"tool_calls": [CALL, CALL]}, {"text": "20 degrees."})
    run = runs.wait(runs.run(thread, assistant), "requires_action")
    answer = runs.client.get(f"/admin/threads/{thread}")
    assert "http-equiv" not in answer.text
    assert answer.text.count('<textarea dir="auto" class="code-text" id="output-') == 2
    keys = [call["id"] for call in calls_of(run)]
    assert re.findall('name="key" value="([^"]+)"', answer.text) == keys
    sent = post(runs, thread, f"/{run['id']}/outputs", key=keys, value=["one\r\ntwo", ""])
    assert sent.status_code == 303
    runs.wait(run)
    calls = runs.steps(run)[0]["step_details"]["tool_calls"]
    assert [call["function"]["output"] for call in calls] == ["one\ntwo", ""]
    assert runs.texts(thread)[-1] == "20 degrees."


def test_refused_outputs_are_shown_again(runs: RunsClient, assistant: str, thread: str) -> None:
    run = runs.waiting(thread, assistant)
    sent = {"key": ["call_wrong"], "value": [HOSTILE]}
    answer = post(runs, thread, f"/{run['id']}/outputs", **sent)
    assert answer.status_code == 400
    assert "Expected tool outputs for call_ids" in answer.text
    assert ESCAPED in answer.text
    runs.cancel(run)
    answer = post(runs, thread, f"/{run['id']}/outputs", **sent)
    assert "do not accept tool outputs" in answer.text


def test_a_run_whose_time_is_over_frees_the_thread_when_it_is_looked_at(
    runs: RunsClient, assistant: str, thread: str
) -> None:
    run = runs.waiting(thread, assistant)
    runs.move_clock(601)
    html = page(runs, thread)
    assert LOCKED not in html
    assert "expired" in run_blocks(html)[run["id"]]


def test_a_stream_is_told_to_who_asks_for_one(
    runs: RunsClient, assistant: str, thread: str
) -> None:
    runs.reply({"text": "20 degrees."})
    token = token_in(page(runs, thread))
    address, accept = f"/admin/threads/{thread}/runs", {"Accept": "text/event-stream"}
    data = {"csrf_token": token, "assistant_id": assistant, "additional_instructions": ""}
    answer = runs.client.post(address, data=data, headers=accept)
    assert answer.mimetype == "text/event-stream"
    assert answer.text.startswith("event: thread.run.created\n")
    assert answer.text.endswith("data: [DONE]\n\n")
    assert "event: thread.message.delta" in answer.text
    refused = runs.client.post(address, data=data | {"csrf_token": ""}, headers=accept)
    assert (refused.status_code, refused.mimetype) == (400, "text/html")


def test_a_run_of_another_thread_is_404(runs: RunsClient, assistant: str, thread: str) -> None:
    run = runs.waiting(thread, assistant)
    other = runs.thread("other")
    for path in ("/cancel", "/outputs"):
        for run_id in (run["id"], NO_RUN):
            answer = post(runs, other, f"/{run_id}{path}", key=["call_1"], value=["x"])
            assert answer.status_code == 404
    assert runs.see(run)["status"] == "requires_action"


def test_what_belongs_to_another_project_is_404(make_app: Callable[..., Flask]) -> None:
    app = make_app(MOCK="on")
    with app.app_context():
        secrets = [api_keys.create(project, "", None) for project in ("one", "two")]
    app.extensions["keys"] = api_keys.KeyCache()
    own, foreign = (RunsClient(app.test_client()) for _ in secrets)
    for runs, secret in zip((own, foreign), secrets, strict=True):
        runs.client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {secret}"
        token = token_in(runs.client.get("/admin/sign-in").text)
        runs.client.post("/admin/sign-in", data={"csrf_token": token, "key": secret})
    thread = own.thread("hi")
    run = own.waiting(thread, own.assistant(name="Secret tutor"))
    token = token_in(foreign.client.get("/admin/threads/new").text)
    data = {"csrf_token": token, "key": "call_1", "value": "x", "assistant_id": "asst_1"}
    for path in ("", f"/{run['id']}/cancel", f"/{run['id']}/outputs"):
        answer = foreign.client.post(f"/admin/threads/{thread}/runs{path}", data=data)
        assert answer.status_code == 404
    assert own.see(run)["status"] == "requires_action"
    assert "Secret tutor" in page(own, thread)
    assert "Secret tutor" not in page(foreign, foreign.thread("hi"))


def test_every_form_needs_the_token(runs: RunsClient, assistant: str, thread: str) -> None:
    run = runs.waiting(thread, assistant)
    for path in ("", f"/{run['id']}/cancel", f"/{run['id']}/outputs"):
        answer = runs.client.post(f"/admin/threads/{thread}/runs{path}", data={})
        assert answer.status_code == 400
        assert "no longer valid" in answer.text
    assert runs.see(run)["status"] == "requires_action"
