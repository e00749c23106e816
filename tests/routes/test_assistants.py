"""The five operations on assistants: what they answer, fill in, keep and refuse."""

import json
import re
from typing import Any

import pytest
from conftest import bearer
from flask.testing import FlaskClient
from sentences import (
    high_integer,
    long_array,
    long_string,
    low_integer,
    many_pairs,
    missing,
    no_object,
    refusal_of,
    unknown,
    unsupported,
    wrong_prefix,
    wrong_type,
)

KEYS = [
    "id",
    "object",
    "created_at",
    "name",
    "description",
    "model",
    "instructions",
    "tools",
    "top_p",
    "temperature",
    "reasoning_effort",
    "tool_resources",
    "metadata",
    "response_format",
]
DEFAULTS = {
    "name": None,
    "description": None,
    "model": "gpt-4o",
    "instructions": None,
    "tools": [],
    "top_p": 1.0,
    "temperature": 1.0,
    "reasoning_effort": None,
    "tool_resources": {},
    "metadata": {},
    "response_format": "auto",
}
RANKING = {"ranker": "default_2024_08_21", "score_threshold": 0.0, "hybrid_search": None}
NO_PARAMETERS = {"type": "object", "properties": {}}
FORMAT = {
    "type": "json_schema",
    "json_schema": {"schema": {"type": ["string", "null"], "enum": ["a", None]}, "name": "answer"},
}
SETTINGS = {
    "name": "Weather",
    "description": "Knows the weather.",
    "model": "gpt-4.1",
    "instructions": "Answer in\none line.",
    "tools": [{"type": "function", "function": {"name": "get_weather"}}],
    "top_p": 0.25,
    "temperature": 0.0,
    "reasoning_effort": "low",
    "tool_resources": {"file_search": {"vector_store_ids": ["vs_1"]}},
    "metadata": {"a": "1"},
    "response_format": {"type": "json_object"},
}
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
MISSING = f"asst_{'x' * 24}"


def create(client: FlaskClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/assistants", json={"model": "gpt-4o"} | body, buffered=True)
    assert answer.status_code == 200, answer.text
    return answer.json


def sent(client: FlaskClient, **body: Any) -> dict[str, Any]:
    """Create an assistant from keys in this order: Flask's own client sorts them."""
    data = json.dumps({"model": "gpt-4o"} | body)
    answer = client.post("/v1/assistants", data=data, content_type="application/json")
    assert answer.status_code == 200, answer.text
    return answer.json


def address(assistant: dict[str, Any]) -> str:
    return f"/v1/assistants/{assistant['id']}"


def with_function(**function: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "f"} | function}]}


# create


def test_a_model_is_enough(client: FlaskClient) -> None:
    assistant = create(client)
    assert list(assistant) == KEYS
    assert re.fullmatch("asst_[A-Za-z0-9]{24}", assistant["id"])
    assert assistant["object"] == "assistant"
    assert {name: assistant[name] for name in DEFAULTS} == DEFAULTS
    assert client.get(address(assistant)).json == assistant


def test_numbers_are_decimals(client: FlaskClient) -> None:
    answer = client.post("/v1/assistants", json={"model": "m", "temperature": 1})
    assert b'"top_p":1.0,"temperature":1.0' in answer.data


def test_everything_that_is_given_is_kept(client: FlaskClient) -> None:
    assistant = create(client, **SETTINGS)
    filled_in = {"name": "get_weather", "parameters": NO_PARAMETERS, "strict": False}
    tools = [{"type": "function", "function": filled_in}]
    assert {name: assistant[name] for name in SETTINGS} == SETTINGS | {"tools": tools}
    assert client.get(address(assistant)).json == assistant


def test_null_is_what_is_not_given(client: FlaskClient) -> None:
    assistant = create(client, **dict.fromkeys(DEFAULTS.keys() - {"model", "tools"}))
    assert {name: assistant[name] for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize("effort", EFFORTS)
def test_every_reasoning_effort_is_taken(client: FlaskClient, effort: str) -> None:
    assert create(client, reasoning_effort=effort)["reasoning_effort"] == effort


@pytest.mark.parametrize(
    "given", ["auto", {"type": "text"}, {"type": "json_object"}, FORMAT], ids=str
)
def test_a_response_format_is_given_back_as_sent(client: FlaskClient, given: Any) -> None:
    found = client.get(address(sent(client, response_format=given))).json["response_format"]
    assert found == given
    assert list(found) == list(given)


def test_an_empty_name_is_kept(client: FlaskClient) -> None:
    assert create(client, name="", description="", instructions="")["name"] == ""


# what is filled in


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        ({}, ["name", "parameters", "strict"]),
        (
            {"strict": True, "parameters": {}, "description": "d"},
            ["name", "description", "parameters", "strict"],
        ),
        (
            {"strict": None, "parameters": None, "description": None},
            ["name", "parameters", "strict"],
        ),
    ],
)
def test_a_function_has_its_keys_in_the_recorded_order(
    client: FlaskClient, given: dict[str, Any], keys: list[str]
) -> None:
    assert list(sent(client, **with_function(**given))["tools"][0]["function"]) == keys


def test_the_parameters_of_a_function_stay_as_they_are(client: FlaskClient) -> None:
    parameters = {"z": [None, 1, 1.0, {"enum": ["b", "a", None]}], "a": {"b": {}}, "": False}
    [tool] = sent(client, **with_function(parameters=parameters))["tools"]
    assert tool["function"]["parameters"] == parameters
    assert list(tool["function"]["parameters"]) == ["z", "a", ""]


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (None, {"ranking_options": RANKING}),
        ({}, {"ranking_options": RANKING}),
        ({"max_num_results": 5}, {"max_num_results": 5, "ranking_options": RANKING}),
        (
            {"ranking_options": {"score_threshold": 1, "ranker": "auto"}, "max_num_results": 50},
            {
                "max_num_results": 50,
                "ranking_options": {
                    "ranker": "auto",
                    "score_threshold": 1.0,
                    "hybrid_search": None,
                },
            },
        ),
    ],
)
def test_a_file_search_has_its_ranking(
    client: FlaskClient, given: dict[str, Any] | None, options: dict[str, Any]
) -> None:
    [tool] = create(client, tools=[{"type": "file_search", "file_search": given}])["tools"]
    assert tool == {"type": "file_search", "file_search": options}
    assert list(tool["file_search"]) == list(options)


def test_a_code_interpreter_has_files(client: FlaskClient) -> None:
    tools = [{"type": "code_interpreter"}]
    assistant = create(client, tools=tools)
    assert assistant["tool_resources"] == {"code_interpreter": {"file_ids": []}}
    changed = client.post(address(create(client)), json={"tools": tools}).json
    assert changed["tool_resources"] == {"code_interpreter": {"file_ids": []}}


def test_a_code_interpreter_keeps_the_files_that_are_given(client: FlaskClient) -> None:
    resources = {"code_interpreter": {"file_ids": ["file-1"]}}
    tools = [{"type": "code_interpreter"}]
    assistant = create(client, tools=tools, tool_resources=resources)
    assert assistant["tool_resources"] == resources


def test_a_new_vector_store_has_an_id(client: FlaskClient) -> None:
    stores = {"file_search": {"vector_stores": [{"file_ids": ["file-1"]}]}}
    [minted] = create(client, tool_resources=stores)["tool_resources"]["file_search"][
        "vector_store_ids"
    ]
    assert re.fullmatch("vs_[0-9a-f]{32}", minted)


def test_what_was_answered_can_be_sent_back(client: FlaskClient) -> None:
    kinds = [{"type": "file_search"}, {"type": "code_interpreter"}]
    assistant = create(client, tools=[*kinds, *with_function()["tools"]])
    settings = {name: assistant[name] for name in DEFAULTS}
    assert client.post(address(assistant), json=settings).json == assistant


# refusals


BAD_NAME = (
    "Invalid 'tools[0].function.name': string does not match pattern. Expected a string that "
    "matches the pattern '^[a-zA-Z0-9_-]+$'."
)
TOO_DEEP = "Invalid 'tools[0].function.parameters': nested too deeply. Expected at most 100 levels."
REFUSED: dict[str, tuple[dict[str, Any], Any]] = {
    "model null": ({"model": None}, wrong_type("model", "a string", "null")),
    "name": ({"name": "x" * 257}, long_string("name", 256, 257)),
    "description": ({"description": "x" * 513}, long_string("description", 512, 513)),
    "instructions": (
        {"instructions": "x" * 256_001},
        long_string("instructions", 256_000, 256_001),
    ),
    "tools": (
        {"tools": [{"type": "code_interpreter"}] * 129},
        long_array("tools", 128, 129),
    ),
    "tools null": ({"tools": None}, wrong_type("tools", "an array", "null")),
    "tool kind": (
        {"tools": [{"type": "retrieval"}]},
        unsupported(
            "tools[0].type", "retrieval", "'code_interpreter', 'function', and 'file_search'"
        ),
    ),
    "no function": ({"tools": [{"type": "function"}]}, missing("tools[0].function")),
    "no name": (
        {"tools": [{"type": "function", "function": {}}]},
        missing("tools[0].function.name"),
    ),
    "bad name": (with_function(name="a b"), (BAD_NAME, "tools[0].function.name", "invalid_value")),
    "long name": (with_function(name="x" * 65), long_string("tools[0].function.name", 64, 65)),
    "parameters": (
        with_function(parameters="{}"),
        wrong_type("tools[0].function.parameters", "an object", "a string"),
    ),
    "metadata": ({"metadata": dict.fromkeys(map(str, range(17)), "")}, many_pairs("metadata", 17)),
    "temperature kind": (
        {"temperature": "1"},
        wrong_type("temperature", "a decimal", "a string"),
    ),
    "temperature true": (
        {"temperature": True},
        wrong_type("temperature", "a decimal", "a boolean"),
    ),
    "effort": (
        {"reasoning_effort": "huge"},
        unsupported(
            "reasoning_effort",
            "huge",
            "'none', 'minimal', 'low', 'medium', 'high', 'xhigh', and 'max'",
        ),
    ),
    "format word": (
        {"response_format": "json"},
        unsupported("response_format", "json", "'auto'"),
    ),
    "format kind": (
        {"response_format": []},
        wrong_type("response_format", "one of a string or object", "an array"),
    ),
    "format type": (
        {"response_format": {"type": "xml"}},
        unsupported("response_format.type", "xml", "'text', 'json_object', and 'json_schema'"),
    ),
    "format schema": (
        {"response_format": {"type": "json_schema"}},
        missing("response_format.json_schema"),
    ),
    "results": (
        {"tools": [{"type": "file_search", "file_search": {"max_num_results": 51}}]},
        high_integer("tools[0].file_search.max_num_results", 50, 51),
    ),
    "no results": (
        {"tools": [{"type": "file_search", "file_search": {"max_num_results": 0}}]},
        low_integer("tools[0].file_search.max_num_results", 1, 0),
    ),
    "files": (
        {"tool_resources": {"code_interpreter": {"file_ids": ["file-1"] * 21}}},
        long_array("tool_resources.code_interpreter.file_ids", 20, 21),
    ),
    "first version": ({"file_ids": []}, unknown("file_ids")),
}


@pytest.mark.parametrize(("body", "refusal"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_value_is_refused_at_create_and_at_modify(
    client: FlaskClient, body: dict[str, Any], refusal: Any
) -> None:
    assistant = create(client)
    assert refusal_of(client.post("/v1/assistants", json={"model": "m"} | body)) == refusal
    assert refusal_of(client.post(address(assistant), json=body)) == refusal
    assert client.get("/v1/assistants").json["data"] == [assistant]


@pytest.mark.parametrize(
    ("name", "value", "bound"),
    [("temperature", 2.5, 2), ("temperature", 200, 2), ("top_p", 1.01, 1)],
)
def test_a_number_above_its_bound_is_refused(
    client: FlaskClient, name: str, value: float, bound: int
) -> None:
    problem = f"Invalid '{name}': decimal above maximum value."
    sentence = f"{problem} Expected a value <= {bound}, but got {value} instead."
    answer = client.post("/v1/assistants", json={"model": "m", name: value})
    assert refusal_of(answer) == (sentence, name, "decimal_above_max_value")


@pytest.mark.parametrize("name", ["temperature", "top_p"])
def test_a_number_below_zero_is_refused(client: FlaskClient, name: str) -> None:
    problem = f"Invalid '{name}': decimal below minimum value."
    sentence = f"{problem} Expected a value >= 0, but got -0.5 instead."
    answer = client.post("/v1/assistants", json={"model": "m", name: -0.5})
    assert refusal_of(answer) == (sentence, name, "decimal_below_min_value")


@pytest.mark.parametrize("body", [None, {}, {"name": "x"}], ids=["none", "empty", "no model"])
def test_create_needs_a_model(client: FlaskClient, body: Any) -> None:
    assert refusal_of(client.post("/v1/assistants", json=body)) == missing("model")


def test_values_at_their_bounds_are_taken(client: FlaskClient) -> None:
    body = {
        "name": "é" * 256,
        "description": "x" * 512,
        "instructions": "x" * 256_000,
        "tools": with_function(name="x" * 64)["tools"] * 128,
        "temperature": 2,
        "top_p": 0,
    }
    assistant = create(client, **body)
    assert (len(assistant["tools"]), len(assistant["instructions"])) == (128, 256_000)
    assert (assistant["temperature"], assistant["top_p"]) == (2.0, 0.0)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for number in range(levels - 1):
        value = {"a": [value]} if number % 2 and levels - number > 2 else {"a": value}
    return value


@pytest.mark.parametrize("levels", [1, 60])
def test_parameters_may_be_nested(client: FlaskClient, levels: int) -> None:
    parameters = nested(levels)
    assistant = create(client, **with_function(parameters=parameters))
    assert client.get(address(assistant)).json["tools"][0]["function"]["parameters"] == parameters


@pytest.mark.parametrize("levels", [101, 300])
def test_parameters_that_are_nested_too_deeply_are_refused(
    client: FlaskClient, levels: int
) -> None:
    body = {"model": "m"} | with_function(parameters=nested(levels))
    refusal = (TOO_DEEP, "tools[0].function.parameters", "invalid_value")
    assert refusal_of(client.post("/v1/assistants", json=body)) == refusal


# retrieve, modify, delete


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_missing_assistant_is_told_in_the_hosted_words(client: FlaskClient, method: str) -> None:
    body = {"name": "x"} if method == "POST" else None
    answer = client.open(f"/v1/assistants/{MISSING}", method=method, json=body)
    assert refusal_of(answer, 404) == no_object("assistant", MISSING)


@pytest.mark.parametrize("id_", ["thread_1", "runs", "1"])
def test_an_id_of_another_kind_is_refused(client: FlaskClient, id_: str) -> None:
    refusal = wrong_prefix("assistant_id", id_, "asst")
    assert refusal_of(client.get(f"/v1/assistants/{id_}")) == refusal


@pytest.mark.parametrize("name", SETTINGS)
def test_modify_replaces_one_field_and_keeps_the_others(client: FlaskClient, name: str) -> None:
    tools = [{"type": "code_interpreter"}]
    assistant = create(client, tools=tools, metadata={"old": "1"}, top_p=0.5)
    wanted = create(client, **SETTINGS)[name]
    if name == "tool_resources":  # the tool keeps its files
        wanted = {**wanted, "code_interpreter": {"file_ids": []}}
    changed = client.post(address(assistant), json={name: SETTINGS[name]}).json
    assert changed == assistant | {name: wanted}
    assert client.get(address(assistant)).json == changed


def test_modify_with_nothing_changes_nothing(client: FlaskClient) -> None:
    assistant = create(client, **SETTINGS)
    assert client.post(address(assistant)).json == assistant
    assert client.post(address(assistant), json={}).json == assistant


def test_modify_with_null_returns_to_what_is_not_given(client: FlaskClient) -> None:
    assistant = create(client, **SETTINGS)
    nulls = dict.fromkeys(DEFAULTS.keys() - {"model", "tools"})
    changed = client.post(address(assistant), json=nulls).json
    kept = {name: assistant[name] for name in ("model", "tools")}
    assert {name: changed[name] for name in DEFAULTS} == DEFAULTS | kept


def test_a_deleted_assistant_is_gone(client: FlaskClient) -> None:
    assistant = create(client)
    answer = client.delete(address(assistant))
    assert answer.json == {"id": assistant["id"], "object": "assistant.deleted", "deleted": True}
    assert refusal_of(client.get(address(assistant)), 404) == no_object(
        "assistant", assistant["id"]
    )
    assert client.delete(address(assistant)).status_code == 404
    assert client.get("/v1/assistants").json["data"] == []


# list


def ids(client: FlaskClient, query: str = "") -> list[str]:
    return [each["id"] for each in client.get(f"/v1/assistants?{query}").json["data"]]


def test_an_empty_list_has_null_ends(client: FlaskClient) -> None:
    ends = {"first_id": None, "last_id": None, "has_more": False}
    assert client.get("/v1/assistants").json == {"object": "list", "data": [], **ends}


def test_a_list_shows_whole_assistants_newest_first(client: FlaskClient) -> None:
    made = [create(client, **SETTINGS) for _ in range(3)]
    page = client.get("/v1/assistants?limit=2").json
    assert page["data"] == [made[2], made[1]]
    assert (page["first_id"], page["last_id"]) == (made[2]["id"], made[1]["id"])
    assert page["has_more"] is True
    assert ids(client, "order=asc") == [each["id"] for each in made]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_every_cursor_cuts_exactly(client: FlaskClient, order: str) -> None:
    made = [create(client)["id"] for _ in range(5)]
    if order == "desc":
        made.reverse()
    for place, cursor in enumerate(made):
        assert ids(client, f"order={order}&after={cursor}") == made[place + 1 :]
        assert ids(client, f"order={order}&before={cursor}&limit=2") == made[:place][-2:]
    assert ids(client, f"order={order}&after={made[0]}&before={made[3]}") == made[1:3]


def test_a_deleted_assistant_stays_a_cursor(client: FlaskClient) -> None:
    made = [create(client)["id"] for _ in range(3)]
    client.delete(f"/v1/assistants/{made[1]}")
    assert ids(client, f"after={made[1]}") == [made[0]]
    assert ids(client, f"before={made[1]}") == [made[2]]


@pytest.mark.parametrize("cursor", ["after", "before"])
def test_an_unknown_cursor_is_refused(client: FlaskClient, cursor: str) -> None:
    sentence = f"No assistant found with id '{MISSING}'."
    answer = client.get(f"/v1/assistants?{cursor}={MISSING}")
    assert refusal_of(answer) == (sentence, cursor, "invalid_value")
    answer = client.get(f"/v1/assistants?{cursor}=thread_1")
    assert refusal_of(answer) == wrong_prefix(cursor, "thread_1", "asst")


@pytest.mark.parametrize("limit", [0, 101])
def test_a_limit_has_bounds(client: FlaskClient, limit: int) -> None:
    bound, sentence = (1, low_integer) if limit == 0 else (100, high_integer)
    refusal = sentence("limit", bound, limit)
    assert refusal_of(client.get(f"/v1/assistants?limit={limit}")) == refusal


def test_a_page_of_large_assistants_ends_early(client: FlaskClient) -> None:
    """Each may take 1.5 MB: a control character of the instructions is six in JSON."""
    made = [create(client, instructions="\x01" * 256_000) for _ in range(12)]
    answer = client.get("/v1/assistants?order=asc", buffered=True)
    assert answer.json["data"] == made[:10]
    assert answer.json["has_more"] is True
    assert len(answer.data) < 16_000_000
    rest = client.get(f"/v1/assistants?order=asc&after={made[9]['id']}", buffered=True).json
    assert (rest["data"], rest["has_more"]) == (made[10:], False)


# addresses, and sending twice


@pytest.mark.parametrize("prefix", ["", "/v1", "/openai", "/openai/v1"])
def test_assistants_answer_below_each_prefix(client: FlaskClient, prefix: str) -> None:
    assistant = client.post(f"{prefix}/assistants?api-version=v1", json={"model": "m"}).json
    path = f"{prefix}/assistants/{assistant['id']}"
    assert client.get(path).json == client.get(f"{path}/").json == assistant
    assert client.get(f"{prefix}/assistants").json["data"] == [assistant]
    assert client.delete(path).json["deleted"] is True


def test_assistants_need_the_beta_header_if_it_is_required(client_with: Any) -> None:
    client = client_with(REQUIRE_BETA=True)
    assert refusal_of(client.get("/v1/assistants"))[2] == "invalid_beta"
    headers = {"OpenAI-Beta": "assistants=v2"}
    assert client.get("/v1/assistants", headers=headers).status_code == 200


def test_pages_may_call_assistants(client_with: Any) -> None:
    client = client_with(CORS_ORIGINS=["https://tool.example"])
    answer = client.get("/v1/assistants", headers={"Origin": "https://tool.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "https://tool.example"


def test_a_post_with_a_key_is_done_once(client: FlaskClient) -> None:
    key = {"Idempotency-Key": "a"}
    first = client.post("/v1/assistants", json={"model": "m"}, headers=key)
    again = client.post("/assistants", json={"model": "m"}, headers=key)
    assert (again.data, again.headers["Idempotent-Replayed"]) == (first.data, "true")
    assert len(ids(client)) == 1


def test_the_answer_of_a_key_goes_with_its_assistant(client: FlaskClient) -> None:
    made = {"json": {"model": "m"}, "headers": {"Idempotency-Key": "a"}}
    changed = {"json": {"name": "n"}, "headers": {"Idempotency-Key": "b"}}
    assistant = client.post("/v1/assistants", **made).json
    assert client.post(address(assistant), **changed).json["name"] == "n"
    client.delete(address(assistant))
    for path, request in (("/v1/assistants", made), (address(assistant), changed)):
        assert refusal_of(client.post(path, **request), 404)[2] == "object_deleted"


def test_assistants_need_a_key_once_there_is_one(client: FlaskClient, new_key: Any) -> None:
    key = new_key()
    assert client.get("/v1/assistants").status_code == 401
    assert client.get("/v1/assistants", headers=bearer(key)).status_code == 200


@pytest.mark.sqlite_only("snapshots are copies of a file")
def test_reset_takes_assistants_away_and_restore_brings_them_back(client_with: Any) -> None:
    client = client_with(MOCK="on")
    made = create(client)["id"]
    assert client.post("/_mock/snapshot").status_code == 200
    assert client.post("/_mock/reset").status_code == 200
    assert ids(client) == []
    assert client.post("/_mock/restore").status_code == 200
    assert ids(client) == [made]
