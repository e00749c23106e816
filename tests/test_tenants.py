"""Two projects on one server: neither can find, change or guess an object of the other."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from conftest import Commands, bearer, close, new_database, until
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import routes
from access import api_keys
from app import create_app
from web.addresses import PREFIXES

NO_THREAD, NO_MESSAGE = f"thread_{'x' * 24}", f"msg_{'x' * 24}"
NO_ASSISTANT = f"asst_{'x' * 24}"
NO_RUN, NO_STEP = f"run_{'x' * 24}", f"step_{'x' * 24}"
BODIES: dict[str, Any] = {
    "messages.create": {"role": "user", "content": "intruder"},
    "runs.submit": {"tool_outputs": []},
}
CHANGE = {"metadata": {"by": "intruder"}}
OWN_TO_EACH_ANSWER = {"x-request-id", "openai-processing-ms"}
CURSORS = pytest.mark.parametrize("cursor", ["after", "before"])


class Project(NamedTuple):
    """A project's client and what it stored: an assistant, and one thread with one message.

    A run waits there for the output of its one step.
    """

    call: Callable[..., TestResponse]
    thread: str
    message: str
    assistant: str
    run: str
    step: str

    def body(self, method: str, view: str) -> Any:
        """Return a body that the view takes."""
        if method != "POST":
            return None
        run = {"assistant_id": self.assistant}
        return run if view == "runs.create" else BODIES.get(view, CHANGE)


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
RUN_CALLS = [call for call in CALLS if "<run_id>" in call.values[1]]
STEP_CALLS = [call for call in CALLS if "<step_id>" in call.values[1]]


Projects = tuple[Project, Project]


@pytest.fixture(scope="module")
def projects(
    engine: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Projects]:
    """Our project and the other one, for the tests that change neither."""
    with new_database(engine, request, tmp_path_factory.mktemp("projects")) as url:
        app = create_app({"DATABASE_URL": url, "DURABILITY": "normal", "MOCK": "on"})
        yield _projects(app)
        close(app)


@pytest.fixture
def own_projects(make_app: Callable[..., Flask]) -> Projects:
    """The same two, for one test alone."""
    return _projects(make_app(MOCK="on"))


def _projects(app: Flask) -> Projects:
    """Make two projects on a server that plays runs in spite of keys."""
    with app.app_context():
        keys = [api_keys.create(name, "", None) for name in ("ours", "theirs")]
    client = app.test_client()
    rules = [{"match": "secret*", "replies": [{"tool_calls": [{"name": "get"}]}]}]
    client.put("/_mock/replies", json={"rules": rules}, headers=bearer(keys[0]))
    return _project(client, keys[0], "ours"), _project(client, keys[1], "theirs")


def _project(client: FlaskClient, key: str, name: str) -> Project:
    def call(method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        return client.open(path, method=method, json=body, headers=bearer(key) | headers)

    messages = [{"role": "user", "content": f"secret of {name}"}]
    body = {"messages": messages, "metadata": {"of": name, "kind": "same"}}
    thread = call("POST", "/v1/threads", body).json["id"]
    message = call("GET", f"/v1/threads/{thread}/messages").json["data"][0]["id"]
    assistant = call("POST", "/v1/assistants", {"model": "m", "name": f"secret of {name}"}).json
    address = f"/v1/threads/{thread}/runs"
    run = call("POST", address, {"assistant_id": assistant["id"]}).json["id"]
    assert until(lambda: call("GET", f"{address}/{run}").json["status"] == "requires_action")
    [step] = call("GET", f"{address}/{run}/steps").json["data"]
    return Project(call, thread, message, assistant["id"], run, step["id"])


def filled(rule: str, thread: str, message: str, run: str, step: str) -> str:
    ids = {"thread_id": thread, "message_id": message, "run_id": run, "step_id": step}
    for name, id_ in ids.items():
        rule = rule.replace(f"<{name}>", id_)
    return rule


NO_IDS = (NO_THREAD, NO_MESSAGE, NO_RUN, NO_STEP)


def ids_of(project: Project) -> tuple[str, str, str, str]:
    return project.thread, project.message, project.run, project.step


def everything(project: Project) -> list[Any]:
    threads = project.call("GET", "/v1/threads?limit=100").json
    kinds = ("messages", "runs")
    addresses = [f"/v1/threads/{each['id']}/{kind}" for each in threads["data"] for kind in kinds]
    addresses.append(f"/v1/threads/{project.thread}/runs/{project.run}/steps")
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
    projects: Projects, method: str, rule: str, view: str
) -> None:
    ours, theirs = projects
    before = everything(theirs)
    body = ours.body(method, view)
    foreign = ours.call(method, filled(rule, *ids_of(theirs)), body)
    missing = ours.call(method, filled(rule, *NO_IDS), body)
    ids = dict(zip(ids_of(theirs), NO_IDS, strict=True))
    assert_same_refusal(foreign, missing, ids, 404)
    assert everything(theirs) == before


@pytest.mark.parametrize(("method", "rule", "view"), ASSISTANT_CALLS)
def test_a_foreign_assistant_is_missing_byte_for_byte(
    projects: Projects, method: str, rule: str, view: str
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
    projects: Projects, method: str, rule: str, view: str
) -> None:
    ours, theirs = projects
    before = everything(theirs)
    body = CHANGE if method == "POST" else None
    foreign = ours.call(method, filled(rule, ours.thread, theirs.message, "", ""), body)
    missing = ours.call(method, filled(rule, ours.thread, NO_MESSAGE, "", ""), body)
    assert_same_refusal(foreign, missing, {theirs.message: NO_MESSAGE}, 404)
    assert everything(theirs) == before


@pytest.mark.parametrize(("method", "rule", "view"), RUN_CALLS)
def test_a_foreign_run_is_missing_in_ones_own_thread(
    projects: Projects, method: str, rule: str, view: str
) -> None:
    ours, theirs = projects
    before = everything(theirs)
    body = ours.body(method, view)
    foreign = ours.call(method, filled(rule, ours.thread, "", theirs.run, theirs.step), body)
    missing = ours.call(method, filled(rule, ours.thread, "", NO_RUN, NO_STEP), body)
    assert_same_refusal(foreign, missing, {theirs.run: NO_RUN, theirs.step: NO_STEP}, 404)
    assert everything(theirs) == before


@pytest.mark.parametrize(("method", "rule", "view"), STEP_CALLS)
def test_a_foreign_step_is_missing_in_ones_own_run(
    projects: Projects, method: str, rule: str, view: str
) -> None:
    ours, theirs = projects
    foreign = ours.call(method, filled(rule, ours.thread, "", ours.run, theirs.step))
    missing = ours.call(method, filled(rule, ours.thread, "", ours.run, NO_STEP))
    assert_same_refusal(foreign, missing, {theirs.step: NO_STEP}, 404)


@pytest.mark.parametrize("prefix", PREFIXES.values())
@pytest.mark.parametrize("address", ["/threads/runs", "/threads/{}/runs"])
def test_a_foreign_assistant_runs_in_no_thread_of_ones_own(
    projects: Projects, prefix: str, address: str
) -> None:
    ours, theirs = projects
    before = everything(ours), everything(theirs)
    path = prefix + address.format(ours.thread)
    answers = [
        ours.call("POST", path, {"assistant_id": id_}) for id_ in (theirs.assistant, NO_ASSISTANT)
    ]
    assert_same_refusal(*answers, {theirs.assistant: NO_ASSISTANT}, 404)
    assert (everything(ours), everything(theirs)) == before


def test_the_matrix_holds_every_address_of_the_api(app: Flask) -> None:
    threads = [rule for rule in app.url_map.iter_rules() if "/threads" in rule.rule]
    threads = [rule for rule in threads if not rule.rule.startswith("/admin")]
    without_id = [rule for rule in threads if "<thread_id>" not in rule.rule]
    assert {rule.rule for rule in without_id} == {
        f"{prefix}/threads{rest}" for prefix in PREFIXES.values() for rest in ("", "/runs")
    }
    calls = [rule.methods - {"OPTIONS"} for rule in threads if rule not in without_id]
    assert len(CALLS) == sum(map(len, calls))
    assert len(ASSISTANT_CALLS) == len(PREFIXES) * len({"GET", "HEAD", "POST", "DELETE"})


@CURSORS
@pytest.mark.parametrize("deleted", [False, True], ids=["stored", "deleted"])
def test_a_foreign_thread_is_no_cursor(own_projects: Projects, cursor: str, deleted: bool) -> None:
    ours, theirs = own_projects
    if deleted:
        theirs.call("DELETE", f"/v1/threads/{theirs.thread}")
    foreign = ours.call("GET", f"/v1/threads?{cursor}={theirs.thread}")
    missing = ours.call("GET", f"/v1/threads?{cursor}={NO_THREAD}")
    assert_same_refusal(foreign, missing, {theirs.thread: NO_THREAD}, 400)


@CURSORS
@pytest.mark.parametrize("deleted", [False, True], ids=["stored", "deleted"])
def test_a_foreign_assistant_is_no_cursor(
    own_projects: Projects, cursor: str, deleted: bool
) -> None:
    ours, theirs = own_projects
    if deleted:
        theirs.call("DELETE", f"/v1/assistants/{theirs.assistant}")
    foreign = ours.call("GET", f"/v1/assistants?{cursor}={theirs.assistant}")
    missing = ours.call("GET", f"/v1/assistants?{cursor}={NO_ASSISTANT}")
    assert_same_refusal(foreign, missing, {theirs.assistant: NO_ASSISTANT}, 400)


@CURSORS
@pytest.mark.parametrize("deleted", [False, True], ids=["stored", "deleted"])
def test_a_foreign_message_is_no_cursor(own_projects: Projects, cursor: str, deleted: bool) -> None:
    ours, theirs = own_projects
    if deleted:
        theirs.call("DELETE", f"/v1/threads/{theirs.thread}/messages/{theirs.message}")
    address = f"/v1/threads/{ours.thread}/messages?{cursor}="
    foreign = ours.call("GET", address + theirs.message)
    missing = ours.call("GET", address + NO_MESSAGE)
    assert_same_refusal(foreign, missing, {theirs.message: NO_MESSAGE}, 400)


@CURSORS
def test_a_foreign_run_or_step_is_no_cursor(projects: Projects, cursor: str) -> None:
    ours, theirs = projects
    runs = f"/v1/threads/{ours.thread}/runs"
    for address, id_, absent in (
        (runs, theirs.run, NO_RUN),
        (f"{runs}/{ours.run}/steps", theirs.step, NO_STEP),
    ):
        foreign = ours.call("GET", f"{address}?{cursor}={id_}")
        missing = ours.call("GET", f"{address}?{cursor}={absent}")
        assert_same_refusal(foreign, missing, {id_: absent}, 400)


def test_a_foreign_run_is_no_filter(
    projects: Projects,
) -> None:
    ours, theirs = projects
    address = f"/v1/threads/{ours.thread}/messages?run_id="
    assert ours.call("GET", address + theirs.run).json["data"] == []


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
def test_a_list_shows_threads_of_its_project_only(projects: Projects, query: str) -> None:
    for project in projects:
        data = project.call("GET", f"/v1/threads?{query}").json["data"]
        assert [thread["id"] for thread in data] == [project.thread]


@pytest.mark.parametrize("query", ["q=theirs", "metadata[of]=theirs"])
def test_a_filter_finds_nothing_of_the_other_project(projects: Projects, query: str) -> None:
    ours, _ = projects
    assert ours.call("GET", f"/v1/threads?{query}").json["data"] == []


def test_a_list_shows_assistants_of_its_project_only(projects: Projects) -> None:
    for project in projects:
        data = project.call("GET", "/v1/assistants").json["data"]
        assert [assistant["id"] for assistant in data] == [project.assistant]


def test_a_copy_belongs_to_the_project_of_its_thread(own_projects: Projects) -> None:
    ours, theirs = own_projects
    before = everything(theirs)
    copy = ours.call("POST", f"/v1/threads/{ours.thread}/copy").json["id"]
    assert ours.call("GET", f"/v1/threads/{copy}").status_code == 200
    assert theirs.call("GET", f"/v1/threads/{copy}").status_code == 404
    assert everything(theirs) == before


def test_an_idempotency_key_means_something_else_in_each_project(
    own_projects: Projects,
) -> None:
    body = {"metadata": {"a": "1"}}
    answers = [
        project.call("POST", "/v1/threads", body, **{"Idempotency-Key": "same"})
        for project in own_projects
    ]
    assert answers[0].json["id"] != answers[1].json["id"]
    assert not any("Idempotent-Replayed" in answer.headers for answer in answers)


# one id in two projects, and the commands


@pytest.fixture
def twins(own_projects: Projects, flask: Commands, tmp_path: Path) -> Projects:
    """Both projects hold our thread, each its own."""
    ours, theirs = own_projects
    file = tmp_path / "export.jsonl"
    file.write_text(flask("export", "--project", "ours").stdout)
    flask("import", str(file), "--project", "theirs")
    return ours, theirs._replace(thread=ours.thread, message=ours.message)


def exported(flask: Commands, project: str) -> list[str]:
    lines = flask("export", "--project", project).stdout.splitlines()
    objects = [next(iter(orjson.loads(line).values())) for line in lines]
    return [each["id"] for each in objects if each["object"] == "thread"]


def test_an_imported_thread_changes_in_its_project_only(twins: Projects) -> None:
    ours, theirs = twins
    before = everything(ours)
    theirs.call("POST", f"/v1/threads/{theirs.thread}", CHANGE)
    theirs.call("DELETE", f"/v1/threads/{theirs.thread}/messages/{theirs.message}")
    assert everything(ours) == before


def test_an_imported_thread_is_deleted_in_its_project_only(twins: Projects) -> None:
    ours, theirs = twins
    before = everything(ours)
    assert theirs.call("DELETE", f"/v1/threads/{theirs.thread}").status_code == 200
    assert everything(ours) == before


def test_replacing_by_import_leaves_the_other_project_alone(
    twins: Projects, flask: Commands, tmp_path: Path
) -> None:
    ours, theirs = twins
    theirs.call("POST", f"/v1/threads/{theirs.thread}", CHANGE)
    before = everything(theirs)
    arguments = ("--on-conflict", "replace", "--project", "ours")
    flask("import", str(tmp_path / "export.jsonl"), *arguments)
    assert everything(theirs) == before
    assert ours.call("GET", f"/v1/threads/{ours.thread}").json["metadata"]["of"] == "ours"


@pytest.mark.parametrize("name", ["ours", "theirs"])
def test_export_writes_one_project(own_projects: Projects, flask: Commands, name: str) -> None:
    assert exported(flask, name) == [own_projects[name == "theirs"].thread]


def test_export_of_a_project_without_threads_is_empty(flask: Commands) -> None:
    assert exported(flask, "nobody") == []


def test_prune_deletes_of_one_project(twins: Projects, flask: Commands, tmp_path: Path) -> None:
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
