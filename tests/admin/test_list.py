"""The list of threads over HTTP: order, selection, deletion and Undo, search, import."""

import json
import re
import tracemalloc
from collections.abc import Callable
from html import unescape
from io import BytesIO
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from pages import token_in
from werkzeug.test import TestResponse

import database
import exchange.imports
import exchange.undo
from admin import imports, selection
from exchange.undo import restore
from models import DeletedThreads, db
from rules import strict_json
from rules.errors import ApiError
from rules.ids_and_clock import sources
from store import deleted_threads

Make = Callable[..., str]
IMPORT = "/admin/threads/import"


@pytest.fixture
def make(client: FlaskClient) -> Make:
    def make(*texts: str, **metadata: str) -> str:
        messages = [{"role": "user", "content": text} for text in texts]
        answer = client.post("/v1/threads", json={"messages": messages, "metadata": metadata})
        return str(answer.json["id"])

    return make


def submit(client: FlaskClient, to: str, **fields: Any) -> TestResponse:
    """Send a form with all that its page has hidden in it."""
    form = re.split("<form|</form>", client.get(to).text)[1]
    names = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
    return client.post(to, data=names | fields)


def undo(client: FlaskClient, page: str) -> TestResponse:
    deletion = re.search(r'name="deletion" value="(\w+)"', page)
    assert deletion
    return client.post(
        "/admin/threads/undo",
        data={"csrf_token": token_in(page), "deletion": deletion[1]},
        follow_redirects=True,
    )


def listed(page: str) -> list[str]:
    return re.findall(r'data-row="(\w+)"', page)


def lines_of(client: FlaskClient, query: str = "") -> list[Any]:
    text = client.get(f"/admin/threads/export?as=jsonl&{query}").text
    return [json.loads(line) for line in text.splitlines()]


def test_the_newest_activity_comes_first_and_a_switch_leads_to_creation(
    client: FlaskClient, make: Make
) -> None:
    first, second = make("one"), make("two")
    client.post(f"/v1/threads/{first}/messages", json={"role": "user", "content": "news"})
    page = client.get("/admin/").text
    assert listed(page) == [first, second]
    [address] = re.findall(r'href="([^"]+)">Created<', page)
    assert listed(client.get(address).text) == [second, first]
    assert f'action="{address}' not in page


def test_what_is_ticked_is_exported_and_nothing_else(client: FlaskClient, make: Make) -> None:
    first, second, third = make("one"), make("two"), make("three")
    ticked = lines_of(client, f"ticked=1&id={first}&id={third}")
    assert [line["thread"]["id"] for line in ticked] == [first, third]
    assert len(lines_of(client, f"ticked=1&all=1&id={second}")) == 3
    nothing = client.get("/admin/threads/export?ticked=1&as=json&q=one")
    assert nothing.location == "/admin/?q=one"
    assert "Select at least one thread first." in client.get("/admin/").text


def test_all_that_match_are_counted_then_deleted_but_none_made_meanwhile(
    client: FlaskClient, make: Make
) -> None:
    for number in range(25):
        make(f"number {number}", plan="pro")
    kept = make("other")
    query = "ticked=1&all=1&metadata%5Bplan%5D=pro&after=" + listed(client.get("/admin/").text)[3]
    assert client.get(f"/admin/threads/count.json?{query}").json == {"count": 25, "has_more": False}
    address = f"/admin/threads/delete?{query}"
    page = client.get(address).text
    assert "Delete 25 threads?" in page
    assert "and 5 more" in page
    form = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))
    late = make("late", plan="pro")
    client.post(address, data=form)
    assert {each["id"] for each in client.get("/v1/threads").json["data"]} == {kept, late}


def test_all_that_match_a_value_with_a_line_break_are_exported_and_deleted(
    client: FlaskClient, make: Make
) -> None:
    ids = {make("first", plan="pro\nplus"), make("second", plan="pro\nplus")}
    make("other", plan="pro")
    query = "ticked=1&all=1&metadata%5Bplan%5D=pro%0D%0Aplus"  # as a browser sends it
    assert client.get(f"/admin/threads/count.json?{query}").json["count"] == 2
    assert {line["thread"]["id"] for line in lines_of(client, query)} == ids
    submit(client, f"/admin/threads/delete?{query}")
    assert len(client.get("/v1/threads").json["data"]) == 1


def test_no_metadata_is_read_to_count_all_that_match(client: FlaskClient, make: Make) -> None:
    for _ in range(100):
        make(**{f"key{number}": "x" * 512 for number in range(16)})
    client.get("/admin/threads/count.json?all=1")
    tracemalloc.start()
    assert client.get("/admin/threads/count.json?all=1").json["count"] == 100
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000


def test_one_deletion_takes_so_many_threads_at_most(
    client: FlaskClient, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "MOST_SELECTED", 2)
    ids = [make("hi") for _ in range(3)]
    address = "/admin/threads/delete?all=1"
    assert "one deletion takes the 2 newest" in client.get(address).text
    submit(client, address)
    assert [each["id"] for each in client.get("/v1/threads").json["data"]] == ids[:1]


def test_a_deletion_is_undone_with_messages_runs_and_times(client: FlaskClient, make: Make) -> None:
    ids = [make("one", "two", plan="pro"), make("three")]
    assistant = client.post("/v1/assistants", json={"model": "gpt-4o"}).json["id"]
    client.post(
        f"/v1/threads/{ids[0]}/runs", json={"assistant_id": assistant, "stream": True}
    ).get_data()
    before = lines_of(client)
    answer = submit(client, f"/admin/threads/delete?id={ids[0]}&id={ids[1]}")
    assert client.get("/v1/threads").json["data"] == []
    page = client.get(answer.location).text
    assert "Deleted 2 threads." in page
    assert "2 threads are back." in undo(client, page).text
    assert lines_of(client) == before
    assert "Undo" not in client.get("/admin/").text


def test_undo_leaves_what_was_made_since_and_can_be_repeated(client: FlaskClient) -> None:
    old, new = line_at(1), line_at(2)
    import_(client, old)
    page = client.get(submit(client, "/admin/threads/thread_a/delete").location).text
    import_(client, new)
    answer = undo(client, page).text
    assert "0 threads are back. 1 not:" in answer
    assert client.get("/v1/threads/thread_a").json["created_at"] == 2
    client.delete("/v1/threads/thread_a")
    assert "1 thread is back." in undo(client, answer).text
    assert client.get("/v1/threads/thread_a").json["created_at"] == 1


def test_a_large_deletion_is_kept_in_parts(
    client: FlaskClient, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleted_threads, "_ROW_BYTES", 1_000)
    ids = [make("é" * 700, "two"), make("three"), make("four")]
    before = lines_of(client)
    query = "&".join(f"id={each}" for each in ids)
    page = client.get(submit(client, f"/admin/threads/delete?{query}").location).text
    assert "Deleted 3 threads." in page
    assert "3 threads are back." in undo(client, page).text
    assert lines_of(client) == before


def test_undo_ends_after_ten_minutes_and_then_nothing_is_kept(
    client: FlaskClient, make: Make, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(client, f"/admin/threads/{make('hi')}/delete")
    page = client.get("/admin/").text
    now = sources.now()
    monkeypatch.setattr(sources, "now", lambda: now + 601)
    answer = undo(client, page)
    assert answer.status_code == 409
    assert "can no longer be undone" in answer.text
    assert "Undo" not in client.get("/admin/").text
    with app.app_context():
        assert db.session.scalars(sa.select(DeletedThreads)).all() == []


def test_a_project_undoes_its_own_deletions_alone(
    client: FlaskClient, make: Make, app: Flask
) -> None:
    submit(client, f"/admin/threads/{make('hi')}/delete")
    with app.app_context():
        [kept] = db.session.scalars(sa.select(DeletedThreads)).all()
        deletion = kept.deletion
        db.session.remove()
        with database.read() as connection:
            assert deleted_threads.kept(connection, "another").deletions == []
        with pytest.raises(ApiError, match="no longer be undone"):
            restore("another", deletion)


def test_the_api_deletes_for_good(client: FlaskClient, make: Make) -> None:
    client.delete(f"/v1/threads/{make('hi')}")
    assert "Undo" not in client.get("/admin/").text


def test_what_is_too_large_for_undo_is_said_before_it_is_deleted(
    client: FlaskClient, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleted_threads, "MOST_BYTES", 5_000)
    small, large = make("hi"), make("x" * 5_000)
    address = f"/admin/threads/delete?id={small}&id={large}"
    assert "This cannot be undone" in client.get(address).text
    assert "Deleted 2 threads." in client.get(submit(client, address).location).text
    assert "Undo" not in client.get("/admin/").text


def test_a_thread_of_too_many_values_for_undo_is_told_before_it_is_deleted(
    client: FlaskClient, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strict_json, "MAX_VALUES", 100)
    small, large = make("hi"), make(*["hi"] * 5)
    submit(client, f"/admin/threads/{small}/delete")
    assert "1 thread is back." in undo(client, client.get("/admin/").text).text
    address = f"/admin/threads/delete?id={small}&id={large}"
    assert "This cannot be undone" in client.get(address).text
    monkeypatch.setattr(deleted_threads, "fits", lambda *_: True)
    assert "was not deleted" in submit(client, address).text
    assert client.get(f"/v1/threads/{large}").status_code == 200


def test_undo_tells_what_it_cannot_read(client: FlaskClient, make: Make, app: Flask) -> None:
    submit(client, f"/admin/threads/{make('hi')}/delete")
    with app.app_context():
        database.write(
            lambda connection: connection.change("UPDATE deleted_threads SET lines = '{\n'")
        )
    answer = undo(client, client.get("/admin/").text).text
    assert "0 threads are back. 1 cannot be read: Invalid body: failed to parse" in answer


def test_what_grows_too_large_meanwhile_is_asked_again(
    client: FlaskClient, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"/admin/threads/delete?id={make('hi')}"
    monkeypatch.setattr(deleted_threads, "MOST_BYTES", 100)
    monkeypatch.setattr(deleted_threads, "fits", lambda *_: True)
    answer = submit(client, address)
    assert answer.status_code == 409
    assert "was not deleted" in answer.text
    submit(client, address, final="1")
    assert client.get("/v1/threads").json["data"] == []


def test_filters_survive_opening_going_back_and_deleting(client: FlaskClient, make: Make) -> None:
    make("invoice one", plan="pro")
    address = "/admin/?q=invoice&metadata%5Bplan%5D=pro"
    [link] = re.findall(r'class="title" href="([^"]+)"', client.get(address).text)
    thread = client.get(unescape(link)).text
    assert f'href="{address.replace("&", "&amp;")}">← All threads' in thread
    [delete] = re.findall(r'href="([^"]+/delete[^"]*)">Delete…', thread)
    answer = submit(client, unescape(delete))
    assert answer.location == address


def test_a_row_shows_the_line_that_was_found_and_leads_to_it(
    client: FlaskClient, make: Make
) -> None:
    hostile = "<b>first</b>\nan <i>Invoice</i> & more\nlast"
    thread_id = make("hello", hostile)
    page = client.get("/admin/?q=invoice").text
    found = 'class="found">an &lt;i&gt;<mark>Invoice</mark>&lt;/i&gt; &amp; more</span>'
    assert found in page
    messages = client.get(f"/v1/threads/{thread_id}/messages").json["data"]
    [link] = re.findall(r'class="title" href="([^"]+)"', page)
    at = messages[0]["id"]
    assert unescape(link).startswith(f"/admin/threads/{thread_id}?at={at}&q=invoice&")
    assert link.endswith(f"#{at}")
    assert client.get(unescape(link)).status_code == 200


@pytest.mark.parametrize("kind", ["thread", "msg"])
def test_a_pasted_id_opens_what_it_names(client: FlaskClient, make: Make, kind: str) -> None:
    thread_id = make("one", "two")
    message_id = client.get(f"/v1/threads/{thread_id}/messages").json["last_id"]
    pasted, place = {
        "thread": (thread_id, ""),
        "msg": (message_id, f"?at={message_id}#{message_id}"),
    }[kind]
    answer = client.get(f"/admin/?q=+{pasted}+")
    assert answer.location == f"/admin/threads/{thread_id}{place}"
    assert client.get(f"/admin/?q={kind}_unknown").status_code == 200


def test_an_empty_result_offers_the_beginnings_of_words(client: FlaskClient, make: Make) -> None:
    thread_id = make("two invoices", plan="pro")
    page = client.get("/admin/?q=invoic&metadata[plan]=pro").text
    assert "Whole words are matched" in page
    [address] = re.findall(r'href="([^"]+)">Search for words that begin so', page)
    assert listed(client.get(unescape(address)).text) == [thread_id]
    for q in ("invox*", "%22no such%22"):
        assert "that begin so" not in client.get(f"/admin/?q={q}").text


def test_a_date_has_the_offset_of_its_zone(client: FlaskClient, make: Make) -> None:
    import_(client, line_at(1_767_225_600 - 1_800))  # half an hour before 2026 in UTC
    for query, is_found in (
        ("since=2026-01-01", False),
        ("since=2026-01-01%2B01:00", True),
        ("until=2025-12-31%2B01:00", False),
        ("until=2025-12-31", True),
    ):
        page = client.get(f"/admin/?{query}").text
        assert (listed(page) == ["thread_a"]) == is_found, query
        day, offset = query[6:16], query[16:].replace("%2B", "+")
        assert f'value="{day}"' in page
        assert f'data-offset="{offset}">(UTC{offset})' in page
    assert client.get("/admin/?since=2026-01-01%2B99:00").status_code == 400


def test_a_program_polls_what_rows_show(client: FlaskClient, make: Make) -> None:
    thread_id = make("one")
    address = "/admin/threads.json?states=1"
    before = client.get(address).json["states"]
    assert f'data-state="{before[thread_id]}"' in client.get("/admin/").text
    client.post(f"/v1/threads/{thread_id}/messages", json={"role": "user", "content": "two"})
    assert client.get(address).json["states"] != before


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of these tests is a thread."""
    monkeypatch.setattr(exchange.imports, "_MESSAGES_AT_ONCE", 1)
    monkeypatch.setattr(exchange.undo, "_THREADS_AT_ONCE", 1)


@pytest.mark.usefixtures("small_batches")
def test_a_deletion_that_is_refused_later_says_how_much_is_gone(
    client: FlaskClient, make: Make, busy_after: Callable[[int], None]
) -> None:
    ids = [make("one"), make("two"), make("three")]
    address = f"/admin/threads/delete?{'&'.join(f'id={each}' for each in ids)}"
    busy_after(2)
    answer = submit(client, address)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "The database is busy; only 2 were deleted. Try again" in answer.text
    assert len(client.get("/v1/threads").json["data"]) == 1


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize(("count", "told"), [(0, "nothing was"), (2, "only 2 were")])
def test_an_import_that_is_refused_later_says_how_much_is_there(
    client: FlaskClient, make: Make, busy_after: Callable[[int], None], count: int, told: str
) -> None:
    ids = [make("one"), make("two"), make("three")]
    lines = client.get("/admin/threads/export?as=jsonl").data
    for each in ids:
        client.delete(f"/v1/threads/{each}")
    busy_after(count)
    answer = import_(client, lines)
    assert answer.status_code == 503
    assert f"The database is busy; {told} written. Try again" in answer.text
    assert len(client.get("/v1/threads").json["data"]) == count


@pytest.mark.usefixtures("small_batches")
def test_an_undo_that_is_refused_later_says_how_much_is_back(
    client: FlaskClient, make: Make, busy_after: Callable[[int], None]
) -> None:
    query = "&".join(f"id={make(text)}" for text in ("one", "two", "three"))
    page = client.get(submit(client, f"/admin/threads/delete?{query}").location).text
    busy_after(2)
    answer = undo(client, page)
    assert answer.status_code == 503
    assert "The database is busy; only 2 were written. Try again" in answer.text


def test_an_undo_whose_lines_cannot_be_forgotten_is_done(
    client: FlaskClient, make: Make, busy_after: Callable[[int], None]
) -> None:
    address = f"/admin/threads/{make('one')}/delete"
    page = client.get(submit(client, address).location).text
    busy_after(1)
    assert "1 thread is back." in undo(client, page).text


def line_at(second: int) -> str:
    """Return the line of a thread `thread_a` that was created then."""
    thread = {"id": "thread_a", "object": "thread", "created_at": second}
    return json.dumps({"thread": thread | {"metadata": {}, "tool_resources": {}}, "messages": []})


def import_(client: FlaskClient, lines: str | bytes, on_conflict: str = "skip") -> TestResponse:
    fields = {"file": (BytesIO(lines), "x.jsonl")} if isinstance(lines, bytes) else {"lines": lines}
    return submit(client, IMPORT, on_conflict=on_conflict, **fields)


def test_a_file_is_imported_with_the_report_of_the_command(client: FlaskClient, make: Make) -> None:
    make("one", "two")
    make("three")
    data = client.get("/admin/threads/export?as=jsonl").data
    for line in data.splitlines():
        client.delete(f"/v1/threads/{json.loads(line)['thread']['id']}")
    answer = import_(client, data + b"nonsense\n" * 7 + data)
    assert "imported 2, replaced 0, skipped 2, refused 7" in answer.text
    assert answer.text.count('class="fault">Line ') == 5
    assert "… and 2 more like it" in answer.text
    assert client.get("/admin/threads/export?as=jsonl").data == data
    assert "replaced 2" in import_(client, data, "replace").text


def test_a_form_of_lines_has_bounds(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = import_(client, b"{}\n" * (imports.MAX_LINES + 1))
    assert answer.status_code == 400
    assert "at most 10,000 lines; flask import takes any number" in answer.text
    assert import_(client, "").status_code == 400
    monkeypatch.setattr(strict_json, "MAX_VALUES", 9)
    assert "it holds more than 9 values" in import_(client, line_at(1)).text


@pytest.mark.parametrize("address", [IMPORT, "/admin/assistants/import"])
def test_a_file_may_be_as_large_as_any_body(client: FlaskClient, address: str) -> None:
    token = token_in(client.get(address).text)
    texts = {"csrf_token": token, "on_conflict": "skip", "lines": ""}
    parts = [f'name="{name}"\r\n\r\n{text}' for name, text in texts.items()]
    parts.append(f'name="file"; filename="x"\r\n\r\n{line_at(1)}{" " * 5_000_000}')
    body = "".join(f"--x\r\nContent-Disposition: form-data; {part}\r\n" for part in parts)
    answer = client.post(
        address, data=f"{body}--x--", content_type="multipart/form-data; boundary=x"
    )
    assert answer.status_code == 200
    assert client.get("/v1/threads/thread_a").status_code == 200


def test_the_empty_page_offers_an_import(client: FlaskClient) -> None:
    assert 'href="/admin/threads/import"' in client.get("/admin/").text
