"""The browse page over HTTP: what it answers, refuses, escapes and exports."""

import json
import re
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from markupsafe import Markup
from pages import submit_form, token_in
from werkzeug.test import TestResponse

import config
import database
import models
from display import markdown as markdown_module
from display.budget import Budget
from display.markdown import markdown
from display.texts import is_long
from models import db
from web.secret_key import _beside

MakeThread = Callable[..., str]
MISSING = "thread_" + "0" * 24


@pytest.fixture
def make_thread(client: FlaskClient) -> MakeThread:
    def make(*texts: str, **metadata: str) -> str:
        messages = [{"role": "user", "content": text} for text in texts]
        answer = client.post("/v1/threads", json={"messages": messages, "metadata": metadata})
        assert answer.status_code == 200
        return str(answer.json["id"])

    return make


def submit(client: FlaskClient, form_at: str, to: str, **fields: Any) -> TestResponse:
    """Send a form with the token of the page that holds it."""
    return submit_form(client, client.get(form_at).text, to, fields)


def hidden(page: str) -> dict[str, str]:
    """Return the token of a page's first form."""
    return {"csrf_token": token_in(page)}


def ids_of(client: FlaskClient, thread_id: str) -> list[str]:
    """Return the ids of a thread's messages, oldest first."""
    ids: list[str] = []
    more = True
    while more:
        cursor = f"&after={ids[-1]}" if ids else ""
        page = client.get(f"/v1/threads/{thread_id}/messages?order=asc&limit=100{cursor}").json
        ids += [message["id"] for message in page["data"]]
        more = page["has_more"]
    return ids


def shown_ids(page: str) -> list[str]:
    return re.findall(r'<article class="message \w+" id="(\w+)"', page)


def test_the_root_leads_to_the_page(client: FlaskClient) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.location) == (302, "/admin/")


def test_an_empty_server_shows_a_snippet_with_its_own_address(client: FlaskClient) -> None:
    page = client.get("/admin/", base_url="http://localhost:4567").text
    assert 'base_url="http://localhost:4567/v1"' in page
    assert "Make an example thread" in page


def test_the_example_button_makes_a_thread(client: FlaskClient) -> None:
    answer = submit(client, "/admin/", "/admin/example")
    assert answer.status_code == 303
    assert "How do I count the words" in client.get(answer.location).text


def test_a_row_tells_title_count_activity_and_metadata(
    client: FlaskClient, make_thread: MakeThread
) -> None:
    make_thread("\n  How do I   reset it?\nSecond line", "And then?", plan="pro")
    page = client.get("/admin/").text
    assert ">How do I reset it?</a>" in page
    assert 'class="number">2<' in page
    assert "just now</time>" in page
    assert "metadata%5Bplan%5D=pro" in page


def test_a_title_is_cut_where_escapes_in_the_stored_text_end(client: FlaskClient) -> None:
    for text in ('"' * 2000, "\\" * 2000, "\x01" * 2000, "a" * 999 + "\n", "日本" * 2000):
        client.post("/v1/threads", json={"messages": [{"role": "user", "content": text}]})
    page = client.get("/admin/")
    assert page.status_code == 200
    assert page.text.count("…</a>") == 5


def test_the_title_comes_from_the_first_text_whoever_wrote_it(client: FlaskClient) -> None:
    picture = {"type": "image_url", "image_url": {"url": 'https://x.org/"text":{"value":"no'}}
    parts = [picture, {"type": "text", "text": "**What** is this?"}]
    messages = [
        {"role": "user", "content": [picture]},
        {"role": "assistant", "content": parts},
        {"role": "user", "content": "Later"},
    ]
    client.post("/v1/threads", json={"messages": messages})
    assert ">What is this?</a>" in client.get("/admin/").text


def test_a_count_stops_at_a_thousand(
    app: Flask, client: FlaskClient, make_thread: MakeThread
) -> None:
    thread_id = make_thread("one")
    names = [c.name for c in models.Message.__table__.c if c.name not in ("seq", "id")]
    columns = ", ".join(names)
    many = sa.text(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)"
        f" INSERT INTO messages (id, {columns}) SELECT 'msg_' || i, {columns} FROM messages, n"
    )
    with app.app_context():
        database.write(lambda connection: connection.change(many))
        db.session.remove()
    assert "1,000+" in client.get("/admin/").text
    assert "1,201 messages" in client.get(f"/admin/threads/{thread_id}").text


def test_filters_in_the_url_find_what_the_api_finds(
    client: FlaskClient, make_thread: MakeThread
) -> None:
    thread_id = make_thread("the invoice of October", user="ada", **{"a]b=c/d": "x=&y"})
    make_thread("the invoice of May", user="grace")
    for query in (
        "q=invoice&metadata[user]=ada",
        "metadata%5Ba%5Db%3Dc%2Fd%5D=x%3D%26y",
        "q=October&since=2020-01-01&until=2999-12-31",
    ):
        page = client.get(f"/admin/?{query}").text
        assert re.findall(r'name="id" value="(\w+)"', page) == [thread_id], query
        assert client.get(f"/admin/threads.json?{query}").json["first_id"] == thread_id


def test_a_chip_leads_to_the_threads_that_share_its_pair(
    client: FlaskClient, make_thread: MakeThread
) -> None:
    thread_id = make_thread("hi", **{"a]b=c/d ö+%": "x=&y <b>"})
    make_thread("other")
    for page in ("/admin/", f"/admin/threads/{thread_id}"):
        [link] = re.findall(r'href="(/admin/\?metadata[^"]+)"', client.get(page).text)
        filtered_page = client.get(link.replace("&amp;", "&")).text
        assert re.findall(r'name="id" value="(\w+)"', filtered_page) == [thread_id]


def test_a_chip_adds_to_the_filters_and_may_be_followed_twice(
    client: FlaskClient, make_thread: MakeThread
) -> None:
    thread_id = make_thread("hi", plan="pro", note="")
    make_thread("other", plan="pro")
    address = "/admin/?metadata%5Bplan%5D=pro"
    for chip, count in (("plan: pro", 2), ("note: ", 1), ("plan: pro", 1)):
        [link, *_] = re.findall(
            rf'class="chip" href="([^"]+)" title="{chip}"', client.get(address).text
        )
        address = link.replace("&amp;", "&")
        ids = re.findall(r'name="id" value="(\w+)"', client.get(address).text)
        assert (len(ids), thread_id in ids) == (count, True)
    assert address == "/admin/?metadata%5Bplan%5D=pro&metadata%5Bnote%5D="


def test_the_raw_json_of_a_page_of_the_list_is_that_page(
    client: FlaskClient, make_thread: MakeThread
) -> None:
    ids = [make_thread("hi", plan="pro") for _ in range(3)]
    page = client.get(f"/admin/?metadata[plan]=pro&after={ids[1]}").text
    twin = re.search(r'href="([^"]+)">Raw JSON', page)
    assert twin
    assert client.get(twin[1].replace("&amp;", "&")).json["first_id"] == ids[0]


def test_a_typed_pair_and_blanks_become_a_tidy_url(client: FlaskClient) -> None:
    answer = client.get("/admin/?q=&pair=user%3Dada%3D1&since=&until=2026-01-01")
    assert answer.status_code == 302
    assert answer.location == "/admin/?until=2026-01-01&metadata%5Buser%5D=ada%3D1"


@pytest.mark.parametrize(
    ("query", "fault", "sentence"),
    [
        ("q=%22%22", "q-fault", "expected at least one word"),
        ("q=" + "x" * 600, "q-fault", "maximum length 512"),
        ("pair=nonsense", "pair-fault", "key=value"),
        ("since=yesterday", "since-fault", "year-month-day"),
        ("until=2026-13-01", "until-fault", "year-month-day"),
    ],
)
def test_a_bad_filter_is_explained_beside_its_field_and_kept(
    client: FlaskClient, query: str, fault: str, sentence: str
) -> None:
    answer = client.get(f"/admin/?{query}")
    assert answer.status_code == 400
    sentence_of_field = re.search(rf'id="{fault}">([^<]+)', answer.text)
    assert sentence_of_field
    assert sentence in sentence_of_field[1]
    value = query.partition("=")[2].replace("%22", "&#34;")
    assert f'value="{value}"' in answer.text


@pytest.mark.parametrize("query", ["endpoint=x", "_external=1", "colour=red&colour=%00"])
def test_an_unknown_argument_is_ignored(
    client: FlaskClient, make_thread: MakeThread, query: str
) -> None:
    thread_id = make_thread("hi")
    answer = client.get(f"/admin/?{query}&order=asc")
    assert answer.location == "/admin/?order=asc"
    addresses = ["/admin/threads.json", f"/admin/threads/{thread_id}", "/admin/threads/export"]
    for address in [*addresses, f"/admin/threads/{thread_id}.json", "/admin/assistants"]:
        assert client.get(f"{address}?{query}").status_code == 200, address
    assert client.get(f"/v1/threads?{query}").status_code == 400


def test_a_wrong_argument_is_refused(client: FlaskClient) -> None:
    assert client.get("/admin/?limit=0").status_code == 400


def test_newer_and_older_walk_every_thread_once(
    client: FlaskClient, make_thread: MakeThread
) -> None:
    newest_first = [make_thread(f"number {number}") for number in range(45)][::-1]
    ids, address, back = [], "/admin/", ""
    while address:
        page = client.get(address).text
        ids += re.findall(r'name="id" value="(\w+)"', page)
        older = re.search(r'rel="next" href="([^"]+)"', page)
        newer = re.search(r'rel="prev" href="([^"]+)"', page)
        address, back = (f"/admin/{older[1]}" if older else ""), newer[1] if newer else ""
    assert ids == newest_first
    page = client.get(f"/admin/{back}").text
    assert re.findall(r'name="id" value="(\w+)"', page) == newest_first[20:40]


def test_a_transcript_has_fifty_messages_a_page_and_links_to_each(
    client: FlaskClient, make_thread: MakeThread
) -> None:
    thread_id = make_thread(*(f"turn {number}" for number in range(120)))
    ids = ids_of(client, thread_id)
    here = f"/admin/threads/{thread_id}"
    assert shown_ids(client.get(here).text) == ids[70:]
    assert shown_ids(client.get(f"{here}?order=asc").text) == ids[:50]
    assert shown_ids(client.get(f"{here}?after={ids[49]}").text) == ids[50:100]
    assert shown_ids(client.get(f"{here}?before={ids[100]}").text) == ids[50:100]
    for message_id in (ids[0], ids[24], ids[77], ids[119]):
        assert message_id in shown_ids(client.get(f"{here}?at={message_id}").text)


def test_the_json_twin_has_the_same_page(client: FlaskClient, make_thread: MakeThread) -> None:
    thread_id = make_thread("one", "two", plan="pro")
    twin = client.get(f"/admin/threads/{thread_id}.json").json
    assert twin["thread"] == client.get(f"/v1/threads/{thread_id}").json
    messages = client.get(f"/v1/threads/{thread_id}/messages?order=asc").json
    assert twin["messages"] == messages
    assert client.get("/admin/threads.json").json == client.get("/v1/threads").json


def test_a_twin_refuses_in_json_and_a_page_in_html(client: FlaskClient) -> None:
    for address in (f"/admin/threads/{MISSING}", "/admin/nowhere"):
        answer = client.get(address)
        assert (answer.status_code, answer.mimetype) == (404, "text/html")
        assert "<h1>" in answer.text
    answer = client.get(f"/admin/threads/{MISSING}.json")
    assert (answer.status_code, answer.mimetype) == (404, "application/json")
    assert client.get("/admin/threads.json?limit=0").json["error"]["param"] == "limit"
    assert client.put("/admin/").status_code == 405


def test_every_kind_of_part_is_shown(client: FlaskClient, app: Flask) -> None:
    text = {
        "value": "See [1].",
        "annotations": [
            {
                "type": "file_citation",
                "text": "[1]",
                "start_index": 4,
                "end_index": 7,
                "file_citation": {"file_id": "file-cited"},
            }
        ],
    }
    content = [
        {"type": "text", "text": text},
        {"type": "image_url", "image_url": {"url": "https://x.org/i.png", "detail": "auto"}},
        {"type": "image_file", "image_file": {"file_id": "file-picture", "detail": "auto"}},
        {"type": "refusal", "refusal": "I cannot."},
    ]
    thread_id = client.post(
        "/v1/threads",
        json={
            "messages": [
                {
                    "role": "assistant",
                    "content": "x",
                    "attachments": [{"file_id": "file-notes", "tools": [{"type": "file_search"}]}],
                }
            ]
        },
    ).json["id"]
    values = {
        "content": json.dumps(content, separators=(",", ":")),
        "status": "incomplete",
        "incomplete_details": '{"reason":"max_tokens"}',
        "run_id": "run_7",
    }
    change = sa.update(models.Message).values(values)
    with app.app_context():
        database.write(lambda connection: connection.change(change))
    page = client.get(f"/admin/threads/{thread_id}").text
    for piece in (
        "file-cited",
        "https://x.org/i.png",
        "file-picture",
        "I cannot.",
        "file-notes",
        "file_search",
        "max_tokens",
        "run_7",
    ):
        assert piece in page
    assert "<img" not in page


def rendered(text: str) -> Markup:
    """Return the HTML of a text alone on its page."""
    return markdown(text, Budget())


def test_a_long_text_is_folded_and_a_huge_one_is_not_parsed() -> None:
    assert not is_long("short")
    assert is_long("x" * 2001)
    assert is_long("line\n" * 31)
    assert rendered("[" * 200_000).startswith('<p class="plain">[[')


@pytest.mark.parametrize(
    ("text", "forbidden"),
    [
        ("<script>alert(1)</script>", "<script"),
        ("![x](http://evil.test/x.png)", "<img"),
        ("[x](javascript:alert(1))", "href"),
        ("[x](data:text/html,<script>)", "href"),
        ("|a|\n|:-:|\n|b|", "style"),
        ("# Title", "<h1"),
        ('<a href="x" onclick="y">', "<a"),
        ("<" * 20_000, "<<"),
    ],
)
def test_markdown_makes_nothing_that_runs_or_loads(text: str, forbidden: str) -> None:
    assert forbidden not in rendered(text)


def test_a_table_scrolls_by_itself_and_keeps_its_alignment() -> None:
    table = rendered("|a|b|c|\n|--|:-:|--:|\n|1|2|3|")
    assert table.startswith('<div class="scroll" role="group" aria-label="Table" tabindex="0">')
    assert table.endswith("</table></div>\n")
    for cell in ("<td>1</td>", '<td class="c">2</td>', '<td class="r">3</td>'):
        assert cell in table


@pytest.mark.parametrize("text", ["- אחת", "1. אחת", "> אחת"])
def test_a_list_or_quote_stands_where_its_language_begins_lines(text: str) -> None:
    assert ' dir="auto">' in rendered(text)


def test_a_text_shown_again_is_not_rendered_again() -> None:
    for _ in range(2):
        before = markdown_module._render.cache_info().hits
        assert rendered("some *text* shown twice") == "<p>some <em>text</em> shown twice</p>\n"
    assert markdown_module._render.cache_info().hits == before + 1


def test_a_link_in_a_message_tells_its_target_nothing() -> None:
    assert 'rel="noopener noreferrer nofollow"' in rendered("[x](https://x.org)")


def test_a_thread_is_created_with_its_first_message(client: FlaskClient) -> None:
    answer = submit(
        client,
        "/admin/threads/new",
        "/admin/threads",
        role="assistant",
        content="Hello\r\nthere",
        key=["plan", ""],
        value=["pro\r\nmax", ""],
    )
    assert answer.status_code == 303
    thread_id = answer.location.rpartition("/")[2]
    assert client.get(f"/v1/threads/{thread_id}").json["metadata"] == {"plan": "pro\nmax"}
    [message] = client.get(f"/v1/threads/{thread_id}/messages").json["data"]
    assert message["role"] == "assistant"
    assert message["content"][0]["text"]["value"] == "Hello\nthere"


def test_a_refused_thread_keeps_all_that_was_typed(client: FlaskClient) -> None:
    answer = submit(
        client,
        "/admin/threads/new",
        "/admin/threads",
        role="assistant",
        content="kept text",
        key=["k" * 65, "fine", "same", "same"],
        value=["kept value", "v" * 513, "1", "2"],
    )
    assert answer.status_code == 400
    for text in ("kept text", "k" * 65, "kept value", "v" * 513, '"assistant" selected'):
        assert text in answer.text
    assert "This key is given twice." in answer.text
    assert answer.text.count('class="fault" id="fault-') == 4
    assert client.get("/v1/threads").json["data"] == []


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"role": "user", "content": ""}, "non-empty"),
        ({"role": "robot", "content": "x"}, "robot"),
        ({"role": "user", "content": "a\0b"}, "NUL"),
        ({"role": "user", "content": "\u20ac" * 256_001}, "256001"),
    ],
)
def test_a_refused_message_is_explained_on_its_form(
    client: FlaskClient, make_thread: MakeThread, fields: dict[str, str], sentence: str
) -> None:
    here = f"/admin/threads/{make_thread('hi')}"
    answer = submit(client, here, f"{here}/messages", **fields)
    assert answer.status_code == 400
    assert sentence in answer.text
    assert fields["content"].replace("\0", "") in answer.text.replace("\0", "")


@pytest.mark.parametrize("form", ["", "/metadata", "/messages"])
def test_an_expired_form_comes_back_with_all_that_was_typed(
    client: FlaskClient, make_thread: MakeThread, form: str
) -> None:
    to = f"/admin/threads/{make_thread('hi')}{form}" if form else "/admin/threads"
    fields = {"role": "assistant", "content": "typed text", "key": "plan", "value": "typed text"}
    answer = client.post(to, data={"csrf_token": "expired", **fields})
    assert answer.status_code == 400
    assert ">\ntyped text</textarea>" in answer.text
    assert "to be sent again" in answer.text
    assert client.post(to, data=fields | hidden(answer.text)).status_code == 303


@pytest.mark.parametrize("form", ["metadata", "messages"])
def test_a_form_of_a_thread_deleted_meanwhile_keeps_what_was_typed(
    client: FlaskClient, make_thread: MakeThread, form: str
) -> None:
    thread_id = make_thread("hi")
    token = hidden(client.get(f"/admin/threads/{thread_id}").text)
    client.delete(f"/v1/threads/{thread_id}")
    fields = {"role": "user", "content": "typed text", "key": "plan", "value": "typed text"}
    answer = client.post(f"/admin/threads/{thread_id}/{form}", data=fields | token)
    assert answer.status_code == 404
    assert "No thread found" in answer.text
    assert ">\ntyped text</textarea>" in answer.text


def test_a_longest_message_fits_in_a_form(client: FlaskClient, make_thread: MakeThread) -> None:
    here = f"/admin/threads/{make_thread('hi')}"
    answer = submit(client, here, f"{here}/messages", role="user", content="€" * 256_000)
    assert answer.status_code == 303


def test_an_added_message_is_shown_where_it_leads(
    client: FlaskClient, make_thread: MakeThread
) -> None:
    thread_id = make_thread(*(f"turn {number}" for number in range(60)))
    here = f"/admin/threads/{thread_id}"
    answer = submit(client, here, f"{here}/messages", role="user", content="the last one")
    page = client.get(answer.location).text
    assert "the last one" in page
    assert answer.location.rpartition("#")[2] == shown_ids(page)[-1]


def test_metadata_is_replaced_by_what_the_form_holds(
    client: FlaskClient, make_thread: MakeThread
) -> None:
    thread_id = make_thread("hi", old="1", both="\nkept newline")
    form = f"/admin/threads/{thread_id}/metadata"
    assert ">\n\nkept newline</textarea>" in client.get(form).text
    answer = submit(client, form, form, key=["both", "new"], value=["2", "3"])
    assert answer.status_code == 303
    assert client.get(f"/v1/threads/{thread_id}").json["metadata"] == {"both": "2", "new": "3"}


def test_seventeen_pairs_are_refused(client: FlaskClient, make_thread: MakeThread) -> None:
    thread_id = make_thread("hi")
    form = f"/admin/threads/{thread_id}/metadata"
    keys = [f"key{number}" for number in range(17)]
    answer = submit(client, form, form, key=keys, value=keys)
    assert answer.status_code == 400
    assert "too many properties" in answer.text
    assert "key16" in answer.text


def test_a_copy_is_a_thread_of_its_own(client: FlaskClient, make_thread: MakeThread) -> None:
    thread_id = make_thread("one", "two")
    answer = submit(client, f"/admin/threads/{thread_id}", f"/admin/threads/{thread_id}/copy")
    copy_id = answer.location.rpartition("/")[2]
    assert copy_id != thread_id
    assert len(ids_of(client, copy_id)) == 2


def test_a_deleted_message_leaves_the_reader_in_place(
    client: FlaskClient, make_thread: MakeThread
) -> None:
    thread_id = make_thread(*(f"turn {number}" for number in range(100)))
    ids = ids_of(client, thread_id)
    form = f"/admin/threads/{thread_id}/messages/{ids[80]}/delete"
    assert "turn 80" in client.get(form).text
    answer = submit(client, form, form)
    ids_on_page = shown_ids(client.get(answer.location).text)
    assert ids[80] not in ids_on_page
    assert {ids[79], ids[81]} <= set(ids_on_page)


def test_deleting_many_names_the_count_and_returns_to_the_filtered_list(
    client: FlaskClient, make_thread: MakeThread
) -> None:
    selection = [make_thread(f"number {number}", user="ada") for number in range(3)]
    other = make_thread("kept", user="ada")
    query = "q=number&metadata%5Buser%5D=ada&" + "&".join(f"id={id_}" for id_ in selection)
    form = f"/admin/threads/delete?{query}"
    assert "Delete 3 threads?" in client.get(form).text
    assert client.get(f"/v1/threads/{selection[0]}").status_code == 200
    answer = submit(client, form, form)
    assert answer.location == "/admin/?q=number&metadata%5Buser%5D=ada"
    assert "Deleted 3 threads." in client.get(answer.location).text
    assert [row["id"] for row in client.get("/v1/threads").json["data"]] == [other]


def test_deleting_one_thread_asks_once(client: FlaskClient, make_thread: MakeThread) -> None:
    thread_id = make_thread("hi")
    form = f"/admin/threads/{thread_id}/delete"
    assert "Delete 1 thread?" in client.get(form).text
    assert submit(client, form, form).location == "/admin/"
    assert client.get(f"/v1/threads/{thread_id}").status_code == 404
    assert client.get(form).status_code == 404


def test_deleting_a_thread_that_is_gone_says_so(
    client: FlaskClient, make_thread: MakeThread
) -> None:
    thread_id = make_thread("hi")
    form = f"/admin/threads/{thread_id}/delete"
    page = client.get(form).text
    client.delete(f"/v1/threads/{thread_id}")
    answer = submit_form(client, page, form, {})
    assert answer.status_code == client.get(form).status_code == 404
    assert f"No thread found with id &#39;{thread_id}&#39;." in answer.text
    assert "Deleted" not in client.get("/admin/").text


def test_deleting_what_cannot_be_an_id_is_refused_before_the_database(client: FlaskClient) -> None:
    """PostgreSQL refuses NUL in a text."""
    for id_ in ("thread_%00", "thread_" + "x" * 80):
        form = f"/admin/threads/{id_}/delete"
        assert client.get(form).status_code == 404
        assert submit(client, "/admin/threads/new", form).status_code == 404
        several = f"/admin/threads/delete?id={id_}"
        assert client.get(several).location == "/admin/"
        assert submit(client, "/admin/threads/new", several).location == "/admin/"


def test_a_deletion_that_is_cancelled_leads_back_to_the_page_before(
    client: FlaskClient, make_thread: MakeThread
) -> None:
    ids = [make_thread(f"number {number}") for number in range(2)]
    page = client.get(f"/admin/threads/{ids[0]}/delete").text
    assert f'href="/admin/threads/{ids[0]}"' in page
    second_page = client.get(f"/admin/?after={ids[1]}").text
    assert f'name="after" value="{ids[1]}"' in second_page
    page = client.get(f"/admin/threads/delete?after={ids[1]}&id={ids[0]}").text
    assert f'href="/admin/?after={ids[1]}"' in page


def test_a_filter_keeps_its_line_break_through_a_form(
    client: FlaskClient, make_thread: MakeThread
) -> None:
    thread_id = make_thread("hi", note="first\nsecond")
    address = "/admin/?metadata[note]=first%0D%0Asecond&q=hi"
    page = client.get(address, follow_redirects=True).text
    assert f"/admin/threads/{thread_id}" in page


def test_markdown_too_deep_to_read_is_shown_as_it_is_written() -> None:
    for text in (">" * 120 + " words", "- " * 60 + "words"):
        assert rendered(text) == Markup('<p class="plain">%s</p>') % text
    assert "<blockquote" in rendered(">" * 5 + " words")


def test_a_fault_rule_delays_a_form_and_leaves_it_whole(
    client: FlaskClient, make_thread: MakeThread
) -> None:
    thread_id = make_thread("hi")
    client.post("/_mock/faults", json={"rules": [{"path": "*", "delay_ms": 1}]})
    address = f"/admin/threads/{thread_id}"
    answer = submit(client, address, f"{address}/messages", content="typed", role="user")
    assert answer.status_code == 303
    assert "typed" in client.get(address).text


def test_deleting_nothing_says_so(client: FlaskClient) -> None:
    page = client.get("/admin/threads/delete?q=x", follow_redirects=True)
    assert "Select at least one thread first." in page.text


def test_exports_are_files_in_three_forms(client: FlaskClient, make_thread: MakeThread) -> None:
    first, second = make_thread("one", user="ada"), make_thread("two", user="ada")
    make_thread("three")
    lines = client.get("/admin/threads/export?as=jsonl&metadata[user]=ada")
    assert "attachment; filename=threads.jsonl" in lines.headers["Content-Disposition"]
    assert [json.loads(line)["thread"]["id"] for line in lines.text.splitlines()] == [first, second]
    whole = client.get("/admin/threads/export?as=json&metadata[user]=ada").json
    assert [thread["thread"]["id"] for thread in whole] == [first, second]
    assert client.get("/admin/threads/export?as=json&q=zebra").json == []
    assert client.get("/admin/threads/export?as=markdown").text.count("\n# thread_") == 2
    one = client.get(f"/admin/threads/{first}/export?as=json")
    assert one.json["messages"][0]["content"][0]["text"]["value"] == "one"
    assert f"filename={first}.json" in one.headers["Content-Disposition"]
    assert client.get(f"/admin/threads/{first}/export?as=markdown").text.startswith("# thread_")


def test_an_export_has_all_threads_whichever_page_it_was_asked_from(
    client: FlaskClient, make_thread: MakeThread
) -> None:
    ids = [make_thread(f"number {number}") for number in range(103)]
    for cursor in (f"before={ids[-1]}", f"after={ids[50]}"):
        lines = client.get(f"/admin/threads/export?as=jsonl&{cursor}").text.splitlines()
        assert [json.loads(line)["thread"]["id"] for line in lines] == ids


def test_a_refused_export_is_a_page_not_half_a_file(client: FlaskClient) -> None:
    for address in ("/admin/threads/export?q=%22%22", "/admin/threads/export?as=xml"):
        answer = client.get(address)
        assert (answer.status_code, answer.mimetype) == (400, "text/html")
    assert client.get(f"/admin/threads/{MISSING}/export").status_code == 404


def test_every_answer_forbids_frames_scripts_and_caches(client: FlaskClient) -> None:
    for address in ("/admin/", "/admin/threads.json", "/admin/nowhere", "/admin/threads/export"):
        headers = client.get(address).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'")
        assert "script-src 'self'; connect-src 'self';" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"


def test_every_post_needs_the_token_and_the_api_needs_none(
    app: Flask, client: FlaskClient, make_thread: MakeThread
) -> None:
    thread_id = make_thread("hi")
    [message_id] = ids_of(client, thread_id)
    assistant_id = client.post("/v1/assistants", json={"model": "gpt-4o"}).json["id"]
    ids = {"thread_id": thread_id, "message_id": message_id, "assistant_id": assistant_id}
    ids["run_id"] = f"run_{'x' * 24}"
    posts = [
        re.sub(r"<(\w+)>", lambda name: ids[name[1]], rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("admin.") and "POST" in (rule.methods or ())
    ]
    assert len(posts) == 23
    for address in posts:
        answer = client.post(f"{address}?id={thread_id}", data={"csrf_token": "forged"})
        assert answer.status_code == 400, address
        assert "no longer valid" in answer.text
    assert client.get(f"/v1/threads/{thread_id}").status_code == 200
    for kind in ("threads", "assistants"):
        assert len(client.get(f"/v1/{kind}").json["data"]) == 1


def test_a_foreign_page_cannot_post(client: FlaskClient) -> None:
    answer = client.post("/admin/example", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403


def test_a_link_from_another_site_is_asked_again_from_here(client: FlaskClient) -> None:
    foreign = {"Sec-Fetch-Site": "cross-site"}
    address = "/admin/threads/x%0Ay?q=a%20b&x=%C3%B6"
    answer = client.get(address, headers=foreign)
    assert (answer.status_code, answer.headers["Refresh"]) == (200, f"0; url={address}")
    assert "Set-Cookie" not in answer.headers
    permalink = client.get("/admin/threads/x?at=msg_1", headers=foreign).headers["Refresh"]
    assert permalink == "0; url=/admin/threads/x?at=msg_1&#msg_1"
    client.get("/admin/threads/new")
    assert "Refresh" not in client.get("/admin/", headers=foreign).headers


def test_the_session_cookie_stays_on_the_page(client: FlaskClient) -> None:
    cookie = client.get("/admin/threads/new").headers["Set-Cookie"]
    for attribute in ("HttpOnly", "SameSite=Strict", "Path=/admin/"):
        assert attribute in cookie


def test_the_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as workers:
        keys = set(workers.map(_beside, [tmp_path / "t.db"] * 64))
    assert len(keys) == 1
    assert len(keys.pop()) == 64
    [file] = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_secret_key_of_ones_own_is_used_and_a_short_one_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THREADS_SECRET_KEY", "s" * 32)
    settings = config.from_env()
    assert settings["SECRET_KEY"] == "s" * 32
    monkeypatch.setenv("THREADS_SECRET_KEY", "short")
    with pytest.raises(Exception, match="SECRET_KEY"):
        config.from_env()
