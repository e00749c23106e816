"""The pages of assistants: list, make, edit, delete, import and export them."""

import json
import re
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pages import submit_form, token_in
from werkzeug.test import TestResponse

from access import api_keys
from admin.forms import MAX_LINES
from schemas import MAX_TEXT_CHARACTERS

NEW, IMPORT = "/admin/assistants/new", "/admin/assistants/import"
FUNCTION = {"type": "function", "function": {"name": "get_weather"}}
HOSTILE = "</textarea></title><script>alert(1)</script>\"'"

Make = Callable[..., str]


@pytest.fixture
def make(client: FlaskClient) -> Make:
    """Make an assistant through the API; return its id."""

    def make(**settings: Any) -> str:
        answer = client.post("/v1/assistants", json={"model": "gpt-4o"} | settings)
        assert answer.status_code == 200
        return str(answer.json["id"])

    return make


def submit(client: FlaskClient, form_at: str, to: str, **texts: Any) -> TestResponse:
    """Send a form with the token of the page that holds it."""
    return submit_form(client, client.get(form_at).text, to, texts)


def token_of(client: FlaskClient, address: str) -> str:
    return token_in(client.get(address).text)


def create(client: FlaskClient, **texts: Any) -> TestResponse:
    return submit(client, NEW, "/admin/assistants", **texts)


def import_(client: FlaskClient, on_conflict: str = "skip", **texts: Any) -> TestResponse:
    return submit(client, IMPORT, IMPORT, on_conflict=on_conflict, **texts)


def texts_of(page: str) -> dict[str, str]:
    """Return the fields of an assistant's form as a browser sends them."""
    found = re.findall(r'<input[^>]* value="([^"]*)" id="(\w+)"', page)
    areas = re.findall(r'<textarea[^>]* id="(\w+)"[^>]*>\n(.*?)</textarea>', page, re.DOTALL)
    chosen = re.findall(r'<select id="(\w+)".*?value="(\w+)" selected', page, re.DOTALL)
    pairs = [(name, text) for text, name in found] + areas + chosen
    return {name: text.replace("&#34;", '"').replace("&#39;", "'") for name, text in pairs}


def fault_of(page: str, name: str) -> str:
    match = re.search(rf'id="{name}-fault">([^<]+)<', page)
    assert match, page
    return match[1].replace("&#39;", "'")


def listed(page: str) -> list[str]:
    return re.findall(r'<a class="title[^"]*" href="/admin/assistants/(\w+)"', page)


def outcomes(page: str) -> list[str]:
    """Return the result of each line of an import, in words."""
    rows = re.findall(r'<th scope="row" class="line">.*?</td>', page, re.DOTALL)
    return [" ".join(re.sub("<[^>]+>", " ", row).replace("&#39;", "'").split()) for row in rows]


def test_without_assistants_the_page_says_what_one_is_and_how_to_make_it(
    client: FlaskClient,
) -> None:
    page = client.get("/admin/assistants", base_url="http://localhost:4567").text
    assert "An assistant is a model with instructions and tools." in page
    assert 'base_url="http://localhost:4567/v1"' in page
    assert "client.beta.assistants.create(" in page
    assert f'href="{NEW}"' in page


def test_every_page_leads_to_the_assistants(client: FlaskClient) -> None:
    for address in ("/admin/", "/admin/threads/new", "/admin/nowhere", NEW, IMPORT):
        assert 'href="/admin/assistants"' in client.get(address).text


def test_the_loop_from_the_form_to_the_list_the_edit_and_the_deletion(client: FlaskClient) -> None:
    answer = create(client, name="Tutor", model="gpt-4o", key="team", value="support")
    assert answer.status_code == 303
    page = client.get(answer.location).text
    assert "Assistant created." in page
    [assistant_id] = listed(client.get("/admin/assistants").text)
    assert answer.location == f"/admin/assistants/{assistant_id}"
    changed = texts_of(page) | {"name": "Teacher", "instructions": "Be brief.\r\nBe kind."}
    answer = submit(client, answer.location, answer.location, **changed)
    assert "Assistant saved." in client.get(answer.location).text
    stored = client.get(f"/v1/assistants/{assistant_id}").json
    assert (stored["name"], stored["instructions"]) == ("Teacher", "Be brief.\nBe kind.")
    form = f"/admin/assistants/{assistant_id}/delete"
    assert "Delete this assistant?" in client.get(form).text
    answer = submit(client, form, form)
    assert answer.location == "/admin/assistants"
    assert "Assistant deleted." in client.get(answer.location).text
    assert client.get(f"/v1/assistants/{assistant_id}").status_code == 404
    assert client.get(form).status_code == 404


def test_every_field_is_stored_as_the_api_stores_it(client: FlaskClient) -> None:
    settings = {
        "name": "Tutor",
        "description": "Helps",
        "model": "gpt-4o",
        "instructions": "Be brief.",
        "tools": [FUNCTION, {"type": "file_search"}],
        "temperature": 0.3,
        "top_p": 0.5,
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
    }
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in settings.items()
    }
    location = create(client, **texts, key="a", value="b").location
    of_form = client.get(f"/v1{location.removeprefix('/admin')}").json
    of_api = client.post("/v1/assistants", json=settings | {"metadata": {"a": "b"}}).json
    own = ("id", "created_at")
    assert {**of_form, **{name: of_api[name] for name in own}} == of_api


def test_a_small_number_is_saved_as_it_is_shown(client: FlaskClient, make: Make) -> None:
    address = f"/admin/assistants/{make(temperature=0.00001, top_p=1e-300)}"
    shown = texts_of(client.get(address).text)
    assert shown["temperature"] == "1e-05"
    assert submit(client, address, address, **shown).status_code == 303
    stored = client.get(f"/v1{address.removeprefix('/admin')}").json
    assert (stored["temperature"], stored["top_p"]) == (0.00001, 1e-300)


def test_blank_fields_are_the_defaults_of_the_api(client: FlaskClient, make: Make) -> None:
    location = create(client, model="gpt-4o", tools=" ", temperature="", id=" ").location
    of_form = client.get(f"/v1{location.removeprefix('/admin')}").json
    of_api = client.get(f"/v1/assistants/{make()}").json
    assert {**of_form, "id": 0, "created_at": 0} == {**of_api, "id": 0, "created_at": 0}


def test_a_form_that_is_sent_as_it_is_shown_changes_nothing(
    client: FlaskClient, make: Make
) -> None:
    code = {"code_interpreter": {"file_ids": ["file-1"]}}
    tools = [FUNCTION, {"type": "file_search"}, {"type": "code_interpreter"}]
    format_ = {"type": "json_object"}
    assistant_id = make(
        name='"A" <b>',
        instructions="\n a\n",
        tools=tools,
        temperature=0.25,
        response_format=format_,
        reasoning_effort="high",
        tool_resources=code,
    )
    before = client.get(f"/v1/assistants/{assistant_id}").json
    here = f"/admin/assistants/{assistant_id}"
    texts = texts_of(client.get(here).text) | {"name": before["name"]}
    assert submit(client, here, here, **texts).status_code == 303
    assert client.get(f"/v1/assistants/{assistant_id}").json == before


def test_an_id_that_is_given_is_kept(client: FlaskClient) -> None:
    answer = create(client, id="asst_abc123", model="gpt-4o")
    assert answer.location == "/admin/assistants/asst_abc123"
    assert client.get("/v1/assistants/asst_abc123").json["id"] == "asst_abc123"


def test_the_id_of_a_deleted_assistant_may_be_given_again(client: FlaskClient) -> None:
    for _ in range(3):
        assert create(client, id="asst_again", model="gpt-4o").status_code == 303
        assert client.delete("/v1/assistants/asst_again").status_code == 200


@pytest.mark.parametrize(
    ("id_", "sentence"),
    [
        ("asst_taken", "Assistant asst_taken exists already."),
        ("thread_x", "Invalid 'id': 'thread_x'. Expected an ID that begins with 'asst'."),
        ("asst/x", "Invalid 'id': ids hold letters, digits, '_' and '-' only."),
        ("asst_" + "x" * 60, "maximum length 64"),
    ],
)
def test_an_id_that_cannot_be_given_is_refused_beside_its_field(
    client: FlaskClient, id_: str, sentence: str
) -> None:
    create(client, id="asst_taken", model="gpt-4o", name="first")
    answer = create(client, id=id_, model="gpt-4o", name="second")
    assert answer.status_code == 400
    assert sentence in fault_of(answer.text, "id")
    assert texts_of(answer.text)["id"] == id_
    assert client.get("/v1/assistants/asst_taken").json["name"] == "first"


def test_the_api_and_the_form_of_an_assistant_take_no_id(client: FlaskClient, make: Make) -> None:
    answer = client.post("/v1/assistants", json={"model": "gpt-4o", "id": "asst_x"})
    assert answer.status_code == 400
    here = f"/admin/assistants/{make()}"
    assert "id" not in texts_of(client.get(here).text)
    assert submit(client, here, here, model="gpt-4o", id="asst_x").location == here


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("model", "", "Invalid 'model': empty string."),
        ("name", "n" * 257, "maximum length 256"),
        ("tools", "[{", "failed to parse JSON value"),
        ("tools", '[{"type": "code_interpreter"}] x', "failed to parse JSON value"),
        ("tools", '[{"a": 1, "a": 2}]', "duplicate JSON key 'a'"),
        ("tools", "{}", "expected an array, but got an object instead"),
        ("tools", "code_interpreter", "expected an array, but got a string instead"),
        ("tools", '[{"type": "nothing"}]', "Supported values are: 'code_interpreter', 'function'"),
        (
            "tools",
            '[{"type": "function", "function": {}}]',
            "Missing required parameter: 'tools[0].function.name'.",
        ),
        ("temperature", "2.5", "Expected a value <= 2, but got 2.5 instead."),
        ("temperature", "1e999", "Expected a value <= 2, but got inf instead."),
        ("temperature", "warm", "expected a decimal, but got a string instead"),
        ("temperature", "nan", "expected a decimal, but got a string instead"),
        ("top_p", "-1", "Expected a value >= 0"),
        ("response_format", "json", "Invalid value: 'json'. Supported values are: 'auto'."),
        ("response_format", '{"type": "json_schema"}', "'response_format.json_schema'"),
        ("reasoning_effort", "huge", "Invalid value: 'huge'."),
        ("instructions", "a\0b", "NUL"),
    ],
)
@pytest.mark.parametrize("is_new", [True, False], ids=["new", "edit"])
def test_a_wrong_field_is_explained_with_all_that_was_typed(
    client: FlaskClient, make: Make, name: str, text: str, sentence: str, is_new: bool
) -> None:
    assistant_id = make(name="before")
    here = f"/admin/assistants/{assistant_id}"
    typed = {"model": "gpt-4o", "description": "typed text", "key": "k", "value": "v"}
    form, to = (NEW, "/admin/assistants") if is_new else (here, here)
    answer = submit(client, form, to, **(typed | {name: text}))
    assert answer.status_code == 400
    assert sentence.replace("<", "&lt;").replace(">", "&gt;") in fault_of(answer.text, name)
    assert "see the marked fields" in answer.text
    shown = texts_of(answer.text)
    assert shown["description"] == "typed text"
    assert name == "reasoning_effort" or shown[name].replace("\ufffd", "\0") == text
    names = [each["name"] for each in client.get("/v1/assistants").json["data"]]
    assert names == ["before"]


def test_all_wrong_fields_are_explained_at_once(client: FlaskClient) -> None:
    page = create(client, tools="[", top_p="x", key="k" * 65, value="kept").text
    for name in ("model", "tools", "top_p"):
        assert fault_of(page, name)
    assert 'class="fault" id="fault-1-key"' in page


def test_a_form_of_an_assistant_deleted_meanwhile_keeps_what_was_typed(
    client: FlaskClient, make: Make
) -> None:
    assistant_id = make()
    here = f"/admin/assistants/{assistant_id}"
    token = token_of(client, here)
    client.delete(f"/v1/assistants/{assistant_id}")
    texts = {"csrf_token": token, "model": "gpt-4o", "instructions": "typed text"}
    answer = client.post(here, data=texts)
    assert answer.status_code == 404
    assert "No assistant found" in answer.text
    assert texts_of(answer.text)["instructions"] == "typed text"


@pytest.mark.parametrize("path", ["", "/asst_x", "/import"])
def test_an_expired_form_comes_back_with_all_that_was_typed(client: FlaskClient, path: str) -> None:
    texts = {"instructions": "typed text", "lines": "typed text", "csrf_token": "expired"}
    answer = client.post(f"/admin/assistants{path}", data=texts)
    assert answer.status_code == 400
    assert ">\ntyped text</textarea>" in answer.text
    assert "to be sent again" in answer.text


def test_the_longest_instructions_and_tools_fit_in_a_form(client: FlaskClient) -> None:
    tools = [
        {"type": "function", "function": {"name": f"f{n}", "description": "d" * 1_800}}
        for n in range(100)
    ]
    texts = {"instructions": "€" * MAX_TEXT_CHARACTERS, "tools": json.dumps(tools)}
    keys = [f"key{number}" for number in range(16)]
    answer = create(
        client,
        model="m",
        name="n",
        description="d",
        temperature="1",
        top_p="1",
        response_format="auto",
        reasoning_effort="low",
        id="asst_long",
        key=keys,
        value=keys,
        **texts,
    )
    assert answer.status_code == 303
    answer = create(client, model="m", instructions="x" * 2 * MAX_TEXT_CHARACTERS)
    assert answer.status_code == 413


def test_a_row_tells_name_id_model_tools_and_age(client: FlaskClient, make: Make) -> None:
    assistant_id = make(name="Tutor", tools=[FUNCTION, FUNCTION, {"type": "code_interpreter"}])
    make(model="gpt-4o-mini", tools=[{"type": "file_search"}] * 2)
    make()
    page = client.get("/admin/assistants").text
    assert f'href="/admin/assistants/{assistant_id}">Tutor</a>' in page
    assert f'title="{assistant_id}"' in page
    assert ">gpt-4o</td>" in page
    assert "2 functions, code interpreter</td>" in page
    assert ">2 file searches</td>" in page
    assert "none</td>" in page
    assert "Without a name" in page
    assert page.count("just now</time>") == 3


def test_newer_and_older_walk_every_assistant_once(client: FlaskClient, make: Make) -> None:
    newest_first = [make() for _ in range(45)][::-1]
    ids, address, back = [], "/admin/assistants", ""
    while address:
        page = client.get(address).text
        ids += listed(page)
        older = re.search(r'rel="next" href="([^"]+)"', page)
        newer = re.search(r'rel="prev" href="([^"]+)"', page)
        address = f"/admin/assistants{older[1]}" if older else ""
        back = newer[1] if newer else ""
    assert ids == newest_first
    assert listed(client.get(f"/admin/assistants{back}").text) == newest_first[20:40]
    last = client.get(f"/admin/assistants?after={newest_first[-1]}").text
    assert "There is nothing on this page." in last


def test_the_raw_json_of_a_page_is_what_the_api_lists(client: FlaskClient, make: Make) -> None:
    ids = [make() for _ in range(3)]
    for query in ("", f"?after={ids[1]}", "?limit=2&order=asc"):
        page = client.get(f"/admin/assistants{query}").text
        [twin] = re.findall(r'href="([^"]+)">Raw JSON', page)
        json_of_page = client.get(twin.replace("&amp;", "&")).json
        assert json_of_page == client.get(f"/v1/assistants{query}").json
    one = client.get(f"/admin/assistants/{ids[0]}.json").json
    assert one == client.get(f"/v1/assistants/{ids[0]}").json


@pytest.mark.parametrize("query", ["after=asst_missing", "limit=0", "after=x"])
def test_a_wrong_argument_of_the_list_is_refused(client: FlaskClient, query: str) -> None:
    for address in ("/admin/assistants", "/admin/assistants.json"):
        assert client.get(f"{address}?{query}").status_code == 400


def test_what_was_exported_is_imported_with_its_ids_and_times(
    client: FlaskClient, make: Make
) -> None:
    for number in range(3):
        make(name=f"number {number}", tools=[FUNCTION], metadata={"n": str(number)})
    before = client.get("/v1/assistants").json
    file = client.get("/admin/assistants/export")
    assert "attachment; filename=assistants.jsonl" in file.headers["Content-Disposition"]
    for assistant in before["data"]:
        client.delete(f"/v1/assistants/{assistant['id']}")
    answer = import_(client, file=(BytesIO(file.data), "assistants.jsonl"))
    assert answer.status_code == 200
    assert outcomes(answer.text) == [f"Line {number} Assistant imported" for number in (1, 2, 3)]
    assert client.get("/v1/assistants").json == before


def test_an_import_tells_of_each_line_what_became_of_it(client: FlaskClient, make: Make) -> None:
    make(name="kept")
    line = client.get("/admin/assistants/export").text.strip()
    object_ = json.loads(line)["assistant"]
    changed = {"assistant": object_ | {"name": "new", "_request_id": None}}
    other = {"assistant": object_ | {"id": "asst_other", "_request_id": None}}
    lines = "\r\n".join([json.dumps(changed), "", "{bad & worse", json.dumps(other), '{"a": 1}'])
    answer = import_(client, lines=lines)
    assert answer.status_code == 200
    skipped, bad, imported, unknown = outcomes(answer.text)
    assert skipped == "Line 1 Assistant skipped (it exists already)"
    assert bad.startswith("Line 3 Refused: Invalid body: failed to parse JSON value.")
    assert imported == "Line 4 Assistant imported left out 1 times: _request_id"
    assert unknown.startswith("Line 5 Refused: ")
    assert client.get(f"/v1/assistants/{object_['id']}").json["name"] == "kept"
    answer = import_(client, "replace", lines=lines)
    assert outcomes(answer.text)[0].startswith("Line 1 Assistant replaced")
    assert client.get(f"/v1/assistants/{object_['id']}").json["name"] == "new"


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("", "Choose a file, or paste lines."),
        (" \n\n", "Choose a file, or paste lines."),
        ("{}\n" * (MAX_LINES + 1), f"A form takes at most {MAX_LINES} lines"),
    ],
)
def test_an_import_of_nothing_or_of_too_much_is_explained(
    client: FlaskClient, lines: str, sentence: str
) -> None:
    for texts in ({"lines": lines}, {"file": (BytesIO(lines.encode()), "a.jsonl")}):
        answer = import_(client, **texts)
        assert answer.status_code == 400
        assert sentence in fault_of(answer.text, "lines")


def test_as_many_lines_as_a_form_takes_are_imported(client: FlaskClient, make: Make) -> None:
    make(instructions="a & b, " * 50)
    object_ = json.loads(client.get("/admin/assistants/export").data)["assistant"]
    many = [{"assistant": object_ | {"id": f"asst_{n}"}} for n in range(MAX_LINES)]
    text = "".join(json.dumps(line) + "\n" for line in many)
    for texts in ({"lines": text}, {"file": (BytesIO(text.encode()), "a.jsonl")}):
        answer = import_(client, **texts)
        assert answer.status_code == 200
        assert len(outcomes(answer.text)) == MAX_LINES
    assert f"{MAX_LINES} skipped" in answer.text


def test_a_file_with_too_many_parts_is_refused(client: FlaskClient) -> None:
    data = {f"part{number}": "x" for number in range(60)} | {"file": (BytesIO(b"{}"), "a")}
    assert import_(client, **data).status_code == 413


def test_what_is_stored_and_typed_is_escaped(client: FlaskClient, make: Make) -> None:
    assistant_id = make(
        name=HOSTILE,
        description=HOSTILE,
        model=HOSTILE,
        instructions=HOSTILE,
        tools=[{"type": "function", "function": {"name": "f", "description": HOSTILE}}],
        metadata={HOSTILE: HOSTILE},
    )
    here = f"/admin/assistants/{assistant_id}"
    pages = [client.get(path).text for path in ("/admin/assistants", here, f"{here}/delete")]
    texts = dict.fromkeys(("id", "tools", "top_p", "response_format", "reasoning_effort"), HOSTILE)
    pages += [create(client, **texts, name=HOSTILE).text, import_(client, lines=HOSTILE).text]
    pages.append(import_(client, lines=json.dumps({"assistant": {HOSTILE: 1}})).text)
    for page in pages:
        assert "<script>alert" not in page
        assert page.count("</textarea>") == page.count("<textarea")


def keyed(app: Flask, project: str) -> FlaskClient:
    """Return a client that is signed in with a new key of a project."""
    with app.app_context():
        secret = api_keys.create(project, "", None)
    app.extensions["keys"] = api_keys.KeyCache()
    client = app.test_client()
    client.post(
        "/admin/sign-in", data={"key": secret, "csrf_token": token_of(client, "/admin/sign-in")}
    )
    return client


def test_a_project_sees_and_changes_its_own_assistants_only(app: Flask) -> None:
    ours, theirs = keyed(app, "ours"), keyed(app, "theirs")
    assert create(ours, id="asst_same", model="gpt-4o", name="our secret").status_code == 303
    assert listed(theirs.get("/admin/assistants").text) == []
    assert theirs.get("/admin/assistants.json").json["data"] == []
    assert theirs.get("/admin/assistants/export").data == b""
    token = token_of(theirs, NEW)
    here = "/admin/assistants/asst_same"
    for address in (here, f"{here}.json", f"{here}/delete"):
        assert theirs.get(address).status_code == 404
    for address in (here, f"{here}/delete"):
        answer = theirs.post(address, data={"csrf_token": token, "model": "m"})
        assert answer.status_code == 404
        assert "our secret" not in answer.text
    assert create(theirs, id="asst_same", model="gpt-4o", name="another").status_code == 303
    lines = theirs.get("/admin/assistants/export").text.replace("another", "third")
    assert "1 replaced" in import_(theirs, "replace", lines=lines).text
    assert texts_of(ours.get(here).text)["name"] == "our secret"
    assert texts_of(theirs.get(here).text)["name"] == "third"


def test_with_keys_every_page_asks_to_sign_in(app: Flask, client: FlaskClient, make: Make) -> None:
    here = f"/admin/assistants/{make()}"
    keyed(app, "default")
    for address in ("/admin/assistants", NEW, IMPORT, "/admin/assistants/export", here):
        answer = client.get(address)
        assert (answer.status_code, answer.location) == (302, f"/admin/sign-in?next={address}")
    assert client.get("/admin/assistants.json").status_code == 401
    for address in ("/admin/assistants", IMPORT, here):
        answer = client.post(address, data={"name": "typed text", "lines": "typed text"})
        assert answer.status_code == 401
        assert "typed text" in answer.text
    assert client.post(f"{here}/delete").status_code == 302
