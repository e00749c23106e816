"""The fields: the work for a body is in proportion to its length, and its memory too."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask.testing import FlaskClient
from sentences import Refusal, long_array, many_pairs, missing, refusal_of, unknown, wrong_type

import schemas
from rules import fields

COUNT = 10_000
MESSAGE = {"role": "user", "content": "x"}


@contextmanager
def peak_of(peaks: list[int]) -> Iterator[None]:
    tracemalloc.start()
    yield
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()


def keys(count: int) -> dict[str, int]:
    return {f"key{number:06}": 1 for number in range(count)}


LARGE: dict[str, tuple[Callable[[int], Any], Refusal]] = {
    "items of a wrong type": (
        lambda count: {"messages": [0] * count},
        long_array("messages", 1_000, COUNT),
    ),
    "unknown keys": (keys, unknown("key000000")),
    "unknown keys of a message": (
        lambda count: {"messages": [MESSAGE | keys(count)]},
        unknown("messages[0].key000000"),
    ),
    "metadata": (lambda count: {"metadata": keys(count)}, many_pairs("metadata", COUNT)),
    "parts": (
        lambda count: {"messages": [MESSAGE | {"content": [{"type": 1}] * count}]},
        long_array("messages[0].content", 100, COUNT),
    ),
}


@pytest.mark.parametrize(("make", "refusal"), LARGE.values(), ids=LARGE.keys())
def test_a_large_body_takes_memory_in_proportion(
    client: FlaskClient, make: Callable[[int], Any], refusal: Refusal
) -> None:
    client.post("/threads", json=make(10))
    peaks: list[int] = []
    for count in (COUNT, 4 * COUNT):
        body = client.application.json.dumps(make(count)).encode()
        with peak_of(peaks):
            answer = client.post("/threads", data=body, content_type="application/json")
        if count == COUNT:
            assert refusal_of(answer) == refusal
        assert peaks[-1] < 50 * len(body)
    assert peaks[1] < 5 * peaks[0]


def test_contents_behind_the_last_possible_item_are_not_looked_at(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Any] = []
    load = fields.StrictSchema.load

    def counted(schema: Any, data: Any, **options: Any) -> Any:
        loads.append(data)
        return load(schema, data, **options)

    monkeypatch.setattr(fields.StrictSchema, "load", counted)
    body = {"messages": [MESSAGE] * 2_000}
    assert refusal_of(client.post("/threads", json=body)) == long_array("messages", 1_000, 2_000)
    assert len(loads) == 1 + schemas.MAX_FIRST_MESSAGES


def test_a_missing_value_ends_the_search_for_faults(client: FlaskClient) -> None:
    body = {"messages": [0, MESSAGE | {"a": 1}, {"role": "user"}, {}]}
    assert refusal_of(client.post("/threads", json=body)) == missing("messages[2].content")
    body["messages"] = [0, MESSAGE | {"b": 1}, MESSAGE | {"a": 1}]
    assert refusal_of(client.post("/threads", json=body)) == unknown("messages[1].b")
    body["messages"] = [MESSAGE, 0, "x"]
    refusal = wrong_type("messages[1]", "an object", "an integer")
    assert refusal_of(client.post("/threads", json=body)) == refusal


def test_of_many_unknown_keys_one_is_compared_with_the_known_ones(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []
    find = fields.get_close_matches

    def counted(word: str, *arguments: Any, **options: Any) -> list[str]:
        compared.append(word)
        return find(word, *arguments, **options)

    monkeypatch.setattr(fields, "get_close_matches", counted)
    body = {"messages": [MESSAGE | {"metadat": {}, "metadatas": {}}] * 100}
    told = unknown("messages[0].metadat", "metadata")
    assert refusal_of(client.post("/threads", json=body)) == told
    assert compared == ["metadat"]
