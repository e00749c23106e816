"""Lists: pages, cursors (also of deleted objects), filters, search, and query plans."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from sentences import (
    NUL_IN_QUERY,
    Refusal,
    duplicate,
    empty_string,
    high_integer,
    long_key,
    long_string,
    low_integer,
    many_pairs,
    no_object,
    refusal_of,
    unknown,
    unsupported,
    wrong_prefix,
    wrong_type,
)

import database
from lists import search, threads
from rules.ids_and_clock import sources, unix_now
from store import tombstones

DAY = 86_400


@pytest.fixture(params=["threads", "threads by activity", "messages"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each test with this fixture holds for both lists, and for both orders of threads."""
    return str(request.param)


@pytest.fixture
def address(kind: str, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> str:
    if kind == "messages":
        return f"/v1/threads/{client.post('/v1/threads').json['id']}/messages"
    if kind == "threads by activity":
        monkeypatch.setattr(client, "get", partial(get_by_activity, client.get))
    return "/v1/threads"


@pytest.fixture(params=["created_at", "last_active_at"])
def sort(
    request: pytest.FixtureRequest, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Each test with this fixture holds for both orders: the newest threads were active last."""
    if request.param == "last_active_at":
        monkeypatch.setattr(client, "get", partial(get_by_activity, client.get))
    return str(request.param)


def get_by_activity(get: Callable[..., Any], path: str, **options: Any) -> Any:
    """Get a list of threads by activity."""
    if path.partition("?")[0] != "/v1/threads":
        return get(path, **options)
    if "query_string" in options:
        query = {**options["query_string"], "sort": "last_active_at"}
        return get(path, query_string=query)
    return get(f"{path}{'&' if '?' in path else '?'}sort=last_active_at")


def add(client: FlaskClient, address: str, count: int) -> list[str]:
    """Add objects to a list; return their ids, oldest first."""
    body = {"role": "user", "content": "Hello"} if address.endswith("messages") else {}
    return [client.post(address, json=body).json["id"] for _ in range(count)]


def ids(client: FlaskClient, address: str, **query: Any) -> list[str]:
    answer = client.get(address, query_string=query)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json["data"]]


@pytest.mark.parametrize(
    ("query", "places", "has_more"),
    [
        ("", "43210", False),
        ("order=desc", "43210", False),
        ("order=asc", "01234", False),
        ("limit=1", "4", True),
        ("limit=2&order=asc", "01", True),
        ("limit=5", "43210", False),
        ("limit=100", "43210", False),
        ("after={3}", "210", False),
        ("after={3}&limit=2", "21", True),
        ("after={3}&limit=3", "210", False),
        ("after={0}", "", False),
        ("after={1}&order=asc", "234", False),
        ("after={1}&order=asc&limit=2", "23", True),
        ("after={4}&order=asc", "", False),
        ("before={1}", "432", False),
        ("before={1}&limit=2", "32", True),
        ("before={4}", "", False),
        ("before={3}&order=asc", "012", False),
        ("before={3}&order=asc&limit=2", "12", True),
        ("before={3}&order=asc&limit=3", "012", False),
        ("after={4}&before={0}", "321", False),
        ("after={4}&before={0}&limit=2", "32", True),
        ("after={0}&before={4}&order=asc&limit=2", "12", True),
        ("after={0}&before={4}", "", False),
    ],
)
def test_page_holds_what_the_query_asks_for(
    client: FlaskClient, address: str, query: str, places: str, has_more: bool
) -> None:
    added = add(client, address, 5)
    answer = client.get(f"{address}?{query.format(*added)}").json
    expected = [added[int(place)] for place in places]
    assert [item["id"] for item in answer["data"]] == expected
    assert {key: answer[key] for key in answer if key != "data"} == {
        "object": "list",
        "first_id": expected[0] if expected else None,
        "last_id": expected[-1] if expected else None,
        "has_more": has_more,
    }


def test_list_has_its_keys_in_wire_order(client: FlaskClient, address: str) -> None:
    assert client.get(address).text == (
        '{"object":"list","data":[],"first_id":null,"last_id":null,"has_more":false}'
    )


def test_page_holds_twenty_by_default(client: FlaskClient, address: str) -> None:
    added = add(client, address, 21)
    assert ids(client, address) == added[:0:-1]


def test_listed_thread_is_the_whole_thread(client: FlaskClient) -> None:
    resources = {"code_interpreter": {"file_ids": ["file-1"]}}
    body = {"metadata": {"a": "1"}, "tool_resources": resources}
    thread = client.post("/v1/threads", json=body).json
    assert client.get("/threads").json["data"] == [thread]


def test_order_is_that_of_creation_when_all_share_one_second(
    client: FlaskClient, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tombstones, "unix_now", lambda: 1_700_000_000)
    added = add(client, address, 12)
    all_ids: list[str] = []
    while page := ids(client, address, limit=5, order="asc", after=all_ids[-1:]):
        all_ids += page
    assert all_ids == added
    assert ids(client, address) == added[::-1]


def test_messages_keep_their_order_when_the_clock_jumps_back(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = client.post("/v1/threads").json["id"]
    added = []
    for second in (1_700_000_005, 1_700_000_001, 1_700_000_003):
        monkeypatch.setattr(sources, "now", lambda second=second: second)
        added += add(client, f"/v1/threads/{thread}/messages", 1)
    assert ids(client, f"/v1/threads/{thread}/messages", order="asc") == added


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("cursor", ["after", "before"])
def test_cursor_of_a_deleted_object_keeps_its_place(
    client: FlaskClient, address: str, order: str, cursor: str
) -> None:
    added = add(client, address, 5)
    before = ids(client, address, order=order, **{cursor: added[2]})
    client.delete(f"{address}/{added[2]}")
    assert ids(client, address, order=order, **{cursor: added[2]}) == before


@pytest.mark.parametrize(
    ("seconds", "status"), [(DAY - 1, 200), (DAY, 400), (DAY + 1, 400)], ids=str
)
def test_place_of_a_deleted_object_is_kept_for_a_day(
    client: FlaskClient,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    seconds: int,
    status: int,
) -> None:
    added = add(client, address, 2)
    monkeypatch.setattr(tombstones, "unix_now", lambda: 1_800_000_000)
    client.delete(f"{address}/{added[0]}")
    monkeypatch.setattr(tombstones, "unix_now", lambda: 1_800_000_000 + seconds)
    assert client.get(address, query_string={"after": added[0]}).status_code == status


def test_places_too_old_are_forgotten_by_the_next_delete(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = add(client, "/v1/threads", 2)
    client.delete(f"/v1/threads/{first}")
    later = unix_now() + DAY
    monkeypatch.setattr(tombstones, "unix_now", lambda: later)
    client.delete(f"/v1/threads/{second}")
    with app.app_context(), database.read() as connection:
        remaining = [row.id for row in connection.rows("SELECT id FROM tombstones")]
    assert remaining == [second]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_loop_that_deletes_while_it_pages_deletes_all(
    client: FlaskClient, address: str, order: str, limit: int
) -> None:
    added = add(client, address, 7)
    deleted: list[str] = []
    while page := ids(client, address, limit=limit, order=order, after=deleted[-1:]):
        for id_ in page:
            assert client.delete(f"{address}/{id_}").status_code == 200
        deleted += page
    assert deleted == (added if order == "asc" else added[::-1])


def test_object_added_while_paging_neither_repeats_nor_hides_another(
    client: FlaskClient, address: str
) -> None:
    added = add(client, address, 4)
    page = ids(client, address, limit=2)
    add(client, address, 1)
    assert page + ids(client, address, limit=2, after=page[-1]) == added[::-1]


def test_run_id_keeps_the_messages_of_one_run(app: Flask, client: FlaskClient) -> None:
    thread = client.post("/v1/threads").json["id"]
    address = f"/v1/threads/{thread}/messages"
    added = add(client, address, 4)
    change = sa.text("UPDATE messages SET run_id = 'run_1' WHERE id IN (:a, :b)")
    values = {"a": added[0], "b": added[2]}
    with app.app_context():
        database.write(lambda connection: connection.change(change, values))
    assert ids(client, address, run_id="run_1") == [added[2], added[0]]
    assert ids(client, address, run_id="run_1", after=added[2]) == [added[0]]
    assert ids(client, address, run_id="run_2") == []


METADATA = [
    {"user": "u1", "plan": "free"},
    {"user": "u2", "plan": "free"},
    {"user": "u1", "plan": "paid", "größe": "näh'\"\\%_😀"},
    {"user": "U1", "k]ey": "a=b&c", "": "", "a.b[c]": " x "},
    {},
]


@pytest.mark.usefixtures("plan")
@pytest.mark.parametrize(
    ("pairs", "places"),
    [
        ({"user": "u1"}, "20"),
        ({"plan": "free"}, "10"),
        ({"user": "u1", "plan": "free"}, "0"),
        ({"plan": "paid", "user": "u1"}, "2"),
        ({"user": "u2", "plan": "paid"}, ""),
        ({"user": "u"}, ""),
        ({"user": "U1"}, "3"),
        ({"user": "%"}, ""),
        ({"user": ""}, ""),
        ({"nobody": "u1"}, ""),
        ({"größe": "näh'\"\\%_😀"}, "2"),
        ({"k]ey": "a=b&c"}, "3"),
        ({"": ""}, "3"),
        ({"a.b[c]": " x "}, "3"),
        ({"user' OR '1'='1": "u1"}, ""),
    ],
    ids=str,
)
def test_metadata_filter_keeps_threads_that_have_every_pair(
    client: FlaskClient, pairs: dict[str, str], places: str
) -> None:
    added = [client.post("/v1/threads", json={"metadata": m}).json["id"] for m in METADATA]
    query = {f"metadata[{key}]": value for key, value in pairs.items()}
    assert ids(client, "/v1/threads", **query) == [added[int(place)] for place in places]
    ascending = [added[int(place)] for place in reversed(places)]
    assert ids(client, "/v1/threads", order="asc", **query) == ascending


def test_metadata_filter_sees_a_modified_thread(client: FlaskClient) -> None:
    thread = client.post("/v1/threads", json={"metadata": {"user": "u1"}}).json["id"]
    client.post(f"/v1/threads/{thread}", json={"metadata": {"user": "u2"}})
    assert ids(client, "/v1/threads", **{"metadata[user]": "u1"}) == []
    assert ids(client, "/v1/threads", **{"metadata[user]": "u2"}) == [thread]


@pytest.mark.usefixtures("plan")
def test_metadata_filter_pages_with_a_cursor_outside_it(client: FlaskClient) -> None:
    added = [
        client.post("/v1/threads", json={"metadata": {"even": str(number % 2 == 0)}}).json["id"]
        for number in range(6)
    ]
    query = {"metadata[even]": "True", "after": added[3], "limit": 1}
    assert ids(client, "/v1/threads", **query) == [added[2]]


@pytest.fixture
def dated(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three threads, of the seconds 100, 200 and 300, each with a message and metadata."""
    thread_ids = []
    for second in (100, 200, 300):
        monkeypatch.setattr(sources, "now", lambda second=second: second)
        message = {"role": "user", "content": f"Lisbon {second} old trams"}
        body = {"messages": [message], "metadata": {"odd": str(second // 100 % 2)}}
        thread_ids.append(client.post("/v1/threads", json=body).json["id"])
    return thread_ids


@pytest.mark.usefixtures("plan")
@pytest.mark.parametrize(
    ("query", "places"),
    [
        ("created_after=100", "21"),
        ("created_after=99", "210"),
        ("created_after=300", ""),
        ("created_before=300", "10"),
        ("created_before=0", ""),
        ("created_before=253402300799", "210"),
        ("created_after=100&created_before=300", "1"),
        ("created_after=200&created_before=200", ""),
        ("created_after=100&order=asc&limit=1", "1"),
        ("created_after=0&metadata[odd]=1", "20"),
        ("created_after=100&metadata[odd]=1", "2"),
        ("q=lisbon&created_before=300&metadata[odd]=1", "0"),
        ("q=lisbon&metadata[odd]=1&limit=1", "2"),
        ("q=lisbon&metadata[odd]=1&after={2}", "0"),
        ("q=lisbon&before={0}&order=desc", "21"),
        ("q=300&created_before=300", ""),
        ("q=lisbon&metadata[odd]=2", ""),
        ("q=lisbon&order=asc&limit=2", "01"),
    ],
)
def test_filters_combine(client: FlaskClient, dated: list[str], query: str, places: str) -> None:
    answer = client.get(f"/v1/threads?{query.format(*dated)}")
    assert [item["id"] for item in answer.json["data"]] == [dated[int(place)] for place in places]


TEXTS = [
    ["The old tram climbs to the castle", "Which line is it?"],
    ["Castle trams are OLD", "the old castle AND a tram NEAR it"],
    ["C++ and C#, 50% off: what's new-ish? (e.g. x^2*y)", "Straße, café, ΣΊΣΥΦΟΣ, 東京"],
]


@pytest.fixture
def texts(client: FlaskClient) -> list[str]:
    return [
        client.post(
            "/v1/threads", json={"messages": [{"role": "user", "content": t} for t in thread]}
        ).json["id"]
        for thread in TEXTS
    ]


@pytest.fixture(params=["rare", "common"])
def plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, sort: str) -> None:
    """List from the matches, and from the newest thread on."""
    if request.param == "common":
        monkeypatch.setattr(search, "_RARE_MATCHES", 0)
        monkeypatch.setattr(search, "_RARE_BEGINNINGS", 0)
        monkeypatch.setattr(threads, "_FEW_THREADS", 0)


@pytest.mark.usefixtures("plan")
@pytest.mark.parametrize(
    ("q", "places"),
    [
        ("castle", "10"),
        ("CASTLE", "10"),
        ("tram castle", "10"),
        ("castle  \t old", "10"),
        ("castle line", ""),
        ("line", "0"),
        ("cast", ""),
        ('"old castle"', "1"),
        ('"castle old"', ""),
        ('"old tram" castle', "0"),
        ('"old tram', "0"),
        ('castle ""', "10"),
        ("tram NEAR castle", "1"),
        ("tram AND castle", "1"),
        ("tram OR line", ""),
        ("NOT castle", ""),
        ("castle NOT tram", ""),
        ("cas*", "10"),
        ("CAS*", "10"),
        ("castle*", "10"),
        ("castles*", ""),
        ("ca* tra*", "10"),
        ("old-tra*", "0"),
        ("tram-old*", ""),
        ("strass*", ""),
        ("straß*", "2"),
        ("ΣΊΣ*", "2"),
        ("東京*", "2"),
        ("new-ish*", "2"),
        ("cas**", "10"),
        ("ca*tle", ""),
        ("*astle", ""),
        ('"cas*"', ""),
        ('"castle*"', "10"),
        ('"the cas" cas*', ""),
        ("^castle", "10"),
        ("text:castle", ""),
        ("- castle", "10"),
        ("-castle", "10"),
        ("(castle", "10"),
        ("castle)", "10"),
        ("{castle}", "10"),
        ("castle'; DROP TABLE threads; --", ""),
        ("NEAR(tram castle, 2)", ""),
        ("new-ish", "2"),
        ("c++", "2"),
        ("what's", "2"),
        ("STRASSE", ""),
        ("straße", "2"),
        ("CAFÉ", "2"),
        ("σίσυφος", "2"),
        ("東京", "2"),
        ("!!!", ""),
        ("* ^ :", ""),
        ("castle !!!", "10"),
        ("\\", ""),
        ("%", ""),
        ("😀", ""),
        ("\ud7ff\ufffd\u202e", ""),
        ("x" * 512, ""),
    ],
)
def test_search_finds_threads_with_all_words_in_one_message(
    client: FlaskClient, texts: list[str], q: str, places: str
) -> None:
    assert ids(client, "/v1/threads", q=q) == [texts[int(place)] for place in places]


@pytest.mark.usefixtures("plan")
def test_search_finds_a_thread_behind_a_page_of_others(
    client: FlaskClient, texts: list[str]
) -> None:
    for _ in range(3):
        client.post("/v1/threads", json={"messages": [{"role": "user", "content": "another"}]})
    assert ids(client, "/v1/threads", q="castle", limit=1) == [texts[1]]


@pytest.mark.usefixtures("plan")
def test_search_finds_a_thread_behind_a_thousand_matches_of_another(
    client: FlaskClient, texts: list[str]
) -> None:
    many, one = (
        client.post(
            "/v1/threads", json={"messages": [{"role": "user", "content": "castle"}] * count}
        ).json["id"]
        for count in (1_000, 1)
    )
    assert ids(client, "/v1/threads", q="castle") == [one, many, texts[1], texts[0]]


@pytest.mark.parametrize(
    ("text", "q"),
    [
        ("Thanks🙂", "thanks"),
        ("🤖robot🦾arm", "robot arm"),
        ("100₽", "100"),
        ("👍🏽good", "good"),
        ("love❤️it", "it"),
        ("tiếng Việt", "TIENG viet"),
        ("\u2066aside\u2069", "aside"),
    ],
)
def test_a_sign_ends_a_word_and_an_accent_is_none(client: FlaskClient, text: str, q: str) -> None:
    messages = [{"role": "user", "content": text}]
    thread = client.post("/v1/threads", json={"messages": messages}).json["id"]
    assert ids(client, "/v1/threads", q=q) == [thread]


def test_search_reads_text_parts_only(client: FlaskClient) -> None:
    parts = [
        {"type": "text", "text": "first"},
        {"type": "image_url", "image_url": {"url": "https://e.x/picture.png"}},
        {"type": "text", "text": "second"},
    ]
    body = {"messages": [{"role": "user", "content": parts, "metadata": {"word": "hidden"}}]}
    thread = client.post("/v1/threads", json=body).json["id"]
    results = {word: ids(client, "/v1/threads", q=word) for word in ("first", "second")}
    assert results == {"first": [thread], "second": [thread]}
    for word in ("picture", "text", "hidden"):
        assert ids(client, "/v1/threads", q=word) == []


def test_search_forgets_a_deleted_message(client: FlaskClient, texts: list[str]) -> None:
    address = f"/v1/threads/{texts[0]}/messages"
    newest, _ = ids(client, address)
    client.delete(f"{address}/{newest}")
    assert ids(client, "/v1/threads", q="line") == []
    assert ids(client, "/v1/threads", q="climbs") == [texts[0]]


def test_search_finds_each_of_many_messages_until_it_is_deleted(client: FlaskClient) -> None:
    messages = [{"role": "user", "content": f"word{number}"} for number in range(40)]
    thread = client.post("/v1/threads", json={"messages": messages}).json["id"]
    address = f"/v1/threads/{thread}/messages"
    oldest_first = ids(client, address, order="asc", limit=100)
    for number in (0, 15, 16, 31, 32, 39):
        assert ids(client, "/v1/threads", q=f"word{number}") == [thread]
    for number in (15, 39):
        client.delete(f"{address}/{oldest_first[number]}")
        assert ids(client, "/v1/threads", q=f"word{number}") == []


def test_thread_with_many_matches_is_found_once(client: FlaskClient) -> None:
    body = {"messages": [{"role": "user", "content": "again and again"}] * 5}
    thread = client.post("/v1/threads", json=body).json["id"]
    assert ids(client, "/v1/threads", q="again") == [thread]


@pytest.mark.sqlite_only("1 ms, the least limit of PostgreSQL, is enough; test_postgres.py waits")
@pytest.mark.parametrize(("rare", "q"), [(50_000, "everywhere"), (0, "once")])
def test_search_that_takes_too_long_asks_for_a_rarer_word(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, rare: int, q: str
) -> None:
    monkeypatch.setattr(search, "_RARE_MATCHES", rare)
    monkeypatch.setattr(threads, "SEARCH_SECONDS", -1)
    client.post("/v1/threads", json={"messages": [{"role": "user", "content": "once"}]})
    body = {"messages": [{"role": "user", "content": "everywhere"}] * 1_000}
    for _ in range(5):
        client.post("/v1/threads", json=body)
    answer = client.get("/v1/threads", query_string={"q": q})
    message = "The search took too long. Ask for a rarer word, or narrow the dates."
    assert refusal_of(answer) == (message, "q", "search_too_broad")
    assert client.get("/v1/threads").status_code == 200


LISTS = ["/v1/threads", "/v1/threads/{thread}/messages"]


BOTH = [
    ("limit=0", low_integer("limit", 1, 0)),
    ("limit=-1", low_integer("limit", 1, -1)),
    ("limit=101", high_integer("limit", 100, 101)),
    (f"limit={'9' * 30}", high_integer("limit", 100, int("9" * 30))),
    *(
        (f"limit={value}", wrong_type("limit", "an integer", "a string"))
        for value in ("", "x", "1.0", "1e1", "+1", "%201", "0x1", "1_0", "%D9%A1", "²", "true")
    ),
    *(
        (f"order={value}", unsupported("order", value, "'asc' and 'desc'"))
        for value in ("", "ASC", "random()")
    ),
    *((f"{p}=a&{p}=a", duplicate(p)) for p in ("limit", "order", "after", "before", "x")),
    ("offset=1", unknown("offset")),
    ("Limit=1", unknown("Limit", "limit")),
    ("limit[]=1", unknown("limit[]", "limit")),
    ("include=1", unknown("include")),
    ("order=%00", NUL_IN_QUERY),
]


@pytest.mark.parametrize("address", LISTS)
@pytest.mark.parametrize(("query", "refusal"), BOTH)
def test_bad_query_of_a_list_is_refused(
    client: FlaskClient, address: str, query: str, refusal: Refusal
) -> None:
    address = address.format(thread=client.post("/v1/threads").json["id"])
    assert refusal_of(client.get(f"{address}?{query}")) == refusal


@pytest.mark.parametrize("param", ["after", "before"])
@pytest.mark.parametrize(
    ("address", "prefix"), [(LISTS[0], "thread"), (LISTS[1], "msg")], ids=["threads", "messages"]
)
def test_malformed_cursor_is_refused(
    client: FlaskClient, address: str, prefix: str, param: str
) -> None:
    address = address.format(thread=client.post("/v1/threads").json["id"])
    letters = f"Invalid '{param}': ids hold letters, digits, '_' and '-' only."
    for value, refusal in (
        ("", empty_string(param)),
        ("run_1", wrong_prefix(param, "run_1", prefix)),
        (f"{prefix}_é", (letters, param, "invalid_value")),
        (f"{prefix}_" + "x" * 64, long_string(param, 64, len(prefix) + 65)),
    ):
        assert refusal_of(client.get(address, query_string={param: value})) == refusal


@pytest.mark.parametrize("param", ["after", "before"])
def test_unknown_cursor_is_refused(
    client: FlaskClient, kind: str, address: str, param: str
) -> None:
    add(client, address, 1)
    cursor = f"{'msg' if kind == 'messages' else 'thread'}_unknown"
    answer = client.get(address, query_string={param: cursor})
    message, _, _ = no_object("message" if kind == "messages" else "thread", cursor)
    assert refusal_of(answer) == (message, param, "invalid_value")


def test_cursor_of_another_threads_message_is_unknown(client: FlaskClient) -> None:
    message = {"role": "user", "content": "Hello"}
    one, two = (
        client.post("/v1/threads", json={"messages": [message]}).json["id"] for _ in range(2)
    )
    (cursor,) = ids(client, f"/v1/threads/{two}/messages")
    for _ in range(2):
        answer = client.get(f"/v1/threads/{one}/messages", query_string={"after": cursor})
        assert refusal_of(answer)[1:] == ("after", "invalid_value")
        client.delete(f"/v1/threads/{two}/messages/{cursor}")


SHORT_BEGINNING = (
    "Invalid 'q': a word that ends with '*' needs 2 letters or digits before it.",
    "q",
    "invalid_value",
)
NOT_METADATA = wrong_type("metadata", "a metadata object", "a string")


@pytest.mark.parametrize(
    ("query", "refusal"),
    [
        ("metadata=x", NOT_METADATA),
        ("metadata=x&metadata[a]=1", NOT_METADATA),
        ("metadata[a]=1&metadata=x", NOT_METADATA),
        ("metadata[a]=1&metadata[a]=2", duplicate("metadata[a]")),
        ("&".join(f"metadata[{number}]=x" for number in range(17)), many_pairs("metadata", 17)),
        ("metadata[k]=" + "v" * 513, long_string("metadata.k", 512, 513)),
        (f"metadata[{'k' * 65}]=v", long_key(f"metadata.{'k' * 65}", "kkk...kkk", 65)),
        *(
            (f"metadata{rest}=1", unknown(f"metadata{rest}", "metadata"))
            for rest in ("[a", ".a", "a]")
        ),
        *(
            (f"{param}={value}", wrong_type(param, "an integer", "a string"))
            for param in ("created_after", "created_before")
            for value in ("", "yesterday", "2024-01-01", "1.5", "NaN", "9" * 401)
        ),
        ("created_after=-1", low_integer("created_after", 0, -1)),
        (f"created_before={2**53}", high_integer("created_before", 253402300799, 2**53)),
        ("q=", empty_string("q")),
        *(
            (f"q={value}", ("Invalid 'q': expected at least one word.", "q", "empty_string"))
            for value in ("%20", "%22%22", "%22%20%22", "%22")
        ),
        ("q=" + "x" * 513, long_string("q", 512, 513)),
        ("q=a&q=b", duplicate("q")),
        ("sort=touch", unsupported("sort", "touch", "'created_at' and 'last_active_at'")),
        *(
            (f"q={value}", SHORT_BEGINNING)
            for value in ("a*", "castle é*", "old-t*", "1***", "c%2B%2B*")
        ),
        ("q=%00", NUL_IN_QUERY),
        ("run_id=run_1", unknown("run_id")),
    ],
)
def test_bad_filter_of_threads_is_refused(
    client: FlaskClient, query: str, refusal: Refusal
) -> None:
    assert refusal_of(client.get(f"/v1/threads?{query}")) == refusal


@pytest.mark.parametrize("name", ["q", "metadata[a]", "created_after", "created_before"])
def test_messages_have_no_filter_of_threads(client: FlaskClient, name: str) -> None:
    thread = client.post("/v1/threads").json["id"]
    answer = client.get(f"/v1/threads/{thread}/messages", query_string={name: "1"})
    assert refusal_of(answer) == unknown(name.partition("[")[0])


PLANS = [
    "",
    "?order=asc",
    "?after={0}",
    "?before={0}",
    "?after={2}&before={0}",
    "?created_after=5&created_before=9",
    "?created_before=9&order=asc&after={0}",
    "?metadata[odd]=1",
    "?metadata[odd]=1&metadata[b]=2&after={0}",
    "?metadata[odd]=1&created_after=5",
    "?q=lisbon",
    "?q=lisbon&created_after=5&after={1}",
    "?q=lisbon&metadata[odd]=1&order=asc",
    "/{0}/messages",
    "/{0}/messages?order=asc&after={m}",
    "/{0}/messages?before={m}",
    "/{0}/messages?run_id=run_1",
    "/{0}/messages?run_id=run_1&after={m}&order=asc",
]


@pytest.mark.usefixtures("plan")
@pytest.mark.parametrize("address", PLANS)
@pytest.mark.sqlite_only("it reads the query plans of SQLite")
def test_list_walks_an_index_and_never_a_whole_table(
    app: Flask,
    client: FlaskClient,
    dated: list[str],
    address: str,
    sort: str,
    explained: Callable[[], list[str]],
) -> None:
    (message,) = ids(client, f"/v1/threads/{dated[0]}/messages")
    explained()
    answer = client.get("/v1/threads" + address.format(*dated, m=message))
    assert answer.status_code == 200
    steps = explained()
    assert steps
    assert [
        step for step in steps if re.match("SCAN (threads|messages|thread_metadata)", step)
    ] == []
    is_sorted = "q=" in address or (sort == "last_active_at" and "=" in address)
    assert is_sorted or [step for step in steps if "TEMP B-TREE" in step] == []


@pytest.fixture
def explained(app: Flask, statements: list[str]) -> Callable[[], list[str]]:
    """Return a function that gives the query plan of every SELECT since it was last called."""

    def plans() -> list[str]:
        selects = [each for each in statements if each.startswith("SELECT")]
        with app.app_context(), database.read() as connection:
            steps = [
                row[3]
                for select in selects
                for row in connection.raw.execute(f"EXPLAIN QUERY PLAN {select}")
            ]
        statements.clear()
        return steps

    return plans


def test_copy_has_the_same_messages_under_new_ids(client: FlaskClient) -> None:
    bodies = [{"role": r, "content": f"{r} {n}"} for n in range(450) for r in ("user", "assistant")]
    thread = client.post("/v1/threads", json={"messages": bodies, "metadata": {"a": "1"}}).json
    copy = client.post(f"/v1/threads/{thread['id']}/copy")
    assert copy.status_code == 200
    assert list(copy.json) == list(thread)
    assert copy.json["id"] != thread["id"]
    one, two = (_all_messages(client, id_) for id_ in (thread["id"], copy.json["id"]))
    assert not {m["id"] for m in one} & {m["id"] for m in two}
    assert {m["thread_id"] for m in two} == {copy.json["id"]}
    mine = ("id", "thread_id")
    assert [{k: v for k, v in m.items() if k not in mine} for m in one] == [
        {k: v for k, v in m.items() if k not in mine} for m in two
    ]


def _all_messages(client: FlaskClient, thread: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    answer: dict[str, Any] = {"has_more": True}
    while answer["has_more"]:
        query = {"limit": 100, "order": "asc", "after": [m["id"] for m in messages[-1:]]}
        answer = client.get(f"/v1/threads/{thread}/messages", query_string=query).json
        messages += answer["data"]
    return messages


@pytest.mark.parametrize(
    ("body", "metadata"),
    [
        (None, {"a": "1"}),
        ({}, {"a": "1"}),
        ({"metadata": {"b": "2"}}, {"b": "2"}),
        ({"metadata": {}}, {}),
        ({"metadata": None}, {}),
    ],
)
def test_copy_keeps_or_replaces_the_metadata(
    client: FlaskClient, body: dict[str, Any] | None, metadata: dict[str, str]
) -> None:
    resources = {"code_interpreter": {"file_ids": ["file-1"]}}
    original = {"metadata": {"a": "1"}, "tool_resources": resources}
    thread = client.post("/v1/threads", json=original).json["id"]
    options = {} if body is None else {"json": body}
    copy = client.post(f"/v1/threads/{thread}/copy", **options).json
    assert (copy["metadata"], copy["tool_resources"]) == (metadata, resources)
    assert ids(client, "/v1/threads") == [copy["id"], thread]


def test_copy_is_found_by_search_and_metadata_and_lives_alone(client: FlaskClient) -> None:
    message = {"role": "user", "content": "needle"}
    body = {"messages": [message], "metadata": {"a": "1"}}
    thread = client.post("/v1/threads", json=body).json["id"]
    copy = client.post(f"/threads/{thread}/copy").json["id"]
    client.delete(f"/v1/threads/{thread}")
    assert ids(client, "/v1/threads", q="needle", **{"metadata[a]": "1"}) == [copy]


@pytest.mark.parametrize(
    ("thread", "body", "status", "refusal"),
    [
        ("thread_unknown", {}, 404, no_object("thread", "thread_unknown")),
        ("conv_1", {}, 400, wrong_prefix("thread_id", "conv_1", "thread")),
        ("thread_unknown", {"messages": []}, 400, unknown("messages")),
    ],
)
def test_copy_that_cannot_be_made_is_refused(
    client: FlaskClient, thread: str, body: dict[str, Any], status: int, refusal: Refusal
) -> None:
    assert refusal_of(client.post(f"/v1/threads/{thread}/copy", json=body), status) == refusal
