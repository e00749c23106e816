"""Two projects on one server: neither can find, change or guess an object of the other."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from conftest import Commands, bearer
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import routes
from web.addresses import PREFIXES

NO_THREAD, NO_MESSAGE = f"thread_{'x' * 24}", f"msg_{'x' * 24}"
NO_ASSISTANT = f"asst_{'x' * 24}"
BODIES = {"messages.create": {"role": "user", "content": "intruder"}}
CHANGE = {"metadata": {"by": "intruder"}}
OWN_TO_EACH_ANSWER = {"x-request-id", "openai-processing-ms"}
CURSORS = pytest.mark.parametrize("cursor", ["after", "before"])


class Project(NamedTuple):
    """A project's client and what it stored: one thread with one message, and an assistant."""

    call: Callable[..., TestResponse]
    thread: str
    message: str
    assistant: str


def _calls(id_: str) -> Iterator[Any]:
    """Yield every method and rule of the API that names a thread, or an assistant."""
    app = Flask("routes")
    app.config.update(MOCK="off", WORKERS=1, SECRET_KEY="any")
    routes.init_app(app)
    for rule in app.url_map.iter_rules():
        if f"<{id_}>" in rule.rule and not rule.rule.startswith("/admin"):
            for method in sorted(rule.methods - {"OPTIONS"}):
                view = re.sub("^(openai_)?(v1_|api_)?", "", rule.endpoint)
                yield pytest.param(method, rule.rule, view, id=f"{method} {rule.rule}")


CALLS = list(_calls("thread_id"))
ASSISTANT_CALLS = list(_calls("assistant_id"))
MESSAGE_CALLS = [call for call in CALLS if "<message_id>" in call.values[1]]


@pytest.fixture
def projects(client: FlaskClient, new_key: Callable[..., str]) -> tuple[Project, Project]:
    """Our project and the other one."""
    keys = [new_key(name) for name in ("ours", "theirs")]
    return _project(client, keys[0], "ours"), _project(client, keys[1], "theirs")


def _project(client: FlaskClient, key: str, name: str) -> Project:
    def call(method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        return client.open(path, method=method, json=body, headers=bearer(key) | headers)

    messages = [{"role": "user", "content": f"secret of {name}"}]
    body = {"messages": messages, "metadata": {"of": name, "kind": "same"}}
    thread = call("POST", "/v1/threads", body).json["id"]
    message = call("GET", f"/v1/threads/{thread}/messages").json["data"][0]["id"]
    assistant = call("POST", "/v1/assistants", {"model": "m", "name": f"secret of {name}"}).json
    return Project(call, thread, message, assistant["id"])


def filled(rule: str, thread: str, message: str) -> str:
    return rule.replace("<thread_id>", thread).replace("<message_id>", message)


def everything(project: Project) -> list[Any]:
    threads = project.call("GET", "/v1/threads?limit=100").json
    addresses = [f"/v1/threads/{thread['id']}/messages" for thread in threads["data"]]
    assistants = project.call("GET", "/v1/assistants?limit=100").json
    return [threads, assistants, *(project.call("GET", address).json for address in addresses)]


def assert_same_refusal(
    foreign: TestResponse, missing: TestResponse, ids: dict[str, str], status: int
) -> None:
    """Check that two answers are equal byte for byte, except for the ids in the requests."""
    data, headers = foreign.data, list(foreign.headers.items())
    for foreign_id, absent in ids.items():
        data = data.replace(foreign_id.encode(), absent.encode())
    assert foreign.status_code == missing.status_code == status
    assert data == missing.data
    others = list(missing.headers.items())
    for pair, other in zip(headers, others, strict=True):
        assert pair == other or pair[0].lower() in OWN_TO_EACH_ANSWER


@pytest.mark.parametrize(("method", "rule", "view"), CALLS)
def test_a_foreign_thread_is_missing_byte_for_byte(
    projects: tuple[Project, Project], method: str, rule: str, view: str
) -> None:
    ours, theirs = projects
    before = everything(theirs)
    body = BODIES.get(view, CHANGE) if method == "POST" else None
    foreign = ours.call(method, filled(rule, theirs.thread, theirs.message), body)
    missing = ours.call(method, filled(rule, NO_THREAD, NO_MESSAGE), body)
    ids = {theirs.thread: NO_THREAD, theirs.message: NO_MESSAGE}
    assert_same_refusal(foreign, missing, ids, 404)
    assert everything(theirs) == before


@pytest.mark.parametrize(("method", "rule", "view"), ASSISTANT_CALLS)
def test_a_foreign_assistant_is_missing_byte_for_byte(
    projects: tuple[Project, Project], method: str, rule: str, view: str
) -> None:
    ours, theirs = projects
    before = everything(theirs)
    body = CHANGE if method == "POST" else None
    foreign = ours.call(method, rule.replace("<assistant_id>", theirs.assistant), body)
    missing = ours.call(method, rule.replace("<assistant_id>", NO_ASSISTANT), body)
    assert_same_refusal(foreign, missing, {theirs.assistant: NO_ASSISTANT}, 404)
    assert everything(theirs) == before


@pytest.mark.parametrize(("method", "rule", "view"), MESSAGE_CALLS)
def test_a_foreign_message_is_missing_in_ones_own_thread(
    projects: tuple[Project, Project], method: str, rule: str, view: str
) -> None:
    ours, theirs = projects
    before = everything(theirs)
    body = CHANGE if method == "POST" else None
    foreign = ours.call(method, filled(rule, ours.thread, theirs.message), body)
    missing = ours.call(method, filled(rule, ours.thread, NO_MESSAGE), body)
    assert_same_refusal(foreign, missing, {theirs.message: NO_MESSAGE}, 404)
    assert everything(theirs) == before


def test_the_matrix_holds_every_address_of_the_api(app: Flask) -> None:
    threads = [rule for rule in app.url_map.iter_rules() if "/threads" in rule.rule]
    threads = [rule for rule in threads if not rule.rule.startswith("/admin")]
    without_id = [rule for rule in threads if "<thread_id>" not in rule.rule]
    assert {rule.rule for rule in without_id} == {f"{each}/threads" for each in PREFIXES.values()}
    calls = [rule.methods - {"OPTIONS"} for rule in threads if rule not in without_id]
    assert len(CALLS) == sum(map(len, calls))
    assert len(ASSISTANT_CALLS) == len(PREFIXES) * len({"GET", "HEAD", "POST", "DELETE"})


@CURSORS
@pytest.mark.parametrize("deleted", [False, True], ids=["stored", "deleted"])
def test_a_foreign_thread_is_no_cursor(
    projects: tuple[Project, Project], cursor: str, deleted: bool
) -> None:
    ours, theirs = projects
    if deleted:
        theirs.call("DELETE", f"/v1/threads/{theirs.thread}")
    foreign = ours.call("GET", f"/v1/threads?{cursor}={theirs.thread}")
    missing = ours.call("GET", f"/v1/threads?{cursor}={NO_THREAD}")
    assert_same_refusal(foreign, missing, {theirs.thread: NO_THREAD}, 400)


@CURSORS
@pytest.mark.parametrize("deleted", [False, True], ids=["stored", "deleted"])
def test_a_foreign_assistant_is_no_cursor(
    projects: tuple[Project, Project], cursor: str, deleted: bool
) -> None:
    ours, theirs = projects
    if deleted:
        theirs.call("DELETE", f"/v1/assistants/{theirs.assistant}")
    foreign = ours.call("GET", f"/v1/assistants?{cursor}={theirs.assistant}")
    missing = ours.call("GET", f"/v1/assistants?{cursor}={NO_ASSISTANT}")
    assert_same_refusal(foreign, missing, {theirs.assistant: NO_ASSISTANT}, 400)


@CURSORS
@pytest.mark.parametrize("deleted", [False, True], ids=["stored", "deleted"])
def test_a_foreign_message_is_no_cursor(
    projects: tuple[Project, Project], cursor: str, deleted: bool
) -> None:
    ours, theirs = projects
    if deleted:
        theirs.call("DELETE", f"/v1/threads/{theirs.thread}/messages/{theirs.message}")
    address = f"/v1/threads/{ours.thread}/messages?{cursor}="
    foreign = ours.call("GET", address + theirs.message)
    missing = ours.call("GET", address + NO_MESSAGE)
    assert_same_refusal(foreign, missing, {theirs.message: NO_MESSAGE}, 400)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "q=secret",
        "q=of",
        "metadata[kind]=same",
        "q=secret&metadata[kind]=same",
        "created_after=0",
        "created_before=99999999999",
        "order=asc&limit=100",
    ],
)
def test_a_list_shows_threads_of_its_project_only(
    projects: tuple[Project, Project], query: str
) -> None:
    for project in projects:
        data = project.call("GET", f"/v1/threads?{query}").json["data"]
        assert [thread["id"] for thread in data] == [project.thread]


@pytest.mark.parametrize("query", ["q=theirs", "metadata[of]=theirs"])
def test_a_filter_finds_nothing_of_the_other_project(
    projects: tuple[Project, Project], query: str
) -> None:
    ours, _ = projects
    assert ours.call("GET", f"/v1/threads?{query}").json["data"] == []


def test_a_list_shows_assistants_of_its_project_only(projects: tuple[Project, Project]) -> None:
    for project in projects:
        data = project.call("GET", "/v1/assistants").json["data"]
        assert [assistant["id"] for assistant in data] == [project.assistant]


def test_a_copy_belongs_to_the_project_of_its_thread(projects: tuple[Project, Project]) -> None:
    ours, theirs = projects
    before = everything(theirs)
    copy = ours.call("POST", f"/v1/threads/{ours.thread}/copy").json["id"]
    assert ours.call("GET", f"/v1/threads/{copy}").status_code == 200
    assert theirs.call("GET", f"/v1/threads/{copy}").status_code == 404
    assert everything(theirs) == before


def test_an_idempotency_key_means_something_else_in_each_project(
    projects: tuple[Project, Project],
) -> None:
    body = {"metadata": {"a": "1"}}
    answers = [
        project.call("POST", "/v1/threads", body, **{"Idempotency-Key": "same"})
        for project in projects
    ]
    assert answers[0].json["id"] != answers[1].json["id"]
    assert not any("Idempotent-Replayed" in answer.headers for answer in answers)


# one id in two projects, and the commands


@pytest.fixture
def twins(
    projects: tuple[Project, Project], flask: Commands, tmp_path: Path
) -> tuple[Project, Project]:
    """Both projects hold our thread, each its own."""
    ours, theirs = projects
    file = tmp_path / "export.jsonl"
    file.write_text(flask("export", "--project", "ours").stdout)
    flask("import", str(file), "--project", "theirs")
    return ours, theirs._replace(thread=ours.thread, message=ours.message)


def exported(flask: Commands, project: str) -> list[str]:
    lines = flask("export", "--project", project).stdout.splitlines()
    objects = [next(iter(orjson.loads(line).values())) for line in lines]
    return [each["id"] for each in objects if each["object"] == "thread"]


def test_an_imported_thread_changes_in_its_project_only(twins: tuple[Project, Project]) -> None:
    ours, theirs = twins
    before = everything(ours)
    theirs.call("POST", f"/v1/threads/{theirs.thread}", CHANGE)
    theirs.call("DELETE", f"/v1/threads/{theirs.thread}/messages/{theirs.message}")
    assert everything(ours) == before


def test_an_imported_thread_is_deleted_in_its_project_only(twins: tuple[Project, Project]) -> None:
    ours, theirs = twins
    before = everything(ours)
    assert theirs.call("DELETE", f"/v1/threads/{theirs.thread}").status_code == 200
    assert everything(ours) == before


def test_replacing_by_import_leaves_the_other_project_alone(
    twins: tuple[Project, Project], flask: Commands, tmp_path: Path
) -> None:
    ours, theirs = twins
    theirs.call("POST", f"/v1/threads/{theirs.thread}", CHANGE)
    before = everything(theirs)
    arguments = ("--on-conflict", "replace", "--project", "ours")
    flask("import", str(tmp_path / "export.jsonl"), *arguments)
    assert everything(theirs) == before
    assert ours.call("GET", f"/v1/threads/{ours.thread}").json["metadata"]["of"] == "ours"


@pytest.mark.parametrize("name", ["ours", "theirs"])
def test_export_writes_one_project(
    projects: tuple[Project, Project], flask: Commands, name: str
) -> None:
    assert exported(flask, name) == [projects[name == "theirs"].thread]


def test_export_of_a_project_without_threads_is_empty(flask: Commands) -> None:
    assert exported(flask, "nobody") == []


def test_prune_deletes_of_one_project(
    twins: tuple[Project, Project], flask: Commands, tmp_path: Path
) -> None:
    ours, theirs = twins
    before = everything(ours)
    file_of_old = '{"thread":{"id":"thread_old","object":"thread","created_at":1,"metadata":{},'
    file_of_old += '"tool_resources":{}},"messages":[]}'
    for name in ("ours", "theirs"):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(file_of_old)
        flask("import", str(path), "--project", name)
    flask("prune", "--older-than", "1d", "--project", "theirs")
    assert "thread_old" not in exported(flask, "theirs")
    assert "thread_old" in exported(flask, "ours")
    assert theirs.call("GET", "/v1/threads/thread_old").status_code == 404
    assert len(everything(ours)[0]["data"]) == len(before[0]["data"]) + 1
