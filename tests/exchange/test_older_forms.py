"""What the hosted API, Azure and the SDKs once put out is imported; what is changed is said."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Commands, flask_process
from flask.testing import FlaskClient

from exchange import older_forms

SPAN = {"text": "[1]", "start_index": 0, "end_index": 3}
CITATION = {"type": "file_citation"} | SPAN | {"file_citation": {"file_id": "file-1"}}
LINK = {"url": "https://e.x/a", "title": "A"}
URL_CITATION = {"type": "url_citation"} | SPAN | {"url_citation": LINK}
FILE_PATH = {"type": "file_path"} | SPAN | {"file_path": {"file_id": "assistant-2"}}
TEXT = {"value": "[1] é", "annotations": [CITATION, URL_CITATION, FILE_PATH]}
EVERY_KIND = [
    {"type": "text", "text": TEXT},
    {"type": "refusal", "refusal": "No."},
    {"type": "image_url", "image_url": {"url": "https://e.x/i.png", "detail": "low"}},
    {"type": "image_file", "image_file": {"file_id": "assistant-3", "detail": "auto"}},
]
NO_TOOLS = {"tools": []}
REVERSED = "put in order 1 times: the messages of a thread, which were newest first"
SUMMARY = "imported 1, replaced 0, skipped 0, refused 0"


def message(number: int, **changed: Any) -> dict[str, Any]:
    fixed = {"id": f"msg_{number}", "object": "thread.message", "created_at": number}
    own = {"thread_id": "thread_1", "role": "user", "content": [text(str(number))]}
    return fixed | own | changed


def text(value: str, **changed: Any) -> dict[str, Any]:
    return {"type": "text", "text": {"value": value, "annotations": []} | changed}


def line(*messages: Any, **changed: Any) -> dict[str, Any]:
    thread = {"id": "thread_1", "object": "thread", "created_at": 7} | changed
    return {"thread": thread, "messages": list(messages)}


Bring = Callable[..., list[str]]


@pytest.fixture
def bring(flask: Commands, tmp_path: Path) -> Bring:
    """Import values, a line each, or a text; return what is said about the file and the sum."""

    def bring(*given: Any, status: int = 0) -> list[str]:
        path = tmp_path / "given"
        text = given[0] if isinstance(given[0], str) else "\n".join(map(json.dumps, given))
        path.write_text(text, "utf-8")
        said = flask("import", str(path), status=status).stderr.splitlines()
        return [each.removeprefix(f"{path}:").strip() for each in said if "bytes" not in each]

    return bring


def stored(client: FlaskClient, thread: str = "thread_1") -> list[Any]:
    answer = client.get(f"/v1/threads/{thread}/messages?order=asc")
    assert answer.status_code == 200, answer.text
    data: list[Any] = answer.json["data"]
    return data


def test_nulls_of_a_dump_are_absent_values(bring: Bring, client: FlaskClient) -> None:
    """Also keys that only other kinds of parts have."""
    image = {"type": "image_file", "image_file": {"file_id": "file-1", "detail": None}}
    given = message(
        1,
        status=None,
        completed_at=None,
        incomplete_details=None,
        metadata=None,
        content=[image | {"text": None}, text("a", annotations=None)],
        attachments=[{"file_id": "file-2", "tools": None}],
        file_ids=None,
        _request_id=None,
    )
    resources = {"code_interpreter": {"file_ids": None}, "file_search": None}
    assert bring(line(given, tool_resources=resources)) == [SUMMARY]
    assert client.get("/v1/threads/thread_1").json["tool_resources"] == {"code_interpreter": {}}
    [kept] = stored(client)
    assert (kept["status"], kept["completed_at"], kept["metadata"]) == ("completed", 1, {})
    assert kept["content"][0]["image_file"] == {"file_id": "file-1", "detail": "auto"}
    assert kept["content"][1] == text("a")
    assert kept["attachments"] == [{"file_id": "file-2"} | NO_TOOLS]


def test_null_in_metadata_is_refused(bring: Bring, client: FlaskClient) -> None:
    said = bring(line(message(1, metadata={"k": None})), status=1)
    assert said[0].startswith("1: Invalid type for 'messages[0].metadata.k': expected a string")


def test_annotations_tools_and_tool_resources_may_be_absent(
    bring: Bring, client: FlaskClient
) -> None:
    part = {"type": "text", "text": {"value": "a"}}
    assert bring(line(message(1, content=[part], attachments=[{"file_id": "assistant-1"}]))) == [
        SUMMARY
    ]
    [kept] = stored(client)
    assert (kept["content"], kept["attachments"]) == (
        [text("a")],
        [{"file_id": "assistant-1"} | NO_TOOLS],
    )


def test_file_ids_of_the_first_version_become_attachments(
    bring: Bring, client: FlaskClient
) -> None:
    attachment = {"file_id": "file-1", "tools": [{"type": "file_search"}]}
    both = message(2, file_ids=["file-1", "file-2"], attachments=[attachment])
    assert bring(line(message(1, file_ids=["file-1", "assistant-2"]), both)) == [SUMMARY]
    first, second = stored(client)
    assert [each["file_id"] for each in first["attachments"]] == ["file-1", "assistant-2"]
    assert second["attachments"] == [attachment, {"file_id": "file-2"} | NO_TOOLS]


def test_what_is_dropped_is_said_once_with_its_count(bring: Bring, client: FlaskClient) -> None:
    quoted = CITATION | {"file_citation": {"file_id": "file-1", "quote": "so"}}
    content = [text("a", annotations=[quoted] * 3)]
    given = line(
        message(1, file_ids=[], content=content, _request_id="req_1"),
        message(2, file_ids=[]),
        _request_id="req_2",
    )
    assert bring(given) == [
        "left out 2 times: _request_id",
        "left out 3 times: quote of file citations",
        "left out 2 times: file_ids that are empty",
        SUMMARY,
    ]
    assert stored(client)[0]["content"] == [text("a", annotations=[CITATION] * 3)]


def test_nothing_is_said_of_lines_that_are_not_imported(bring: Bring) -> None:
    assert bring(line(_request_id="r"))[0] == "left out 1 times: _request_id"
    refused = bring(line(_request_id="r"), line(message(1, role="x", file_ids=[])), status=1)
    assert [each for each in refused if "left out" in each] == []


def test_url_citations_are_kept_and_shown(bring: Bring, client: FlaskClient) -> None:
    bare = URL_CITATION | {"url_citation": {"url": "https://e.x/b", "title": None}}
    assert bring(line(message(1, content=[text("a", annotations=[URL_CITATION, bare])]))) == [
        SUMMARY
    ]
    kept = [URL_CITATION, URL_CITATION | {"url_citation": {"url": "https://e.x/b"}}]
    assert stored(client)[0]["content"] == [text("a", annotations=kept)]
    assert "[1] → https://e.x/a" in client.get("/admin/threads/thread_1").text


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"thread": 1, "messages": [[1], None, 2]}, "Invalid type for 'thread'"),
        (line([[[message(1)]]]), "Invalid type for 'messages[0]'"),
        (line(message(1, file_ids="file-1")), "Unknown parameter: 'messages[0].file_ids'."),
        (line(message(1, file_ids=["x"])), "Invalid 'messages[0].attachments[0].file_id': 'x'."),
        (line(message(1, file_ids=[["x"]])), "Invalid type for 'messages[0].attachments[0]"),
        (line(message(1, content=None)), "Missing required parameter: 'messages[0].content'."),
        (line(message(1, server="own")), "Unknown parameter: 'messages[0].server'."),
    ],
)
def test_wrong_values_are_refused_as_before(bring: Bring, wrong: Any, reason: str) -> None:
    said = bring(wrong, status=1)
    assert said[0].startswith(f"1: {reason}")


@pytest.mark.parametrize(
    "key", ["file_ids", "_request_id", "object", "thread_id", "created_at", "status"]
)
def test_the_api_stays_strict(client: FlaskClient, key: str) -> None:
    body = {"role": "user", "content": "x", key: None}
    answer = client.post("/v1/threads", json={"messages": [body]})
    assert answer.json["error"]["message"] == f"Unknown parameter: 'messages[0].{key}'."


@pytest.mark.parametrize(
    ("times", "kept"),
    [
        ([3, 2, 1], [1, 2, 3]),
        ([2, 1], [1, 2]),
        ([1, 2, 3], [1, 2, 3]),
        ([3, 1, 2], [3, 1, 2]),
        ([2, 2, 2], [2, 2, 2]),
        ([3, 2, 2], [2, 2, 3]),
        ([1], [1]),
    ],
)
def test_a_thread_that_is_newest_first_is_reversed(
    bring: Bring, client: FlaskClient, times: list[int], kept: list[int]
) -> None:
    messages = [message(place, created_at=time) for place, time in enumerate(times)]
    said = bring(line(*messages))
    assert [each["created_at"] for each in stored(client)] == kept
    is_told = said[0] == ("put in order 1 times: the messages of a thread, which were newest first")
    assert is_told == (times != kept)


def test_a_saved_page_is_taken_and_what_it_lacks_is_said(bring: Bring, client: FlaskClient) -> None:
    page = {"object": "list", "data": [message(2), message(1)], "first_id": "msg_2"}
    said = bring(line() | {"messages": page | {"last_id": "msg_1", "has_more": True}})
    assert said[0] == "left out 1 times: the pages after a saved page that has more"
    assert [each["id"] for each in stored(client)] == ["msg_1", "msg_2"]


OLD = line(message(2, file_ids=["file-1"], _request_id="r"), message(1, file_ids=[]))


def test_very_many_file_ids_are_compared_in_proportion() -> None:
    compared = 0

    class FileId(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    ids = [FileId(f"file-{number}") for number in range(400)]
    attachments = [{"file_id": file_id} for file_id in ids[::2]]
    given = {"messages": [{"file_ids": ids, "attachments": attachments}]}
    older_forms.renew(given, Counter())
    attached = [each["file_id"] for each in given["messages"][0]["attachments"]]
    assert sorted(attached) == sorted(ids)
    assert compared < 10 * len(ids)


@pytest.mark.sqlite_only("the mock controls")
@pytest.mark.parametrize("way", ["seed", "reset"])
def test_the_mock_controls_take_the_same_lines(
    client_with: Callable[..., FlaskClient], tmp_path: Path, way: str
) -> None:
    (tmp_path / "seed").write_text(json.dumps(OLD))
    client = client_with(MOCK="on", SEED=str(tmp_path / "seed"))
    answer = client.post(f"/_mock/{way}", data=json.dumps(OLD) if way == "seed" else b"")
    assert answer.status_code == 200, answer.text
    attached = [(each["id"], each["attachments"]) for each in stored(client)]
    assert attached == [("msg_1", []), ("msg_2", [{"file_id": "file-1"} | NO_TOOLS])]


@pytest.mark.sqlite_only("the mock controls")
@pytest.mark.parametrize("way", ["seed", "reset"])
def test_the_mock_controls_say_that_a_document_is_no_seed(
    client_with: Callable[..., FlaskClient], tmp_path: Path, way: str
) -> None:
    document = json.dumps([OLD], indent=2)
    (tmp_path / "seed").write_text(document)
    client = client_with(MOCK="on", SEED=str(tmp_path / "seed"))
    answer = client.post(f"/_mock/{way}", data=document if way == "seed" else b"")
    assert answer.status_code == 400
    assert answer.json["error"]["message"].count("This is one JSON document") == 1


def test_a_dump_of_the_sdk_goes_through_import_and_export(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    attachments = [{"file_id": "assistant-4", "tools": [{"type": "code_interpreter"}]}]
    answer = message(2, role="assistant", content=EVERY_KIND, attachments=attachments)
    resources = {"code_interpreter": {"file_ids": ["file-5"]}}
    given = line(message(1), answer, tool_resources=resources, metadata={"k": "v"})
    with serve(MOCK="on") as server, server.sdk(_strict_response_validation=False) as sdk:
        assert server.call("POST", "/_mock/seed", given).status == 200
        dumped = sdk.beta.threads.messages.list("thread_1").model_dump_json(warnings=False)
        thread = sdk.beta.threads.retrieve("thread_1").model_dump_json()
        asked = server.call("GET", "/v1/threads/thread_1")
        listed = server.call("GET", "/v1/threads/thread_1/messages?order=asc")
    (tmp_path / "dump").write_text(f'{{"thread": {thread}, "messages": {dumped}}}\n', "utf-8")
    url = f"sqlite:///{tmp_path}/new.db"
    imported = flask_process(url, "import", tmp_path / "dump")
    assert imported.stderr.splitlines()[-2:] == [f"{tmp_path}/dump: {REVERSED}", SUMMARY]
    exported = json.loads(flask_process(url, "export").stdout)
    assert exported["thread"] == json.loads(asked.body)
    assert exported["messages"] == json.loads(listed.body)["data"]
    assert exported["messages"][1]["content"] == EVERY_KIND
    assert exported["messages"][1]["attachments"] == attachments
