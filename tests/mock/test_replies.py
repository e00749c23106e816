"""/_mock/replies and THREADS_REPLIES: which rule answers a run, with what, and when."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import GUNICORN, bearer, refusal, until
from flask.testing import FlaskClient
from runs_client import CALL, SLOW, RunsClient, Wire, calls_of, text_of
from sentences import (
    Refusal,
    empty_array,
    empty_string,
    high_integer,
    long_array,
    low_integer,
    missing,
    refusal_of,
    unknown,
    unsupported,
    wrong_prefix,
    wrong_type,
)

COPIES = pytest.mark.sqlite_only("reset, snapshot and restore copy SQLite's file")
DONE = {"text": "Done."}
CODES = ("server_error", "rate_limit_exceeded", "invalid_prompt")
NO_MODEL = (
    "Nothing answers a run here: there is no model, and no script without mock controls. "
    "Set THREADS_MODEL_URL, or THREADS_MOCK=on.",
    None,
    "model_not_configured",
)


@pytest.fixture
def runs(client_with: Callable[..., FlaskClient]) -> RunsClient:
    return RunsClient(client_with(MOCK="on"))


@pytest.fixture
def assistant(runs: RunsClient) -> str:
    return runs.assistant()


def answer_to(runs: RunsClient, assistant: str, text: str, **body: Any) -> str:
    """Return what a run answers to a text."""
    run = runs.finished(runs.thread(text), assistant, **body)
    return runs.texts(run["thread_id"])[-1]


def counts(runs: RunsClient) -> list[int]:
    return [rule["runs"] for rule in runs.get("/_mock/replies")["rules"]]


def put(runs: RunsClient, body: Any) -> Any:
    return runs.call("PUT", "/_mock/replies", body)


def senseless(path: str, reason: str) -> Refusal:
    return f"Invalid '{path}': {reason}.", path, "invalid_value"


# which rule


def test_without_a_rule_the_answer_repeats_the_question(runs: RunsClient, assistant: str) -> None:
    assert answer_to(runs, assistant, "Say it\nagain: ä ") == "Say it\nagain: ä "


def test_the_last_message_of_the_user_is_the_question(runs: RunsClient, assistant: str) -> None:
    thread = runs.thread("first", "second")
    body = {"role": "assistant", "content": "third"}
    runs.post(f"/v1/threads/{thread}/messages", body)
    runs.finished(thread, assistant)
    assert runs.texts(thread)[-1] == "second"


def test_the_parts_of_a_question_are_lines(runs: RunsClient, assistant: str) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    parts = [{"type": "text", "text": "one"}, image, {"type": "text", "text": "two"}]
    thread = runs.thread()
    runs.post(f"/v1/threads/{thread}/messages", {"role": "user", "content": parts})
    runs.finished(thread, assistant)
    assert text_of(runs.messages(thread)[-1]) == "one\ntwo"


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("*", "anything", True),
        ("weather*", "weather in Rome", True),
        ("weather*", "the weather in Rome", False),
        ("*weather*", "the weather in Rome", True),
        ("weather", "weather in Rome", False),
        ("weather*", "Weather in Rome", False),
        ("weather*", "weather\nin\nRome", True),
        ("*Rome", "weather\nin\nRome", True),
        ("a?c", "abc", True),
        ("a?c", "a\nc", True),
        ("a?c", "ac", False),
        ("[ab]*", "beta", True),
        ("[!ab]*", "beta", False),
        ("really[?]", "really?", True),
    ],
)
def test_a_pattern_is_of_the_whole_question(
    runs: RunsClient, assistant: str, pattern: str, text: str, matches: bool
) -> None:
    runs.reply(DONE, match=pattern)
    assert answer_to(runs, assistant, text) == ("Done." if matches else text)


def test_the_first_rule_that_matches_answers(runs: RunsClient, assistant: str) -> None:
    rules = [{"match": "a*", "replies": [{"text": "1"}]}, {"replies": [{"text": "2"}]}]
    runs.rules(*rules)
    assert [answer_to(runs, assistant, text) for text in ("ab", "b")] == ["1", "2"]


def test_a_rule_may_be_of_an_assistant(runs: RunsClient, assistant: str) -> None:
    runs.reply(DONE, assistant=assistant)
    assert answer_to(runs, assistant, "echo") == "Done."
    assert answer_to(runs, runs.assistant(), "echo") == "echo"


def test_a_rule_may_be_of_the_model_in_force(runs: RunsClient, assistant: str) -> None:
    runs.reply(DONE, model="gpt-x")
    assert answer_to(runs, assistant, "echo") == "echo"
    assert answer_to(runs, assistant, "echo", model="gpt-x") == "Done."
    assert answer_to(runs, runs.assistant(model="gpt-x"), "echo") == "Done."


def test_times_counts_runs(runs: RunsClient, assistant: str) -> None:
    runs.reply(DONE, times=2)
    assert [answer_to(runs, assistant, "echo") for _ in range(3)] == ["Done.", "Done.", "echo"]
    assert counts(runs) == [2]


def test_a_rule_answers_so_many_of_several_runs_at_once(runs: RunsClient, assistant: str) -> None:
    runs.reply(DONE, times=5)
    made = [runs.run(runs.thread("echo"), assistant) for _ in range(12)]
    answers = [runs.texts(runs.wait(run)["thread_id"])[-1] for run in made]
    assert (answers.count("Done."), answers.count("echo")) == (5, 7)


def test_all_projects_share_the_rules(
    client_with: Callable[..., FlaskClient], new_key: Callable[..., str]
) -> None:
    keys = [new_key(name) for name in ("ours", "theirs")]
    client = client_with(MOCK="on")
    runs = RunsClient(client)
    for key in keys:
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
        if key == keys[0]:
            runs.reply(DONE)
        assert answer_to(runs, runs.assistant(), "echo") == "Done."


# what it answers


def test_a_run_keeps_its_rule_through_its_turns(runs: RunsClient, assistant: str) -> None:
    runs.reply({"tool_calls": [CALL]}, {"text": "First."}, times=1)
    run = runs.wait(runs.run(runs.thread("weather"), assistant), "requires_action")
    runs.reply({"text": "Other."})
    runs.submit(run)
    runs.wait(run, "completed")
    assert runs.texts(run["thread_id"])[-1] == "First."


def test_the_last_reply_serves_the_turns_after_it(runs: RunsClient, assistant: str) -> None:
    other = {"name": "other", "arguments": {}}
    runs.reply({"tool_calls": [CALL]}, {"tool_calls": [other]})
    run = runs.wait(runs.run(runs.thread("weather"), assistant))
    names = []
    for _ in range(4):
        names += [call["function"]["name"] for call in calls_of(run)]
        runs.submit(run)
        run = runs.wait(run, "requires_action")
    assert names == ["get", "other", "other", "other"]
    assert len({step["id"] for step in runs.steps(run)}) == 5


def test_several_calls_at_once(runs: RunsClient, assistant: str) -> None:
    second = {"name": "put", "arguments": {"ä": [None, 1.5, {"b": True}]}}
    third = {"name": "none"}
    runs.reply({"tool_calls": [CALL, second, third], "chunk_characters": 3})
    run = runs.wait(runs.run(runs.thread("weather"), assistant))
    calls = calls_of(run)
    assert [call["function"]["name"] for call in calls] == ["get", "put", "none"]
    loaded = [json.loads(call["function"]["arguments"]) for call in calls]
    assert loaded == [CALL["arguments"], second["arguments"], {}]
    assert len({call["id"] for call in calls}) == 3


@pytest.mark.parametrize("code", CODES)
def test_an_error_fails_the_run(runs: RunsClient, assistant: str, code: str) -> None:
    runs.reply({"error": {"code": code, "message": "No more."}})
    run = runs.finished(runs.thread("echo"), assistant)
    assert (run["status"], run["last_error"]) == ("failed", {"code": code, "message": "No more."})
    assert list(run["last_error"]) == ["code", "message"]
    assert type(run["failed_at"]) is int
    assert (run["completed_at"], run["expires_at"], run["usage"]) == (None, None, None)
    assert runs.texts(run["thread_id"]) == ["echo"]
    assert runs.steps(run) == []


def test_an_error_has_a_sentence_of_its_own(runs: RunsClient, assistant: str) -> None:
    runs.reply({"error": {"code": "server_error"}})
    run = runs.finished(runs.thread("echo"), assistant)
    assert run["last_error"]["message"] == "A reply rule of /_mock failed this run."


def test_a_run_may_fail_after_its_calls(runs: RunsClient, assistant: str) -> None:
    runs.reply({"tool_calls": [CALL]}, {"error": {"code": "rate_limit_exceeded"}})
    run = runs.wait(runs.run(runs.thread("weather"), assistant))
    runs.submit(run)
    run = runs.wait(run, "failed")
    assert [step["status"] for step in runs.steps(run)] == ["completed"]
    assert run["usage"] == runs.steps(run)[0]["usage"]


@pytest.mark.parametrize("reason", ["max_completion_tokens", "max_prompt_tokens"])
def test_an_answer_may_be_cut_short(runs: RunsClient, assistant: str, reason: str) -> None:
    runs.reply({"text": "Half of", "incomplete": reason})
    run = runs.finished(runs.thread("echo"), assistant)
    assert (run["status"], run["incomplete_details"]) == ("incomplete", {"reason": reason})
    assert type(run["completed_at"]) is int
    assert (run["expires_at"], run["last_error"]) == (None, None)
    message = runs.messages(run["thread_id"])[-1]
    assert (message["status"], text_of(message)) == ("incomplete", "Half of")
    assert message["incomplete_details"] == {"reason": "max_tokens"}
    assert (message["completed_at"], type(message["incomplete_at"])) == (None, int)
    [step] = runs.steps(run)
    assert (step["status"], step["usage"]) == ("completed", run["usage"])


def test_an_empty_answer_is_a_message(runs: RunsClient, assistant: str) -> None:
    runs.reply({"text": ""})
    run = runs.finished(runs.thread("echo"), assistant)
    assert runs.messages(run["thread_id"])[-1]["content"] == [
        {"type": "text", "text": {"value": "", "annotations": []}}
    ]


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_pieces_make_the_whole_text(runs: RunsClient, assistant: str, size: int) -> None:
    text = "äöü 💡 line\nline"
    runs.reply({"text": text, "chunk_characters": size, "chunk_ms": [0, 1], "delay_ms": [0, 1]})
    assert answer_to(runs, assistant, "echo") == text


def test_usage_counts_words_the_same_each_time(runs: RunsClient) -> None:
    assistant = runs.assistant(instructions="Answer in one line.")
    runs.reply({"text": "It is warm."})
    counts = [runs.finished(runs.thread("How warm is it?"), assistant)["usage"] for _ in range(2)]
    assert counts[0] == counts[1]
    assert (counts[0]["prompt_tokens"], counts[0]["completion_tokens"]) == (8, 3)
    assert counts[0]["total_tokens"] == 11


def test_a_delay_comes_before_the_answer(runs: RunsClient, assistant: str) -> None:
    run = runs.slow(runs.thread("echo"), assistant)
    assert (run["status"], runs.steps(run)) == ("in_progress", [])


# the control


def test_rules_are_shown_as_they_count(runs: RunsClient) -> None:
    assert runs.get("/_mock/replies") == {"rules": []}
    answer = put(runs, {"rules": [{"replies": [{"tool_calls": [{"name": "get"}]}]}]})
    shown = {"match": "*", "replies": [{"tool_calls": [{"name": "get", "arguments": {}}]}]}
    assert answer.json == {"rules": [{**shown, "runs": 0}]} == runs.get("/_mock/replies")
    assert runs.call("DELETE", "/_mock/replies").json == {"rules": []}
    assert runs.get("/_mock/replies") == {"rules": []}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, missing("rules[0].replies")),
        ({"replies": []}, empty_array("rules[0].replies")),
        ({"replies": [DONE] * 101}, long_array("rules[0].replies", 100, 101)),
        ({"replies": [DONE], "match": ""}, empty_string("rules[0].match")),
        ({"replies": [DONE], "times": 0}, low_integer("rules[0].times", 1, 0)),
        (
            {"replies": [DONE], "times": 10**9 + 1},
            high_integer("rules[0].times", 10**9, 10**9 + 1),
        ),
        (
            {"replies": [DONE], "assistant": "gpt"},
            wrong_prefix("rules[0].assistant", "gpt", "asst"),
        ),
        ({"replies": [DONE], "matches": "x"}, unknown("rules[0].matches", "match")),
    ],
    ids=str,
)
def test_a_bad_rule_is_refused(runs: RunsClient, rule: Wire, expected: Refusal) -> None:
    runs.reply(DONE)
    kept = runs.get("/_mock/replies")
    assert refusal_of(put(runs, {"rules": [rule]})) == expected
    assert runs.get("/_mock/replies") == kept


AT = "rules[0].replies[0]"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ({}, senseless(f"{AT}.text", "a reply has a 'text', 'tool_calls' or an 'error'")),
        (
            {"delay_ms": 1},
            senseless(f"{AT}.text", "a reply has a 'text', 'tool_calls' or an 'error'"),
        ),
        (
            {"text": "x", "error": {"code": "server_error"}},
            senseless(f"{AT}.error", "a reply that fails says nothing else"),
        ),
        (
            {"error": {"code": "server_error"}, "incomplete": "max_prompt_tokens"},
            senseless(f"{AT}.error", "a reply that fails says nothing else"),
        ),
        (
            {"tool_calls": [CALL], "incomplete": "max_prompt_tokens"},
            senseless(f"{AT}.incomplete", "a reply that is cut short has a 'text' only"),
        ),
        ({"tool_calls": []}, empty_array(f"{AT}.tool_calls")),
        ({"tool_calls": [{}]}, missing(f"{AT}.tool_calls[0].name")),
        (
            {"tool_calls": [{"name": "get", "arguments": "{}"}]},
            wrong_type(f"{AT}.tool_calls[0].arguments", "an object", "a string"),
        ),
        (
            {"error": {"code": "boom"}},
            unsupported(
                f"{AT}.error.code",
                "boom",
                "'server_error', 'rate_limit_exceeded', and 'invalid_prompt'",
            ),
        ),
        ({"error": {}}, missing(f"{AT}.error.code")),
        (
            {"text": "x", "incomplete": "max_tokens"},
            unsupported(
                f"{AT}.incomplete", "max_tokens", "'max_completion_tokens' and 'max_prompt_tokens'"
            ),
        ),
        ({"text": "x", "delay_ms": 60_001}, high_integer(f"{AT}.delay_ms", 60_000, 60_001)),
        ({"text": "x", "chunk_ms": [0, -1]}, low_integer(f"{AT}.chunk_ms", 0, -1)),
        (
            {"text": "x", "chunk_ms": [1]},
            wrong_type(f"{AT}.chunk_ms", "an integer or an array of two integers", "an array"),
        ),
        ({"text": "x", "chunk_characters": 0}, low_integer(f"{AT}.chunk_characters", 1, 0)),
        ({"texts": "x"}, unknown(f"{AT}.texts", "text")),
    ],
    ids=str,
)
def test_a_bad_reply_is_refused(runs: RunsClient, reply: Wire, expected: Refusal) -> None:
    assert refusal_of(put(runs, {"rules": [{"replies": [reply]}]})) == expected


def seed(runs: RunsClient) -> None:
    assert runs.client.post("/_mock/seed", data="").status_code == 200


def restore(runs: RunsClient) -> None:
    for control in ("snapshot", "restore"):
        assert runs.call("POST", f"/_mock/{control}").status_code == 200


@pytest.mark.parametrize("stop", [seed, pytest.param(restore, marks=COPIES)])
def test_runs_that_begin_again_keep_their_rules(
    runs: RunsClient, assistant: str, stop: Callable[[RunsClient], None]
) -> None:
    texts = ["First.", "Second."]
    runs.rules(*({"times": 1, "replies": [{"text": text, "delay_ms": 1000}]} for text in texts))
    begun = []
    for expected in ([1, 0], [1, 1]):
        begun.append(runs.run(runs.thread("echo"), assistant))
        assert until(lambda: counts(runs) == expected)  # noqa: B023
    stop(runs)
    ended = [runs.wait(run, "completed") for run in begun]
    assert [runs.texts(run["thread_id"])[-1] for run in ended] == texts
    assert counts(runs) == [1, 1]
    assert answer_to(runs, assistant, "echo") == "echo"


def cancel_and_delete(runs: RunsClient, run: Wire) -> None:
    runs.cancel(run)
    runs.wait(run, "cancelled")
    for kind, id_ in (("threads", run["thread_id"]), ("assistants", run["assistant_id"])):
        assert runs.call("DELETE", f"/v1/{kind}/{id_}").status_code == 200


def reset(runs: RunsClient, _: Wire) -> None:
    assert runs.call("POST", "/_mock/reset").status_code == 200


@pytest.mark.parametrize("end", [cancel_and_delete, pytest.param(reset, marks=COPIES)])
def test_a_new_run_with_the_id_of_another_does_not_keep_its_rule(
    runs: RunsClient, end: Callable[[RunsClient, Wire], None]
) -> None:
    def begin() -> Wire:
        runs.call("PUT", "/_mock/ids", {"seed": 7})
        assistant = runs.assistant()
        return runs.run(runs.thread("echo"), assistant)

    runs.rules({"times": 1, "replies": [{"text": "late", "delay_ms": SLOW}]})
    first = begin()
    assert until(lambda: counts(runs) == [1])
    end(runs, first)
    second = begin()
    assert second["id"] == first["id"]
    assert runs.texts(runs.wait(second, "completed")["thread_id"])[-1] == "echo"
    assert counts(runs) == [1]


@COPIES
def test_a_reset_keeps_the_rules(runs: RunsClient) -> None:
    runs.reply(DONE)
    kept = runs.get("/_mock/replies")
    assert runs.call("POST", "/_mock/reset").status_code == 200
    assert runs.get("/_mock/replies") == kept


def test_rules_are_allowed_on_a_kept_database(client: FlaskClient) -> None:
    runs = RunsClient(client)
    assert runs.call("PUT", "/_mock/ids", {"seed": 1}).status_code == 403
    runs.reply(DONE)
    assert answer_to(runs, runs.assistant(), "echo") == "Done."
    assert runs.call("DELETE", "/_mock/replies").status_code == 200


# THREADS_REPLIES


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "replies.json"
    path.write_text(json.dumps({"rules": [{"replies": [{"text": "By file."}]}]}))
    return path


def test_a_file_has_the_first_rules(client_with: Callable[..., FlaskClient], file: Path) -> None:
    runs = RunsClient(client_with(MOCK="on", REPLIES=str(file)))
    assistant = runs.assistant()
    assert answer_to(runs, assistant, "echo") == "By file."
    runs.reply(DONE)
    assert answer_to(runs, assistant, "echo") == "Done."
    runs.call("DELETE", "/_mock/replies")
    assert answer_to(runs, assistant, "echo") == "By file."


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory."),
        ("{", "Invalid body: failed to parse JSON value."),
        ("[]", "Invalid type: expected an object, but got an array instead."),
        ("{}", "Missing required parameter: 'rules'."),
        ('{"rules": [{"replies": [{}]}]}', "Invalid 'rules[0].replies[0].text': a reply has"),
        ('{"rules": [{"replies": [{"text": 1}]}]}', "Invalid type for 'rules[0].replies[0].text'"),
        ('{"rules": [{"replies": [{"text": "\\ud800"}]}]}', "Invalid body:"),
    ],
)
def test_a_bad_file_is_refused_with_its_first_fault(
    client_with: Callable[..., FlaskClient], tmp_path: Path, content: str | None, reason: str
) -> None:
    path = tmp_path / "replies.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit) as refused:
        client_with(REPLIES=str(path))
    assert str(refused.value).startswith(f"THREADS_REPLIES: {path}: {reason}")


@pytest.mark.parametrize("is_upgraded", [False, True])
def test_a_bad_file_is_one_line_at_the_start(
    tmp_path: Path, database_url: str, is_upgraded: bool
) -> None:
    path = tmp_path / "replies.json"
    path.write_bytes(b"\xff")
    settings = {"DATABASE_URL": database_url} if is_upgraded else {}
    [line] = refusal(tmp_path / "log", GUNICORN, REPLIES=path, **settings)
    assert line.startswith(f"THREADS_REPLIES: {path}: Invalid body:")


def test_a_reload_with_a_bad_file_keeps_the_rules(serve: Callable[..., Any], file: Path) -> None:
    with serve(REPLIES=file) as server:
        rules, before = server.call("GET", "/_mock/replies").body, server.workers()
        file.write_text("{")
        server.process.send_signal(signal.SIGHUP)
        assert until(lambda: bool(server.workers()) and server.workers().isdisjoint(before))
        assert server.call("GET", "/_mock/replies").body == rules
        [line] = [each for each in server.log.read_text().splitlines() if str(file) in each]
        assert "The earlier rules stay in force." in line


# where nothing answers


def keyed(client: FlaskClient, key: str) -> RunsClient:
    client.environ_base["HTTP_AUTHORIZATION"] = bearer(key)["Authorization"]
    return RunsClient(client)


@pytest.mark.parametrize("settings", [{"MOCK": "off"}, {"WORKERS": 2}])
def test_without_the_controls_a_run_is_refused(
    client_with: Callable[..., FlaskClient], file: Path, settings: Wire
) -> None:
    runs = RunsClient(client_with(REPLIES=str(file), **settings))
    assert_refused(runs)


def test_with_keys_a_run_is_refused(
    client_with: Callable[..., FlaskClient], new_key: Callable[..., str], file: Path
) -> None:
    key = new_key("default")
    assert_refused(keyed(client_with(REPLIES=str(file)), key))


def assert_refused(runs: RunsClient) -> None:
    thread, assistant = runs.thread("Hello"), runs.assistant()
    for stream in (False, True):
        body = {"assistant_id": assistant, "stream": stream}
        for address in (f"/v1/threads/{thread}/runs", "/v1/threads/runs"):
            assert refusal_of(runs.call("POST", address, body)) == NO_MODEL
    assert runs.get(f"/v1/threads/{thread}/runs")["data"] == []
    assert len(runs.get("/v1/threads")["data"]) == 1
    assert runs.say(thread).status_code == 200


def test_with_keys_and_controls_a_run_is_answered(
    client_with: Callable[..., FlaskClient], new_key: Callable[..., str]
) -> None:
    key = new_key("default")
    runs = keyed(client_with(MOCK="on"), key)
    assert answer_to(runs, runs.assistant(), "echo") == "echo"


# repeatable ids


def ids_of(runs: RunsClient, run: Wire) -> list[str]:
    """Return all ids that a run made, in order."""
    steps = runs.steps(run)
    calls = [step["step_details"].get("tool_calls", []) for step in steps]
    messages = [message["id"] for message in runs.messages(run["thread_id"])]
    made = [call["id"] for each in calls for call in each]
    return [run["id"], *(step["id"] for step in steps), *made, *messages]


def play_all(runs: RunsClient, at_once: bool) -> list[list[str]]:
    """Reset, seed the ids, and return the ids of several runs of two turns each."""
    assert runs.call("POST", "/_mock/reset").status_code == 200
    runs.call("PUT", "/_mock/ids", {"seed": 7})
    replies = [{"tool_calls": [CALL, CALL], "chunk_characters": 4}, {"text": "Done."}]
    runs.rules({"replies": [{**each, "chunk_ms": [0, 3]} for each in replies]})
    assistant = runs.assistant()
    threads = [runs.thread("echo") for _ in range(4)]
    made = []
    for thread in threads:
        made.append(runs.run(thread, assistant))
        if not at_once:
            runs.wait(made[-1], "requires_action")
    waiting = [runs.wait(run, "requires_action") for run in made]
    for run in waiting:
        runs.submit(run)
    return [ids_of(runs, runs.wait(run, "completed")) for run in made]


@COPIES
def test_the_ids_of_runs_repeat(runs: RunsClient) -> None:
    first = play_all(runs, at_once=False)
    assert play_all(runs, at_once=True) == play_all(runs, at_once=True) == first
    every = [id_ for ids in first for id_ in ids]
    assert len(set(every)) == len(every) == 4 * 7


def test_the_ids_of_runs_differ_without_a_seed(runs: RunsClient, assistant: str) -> None:
    made = [runs.finished(runs.thread("echo"), assistant) for _ in range(2)]
    assert not set(ids_of(runs, made[0])) & set(ids_of(runs, made[1]))
