"""`flask doctor` on a file that SQLite calls sound: it names each damage and mends it."""

import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from conftest import Commands, Server, serving
from flask.testing import FlaskClient

from cli import damage
from database import sqlite
from database.files import file_of

RUN = (
    "INSERT INTO runs (thread_seq, id, created_at, assistant_id, status, expires_at, model, tools,"
    " tool_resources, metadata, temperature, top_p, truncation_strategy, response_format,"
    " tool_choice, parallel_tool_calls) SELECT {thread}, '{id}', 1, 'asst_1', '{status}',"
    " 9999999999, 'm', '[]', '{{}}', '{{}}', '1.0', '1.0', '{{}}', '\"auto\"', '\"auto\"', 'true';"
)
STEP = (
    "INSERT INTO run_steps (run_seq, id, created_at, type, status, step_details, draft) SELECT"
    " {run}, 'step_1', 1, 'message_creation', 'in_progress', '{{\"type\":\"message_creation\","
    '"message_creation":{{"message_id":"msg_of_run"}}}}\', \'cut short\';'
)
WAITING = RUN.format(thread=1, id="run_1", status="requires_action")
TWO = WAITING + STEP.format(run=1) + WAITING.replace("run_1", "run_2")
DAMAGES = [
    ("text search", "INSERT INTO message_text (message_text) VALUES ('delete-all')"),
    ("text search", "DELETE FROM message_text_data WHERE id > 9"),
    ("text search", "DELETE FROM message_text_data"),
    ("text search", "DROP TABLE message_text"),
    ("triggers", "DROP TABLE message_text"),
    ("metadata", "DELETE FROM thread_metadata"),
    ("metadata", "DELETE FROM thread_metadata WHERE key = 'user'"),
    ("metadata", "INSERT INTO thread_metadata SELECT project, key, 'stale', 1, 99"
     " FROM thread_metadata WHERE key = 'user'"),
    ("metadata", "DROP TABLE thread_metadata"),
    ("triggers", "DROP TRIGGER messages_insert"),
    ("triggers", "DROP TRIGGER threads_update"),
    ("triggers", "DROP TRIGGER threads_insert; CREATE TRIGGER threads_insert"
     " AFTER INSERT ON threads BEGIN SELECT 1; END"),
    ("triggers", "DROP INDEX threads_by_time"),
    ("triggers", "DROP INDEX messages_by_run; CREATE INDEX messages_by_run ON messages (run_id)"),
    ("references", "PRAGMA foreign_keys=OFF; INSERT INTO messages SELECT 999, 99, 'msg_1', 1, NULL,"
     " NULL, 'completed', NULL, 1, NULL, 'user', '[]', '[]', '{}'"),
    ("references", "PRAGMA foreign_keys=OFF;" + RUN.format(thread=99, id="run_1", status="queued")
     + STEP.format(run=1)),
    ("references", "PRAGMA foreign_keys=OFF;" + STEP.format(run=99)),
    ("runs", "UPDATE threads SET active_run = 'run_gone'"),
    ("runs", RUN.format(thread=1, id="run_1", status="failed")
     + "UPDATE threads SET active_run = 'run_1'"),
    ("runs", WAITING),
    ("runs", WAITING + "UPDATE threads SET active_run = 'run_gone'"),
    ("runs", "DROP INDEX active_runs;" + TWO),
    ("triggers", "DROP INDEX active_runs;" + TWO),
]  # fmt: skip
BROKEN = [
    ("threads", "metadata", "{", "{}"),
    ("threads", "metadata", '{"a": 1}', "{}"),
    ("threads", "metadata", "[]", "{}"),
    ("threads", "tool_resources", "null", "{}"),
    ("messages", "content", "[", "[]"),
    ("messages", "content", '["text"]', "[]"),
    ("messages", "attachments", "{}", "[]"),
    ("messages", "metadata", "", "{}"),
    ("messages", "incomplete_details", "?", None),
    ("assistants", "tools", '["text"]', "[]"),
    ("assistants", "top_p", "null", "1.0"),
    ("assistants", "temperature", "hot", "1.0"),
    ("assistants", "tool_resources", "[]", "{}"),
    ("assistants", "metadata", '{"a": 1}', "{}"),
    ("assistants", "response_format", "auto", '"auto"'),
    ("runs", "required_action", "[]", None),
    ("runs", "last_error", "?", None),
    ("runs", "tools", "{}", "[]"),
    ("runs", "tool_resources", "null", "{}"),
    ("runs", "metadata", '{"a": 1}', "{}"),
    ("runs", "temperature", "hot", "1.0"),
    ("runs", "top_p", "null", "1.0"),
    ("runs", "truncation_strategy", "auto", '{"type":"auto","last_messages":null}'),
    ("runs", "incomplete_details", "1", None),
    ("runs", "usage", "[1]", None),
    ("runs", "response_format", "auto", '"auto"'),
    ("runs", "tool_choice", "", '"auto"'),
    ("runs", "parallel_tool_calls", "1", "true"),
    ("run_steps", "last_error", "?", None),
    ("run_steps", "step_details", "[]", '{"type":"tool_calls","tool_calls":[]}'),
    ("run_steps", "usage", "many", None),
]

pytestmark = pytest.mark.sqlite_only("the doctor is for SQLite")
Harm = Callable[[str], None]


@pytest.fixture
def harm(client: FlaskClient, database_url: str) -> Harm:
    """Run SQL on a database with a thread of the words `some words to find`."""
    message = {"role": "user", "content": "some words to find"}
    body = {"messages": [message], "metadata": {"user": "u1", "plan": "free"}}
    assert client.post("/v1/threads", json=body).status_code == 200

    def run(script: str) -> None:
        with closing(sqlite.dbapi.connect(file_of(database_url))) as connection:
            connection.executescript(script)

    return run


def states(report: str) -> dict[str, str]:
    """State by name: the first word and the next two columns of each line."""
    return {line[6:19].strip(): line[:4].strip() for line in report.splitlines()}


def found(client: FlaskClient, query: str) -> int:
    answer = client.get(f"/v1/threads?{query}")
    assert answer.status_code == 200
    return len(answer.json["data"])


@pytest.mark.parametrize(("name", "script"), DAMAGES)
def test_damage_is_named_and_its_repair_lets_everything_be_found_again(
    client: FlaskClient, flask: Commands, harm: Harm, name: str, script: str
) -> None:
    harm(script)
    report = flask("doctor", status=1).stdout
    assert states(report)[name] == "fail"
    [line] = [line for line in report.splitlines() if line[6:17].strip() == name]
    assert line.endswith("flask doctor --repair")
    flask("doctor", "--repair")
    assert "fail" not in states(flask("doctor").stdout).values()
    assert found(client, "q=words") == found(client, "metadata[user]=u1") == 1
    assert found(client, "metadata[user]=stale") == 0


@pytest.mark.parametrize(("name", "script"), DAMAGES)
def test_what_is_written_after_a_repair_is_indexed(
    client: FlaskClient, flask: Commands, harm: Harm, name: str, script: str
) -> None:
    harm(script)
    flask("doctor", "--repair")
    body = {"messages": [{"role": "user", "content": "later"}], "metadata": {"user": "u2"}}
    address = f"/v1/threads/{client.post('/v1/threads', json=body).json['id']}"
    client.post(address, json={"metadata": {"user": "u3"}})
    assert found(client, "q=later") == found(client, "metadata[user]=u3") == 1
    assert found(client, "metadata[user]=u2") == 0
    assert client.delete(address).status_code == 200
    assert found(client, "q=later") == found(client, "metadata[user]=u3") == 0
    flask("doctor")


@pytest.mark.parametrize(("table", "column", "text", "empty"), BROKEN)
def test_broken_json_is_named_and_emptied_by_its_id(
    client: FlaskClient,
    flask: Commands,
    harm: Harm,
    table: str,
    column: str,
    text: str,
    empty: str | None,
) -> None:
    [thread] = client.get("/v1/threads").json["data"]
    [message] = client.get(f"/v1/threads/{thread['id']}/messages").json["data"]
    of_thread = "(SELECT max(seq) FROM threads)"
    harm(RUN.format(thread=of_thread, id="run_1", status="completed"))
    harm(STEP.format(run=1).replace("message_creation', 'in_progress", "tool_calls', 'completed"))
    assistant = client.post("/v1/assistants", json={"model": "m"}).json
    parent = f"/v1/threads/{thread['id']}"
    objects = {
        "threads": (thread, parent),
        "messages": (message, f"{parent}/messages/{message['id']}"),
        "assistants": (assistant, f"/v1/assistants/{assistant['id']}"),
        "runs": ({"id": "run_1"}, f"{parent}/runs/run_1"),
        "run_steps": ({"id": "step_1"}, f"{parent}/runs/run_1/steps/step_1"),
    }
    id_, address = objects[table][0]["id"], objects[table][1]
    harm(
        "DROP TRIGGER threads_update; DROP TRIGGER messages_update;"
        f"UPDATE {table} SET {column} = '{text}'"
    )
    report = flask("doctor", status=1).stdout
    assert f"broken in {id_} ({table}.{column})" in report
    assert f"flask doctor --repair --reset {id_}" in report
    refused = flask("doctor", "--repair", status=1)
    assert (
        f"Nothing was changed: empty the broken JSON with flask doctor --repair --reset {id_}"
        in (refused.stderr)
    )
    emptied = flask("doctor", "--repair", "--reset", id_).stdout.splitlines()[0]
    assert json.loads(emptied) == {"id": id_, "table": table, "column": column, "content": text}
    assert client.get(address).json[column] == (empty and json.loads(empty))
    deleted = parent if table in ("runs", "run_steps") else address
    assert client.delete(deleted).status_code == 200
    flask("doctor")


def test_a_message_that_broken_details_lost_has_a_name(
    client: FlaskClient, flask: Commands, harm: Harm
) -> None:
    """Also what is left of a script is emptied."""
    [thread] = client.get("/v1/threads").json["data"]
    harm(WAITING + STEP.format(run=1) + "UPDATE threads SET active_run = 'run_1'")
    harm("UPDATE run_steps SET step_details = '{'; UPDATE runs SET script = '[1]'")
    emptied = flask("doctor", "--repair", "--reset", "step_1", "--reset", "run_1").stdout
    named = [json.loads(line) for line in emptied.splitlines() if line.startswith("{")]
    assert [each["column"] for each in named] == ["script", "step_details"]
    address = f"/v1/threads/{thread['id']}"
    assert client.post(f"{address}/runs/run_1/cancel").json["status"] == "cancelled"
    newest, _ = client.get(f"{address}/messages").json["data"]
    [step] = client.get(f"{address}/runs/run_1/steps").json["data"]
    assert step["step_details"]["message_creation"]["message_id"] == newest["id"] == "msg_lost1"


def test_a_repaired_thread_is_locked_by_its_active_run_until_that_ends(
    client: FlaskClient, flask: Commands, harm: Harm
) -> None:
    """Of two active runs the older one is cancelled, and what it wrote is kept."""
    [thread] = client.get("/v1/threads").json["data"]
    address = f"/v1/threads/{thread['id']}"
    message = {"role": "user", "content": "later words"}
    harm("DROP INDEX active_runs;" + TWO + "UPDATE threads SET active_run = 'run_1'")
    flask("doctor", "--repair")
    assert client.get(f"{address}/runs/run_1").json["status"] == "cancelled"
    [step] = client.get(f"{address}/runs/run_1/steps").json["data"]
    assert step["status"] == "cancelled"
    assert client.get(f"{address}/messages/msg_of_run").json["status"] == "incomplete"
    assert found(client, "q=cut short") == 1
    refused = client.post(f"{address}/messages", json=message).json["error"]["message"]
    assert refused == f"Can't add messages to {thread['id']} while a run run_2 is active."
    assert client.post(f"{address}/runs/run_2/cancel").json["status"] == "cancelled"
    assert client.post(f"{address}/messages", json=message).status_code == 200
    flask("doctor")


def test_a_thread_that_named_no_active_run_is_free_again(
    client: FlaskClient, flask: Commands, harm: Harm
) -> None:
    [thread] = client.get("/v1/threads").json["data"]
    harm("UPDATE threads SET active_run = 'run_gone'")
    assert "1 threads name a run that is not active" in flask("doctor", status=1).stdout
    flask("doctor", "--repair")
    message = {"role": "user", "content": "later words"}
    assert client.post(f"/v1/threads/{thread['id']}/messages", json=message).status_code == 200


def test_a_repair_beside_a_server_is_seen_by_it(
    tmp_path: Any, flask: Commands, database_url: str
) -> None:
    def matches(server: Server) -> int:
        return len(json.loads(server.call("GET", "/v1/threads?q=words").body)["data"])

    with serving(tmp_path / "log", DATABASE_URL=database_url, WORKERS=2) as server:
        body = {"messages": [{"role": "user", "content": "some words"}]}
        assert server.call("POST", "/v1/threads", body).status == 200
        assert matches(server) == 1
        with closing(sqlite.dbapi.connect(file_of(database_url))) as connection:
            connection.executescript(DAMAGES[0][1])
        assert flask("doctor", "--repair").exit_code == 0
        assert [matches(server) for _ in range(8)] == [1] * 8
        assert server.call("POST", "/v1/threads", body).status == 200
        assert [matches(server) for _ in range(8)] == [2] * 8


def test_a_repair_goes_through_all_rows_and_says_how_far_it_is(
    client: FlaskClient, flask: Commands, harm: Harm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damage, "_AT_ONCE", 3)
    for number in range(10):
        message = {"role": "user", "content": f"word{number} each"}
        client.post("/v1/threads", json={"messages": [message], "metadata": {"n": str(number)}})
    harm(
        "DELETE FROM thread_metadata; INSERT INTO message_text (message_text) VALUES ('delete-all')"
    )
    assert "Indexed 22 rows" in flask("doctor", "--repair").stderr
    assert [found(client, f"q=word{number}") for number in range(10)] == [1] * 10
    assert [found(client, f"metadata[n]={number}") for number in range(10)] == [1] * 10


@pytest.mark.parametrize("script", ["UPDATE alembic_version SET version_num = '0001'"])
def test_a_database_of_another_version_is_not_repaired(
    flask: Commands, harm: Harm, script: str
) -> None:
    harm(script)
    refused = flask("doctor", "--repair", status=1)
    assert refused.stderr == (
        "Error: No database of this version is there: start the server once.\n"
    )
