"""Every limit of the request bodies, with its exact sentence, param and code."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from sentences import (
    Refusal,
    empty_array,
    empty_string,
    high_integer,
    long_array,
    long_key,
    long_string,
    low_integer,
    many_pairs,
    missing,
    not_a_file,
    not_a_url,
    refusal_of,
    unknown,
    unsupported,
    wrong_type,
)

CREATE = "/v1/threads"
MODIFY = "/v1/threads/thread_unknown"
USER = {"role": "user", "content": "x"}
FILE = {"file_id": "file-a", "tools": []}
MESSAGE = "messages[0]"
CONTENT = f"{MESSAGE}.content"
PART = f"{CONTENT}[0]"
ATTACHMENT = f"{MESSAGE}.attachments[0]"
CODE = "tool_resources.code_interpreter"
SEARCH = "tool_resources.file_search"
STORE = f"{SEARCH}.vector_stores[0]"
CHUNKING = f"{STORE}.chunking_strategy"
CONTENT_TYPES = "'text', 'image_file', and 'image_url'"
EMPTY_CONTENT = ("Message content must be non-empty.", CONTENT, None)


def post(client: FlaskClient, path: str, body: Any) -> Any:
    """Send a body with its keys in their order (the client's own `json` sorts them)."""
    return client.post(path, data=json.dumps(body), content_type="application/json")


def refused(client: FlaskClient, path: str, body: Any) -> Refusal:
    return refusal_of(post(client, path, body))


def message(**fields: Any) -> dict[str, Any]:
    return {"messages": [USER | fields]}


def part(**fields: Any) -> dict[str, Any]:
    return message(content=[fields])


def image_url(**fields: Any) -> dict[str, Any]:
    return part(type="image_url", image_url=fields)


def image_file(**fields: Any) -> dict[str, Any]:
    return part(type="image_file", image_file=fields)


def attachment(**fields: Any) -> dict[str, Any]:
    return message(attachments=[FILE | fields])


def code(**fields: Any) -> dict[str, Any]:
    return {"tool_resources": {"code_interpreter": fields}}


def search(**fields: Any) -> dict[str, Any]:
    return {"tool_resources": {"file_search": fields}}


def store(**fields: Any) -> dict[str, Any]:
    return search(vector_stores=[fields])


def static(maximum: Any, overlap: Any, **more: Any) -> dict[str, Any]:
    sizes = {"max_chunk_size_tokens": maximum, "chunk_overlap_tokens": overlap} | more
    return store(chunking_strategy={"type": "static", "static": sizes})


TEXT = {"type": "text", "text": "x"}
LONG_TEXT = {"type": "text", "text": "x" * 256_000}
URL = f"https://a.example/{'x' * 8_174}"


def pairs(count: int) -> dict[str, str]:
    return {f"k{n}": "v" for n in range(count)}


METADATA = [
    ("modified", "metadata", "a metadata object", "a string"),
    (["a"], "metadata", "a metadata object", "an array"),
    (5, "metadata", "a metadata object", "an integer"),
    ({"modified": True}, "metadata.modified", "a string", "a boolean"),
    ({"k": 1}, "metadata.k", "a string", "an integer"),
    ({"k": 1.5}, "metadata.k", "a string", "a decimal number"),
    ({"k": None}, "metadata.k", "a string", "null"),
    ({"k": {}}, "metadata.k", "a string", "an object"),
    ({"k": []}, "metadata.k", "a string", "an array"),
]
BOTH = [
    *[({"metadata": value}, wrong_type(*expected)) for value, *expected in METADATA],
    ({"metadata": pairs(17)}, many_pairs("metadata", 17)),
    ({"metadata": {"k" * 70: "v"}}, long_key(f"metadata.{'k' * 70}", "kkk...kkk", 70)),
    ({"metadata": {"abc" + "é" * 62: "v"}}, long_key(f"metadata.abc{'é' * 62}", "abc...ééé", 65)),
    ({"metadata": {"k": "v" * 600}}, long_string("metadata.k", 512, 600)),
    ({"metadata": {"k": "💾" * 513}}, long_string("metadata.k", 512, 513)),
    ({"file_ids": []}, unknown("file_ids")),
    ({"": 1}, ("Unknown parameter: ''.", None, "unknown_parameter")),
    ({"tool_resources": []}, wrong_type("tool_resources", "an object", "an array")),
    ({"tool_resources": "x"}, wrong_type("tool_resources", "an object", "a string")),
    ({"tool_resources": {"browser": {}}}, unknown("tool_resources.browser")),
    ({"tool_resources": {"code_interpreter": 1}}, wrong_type(CODE, "an object", "an integer")),
    ({"tool_resources": {"file_search": 1}}, wrong_type(SEARCH, "an object", "an integer")),
    (code(files=[]), unknown(f"{CODE}.files")),
    (code(file_ids="file-a"), wrong_type(f"{CODE}.file_ids", "an array", "a string")),
    (code(file_ids=["a"] * 21), long_array(f"{CODE}.file_ids", 20, 21)),
    (code(file_ids=["a", 1]), wrong_type(f"{CODE}.file_ids[1]", "a string", "an integer")),
    (code(file_ids=[""]), empty_string(f"{CODE}.file_ids[0]")),
    (code(file_ids=["a" * 65]), long_string(f"{CODE}.file_ids[0]", 64, 65)),
    (search(stores=[]), unknown(f"{SEARCH}.stores")),
    (
        search(vector_store_ids={}),
        wrong_type(f"{SEARCH}.vector_store_ids", "an array", "an object"),
    ),
    (search(vector_store_ids=["a", "b"]), long_array(f"{SEARCH}.vector_store_ids", 1, 2)),
    (
        search(vector_store_ids=[True]),
        wrong_type(f"{SEARCH}.vector_store_ids[0]", "a string", "a boolean"),
    ),
    (search(vector_store_ids=[""]), empty_string(f"{SEARCH}.vector_store_ids[0]")),
    (search(vector_store_ids=["a" * 65]), long_string(f"{SEARCH}.vector_store_ids[0]", 64, 65)),
]
MODIFY_ONLY = [
    ({"messages": []}, unknown("messages")),
    (search(vector_stores=[]), unknown(f"{SEARCH}.vector_stores", "vector_store_ids")),
]
CREATE_ONLY = [
    # messages
    ({"messages": {}}, wrong_type("messages", "an array", "an object")),
    ({"messages": "x"}, wrong_type("messages", "an array", "a string")),
    ({"messages": ["x"]}, wrong_type(MESSAGE, "an object", "a string")),
    ({"messages": [USER, None]}, wrong_type("messages[1]", "an object", "null")),
    ({"messages": [{}]}, missing(f"{MESSAGE}.role")),
    ({"messages": [{"content": "x"}]}, missing(f"{MESSAGE}.role")),
    ({"messages": [{"role": "user"}]}, missing(CONTENT)),
    (message(file_ids=[]), unknown(f"{MESSAGE}.file_ids")),
    # role
    (message(role="human"), unsupported(f"{MESSAGE}.role", "human", "'user' and 'assistant'")),
    (message(role="system"), unsupported(f"{MESSAGE}.role", "system", "'user' and 'assistant'")),
    (message(role=""), unsupported(f"{MESSAGE}.role", "", "'user' and 'assistant'")),
    (message(role="User"), unsupported(f"{MESSAGE}.role", "User", "'user' and 'assistant'")),
    (message(role=1), wrong_type(f"{MESSAGE}.role", "a string", "an integer")),
    (message(role=None), wrong_type(f"{MESSAGE}.role", "a string", "null")),
    # content
    (message(content=""), EMPTY_CONTENT),
    (message(content=[]), empty_array(CONTENT)),
    *[
        (message(content=value), wrong_type(CONTENT, "one of a string or array of objects", kind))
        for value, kind in [
            (1, "an integer"),
            (1.5, "a decimal number"),
            (False, "a boolean"),
            ({}, "an object"),
            (None, "null"),
        ]
    ],
    (message(content="x" * 256_001), long_string(CONTENT, 256_000, 256_001)),
    (message(content="💾" * 256_001), long_string(CONTENT, 256_000, 256_001)),
    (message(content=[TEXT] * 101), long_array(CONTENT, 100, 101)),
    (message(content=[LONG_TEXT] * 8 + [TEXT]), long_string(CONTENT, 2_048_000, 2_048_001)),
    (message(content=["x"]), wrong_type(PART, "an object", "a string")),
    (message(content=[[]]), wrong_type(PART, "an object", "an array")),
    (part(text="x"), missing(f"{PART}.type")),
    (part(type="audio"), unsupported(f"{PART}.type", "audio", CONTENT_TYPES)),
    (part(type=1), wrong_type(f"{PART}.type", "a string", "an integer")),
    (part(type="text"), missing(f"{PART}.text")),
    (part(type="text", text=1), wrong_type(f"{PART}.text", "a string", "an integer")),
    (part(type="text", text={}), wrong_type(f"{PART}.text", "a string", "an object")),
    (part(type="text", text=""), empty_string(f"{PART}.text")),
    (
        part(type="text", text="x" * 256_001),
        long_string(f"{PART}.text", 256_000, 256_001),
    ),
    (part(type="text", text="x", image_url={}), unknown(f"{PART}.image_url")),
    (part(type="image_file"), missing(f"{PART}.image_file")),
    (
        part(type="image_file", image_file="file-a"),
        wrong_type(f"{PART}.image_file", "an object", "a string"),
    ),
    (image_file(), missing(f"{PART}.image_file.file_id")),
    (image_file(file_id="a"), not_a_file(f"{PART}.image_file.file_id", "a")),
    (image_file(file_id=""), empty_string(f"{PART}.image_file.file_id")),
    (image_file(file_id="file" * 65), long_string(f"{PART}.image_file.file_id", 256, 260)),
    (
        image_file(file_id="file-a", detail="full"),
        unsupported(f"{PART}.image_file.detail", "full", "'auto', 'low', and 'high'"),
    ),
    (image_file(file_id="file-a", url="x"), unknown(f"{PART}.image_file.url")),
    (part(type="image_url"), missing(f"{PART}.image_url")),
    (image_url(), missing(f"{PART}.image_url.url")),
    (image_url(url=1), wrong_type(f"{PART}.image_url.url", "a string", "an integer")),
    (image_url(url=""), empty_string(f"{PART}.image_url.url")),
    (image_url(url=f"{URL}é"), long_string(f"{PART}.image_url.url", 8_192, 8_193)),
    *[
        (image_url(url=url), not_a_url(f"{PART}.image_url.url"))
        for url in [
            "x",
            "http://",
            "ftp://a.example",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "data:image/png;base64,AA==",
            "https://a.example/a b",
            "https://a.example\n",
            "https://a.example/\u001f",
            "https://a.example/\u007f",
        ]
    ],
    (
        message(content=[{"type": "text", "text": "x"}, {"type": "text"}]),
        missing(f"{CONTENT}[1].text"),
    ),
    # attachments
    (
        message(attachments={}),
        wrong_type(f"{MESSAGE}.attachments", "an array", "an object"),
    ),
    (message(attachments=["file-a"]), wrong_type(ATTACHMENT, "an object", "a string")),
    (message(attachments=[FILE] * 11), long_array(f"{MESSAGE}.attachments", 10, 11)),
    (message(attachments=[{"file_id": "file-a"}]), missing(f"{ATTACHMENT}.tools")),
    (message(attachments=[{"tools": []}]), missing(f"{ATTACHMENT}.file_id")),
    (attachment(file_id="31abac64"), not_a_file(f"{ATTACHMENT}.file_id", "31abac64")),
    (attachment(file_id=None), wrong_type(f"{ATTACHMENT}.file_id", "a string", "null")),
    (attachment(tools={}), wrong_type(f"{ATTACHMENT}.tools", "an array", "an object")),
    (attachment(file_id="assistant"), not_a_file(f"{ATTACHMENT}.file_id", "assistant")),
    (attachment(tools=[{"type": "file_search"}] * 11), long_array(f"{ATTACHMENT}.tools", 10, 11)),
    (attachment(tools=["x"]), wrong_type(f"{ATTACHMENT}.tools[0]", "an object", "a string")),
    (attachment(tools=[{}]), missing(f"{ATTACHMENT}.tools[0].type")),
    (
        attachment(tools=[{"type": "function"}]),
        unsupported(
            f"{ATTACHMENT}.tools[0].type", "function", "'code_interpreter' and 'file_search'"
        ),
    ),
    (
        attachment(tools=[{"type": "file_search", "file_search": {}}]),
        unknown(f"{ATTACHMENT}.tools[0].file_search"),
    ),
    (attachment(name="a.csv"), unknown(f"{ATTACHMENT}.name")),
    # metadata of a message
    (
        message(metadata={"k": 1}),
        wrong_type(f"{MESSAGE}.metadata.k", "a string", "an integer"),
    ),
    (
        message(metadata="x"),
        wrong_type(f"{MESSAGE}.metadata", "a metadata object", "a string"),
    ),
    (message(metadata=pairs(17)), many_pairs(f"{MESSAGE}.metadata", 17)),
    (message(metadata={"k": "v" * 513}), long_string(f"{MESSAGE}.metadata.k", 512, 513)),
    # vector stores
    (search(vector_stores={}), wrong_type(f"{SEARCH}.vector_stores", "an array", "an object")),
    (search(vector_stores=[{}, {}]), long_array(f"{SEARCH}.vector_stores", 1, 2)),
    (search(vector_stores=["vs_1"]), wrong_type(STORE, "an object", "a string")),
    (store(name="x"), unknown(f"{STORE}.name")),
    (store(file_ids=[""]), empty_string(f"{STORE}.file_ids[0]")),
    (store(file_ids=["a" * 65]), long_string(f"{STORE}.file_ids[0]", 64, 65)),
    (store(metadata=pairs(17)), many_pairs(f"{STORE}.metadata", 17)),
    (store(metadata={"k": 1}), wrong_type(f"{STORE}.metadata.k", "a string", "an integer")),
    (store(chunking_strategy="auto"), wrong_type(CHUNKING, "an object", "a string")),
    (store(chunking_strategy={}), missing(f"{CHUNKING}.type")),
    (
        store(chunking_strategy={"type": "other"}),
        unsupported(f"{CHUNKING}.type", "other", "'auto' and 'static'"),
    ),
    (
        store(chunking_strategy={"type": "auto", "static": {}}),
        unknown(f"{CHUNKING}.static"),
    ),
    (store(chunking_strategy={"type": "static"}), missing(f"{CHUNKING}.static")),
    (
        store(chunking_strategy={"type": "static", "static": {}}),
        missing(f"{CHUNKING}.static.max_chunk_size_tokens"),
    ),
    (static(99, 0), low_integer(f"{CHUNKING}.static.max_chunk_size_tokens", 100, 99)),
    (static(4097, 0), high_integer(f"{CHUNKING}.static.max_chunk_size_tokens", 4096, 4097)),
    (
        static(True, 0),
        wrong_type(f"{CHUNKING}.static.max_chunk_size_tokens", "an integer", "a boolean"),
    ),
    (
        static("800", 0),
        wrong_type(f"{CHUNKING}.static.max_chunk_size_tokens", "an integer", "a string"),
    ),
    (
        static(800, 1.5),
        wrong_type(f"{CHUNKING}.static.chunk_overlap_tokens", "an integer", "a decimal number"),
    ),
    (static(800, 400, x=1), unknown(f"{CHUNKING}.static.x")),
]


def table(name: str, path: str, rows: list[tuple[Any, Refusal]]) -> list[Any]:
    """Name each row by its operation, its number and the refusal's code."""
    return [
        pytest.param(path, body, refusal, id=f"{name}-{number}-{refusal[2]}")
        for number, (body, refusal) in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("path", "body", "refusal"),
    table("create", CREATE, BOTH + CREATE_ONLY) + table("modify", MODIFY, BOTH + MODIFY_ONLY),
)
def test_a_fault_is_refused_with_its_own_words(
    client: FlaskClient, path: str, body: Any, refusal: Refusal
) -> None:
    assert refused(client, path, body) == refusal


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (body["messages"][0], refusal)
        for body, refusal in CREATE_ONLY
        if isinstance(body.get("messages"), list) and isinstance(body["messages"][-1], dict)
    ],
)
def test_a_message_alone_is_refused_with_the_same_words_and_not_stored(
    client: FlaskClient, body: Any, refusal: Refusal
) -> None:
    path = f"{CREATE}/{post(client, CREATE, {}).json['id']}/messages"
    sentence, param, code = refusal
    expected = (sentence.replace(f"{MESSAGE}.", ""), param.removeprefix(f"{MESSAGE}."), code)
    assert refused(client, path, body) == expected
    assert client.get(path).json["data"] == []


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        *[
            pytest.param(operation, body, id=f"{operation}-{name}")
            for operation in ["create", "modify"]
            for name, body in {
                "16-pairs": {"metadata": pairs(16)},
                "64-character-key": {"metadata": {"💾" * 64: "v"}},
                "512-character-value": {"metadata": {"k": "💾" * 512}},
                "20-files": code(file_ids=["a"] * 20),
                "64-character-id": search(vector_store_ids=["é" * 64]),
            }.items()
        ],
        *[
            pytest.param("create", body, id=name)
            for name, body in {
                "1000-messages": {"messages": [USER] * 1_000},
                "100-parts": message(content=[TEXT] * 100),
                "2048000-characters": message(content=[LONG_TEXT] * 8),
                "8192-character-url": image_url(url=URL),
                "256-character-file-id": image_file(file_id="file" * 64),
                "10-tools": attachment(tools=[{"type": "file_search"}] * 10),
                "10000-files-of-a-store": store(file_ids=["file"] * 10_000),
                "256000-characters": message(content="💾" * 256_000),
                "256000-character-part": part(type="text", text="é" * 256_000),
                "url-beyond-ascii": image_url(url="https://a.example/é\u0085\u2028"),
                "blank-content": message(content=" \n"),
                "10-attachments": message(attachments=[FILE] * 10),
                "shortest-file-id": attachment(file_id="file"),
                "message-16-pairs": message(metadata=pairs(16)),
                "least-chunk": static(100, 0),
                "largest-chunk": static(4096, 2048),
                "whole-number-with-a-point": static(800.0, 400.0),
            }.items()
        ],
    ],
)
def test_a_value_at_its_limit_is_accepted(client: FlaskClient, operation: str, body: Any) -> None:
    thread_id = post(client, CREATE, {}).json["id"] if operation == "modify" else None
    path = f"{CREATE}/{thread_id}" if thread_id else CREATE
    assert post(client, path, body).status_code == 200


CODE_FILES = {"code_interpreter": {"file_ids": ["file-a"]}}


@pytest.mark.parametrize("operation", ["create", "modify"])
@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (None, {}),
        ({"code_interpreter": None, "file_search": None}, {}),
        (CODE_FILES | {"file_search": None}, CODE_FILES),
        (
            {"code_interpreter": {"file_ids": None}, "file_search": {"vector_store_ids": None}},
            {"code_interpreter": {}, "file_search": {}},
        ),
    ],
)
def test_null_in_tool_resources_stands_for_an_absent_value(
    client: FlaskClient, operation: str, given: Any, stored: Any
) -> None:
    """The SDK's models write every key."""
    thread = post(client, CREATE, {"tool_resources": CODE_FILES}).json["id"]
    path = CREATE if operation == "create" else f"{CREATE}/{thread}"
    answer = post(client, path, {"tool_resources": given})
    assert (answer.status_code, answer.json.get("tool_resources")) == (200, stored)


@pytest.mark.parametrize(
    ("body", "stores"),
    [
        (search(vector_stores=None, vector_store_ids=["vs_1"]), 1),
        (search(vector_stores=None), 0),
        (store(file_ids=None, chunking_strategy=None, metadata=None), 1),
    ],
)
def test_null_in_vector_stores_stands_for_an_absent_value(
    client: FlaskClient, body: Any, stores: int
) -> None:
    answer = post(client, CREATE, body)
    assert answer.status_code == 200, answer.text
    found = answer.json["tool_resources"]["file_search"].get("vector_store_ids", [])
    assert len(found) == stores


def test_null_stands_for_no_first_messages(client: FlaskClient) -> None:
    created = post(client, CREATE, {"messages": None, "metadata": {"a": "1"}})
    assert (created.status_code, created.json.get("metadata")) == (200, {"a": "1"})
    assert client.get(f"{CREATE}/{created.json['id']}/messages").json["data"] == []


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        pytest.param(
            {"a": 1, "metadata": 1, "messages": [{"content": "x"}]},
            missing(f"{MESSAGE}.role"),
            id="missing-before-unknown",
        ),
        pytest.param(
            {"messages": [USER | {"content": 1}, {"role": "user"}]},
            missing("messages[1].content"),
            id="missing-before-an-earlier-type",
        ),
        pytest.param(
            {"messages": [{"content": 1}]}, missing(f"{MESSAGE}.role"), id="missing-before-a-type"
        ),
        pytest.param({"messages": [{}]}, missing(f"{MESSAGE}.role"), id="missing-in-schema-order"),
        pytest.param(
            {"messages": [USER | {"attachments": [{}]}, {}]},
            missing(f"{ATTACHMENT}.file_id"),
            id="missing-in-array-order",
        ),
        pytest.param({"metadata": 1, "a": 1}, unknown("a"), id="unknown-before-a-type"),
        pytest.param(
            {"metadata": pairs(17), "messages": [USER | {"a": 1}]},
            unknown(f"{MESSAGE}.a"),
            id="nested-unknown-before-a-bound",
        ),
        pytest.param(dict.fromkeys("hgfedcba", 1), unknown("a"), id="unknown-by-name"),
        pytest.param(
            {"metadata": 1, "tool_resources": 1, "messages": 1},
            wrong_type("messages", "an array", "an integer"),
            id="types-in-schema-order",
        ),
        pytest.param(
            {"metadata": 1, "tool_resources": 1},
            wrong_type("tool_resources", "an object", "an integer"),
            id="resources-before-metadata",
        ),
        pytest.param(
            {"metadata": 1, "messages": [{"content": "", "role": "user"}]},
            EMPTY_CONTENT,
            id="a-nested-bound-before-a-later-type",
        ),
        pytest.param(
            {"messages": [{"metadata": 1, "attachments": 1, "content": 1, "role": 1}]},
            wrong_type(f"{MESSAGE}.role", "a string", "an integer"),
            id="message-types-in-schema-order",
        ),
        pytest.param(
            {"messages": [{"metadata": 1, "attachments": 1, "content": "", "role": "user"}]},
            EMPTY_CONTENT,
            id="content-before-attachments",
        ),
        pytest.param(
            {"messages": [{"metadata": 1, "attachments": [FILE] * 11, **USER}]},
            long_array(f"{MESSAGE}.attachments", 10, 11),
            id="attachments-before-metadata",
        ),
        pytest.param(
            {"messages": [USER, USER | {"role": 1}, USER | {"role": 2.5}]},
            wrong_type("messages[1].role", "a string", "an integer"),
            id="types-in-array-order",
        ),
        pytest.param(
            {"metadata": {"b": 1, "a": 1.5}},
            wrong_type("metadata.b", "a string", "an integer"),
            id="pairs-in-the-order-given",
        ),
    ],
)
def test_of_several_faults_the_first_by_rank_is_answered(
    client: FlaskClient, body: Any, refusal: Refusal
) -> None:
    assert refused(client, CREATE, body) == refusal


WORDS = [
    "{param}",
    "{}",
    "{0}",
    "%s",
    "'",
    '"',
    "\\",
    "\\u0000",
    "a.b[0]",
    "</script>",
    "\u0001",
    "é💾",
    "_schema",
]


@pytest.mark.parametrize("word", WORDS)
def test_the_words_of_a_value_are_quoted_untouched(client: FlaskClient, word: str) -> None:
    refusal = unsupported(f"{MESSAGE}.role", word, "'user' and 'assistant'")
    assert refused(client, CREATE, message(role=word)) == refusal


@pytest.mark.parametrize("path", [CREATE, MODIFY])
@pytest.mark.parametrize("word", WORDS)
def test_the_words_of_an_unknown_key_are_quoted_untouched(
    client: FlaskClient, path: str, word: str
) -> None:
    assert refused(client, path, {word: 1}) == unknown(word)


@pytest.mark.parametrize("word", WORDS)
def test_the_words_of_a_metadata_key_are_quoted_untouched(client: FlaskClient, word: str) -> None:
    refusal = wrong_type(f"metadata.{word}", "a string", "an integer")
    assert refused(client, CREATE, {"metadata": {word: 1}}) == refusal


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (
            message(role="x" * 201),
            unsupported(f"{MESSAGE}.role", "x" * 200 + "...", "'user' and 'assistant'"),
        ),
        (attachment(file_id="x" * 201), not_a_file(f"{ATTACHMENT}.file_id", "x" * 200 + "...")),
    ],
    ids=["role", "file_id"],
)
def test_a_long_value_is_quoted_in_part(client: FlaskClient, body: Any, refusal: Refusal) -> None:
    assert refused(client, CREATE, body) == refusal


def test_a_near_miss_names_the_key_that_was_meant(client: FlaskClient) -> None:
    assert refused(client, CREATE, {"metdata": {}}) == unknown("metdata", "metadata")
    assert refused(client, CREATE, message(rol="x")) == unknown(f"{MESSAGE}.rol", "role")


def test_a_missing_key_goes_before_the_length_of_its_array(client: FlaskClient) -> None:
    body = message(attachments=[{}] * 11)
    assert refused(client, CREATE, body) == missing(f"{ATTACHMENT}.file_id")
    body = message(attachments=[{"file_id": "x", "tools": []}] * 11)
    assert refused(client, CREATE, body) == long_array(f"{MESSAGE}.attachments", 10, 11)


def test_a_key_too_long_names_the_metadata_that_it_stands_in(client: FlaskClient) -> None:
    sentence, param, _ = refused(client, CREATE, message(metadata={"k" * 70: "v"}))
    assert param == f"{MESSAGE}.metadata.{'k' * 70}"
    assert sentence.startswith(f"Invalid property name in '{MESSAGE}.metadata': 'kkk...")
