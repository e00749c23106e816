"""API keys: form, life and access; a server with keys never opens again."""

import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest import Commands, Server, bearer, refusal, until
from flask import Flask
from flask.testing import FlaskClient

import cli
import database
from access import api_keys
from app import create_app
from models import db
from rules import refusals
from rules.errors import ApiError

NewKey = Callable[..., str]
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
UNKNOWN = "tsk_" + "0" * 43 + "0eDsqw"
DAY = 86_400


def status_of(client: FlaskClient, key: str, path: str = "/v1/threads") -> int:
    return client.get(path, headers=bearer(key)).status_code


def rows(app: Flask) -> list[dict[str, Any]]:
    with app.app_context(), database.read() as connection:
        return [row._asdict() for row in connection.rows("SELECT * FROM api_keys")]


@pytest.fixture
def clock(
    client_with: Callable[..., FlaskClient], new_key: NewKey
) -> tuple[FlaskClient, Callable[..., None]]:
    """A client of a keyed app with the mock controls, and a function that moves its clock."""
    client, headers = client_with(MOCK="on"), bearer(new_key("clock"))

    def move(**to: int) -> None:
        assert client.put("/_mock/clock", json=to, headers=headers).status_code == 200

    return client, move


@pytest.fixture
def later(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> tuple[FlaskClient, Callable[[float], None]]:
    """A client, and a function that sets the real clock ahead by some seconds."""
    now = time.time()
    return client, lambda seconds: monkeypatch.setattr(time, "time", lambda: now + seconds)


# the key and its commands


def test_a_key_has_a_prefix_43_digits_and_their_checksum(new_key: NewKey) -> None:
    body, check = re.fullmatch(r"(tsk_[0-9A-Za-z]{43})([0-9A-Za-z]{6})", new_key()).groups()
    number = 0
    for digit in check:
        number = number * 62 + DIGITS.index(digit)
    assert number == zlib.crc32(body.encode())


def test_keys_differ(new_key: NewKey) -> None:
    assert new_key() != new_key()


def test_create_prints_the_key_and_nothing_else(flask: Commands) -> None:
    result = flask("keys", "create", "default")
    assert re.fullmatch(r"tsk_\w{49}\n", result.stdout)
    assert result.stderr == ""


def test_the_list_shows_what_is_known_of_each_key(flask: Commands) -> None:
    flask("keys", "create", "default", "--name", "laptop")
    flask("keys", "create", "shop", "--expires", "30d")
    first, second = flask("keys", "list").stdout.splitlines()
    assert re.fullmatch(r"tsk_\w{8}…  default  laptop  created .*, used -, .* revoked -", first)
    assert re.search(r"…  shop  -  .*expires \d{4}-\d\d-\d\d \d\d:\d\d, revoked -", second)


@pytest.mark.parametrize("age", ["99999999999w", "36601d", "5230w"])
def test_a_life_of_more_than_a_hundred_years_is_refused(
    flask: Commands, app: Flask, age: str
) -> None:
    assert "100 years" in flask("keys", "create", "p", "--expires", age, status=2).stderr
    assert rows(app) == []


def test_a_life_of_a_hundred_years_is_listed(flask: Commands) -> None:
    flask("keys", "create", "p", "--expires", "5200w")
    assert re.search(r"expires 2\d{3}-", flask("keys", "list").stdout)


@pytest.mark.parametrize("name", ["", " ", " \n x", "a b", "a\n", "é", "a/b", "x" * 65], ids=repr)
def test_a_project_needs_a_plain_name(flask: Commands, app: Flask, name: str) -> None:
    assert "1 to 64 letters" in flask("keys", "create", name, status=2).stderr
    assert rows(app) == []


@pytest.mark.parametrize("name", ["a", "shop-1_b.2", "x" * 64])
def test_a_plain_name_is_a_project(flask: Commands, app: Flask, name: str) -> None:
    flask("keys", "create", name)
    assert [row["project"] for row in rows(app)] == [name]


def test_no_key_is_made_for_a_database_that_ends_with_the_command() -> None:
    app = cli.create_app({"DATABASE_URL": "memory"})
    with app.app_context():
        result = app.test_cli_runner().invoke(args=("keys", "create", "default"))
        db.engine.dispose()
    assert (result.exit_code, result.stdout) == (1, "")
    [line] = result.stderr.splitlines()
    assert "THREADS_DATABASE_URL" in line


@pytest.mark.parametrize("command", [("export",), ("prune", "--older-than", "1d")], ids=str)
def test_a_metadata_key_that_is_given_twice_is_refused(
    flask: Commands, command: tuple[str, ...]
) -> None:
    result = flask(*command, "--metadata", "user=u5", "--metadata", "user=u4", status=2)
    assert "given twice" in result.stderr


def test_the_list_shows_no_whole_key(flask: Commands, new_key: NewKey) -> None:
    key = new_key()
    output = flask("keys", "list").stdout
    assert key[:12] in output
    assert key[12:] not in output


def test_a_key_is_stored_as_its_hash_only(new_key: NewKey, app: Flask, tmp_path: Path) -> None:
    key = new_key()
    assert len(rows(app)[0]["sha256"]) == 64
    with app.app_context():
        db.engine.dispose()
    for file in filter(Path.is_file, tmp_path.glob("threads.db*")):
        assert key[12:].encode() not in file.read_bytes()


@pytest.mark.parametrize("part", [slice(None), slice(12)], ids=["whole", "as-shown"])
def test_revoke_takes_a_key_whole_or_as_it_is_shown(
    flask: Commands, new_key: NewKey, client: FlaskClient, part: slice
) -> None:
    key, other = new_key(), new_key()
    flask("keys", "revoke", key[part] + ("…" if part.stop else ""))
    assert (status_of(client, key), status_of(client, other)) == (401, 200)


@pytest.mark.parametrize("prefix", ["", "tsk_", "tsk_00000000", UNKNOWN, "%"])
def test_revoke_of_an_unknown_key_fails_and_revokes_nothing(
    flask: Commands, new_key: NewKey, client: FlaskClient, prefix: str
) -> None:
    key = new_key()
    assert "No valid key begins so" in flask("keys", "revoke", prefix, status=1).stderr
    assert status_of(client, key) == 200


def test_a_key_cannot_be_revoked_twice(flask: Commands, new_key: NewKey) -> None:
    key = new_key()
    flask("keys", "revoke", key)
    flask("keys", "revoke", key, status=1)


def test_two_keys_of_a_project_see_the_same_threads(client: FlaskClient, new_key: NewKey) -> None:
    one, other = new_key("shop"), new_key("shop")
    thread = client.post("/v1/threads", headers=bearer(one)).json["id"]
    assert status_of(client, other, f"/v1/threads/{thread}") == 200


# what a request must carry


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer "])
def test_the_scheme_is_read_in_any_case(client: FlaskClient, new_key: NewKey, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {new_key()}"}
    assert client.get("/v1/threads", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "other_headers", [{}, {"Authorization": "Basic Og=="}], ids=["alone", "beside"]
)
def test_a_key_may_come_in_the_header_api_key(
    client: FlaskClient, new_key: NewKey, other_headers: dict[str, str]
) -> None:
    answer = client.get("/v1/threads", headers={"api-key": new_key(), **other_headers})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer  "},
        {"Authorization": "Basic Og=="},
        {"api-key": ""},
        {"api-key": " "},
    ],
    ids=str,
)
def test_no_key_is_401_and_says_how_to_send_one(
    client: FlaskClient, new_key: NewKey, headers: dict[str, str]
) -> None:
    new_key()
    answer = client.get("/v1/threads", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    error = answer.json["error"]
    assert error["message"].startswith("You didn't provide an API key.")
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, None)


def test_unknown_malformed_revoked_and_expired_keys_get_one_answer(
    flask: Commands, new_key: NewKey, later: tuple[FlaskClient, Callable[[float], None]]
) -> None:
    client, wait = later
    revoked, expired = new_key(), new_key("default", "--expires", "1d")
    flask("keys", "revoke", revoked)
    wait(DAY + 1)
    answers = set()
    for key in (UNKNOWN, UNKNOWN[:-1] + "x", revoked, expired, "sk-" + "a" * 40):
        answer = client.get("/v1/threads", headers=bearer(key))
        masked_key = f"{key[:8]}********{key[-4:]}"
        assert masked_key in answer.text
        assert key not in answer.text
        answers.add((answer.status_code, answer.text.replace(masked_key, "KEY")))
    [(status, text)] = answers
    assert status == 401
    assert orjson.loads(text) == {
        "error": {
            "message": "Incorrect API key provided: KEY. Ask for one that is valid.",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_api_key",
        }
    }


@pytest.mark.parametrize("value", ["\xff\xfe", "x", "tsk_", "tsk_" + "é" * 49, "a b c", "x" * 5000])
def test_any_other_authorization_is_401(client: FlaskClient, new_key: NewKey, value: str) -> None:
    new_key()
    answer = client.get("/v1/threads", headers=[("Authorization", f"Bearer {value}")])
    assert (answer.status_code, answer.json["error"]["code"]) == (401, "invalid_api_key")


def test_a_key_serves_until_it_expires(
    new_key: NewKey, later: tuple[FlaskClient, Callable[[float], None]]
) -> None:
    client, wait = later
    key = new_key("default", "--expires", "1d")
    wait(DAY - 10)
    assert status_of(client, key) == 200
    wait(DAY + 1)
    assert status_of(client, key) == 401


def test_the_clock_of_the_mock_neither_ends_nor_lengthens_the_life_of_a_key(
    new_key: NewKey, clock: tuple[FlaskClient, Callable[..., None]]
) -> None:
    client, move = clock
    valid = new_key("default", "--expires", "1d")
    move(offset_seconds=2 * DAY)
    assert status_of(client, valid) == 200
    move(offset_seconds=-2 * DAY)
    expired = new_key("default", "--expires", "1d")
    assert status_of(client, expired) == 401


# what a key opens


def test_a_key_of_default_opens_what_open_mode_stored(
    client: FlaskClient, database_url: str, new_key: NewKey
) -> None:
    thread = client.post("/v1/threads").json["id"]
    key = new_key("default")
    keyed = create_app({"DATABASE_URL": database_url})
    assert status_of(keyed.test_client(), key, f"/v1/threads/{thread}") == 200
    with keyed.app_context():
        db.engine.dispose()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/docs"])
def test_an_address_about_the_server_needs_no_key(
    client: FlaskClient, new_key: NewKey, path: str
) -> None:
    new_key()
    assert client.get(path).status_code == 200


def test_the_metrics_need_a_key(client: FlaskClient, new_key: NewKey) -> None:
    key = new_key()
    assert client.get("/metrics").status_code == 401
    assert status_of(client, key, "/metrics") == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_every_method_on_threads_needs_a_key(
    client: FlaskClient, new_key: NewKey, method: str
) -> None:
    new_key()
    assert client.open("/v1/threads", method=method).status_code == 401


def test_forwarded_requests_and_foreign_hosts_are_served_with_a_key(
    client: FlaskClient, new_key: NewKey
) -> None:
    headers = {
        **bearer(new_key()),
        "Host": "threads.example",
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Proto": "https",
    }
    assert client.post("/v1/threads", headers=headers).status_code == 200


@pytest.mark.parametrize("with_key", [False, True], ids=["no-key", "key"])
@pytest.mark.parametrize("workers", [None, 2], ids=["one-worker", "two-workers"])
@pytest.mark.parametrize("mock", ["auto", "off"])
def test_keys_hide_the_mock_controls(
    database_url: str, new_key: NewKey, mock: str, workers: int | None, with_key: bool
) -> None:
    key = new_key()
    headers = bearer(key) if with_key else {}
    app = create_app({"DATABASE_URL": database_url, "MOCK": mock, "WORKERS": workers})
    client = app.test_client()
    for path in ("", "/", "/reset", "/faults", "/requests", "/clock", "/nowhere"):
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
            answer = client.open(f"/_mock{path}", method=method, headers=headers)
            assert answer.status_code == 404, (method, path)
    with app.app_context():
        db.engine.dispose()


def test_the_mock_controls_that_are_on_need_a_key(
    clock: tuple[FlaskClient, Callable[..., None]], new_key: NewKey
) -> None:
    client, _ = clock
    key = new_key()
    assert client.get("/_mock/faults").status_code == 401
    assert status_of(client, key, "/_mock/faults") == 200


# what keys cost


@pytest.mark.sqlite_only("it traces the statements of SQLite")
def test_requests_do_not_ask_for_the_key_each_time(
    client: FlaskClient, new_key: NewKey, statements: list[str]
) -> None:
    key = new_key()
    assert status_of(client, key) == 200
    statements.clear()
    for _ in range(50):
        assert status_of(client, key, "/v1/threads/thread_missing") == 404
    of_keys = [each for each in statements if "api_keys" in each]
    assert len(of_keys) < 10
    assert len(statements) - len(of_keys) == 50


def test_the_last_use_is_written_once_a_minute(
    new_key: NewKey, app: Flask, clock: tuple[FlaskClient, Callable[..., None]]
) -> None:
    client, move = clock
    key = new_key("used")
    written = []
    for second in (1_000_000_000, 1_000_000_001, 1_000_000_059, 1_000_000_060, 1_000_000_119):
        move(frozen_at=second)
        assert status_of(client, key) == 200
        written.append(next(row for row in rows(app) if row["project"] == "used")["last_used_at"])
    assert [second - 1_000_000_000 for second in written] == [0, 0, 0, 60, 60]


# keys and running servers


@pytest.fixture
def keyed(serve: Callable[..., Any], database_url: str) -> Iterator[Server]:
    with serve(WORKERS=2, DATABASE_URL=database_url) as server:
        yield server


def statuses(server: Server, key: str) -> set[int]:
    """The statuses of eight calls on separate connections, so that both workers answer."""
    calls = [server.call("POST", "/v1/threads", **bearer(key)) for _ in range(8)]
    return {answer.status for answer in calls}


def test_a_key_made_or_revoked_counts_in_all_running_workers(
    keyed: Server, flask: Commands, new_key: NewKey
) -> None:
    assert statuses(keyed, "any") == {200}
    key = new_key()
    assert until(lambda: statuses(keyed, "any") == {401}, seconds=2)
    assert statuses(keyed, key) == {200}
    flask("keys", "revoke", key)
    assert until(lambda: statuses(keyed, key) == {401}, seconds=2)


def test_a_server_whose_only_key_was_revoked_stays_closed_after_a_restart(
    serve: Callable[..., Any], database_url: str, flask: Commands, new_key: NewKey
) -> None:
    key = new_key()
    flask("keys", "revoke", key)
    for _ in range(2):
        with serve(WORKERS=1, DATABASE_URL=database_url) as server:
            assert statuses(server, key) == {401}


def test_an_address_that_is_not_plainly_loopback_is_served_with_keys_only(
    serve: Callable[..., Any], database_url: str, new_key: NewKey, tmp_path: Path
) -> None:
    other_name_of_loopback = "127.1:0"
    settings = {"BIND": other_name_of_loopback, "DATABASE_URL": database_url, "WORKERS": 1}
    [line] = refusal(tmp_path / "refusal", **settings)
    assert line.startswith(f"THREADS_BIND={other_name_of_loopback} is not loopback")
    key = new_key()
    with serve(**settings) as server:
        assert statuses(server, key) == {200}


# a database that fails


WAITING = 6


class Attempts:
    """Attempts to read the keys; all fail, once they may."""

    def __init__(self) -> None:
        self.count, self.may_fail = 0, threading.Event()

    def read(self) -> Any:
        self.count += 1
        self.may_fail.wait(20)
        raise refusals.unavailable()


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Attempts:
    attempts = Attempts()
    monkeypatch.setattr(database, "read", attempts.read)
    monkeypatch.setattr(api_keys, "CACHED_SECONDS", 0)
    return attempts


def test_those_who_wait_for_the_keys_share_a_failure(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, waiting = api_keys.KeyCache(), []
    monkeypatch.setattr(api_keys, "waiting", lambda: waiting.append(1) or nullcontext())
    with ThreadPoolExecutor(WAITING) as threads:
        refreshed = [threads.submit(keys.refresh) for _ in range(WAITING)]
        assert until(lambda: len(waiting) == WAITING)
        attempts.may_fail.set()
        assert {type(each.exception()) for each in refreshed} == {ApiError}
    assert attempts.count == 1
    with pytest.raises(ApiError):
        keys.refresh()
    assert attempts.count == 2


def test_a_keyed_server_that_lives_says_so_without_its_database(
    client: FlaskClient, new_key: NewKey, request: pytest.FixtureRequest
) -> None:
    assert status_of(client, new_key()) == 200
    attempts: Attempts = request.getfixturevalue("attempts")
    assert client.get("/healthz").status_code == 200
    assert attempts.count == 0
