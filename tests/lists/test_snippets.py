"""A row of a search shows a message that the search finds, wherever in its thread that stands."""

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from markupsafe import Markup

import database
from display.snippets import beginnings, snippet
from lists import search
from lists.snippets import hits

Find = Callable[..., dict[str, str]]
WAYS = pytest.mark.parametrize("rare_matches", [0, 10_000])


@pytest.fixture
def find(app: Flask) -> Find:
    """Find the texts of the messages that a search shows, by thread."""

    def find(q: str, *ids: str, sort: str = "last_active_at") -> dict[str, str]:
        with app.app_context(), database.snapshot() as connection:
            found = hits(connection, "default", {"q": q, "sort": sort}, ids)
        return {thread_id: hit.text for thread_id, hit in found.items()}

    return find


def make(client: FlaskClient, *texts: str) -> str:
    messages = [{"role": "user", "content": text} for text in texts]
    return str(client.post("/v1/threads", json={"messages": messages}).json["id"])


@WAYS
@pytest.mark.parametrize("sort", ["last_active_at", "created_at"])
def test_a_message_is_found_near_and_far(
    client: FlaskClient, find: Find, monkeypatch: pytest.MonkeyPatch, rare_matches: int, sort: str
) -> None:
    monkeypatch.setattr(search, "_RARE_MATCHES", rare_matches)
    old = make(client, "a castle once", *["nothing"] * 5)
    between = [make(client, "a castle", "of another") for _ in range(3)]
    new = make(client, "nothing", "the Castle of today, tram")
    client.post(f"/v1/threads/{old}/messages", json={"role": "user", "content": "no more"})
    found = find("castle", old, new, sort=sort)
    assert found == {old: "a castle once", new: "the Castle of today, tram"}
    assert find("castle tram", old, new, between[0]) == {new: "the Castle of today, tram"}
    assert find("cast*", old) == {old: "a castle once"}
    assert find("castle") == {}


@pytest.mark.sqlite_only("PostgreSQL looks at more messages")
def test_a_search_for_common_words_looks_at_so_many_messages_of_a_thread(
    client: FlaskClient, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = make(client, *["nothing"] * 100, "castle", "nothing")
    first = make(client, *["nothing"] * 99, "castle", "nothing")
    assert find("castle", first, late).keys() == {first, late}
    monkeypatch.setattr(search, "_RARE_MATCHES", 0)
    assert find("castle", first, late).keys() == {first}


@pytest.mark.parametrize(
    ("text", "q", "line"),
    [
        ("one\nan Invoice & more\ntwo", "invoice", "an <mark>Invoice</mark> &amp; more"),
        ("invoices and\nthe invoice", "invoice", "the <mark>invoice</mark>"),
        ("invoices", "invoic*", "<mark>invoices</mark>"),
        ("first\nÉté", "ete", "<mark>Été</mark>"),
        ("<i>tram</i> castle", '"tram castle"', "&lt;i&gt;tram&lt;/i&gt; castle"),
        ("nothing", "castle", "nothing"),
        ("x", '"" (', "x"),
    ],
)
def test_the_line_of_the_first_word_is_shown(text: str, q: str, line: str) -> None:
    assert snippet(text, q) == Markup(line)


def test_a_long_line_is_cut_between_words() -> None:
    line = snippet(f"{'before ' * 50}castle{' behind' * 50}", "castle")
    assert line.startswith("…before ")
    assert line.endswith(" behind…")
    assert "<mark>castle</mark>" in line
    assert len(line) < 220


def test_beginnings_are_offered_for_words_alone() -> None:
    assert beginnings("big invoic") == "big* invoic*"
    assert beginnings("invoic*") == ""
    assert beginnings('"no such"') == ""
