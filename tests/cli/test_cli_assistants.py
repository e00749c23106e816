"""`flask assistants`, and the lines of assistants in export, import and seed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Commands, Server
from flask.testing import FlaskClient
from sentences import refusal_of

import cli
from database import startup

PARAMETERS = {"type": "object", "properties": {"unit": {"enum": ["C", None], "default": None}}}
FUNCTION = {"name": "get_weather", "parameters": PARAMETERS, "strict": False}
KNOWN = "asst_known"
THREAD = {"id": "thread_1", "object": "thread", "created_at": 7}
SUMMARY = "imported {}, replaced {}, skipped {}, refused {}"


def assistant(id_: str = KNOWN, **changed: Any) -> dict[str, Any]:
    fixed = {"id": id_, "object": "assistant", "created_at": 1_704_067_200, "name": "Weather"}
    settings = {"description": None, "model": "gpt-4o", "instructions": "Be brief."}
    tools = {"tools": [{"type": "function", "function": FUNCTION}]}
    numbers = {"top_p": 1.0, "temperature": 0.5, "reasoning_effort": None}
    rest = {"tool_resources": {}, "metadata": {"a": "1"}, "response_format": "auto"}
    return fixed | settings | tools | numbers | rest | changed


def lines(*assistants: dict[str, Any]) -> str:
    return "".join(json.dumps({"assistant": each}) + "\n" for each in assistants)


Bring = Callable[..., str]


@pytest.fixture
def bring(flask: Commands, tmp_path: Path) -> Bring:
    """Import a text; return the last line of stderr."""

    def bring(text: str, *options: str, status: int = 0) -> str:
        path = tmp_path / "given.jsonl"
        path.write_text(text, "utf-8")
        return flask("import", str(path), *options, status=status).stderr.splitlines()[-1]

    return bring


def test_an_imported_assistant_is_what_the_line_says(bring: Bring, client: FlaskClient) -> None:
    assert bring(lines(assistant())) == SUMMARY.format(1, 0, 0, 0)
    found = client.get(f"/v1/assistants/{KNOWN}").json
    assert found == assistant()


def test_the_command_of_assistants_imports_too(
    flask: Commands, client: FlaskClient, tmp_path: Path
) -> None:
    path = tmp_path / "given.jsonl"
    path.write_text(lines(assistant()))
    flask("assistants", "import", str(path))
    assert client.get(f"/v1/assistants/{KNOWN}").json == assistant()


def test_imported_assistants_list_at_their_place_in_time(bring: Bring, client: FlaskClient) -> None:
    new = client.post("/v1/assistants", json={"model": "m"}).json["id"]
    bring(lines(assistant("asst_2", created_at=2), assistant("asst_1", created_at=1)))
    data = client.get("/v1/assistants?order=asc").json["data"]
    assert [each["id"] for each in data] == ["asst_1", "asst_2", new]


def test_export_and_import_keep_every_byte(
    bring: Bring, flask: Commands, client: FlaskClient
) -> None:
    client.post("/v1/assistants", json={"model": "m", "tools": [{"type": "file_search"}]})
    client.post("/v1/threads", json={"messages": [{"role": "user", "content": "Hi"}]})
    bring(lines(assistant()))
    exported = flask("export").stdout
    kinds = [next(iter(json.loads(line))) for line in exported.splitlines()]
    assert kinds == ["assistant", "assistant", "thread"]
    assert bring(exported, "--project", "other") == SUMMARY.format(3, 0, 0, 0)
    assert flask("export", "--project", "other").stdout == exported
    assert flask("assistants", "export").stdout == "".join(exported.splitlines(True)[:2])


def test_many_assistants_are_exported_in_order(bring: Bring, flask: Commands) -> None:
    made = lines(*(assistant(f"asst_{number}", created_at=number) for number in range(1, 251)))
    bring(made)
    exported = flask("assistants", "export").stdout.splitlines()
    assert [json.loads(line) for line in exported] == [
        json.loads(each) for each in made.splitlines()
    ]


@pytest.mark.parametrize("options", [("--as", "markdown"), ("--created-after", "0")])
def test_markdown_and_a_filtered_export_have_threads_only(
    bring: Bring, flask: Commands, options: tuple[str, ...]
) -> None:
    bring(lines(assistant()))
    assert flask("export", *options).stdout == ""


@pytest.mark.parametrize(
    ("on_conflict", "summary", "name"),
    [
        ("fail", SUMMARY.format(0, 0, 0, 1), "Weather"),
        ("skip", SUMMARY.format(0, 0, 1, 0), "Weather"),
        ("replace", SUMMARY.format(0, 1, 0, 0), "new"),
    ],
)
def test_on_conflict_says_what_becomes_of_an_assistant_that_exists(
    bring: Bring, client: FlaskClient, on_conflict: str, summary: str, name: str
) -> None:
    bring(lines(assistant()))
    status = 1 if on_conflict == "fail" else 0
    assert (
        bring(lines(assistant(name="new")), "--on-conflict", on_conflict, status=status) == summary
    )
    [found] = client.get("/v1/assistants").json["data"]
    assert found == assistant(name=name)


def test_an_assistant_that_exists_is_named(flask: Commands, bring: Bring, tmp_path: Path) -> None:
    bring(lines(assistant()))
    said = flask("import", str(tmp_path / "given.jsonl"), status=1).stderr
    assert f":1: Assistant {KNOWN} exists already." in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (lines(assistant(model=None)), "Invalid type for 'assistant.model': expected a string"),
        (lines(assistant("thread_1")), "Expected an ID that begins with 'asst'."),
        (lines(assistant(file_ids=["file-1"])), "Unknown parameter: 'assistant.file_ids'."),
        (
            json.dumps({"assistant": assistant(), "thread": THREAD, "messages": []}),
            "Unknown parameter: 'messages'.",
        ),
    ],
    ids=["model", "id", "files", "two"],
)
def test_a_bad_line_is_named_and_loses_nothing_else(
    flask: Commands, client: FlaskClient, tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "given.jsonl"
    path.write_text(text.rstrip("\n") + "\n" + lines(assistant()))
    said = flask("import", str(path), status=1).stderr
    assert f"{path}:1: " in said
    assert reason in said
    assert client.get(f"/v1/assistants/{KNOWN}").status_code == 200


def test_what_an_sdk_dumps_is_taken(flask: Commands, client: FlaskClient, tmp_path: Path) -> None:
    """Its dumps have `_request_id`, and lack what is null or younger than they are."""
    given = {name: value for name, value in assistant().items() if value is not None}
    del given["response_format"], given["top_p"]
    path = tmp_path / "given.jsonl"
    path.write_text(lines(given | {"_request_id": "req_1", "file_ids": []}))
    said = flask("import", str(path)).stderr
    assert "left out 1 times: _request_id" in said
    assert "left out 1 times: file_ids that are empty" in said
    assert client.get(f"/v1/assistants/{KNOWN}").json == assistant()


def test_mock_seed_loads_assistants_and_threads(client_with: Callable[..., FlaskClient]) -> None:
    client = client_with(MOCK="on")
    text = lines(assistant()) + json.dumps({"thread": THREAD, "messages": []})
    answer = client.post("/_mock/seed", data=text)
    assert answer.json == {"object": "mock.seed", "threads": 1, "assistants": 1, "notes": []}
    assert client.get(f"/v1/assistants/{KNOWN}").json == assistant()
    client.post("/_mock/seed", data=lines(assistant(name="new")))
    assert client.get(f"/v1/assistants/{KNOWN}").json["name"] == "new"


def test_a_bad_assistant_in_a_seed_loads_nothing(client_with: Callable[..., FlaskClient]) -> None:
    client = client_with(MOCK="on")
    text = lines(assistant(), assistant("asst_2", model=None))
    assert refusal_of(client.post("/_mock/seed", data=text))[2] == "invalid_seed"
    assert client.get("/v1/assistants").json["data"] == []


def test_a_seed_is_not_loaded_beside_assistants(database_url: str, tmp_path: Path) -> None:
    seed = tmp_path / "seed.jsonl"
    seed.write_text(lines(assistant(), assistant("asst_2")))
    app = cli.create_app({"DATABASE_URL": database_url, "SEED": str(seed)})
    with app.app_context():
        cli.prepare_database()
        assert app.test_client().delete(f"/v1/assistants/{KNOWN}").status_code == 200
        cli.prepare_database()
        data = app.test_client().get("/v1/assistants").json["data"]
    startup.close(app)
    assert [each["id"] for each in data] == ["asst_2"]


def test_a_server_starts_with_the_assistants_of_its_seed(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    """Reset brings back a deleted one."""
    seed = tmp_path / "seed.jsonl"
    seed.write_text(lines(assistant(), assistant("asst_2")))

    def ids(server: Server) -> list[str]:
        data = json.loads(server.call("GET", "/v1/assistants?order=asc").body)["data"]
        return [each["id"] for each in data]

    with serve(SEED=seed, MOCK="on") as server:
        assert ids(server) == [KNOWN, "asst_2"]
        assert server.call("DELETE", f"/v1/assistants/{KNOWN}").status == 200
        assert ids(server) == ["asst_2"]
        if server.call("POST", "/_mock/reset").status == 200:
            assert ids(server) == [KNOWN, "asst_2"]
