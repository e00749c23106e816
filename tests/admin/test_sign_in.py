"""Signing in to the browse page."""

import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from conftest import bearer
from flask import Flask, request_started
from flask.testing import FlaskClient
from pages import token_in

import admin
import database
from access import api_keys
from access.sign_ins import FREE_TRIES, SESSION_SECONDS
from rules.ids_and_clock import sources


@pytest.fixture
def secret(app: Flask) -> str:
    """A key of the project `ours`."""
    return make_key(app, "ours")


def make_key(app: Flask, project: str) -> str:
    with app.app_context():
        secret = api_keys.create(project, "", None)
    app.extensions["keys"] = api_keys.KeyCache()
    return secret


def token_of(client: FlaskClient, address: str = "/admin/sign-in") -> str:
    page = client.get(address, follow_redirects=True).get_data(as_text=True)
    return token_in(page)


def sign_in(client: FlaskClient, secret: str, target: str = "", **options: Any) -> Any:
    form = {"key": secret, "csrf_token": token_of(client), "next": target}
    return client.post("/admin/sign-in", data=form, **options)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set the server's clock."""
    return lambda second: monkeypatch.setattr(sources, "now", lambda: second)


def test_without_keys_nobody_signs_in(client: FlaskClient) -> None:
    assert client.get("/admin/").status_code == 200


@pytest.mark.parametrize("path", ["/admin/", "/admin/threads/new", "/admin/threads/thread_a"])
def test_with_keys_every_page_asks_to_sign_in(client: FlaskClient, secret: str, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 302
    assert answer.location.startswith("/admin/sign-in")


@pytest.mark.parametrize(
    ("path", "status"),
    [("/admin", 308), ("/admin/nothing", 404), ("/admin/threads", 405)],
)
def test_what_is_no_page_answers_as_it_does_without_keys(
    client: FlaskClient, secret: str, path: str, status: int
) -> None:
    assert client.get(path).status_code == status


@pytest.mark.parametrize("path", ["/administer", "/admin%0A", "/admin%0A/", "/nowhere"])
def test_what_is_not_below_admin_asks_for_a_key(
    client: FlaskClient, secret: str, path: str
) -> None:
    assert client.get(path).status_code == 401


@pytest.mark.parametrize("target", ["/admin/?q=" + "x" * 7_000, "/admin/threads/" + "%22" * 2_500])
def test_a_very_long_address_is_not_sent_around(
    client: FlaskClient, secret: str, target: str
) -> None:
    assert client.get(target).location == "/admin/sign-in"
    page = client.get("/admin/sign-in", query_string={"next": target})
    assert 'name="next" value=""' in page.text


def test_a_form_from_before_the_sign_in_says_first_that_it_is_signed_out(
    client: FlaskClient, secret: str
) -> None:
    sign_in(client, secret)
    old = {"csrf_token": token_of(client, "/admin/threads/new"), "content": "typed", "role": "user"}
    client.delete_cookie(client.application.config["SESSION_COOKIE_NAME"], path="/admin/")
    answer = client.post("/admin/threads", data=old)
    assert answer.status_code == 401
    assert "You are signed out" in answer.text
    assert "typed" in answer.text
    assert client.post("/admin/sign-out", data=old).location == "/admin/sign-in"


def test_a_second_sign_in_page_can_be_sent_again(client: FlaskClient, secret: str) -> None:
    old = token_of(client)
    sign_in(client, secret)
    answer = client.post("/admin/sign-in", data={"key": secret, "csrf_token": old})
    assert answer.status_code == 400
    assert "no longer valid" in answer.text
    assert 'name="key"' in answer.text


def test_nothing_is_written_without_a_sign_in(client: FlaskClient, secret: str) -> None:
    answer = client.post("/admin/example", data={"csrf_token": token_of(client)})
    assert answer.location == "/admin/sign-in"
    form = {"csrf_token": token_of(client), "content": "typed text"}
    answer = client.post("/admin/threads", data=form)
    assert answer.status_code == 401
    assert ">\ntyped text</textarea>" in answer.text
    key = {"Authorization": f"Bearer {secret}"}
    assert client.get("/v1/threads", headers=key).json["data"] == []


def test_a_json_twin_is_401_without_a_sign_in(client: FlaskClient, secret: str) -> None:
    answer = client.get("/admin/threads.json")
    assert (answer.status_code, answer.json["error"]["code"]) == (401, "not_signed_in")


def test_an_api_key_signs_in_and_shows_its_project_only(
    app: Flask, client: FlaskClient, secret: str
) -> None:
    other = {"Authorization": f"Bearer {make_key(app, 'theirs')}"}
    body = {"messages": [{"role": "user", "content": "Their secret plan"}]}
    theirs = client.post("/v1/threads", json=body, headers=other).json["id"]
    assert sign_in(client, secret).status_code == 303
    assert "Their secret plan" not in client.get("/admin/").get_data(as_text=True)
    assert client.get(f"/admin/threads/{theirs}").status_code == 404
    assert client.get("/admin/threads.json").json["data"] == []


def test_the_cookie_is_strict_http_only_and_lasts_twelve_hours(
    client: FlaskClient, secret: str
) -> None:
    cookie = sign_in(client, secret).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Path=/admin/" in cookie
    assert "Secure" not in cookie
    [cookie] = client._cookies.values()  # type: ignore[attr-defined]
    assert cookie.expires is not None


def test_the_cookie_is_secure_behind_https(client: FlaskClient, secret: str) -> None:
    options = {"base_url": "https://localhost", "headers": {"Referer": "https://localhost/admin/"}}
    page = client.get("/admin/sign-in", base_url="https://localhost").get_data(as_text=True)
    form = {"key": secret, "csrf_token": token_in(page)}
    answer = client.post("/admin/sign-in", data=form, **options)
    assert "Secure" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize("target", ["/admin/?q=a%20b&metadata%5Bx%5D=", "/admin/threads/new"])
def test_a_sign_in_leads_to_the_page_that_asked_for_it(
    client: FlaskClient, secret: str, target: str
) -> None:
    page = client.get(target, follow_redirects=True).text
    match = re.search(r'name="next" value="([^"]+)"', page)
    assert match
    answer = sign_in(client, secret, match[1].replace("&amp;", "&"))
    assert (answer.status_code, answer.location) == (303, target)


@pytest.mark.parametrize(
    "target",
    ["//x.test", "https://x.test/admin/", "/admin/..//x.test", "/admin/\\x", "/v1", "/admin/\n"],
)
def test_a_sign_in_leads_nowhere_else(client: FlaskClient, secret: str, target: str) -> None:
    assert sign_in(client, secret, target).location == "/admin/"


def test_a_sign_in_ends_after_twelve_hours_however_much_it_is_used(
    client: FlaskClient, secret: str, clock: Callable[[int], None]
) -> None:
    clock(1_000)
    sign_in(client, secret)
    clock(1_000 + 12 * 3_600 - 1)
    form = {"csrf_token": token_of(client, "/admin/threads/new")}
    assert "Set-Cookie" in client.post("/admin/example", data=form).headers
    assert client.get("/admin/").status_code == 200
    clock(1_000 + 12 * 3_600)
    assert client.get("/admin/").location == "/admin/sign-in"


def test_snippets_take_the_key_from_the_environment(client: FlaskClient, secret: str) -> None:
    sign_in(client, secret)
    first = client.get("/admin/").text
    form = {"csrf_token": token_of(client, "/admin/threads/new")}
    thread = client.get(client.post("/admin/example", data=form).location).text
    for page in (first, thread):
        assert 'api_key=os.environ["THREADS_API_KEY"]' in page
    assert "Bearer $THREADS_API_KEY" in thread
    assert "limit=100&amp;order=asc" in thread


def test_an_address_of_any_length_may_fail(app: Flask, client: FlaskClient, secret: str) -> None:
    form = {"key": "wrong", "csrf_token": token_of(client)}
    far = {"REMOTE_ADDR": "1" * 6_000}
    assert client.post("/admin/sign-in", data=form, environ_base=far).status_code == 401


def test_a_cookie_holds_no_key(client: FlaskClient, secret: str) -> None:
    assert secret not in sign_in(client, secret).headers["Set-Cookie"]


def test_a_revoked_key_is_signed_out(app: Flask, client: FlaskClient, secret: str) -> None:
    sign_in(client, secret)
    with app.app_context():
        api_keys.revoke(secret)
    app.extensions["keys"] = api_keys.KeyCache()
    assert client.get("/admin/").location == "/admin/sign-in"


def test_signing_out_ends_the_session(client: FlaskClient, secret: str) -> None:
    sign_in(client, secret)
    form = {"csrf_token": token_of(client, "/admin/threads/new")}
    assert client.post("/admin/sign-out", data=form).status_code == 303
    assert client.get("/admin/").location == "/admin/sign-in"


def test_a_copied_cookie_ends_when_its_owner_signs_out(
    make_app: Callable[..., Flask], client: FlaskClient, secret: str
) -> None:
    sign_in(client, secret)
    name = client.application.config["SESSION_COOKIE_NAME"]
    copied = client.get_cookie(name, path="/admin/")
    assert copied
    key = client.application.secret_key
    thieves = [client.application.test_client(), make_app(SECRET_KEY=key).test_client()]
    for thief in thieves:
        thief.set_cookie(name, copied.value, path="/admin/")
        assert thief.get("/admin/").status_code == 200
    form = {"csrf_token": token_of(client, "/admin/threads/new")}
    client.post("/admin/sign-out", data=form)
    for thief in thieves:
        assert thief.get("/admin/").location == "/admin/sign-in"
        assert thief.get("/admin/threads.json").status_code == 401


@pytest.mark.sqlite_only("reset, snapshot and restore copy SQLite's file")
@pytest.mark.parametrize("way", ["restore", "reset"])
def test_replacing_all_data_neither_ends_a_session_nor_brings_one_back(
    make_app: Callable[..., Flask], way: str
) -> None:
    app = make_app(MOCK="on")
    with app.app_context():
        secret = api_keys.create("default", "", None)
    early, late, thief = (app.test_client() for _ in range(3))
    sign_in(early, secret)
    for control in ("reset", "snapshot"):
        assert late.post(f"/_mock/{control}", headers=bearer(secret)).status_code == 200
    name = app.config["SESSION_COOKIE_NAME"]
    copied = early.get_cookie(name, path="/admin/")
    assert copied
    thief.set_cookie(name, copied.value, path="/admin/")
    early.post("/admin/sign-out", data={"csrf_token": token_of(early, "/admin/threads/new")})
    sign_in(late, secret)
    assert late.post(f"/_mock/{way}", headers=bearer(secret)).status_code == 200
    assert late.get("/admin/").status_code == 200
    assert thief.get("/admin/").location == "/admin/sign-in"


def test_signing_out_ends_no_other_session(client: FlaskClient, secret: str) -> None:
    other = client.application.test_client()
    for each in (client, other):
        sign_in(each, secret)
    client.post("/admin/sign-out", data={"csrf_token": token_of(client, "/admin/threads/new")})
    assert other.get("/admin/").status_code == 200


def test_sessions_that_are_over_are_forgotten(
    app: Flask, client: FlaskClient, secret: str, clock: Callable[[int], None]
) -> None:
    for second in (1_000, 1_001, 1_001 + SESSION_SECONDS):
        clock(second)
        sign_in(client, secret)
        client.delete_cookie(app.config["SESSION_COOKIE_NAME"], path="/admin/")
    with app.app_context(), database.read() as connection:
        assert connection.value("SELECT count(*) FROM sessions") == 1


def test_a_sign_in_without_its_token_is_refused(client: FlaskClient, secret: str) -> None:
    assert client.post("/admin/sign-in", data={"key": secret}).status_code == 400


def test_a_wrong_key_is_refused_on_the_page(client: FlaskClient, secret: str) -> None:
    answer = sign_in(client, "tsk_wrong")
    assert answer.status_code == 401
    assert "This is no valid API key." in answer.get_data(as_text=True)


def test_wrong_keys_make_an_address_wait_longer_each_time(
    client: FlaskClient, secret: str, clock: Callable[[int], None]
) -> None:
    clock(1_000)
    for _ in range(FREE_TRIES):
        assert sign_in(client, "tsk_wrong").status_code == 401
    assert sign_in(client, secret).status_code == 429
    clock(1_002)
    assert sign_in(client, "tsk_wrong").status_code == 401
    clock(1_005)
    assert sign_in(client, secret).status_code == 429
    clock(1_006)
    assert sign_in(client, secret).status_code == 303


def test_wrong_keys_at_the_same_time_are_tried_five_times(
    app: Flask, client: FlaskClient, secret: str, clock: Callable[[int], None]
) -> None:
    clock(1_000)
    clients = [app.test_client() for _ in range(32)]
    forms = [{"key": "tsk_wrong", "csrf_token": token_of(each)} for each in clients]
    barrier = Barrier(len(clients) + 1)

    def attempt(each: FlaskClient, form: dict[str, str]) -> int:
        return each.post("/admin/sign-in", data=form).status_code

    def hold_the_turn_to_write() -> None:
        with app.app_context():
            database.write(lambda _: barrier.wait())

    def start(*_: Any, **__: Any) -> None:
        barrier.wait()

    with request_started.connected_to(start, app), ThreadPoolExecutor(len(clients) + 1) as pool:
        pool.submit(hold_the_turn_to_write)
        statuses = Counter(pool.map(attempt, clients, forms))
    assert statuses == {401: FREE_TRIES, 429: len(clients) - FREE_TRIES}


def test_another_address_does_not_wait(
    client: FlaskClient, secret: str, clock: Callable[[int], None]
) -> None:
    clock(1_000)
    for _ in range(FREE_TRIES + 1):
        sign_in(client, "tsk_wrong")
    other = {"REMOTE_ADDR": "192.0.2.7"}
    assert sign_in(client, secret, environ_overrides=other).status_code == 303


def make_thread(client: FlaskClient, key: str) -> str:
    messages = [{"role": "user", "content": "The secret plan of theirs"}]
    body = {"messages": messages, "metadata": {"of": "theirs"}}
    thread: str = client.post("/v1/threads", json=body, headers=bearer(key)).json["id"]
    return thread


NO_THREAD, NO_MESSAGE = f"thread_{'x' * 24}", f"msg_{'x' * 24}"


def pages_of_a_thread() -> list[Any]:
    """Every method and address of the browse page that names a thread."""
    app = Flask("pages")
    app.config.update(SECRET_KEY="any")
    admin.init_app(app)
    return [
        pytest.param(method, rule.rule, id=f"{method} {rule.rule}")
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/admin/threads/<thread_id>")
        for method in sorted((rule.methods or set()) & {"GET", "POST"})
    ]


@pytest.mark.parametrize(("method", "rule"), pages_of_a_thread())
def test_a_page_about_a_foreign_thread_is_that_of_a_missing_one(
    app: Flask, client: FlaskClient, secret: str, method: str, rule: str
) -> None:
    headers = {"Authorization": f"Bearer {make_key(app, 'theirs')}"}
    body = {"messages": [{"role": "user", "content": "Their secret plan"}]}
    theirs = client.post("/v1/threads", json=body, headers=headers).json["id"]
    before = client.get(f"/v1/threads/{theirs}/messages", headers=headers)
    message = before.json["data"][0]["id"]
    sign_in(client, secret)
    token = token_of(client, "/admin/threads/new")
    form = {"csrf_token": token, "role": "user", "content": "intruder", "key": "k", "value": "v"}

    def ask(thread: str, message: str) -> tuple[int, str]:
        address = rule.replace("<thread_id>", thread).replace("<message_id>", message)
        answer = client.open(address, method=method, data=form if method == "POST" else None)
        text = answer.get_data(as_text=True).replace(thread, "THREAD").replace(message, "MESSAGE")
        return answer.status_code, re.sub(r'req_[0-9a-f]{32}|(?<=csrf_token" )[^>]*', "ANY", text)

    foreign = ask(theirs, message)
    assert foreign == ask(NO_THREAD, NO_MESSAGE)
    assert "Their secret plan" not in foreign[1]
    after = client.get(f"/v1/threads/{theirs}/messages", headers=headers).json
    assert after == before.json


@pytest.mark.parametrize(
    "address",
    [
        "/admin/?q=secret",
        "/admin/?metadata[of]=theirs",
        "/admin/threads.json",
        "/admin/threads/export?as=json",
        "/admin/threads/export?as=jsonl",
        "/admin/threads/export?as=markdown",
        "/admin/threads/delete?id={theirs}",
    ],
)
def test_a_page_of_many_threads_shows_none_of_another_project(
    app: Flask, client: FlaskClient, secret: str, address: str
) -> None:
    theirs = make_thread(client, make_key(app, "theirs"))
    sign_in(client, secret)
    text = client.get(address.replace("{theirs}", theirs)).get_data(as_text=True)
    assert "plan of theirs" not in text
    assert f"/admin/threads/{theirs}" not in text


def test_deleting_many_threads_leaves_those_of_another_project(
    app: Flask, client: FlaskClient, secret: str
) -> None:
    key = make_key(app, "theirs")
    theirs = make_thread(client, key)
    sign_in(client, secret)
    form = {"csrf_token": token_of(client, "/admin/threads/new"), "id": theirs}
    client.post("/admin/threads/delete", data=form)
    assert client.get(f"/v1/threads/{theirs}", headers=bearer(key)).status_code == 200


def test_a_script_is_told_that_nobody_is_signed_in(client: FlaskClient, secret: str) -> None:
    headers = {"Accept": "application/json"}
    assert client.post("/admin/threads/t/runs/r/cancel", headers=headers).status_code == 401
