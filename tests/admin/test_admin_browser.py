"""The browse page in Chromium: each flow with and without JavaScript, accessibility, XSS."""

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import Server, close, serving, until
from flask import Flask
from playwright.sync_api import Browser, BrowserContext, Page, expect

from access import api_keys, sign_ins
from access.sign_ins import FREE_TRIES
from app import create_app
from exchange import imports
from models import DEFAULT_PROJECT, db

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 800}
DARK_MATTERS_FOR = {"runOnly": ["color-contrast", "link-in-text-block"]}
MARKDOWN = (
    "## Plan\n\nSome `code`, a [link](https://x.org) and **more**:\n\n1. one\n2. two\n\n"
    "> quoted\n\n| a | b |\n|:--|--:|\n| 1 | 2 |\n\n```python\nprint(1)\n```\n\n---\n\nend"
)
XSS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    '"><script src=//evil.test/x.js></script>',
    "' onmouseover=alert(1) autofocus onfocus=alert(1) x='",
    '" style="background:url(//evil.test/s)" x="',
    "[x](javascript:alert(1))",
    "![x](http://evil.test/i.png)",
    "<http://evil.test/auto>",
    "<iframe src=http://evil.test></iframe>",
    "</textarea></title></style><script>alert(1)</script>",
    "{{ 7*7 }}{% raw %}${7*7}",
    "<base href=//evil.test/><link rel=stylesheet href=//evil.test/c>",
    "<form action=//evil.test><button>x",
    "<meta http-equiv=refresh content=0;url=//evil.test>",
]
FOREIGN = (
    "img, iframe, object, base, meta[http-equiv], main :is(script, style, link), "
    "[style], [onerror], [onload], [onfocus], form[action^='//']"
)
HAS_COPIED = "wanted => navigator.clipboard.readText().then(text => text.includes(wanted))"
MOST_MILLISECONDS = 20_000
expect.set_options(timeout=MOST_MILLISECONDS)

Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Server]:
    """A live server on a file, so that a test can import what the API does not take."""
    folder = tmp_path_factory.mktemp("site")
    url = f"sqlite:///{shutil.copy(migrated, folder)}"
    with serving(folder / "log", DATABASE_URL=url) as server:
        server.database_url = url  # type: ignore[attr-defined]
        yield server


@pytest.fixture(scope="module")
def first_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("first") / "log") as server:
        yield server


@pytest.fixture
def fresh(first_server: Server) -> Server:
    """A live server without a thread."""
    for thread in call(first_server, "GET", "?limit=100")["data"]:
        call(first_server, "DELETE", f"/{thread['id']}")
    return first_server


class Tabs:
    """One page for each server and kind of visit: a page of its own costs three processes."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.pages: dict[str, Page] = {}
        self.amiss: list[str] = []

    def tab(self, server: Server, **options: Any) -> Page:
        """Return the only page of a context without a cookie."""
        kind = f"{server.root_url} {options}"
        if kind not in self.pages:
            self.pages[kind] = self.context(server, **options).new_page()
        page = self.pages[kind]
        page.unroute_all()
        page.emulate_media(color_scheme="null")
        page.context.clear_cookies()
        return page

    def context(self, server: Server, **options: Any) -> BrowserContext:
        """Make a context that notes whatever leaves the server or misbehaves."""
        context = self.browser.new_context(base_url=server.root_url, **options)
        context.set_default_timeout(MOST_MILLISECONDS)

        def leave(route: Any) -> None:
            self.amiss.append(f"request to {route.request.url}")
            route.abort()

        def listen(page: Page) -> None:
            page.on("dialog", lambda dialog: (self.amiss.append(dialog.message), dialog.dismiss()))
            page.on("pageerror", lambda error: self.amiss.append(str(error)))
            page.on("console", lambda line: self.amiss.extend(refused_by_policy(line.text)))

        context.route(lambda url: not url.startswith((server.root_url, "data:")), leave)
        context.on("page", listen)
        return context


@pytest.fixture(scope="module")
def tabs(browser: Browser) -> Iterator[Tabs]:
    tabs = Tabs(browser)
    yield tabs
    for page in tabs.pages.values():
        page.context.close()


@pytest.fixture
def visit(tabs: Tabs) -> Iterator[Visit]:
    """Open an address of a server; whatever leaves the server or misbehaves fails the test."""
    visited: list[Page] = []

    def visit(server: Server, address: str, script: bool = True, **options: Any) -> Page:
        options = {"viewport": DESK} | options
        page = tabs.tab(server, java_script_enabled=script, **options)
        page.set_viewport_size(options["viewport"])
        page.goto(address)
        visited.append(page)
        return page

    tabs.amiss.clear()
    yield visit
    for page in visited:
        for other in page.context.pages[1:]:
            other.close()
    assert tabs.amiss == []


def refused_by_policy(line: str) -> list[str]:
    return [line] if "Security Policy" in line else []


def make(server: Server, *texts: str, **metadata: str) -> str:
    messages = [
        {"role": ("user", "assistant")[number % 2], "content": text}
        for number, text in enumerate(texts)
    ]
    return str(call(server, "POST", "", {"messages": messages, "metadata": metadata})["id"])


def call(server: Server, method: str, path: str, body: Any = None) -> Any:
    """Call the API without the SDK: its client takes long to make."""
    headers = {"Content-Type": "application/json"}
    data = json.dumps(body).encode() if body else None
    base = server.root_url if path.startswith(("/v1", "/_mock")) else f"{server.base_url}/threads"
    with urlopen(Request(f"{base}{path}", data, headers, method=method)) as answer:
        return json.load(answer)


def reply(server: Server, assistant_id: str, *replies: dict[str, Any]) -> None:
    """Let the runs of an assistant answer with these replies."""
    rule = {"assistant": assistant_id, "replies": replies}
    call(server, "PUT", "/_mock/replies", {"rules": [rule]})


def assistant(server: Server, name: str) -> str:
    return str(call(server, "POST", "/v1/assistants", {"model": "gpt-4o", "name": name})["id"])


def let_wait(server: Server, thread_id: str, text: str) -> None:
    """Make a thread whose first run failed, and whose second waits for outputs."""
    bring(server, exported(thread_id, [text], {}))
    assistant_id = assistant(server, text[:256])
    called = {"name": "f", "arguments": {text: text}}
    error = {"code": "server_error", "message": text[:1_000]}
    for answer, status in (
        ({"error": error}, "failed"),
        ({"tool_calls": [called]}, "requires_action"),
    ):
        reply(server, assistant_id, answer)
        run_until(server, thread_id, assistant_id, status)


def run_until(server: Server, thread_id: str, assistant_id: str, status: str) -> None:
    """Run an assistant on a thread, and wait for a state of the run."""
    run = call(server, "POST", f"/{thread_id}/runs", {"assistant_id": assistant_id})
    assert until(lambda: call(server, "GET", f"/{thread_id}/runs/{run['id']}")["status"] == status)


def bring(server: Server, *lines: dict[str, Any]) -> None:
    """Import threads into the server's database."""
    app = create_app({"DATABASE_URL": server.database_url, "DURABILITY": "normal"})  # type: ignore[attr-defined]
    with app.app_context():
        encoded = [json.dumps(line).encode() for line in lines]
        outcomes = list(imports.import_lines(DEFAULT_PROJECT, encoded, "fail"))
        db.engine.dispose()
    assert [outcome.reason for outcome in outcomes] == [""] * len(lines)


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).click()


def follow(page: Page, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).first.click()


with_and_without_script = pytest.mark.parametrize("script", [True, False], ids=["js", "no-js"])


@with_and_without_script
def test_the_first_minute_ends_with_an_example(fresh: Server, visit: Visit, script: bool) -> None:
    page = visit(fresh, "/", script)
    expect(page.get_by_role("heading", level=1)).to_have_text("No threads yet")
    expect(page.locator("pre")).to_contain_text(fresh.base_url)
    press(page, "Make an example thread")
    expect(page.get_by_role("article")).to_have_count(4)
    expect(page.get_by_role("status")).to_contain_text("what a thread looks like")
    page.goto("/admin/")
    expect(page.get_by_role("row")).to_have_count(2)


@with_and_without_script
def test_a_person_finds_a_thread_by_word_pair_and_chip(
    site: Server, visit: Visit, script: bool
) -> None:
    tag = f"find{script}"
    for number in range(23):
        make(site, f"heron {tag} {number}", tag=tag, number=str(number))
    page = visit(site, "/admin/", script)
    page.get_by_label("Search messages").fill(f"heron {tag}")
    press(page, "Search")
    assert page.url == f"{site.root_url}/admin/?q=heron+{tag}"
    expect(page.locator("tbody tr")).to_have_count(20)
    follow(page, "Older →")
    expect(page.locator("tbody tr")).to_have_count(3)
    follow(page, "← Newer")
    expect(page.locator("tbody tr")).to_have_count(20)
    page.get_by_role("link", name="number 7", exact=True).click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator(".active")).to_contain_text("7")
    follow(page, "Reset all filters")
    assert page.url == f"{site.root_url}/admin/"
    page.get_by_label("Metadata").fill(f"tag={tag}")
    page.get_by_label("From").fill("2020-01-01")
    press(page, "Search")
    expect(page.locator("tbody tr")).to_have_count(20)
    assert f"metadata%5Btag%5D={tag}" in page.url


@with_and_without_script
def test_a_bad_filter_is_explained_beside_its_field(
    site: Server, visit: Visit, script: bool
) -> None:
    make(site, "Something to look through")
    page = visit(site, "/admin/", script)
    page.get_by_label("Metadata").fill("no pair")
    press(page, "Search")
    field = page.get_by_label("Metadata")
    expect(field).to_have_value("no pair")
    expect(field).to_have_accessible_description("Write it as key=value.")


@with_and_without_script
def test_a_person_reads_a_thread(site: Server, visit: Visit, script: bool) -> None:
    thread_id = make(site, *(f"turn {number}" for number in range(60)), MARKDOWN, "long " * 1000)
    page = visit(site, f"/admin/threads/{thread_id}?order=asc", script)
    expect(page.get_by_role("article")).to_have_count(50)
    follow(page, "Later")
    expect(page.get_by_role("article")).to_have_count(12)
    text = page.locator(".folded")
    assert until(lambda: text.evaluate("text => text.clientHeight < text.scrollHeight"))
    page.locator(".fold summary").click()
    expect(page.locator(".fold")).to_have_text("Show less", use_inner_text=True)
    assert until(lambda: text.evaluate("text => text.clientHeight === text.scrollHeight"))
    link = page.get_by_role("article").first.get_by_role("link", name="Link to this message")
    link.click()
    target = page.locator("article:target")
    expect(target).to_contain_text("turn 50")
    expect(target).to_be_in_viewport()


@with_and_without_script
def test_a_person_writes_a_thread_and_adds_to_it(site: Server, visit: Visit, script: bool) -> None:
    page = visit(site, "/admin/", script)
    follow(page, "New thread")
    page.get_by_label("Text").fill("A first\nmessage")
    page.get_by_label("Key 1", exact=True).fill("colour")
    page.get_by_label("Value 1", exact=True).fill("green")
    press(page, "Create thread")
    expect(page.get_by_role("heading", level=1)).to_have_text("A first")
    expect(page.get_by_role("link", name="colour green")).to_be_visible()
    page.get_by_label("Role").select_option("assistant")
    press(page, "Add message")
    expect(page.get_by_label("Text")).to_have_accessible_description(
        "Markdown, at most 256,000 characters. Message content must be non-empty."
    )
    expect(page.get_by_label("Role")).to_have_value("assistant")
    page.get_by_label("Text").fill("An answer")
    press(page, "Add message")
    expect(page.locator("article.assistant:target")).to_contain_text("An answer")


def test_a_form_is_sent_once_by_a_double_click(site: Server, visit: Visit) -> None:
    page = visit(site, f"/admin/threads/{make(site, 'hi')}")
    click = "form => form.dispatchEvent(new SubmitEvent('submit', { cancelable: true }))"
    form = page.locator("form", has=page.get_by_role("button", name="Add message"))
    assert [form.evaluate(click), form.evaluate(click)] == [True, False]


def test_a_form_that_is_changed_is_sent_again(site: Server, visit: Visit) -> None:
    page = visit(site, "/admin/threads/import")
    click = "form => form.dispatchEvent(new SubmitEvent('submit', { cancelable: true }))"
    form = page.locator("form", has=page.get_by_role("button", name="Import"))
    assert form.evaluate(click)
    page.get_by_label("Or lines").fill("{}")
    assert [form.evaluate(click), form.evaluate(click)] == [True, False]


@with_and_without_script
def test_back_ticks_no_thread_that_a_person_did_not(
    site: Server, visit: Visit, script: bool
) -> None:
    of = f"ticks {script}"
    for number in range(3):
        make(site, f"tick {number}", of=of)
    page = visit(site, f"/admin/?metadata[of]={quote(of)}", script)
    page.get_by_label("Select tick 1").check()
    follow(page, "tick 2")
    expect(page.get_by_role("heading", level=1)).to_have_text("tick 2")
    make(site, "tick 3", of=of)
    page.go_back()
    expect(page.get_by_label("Select tick 1")).to_be_visible()
    for number in range(4):
        box = page.get_by_label(f"Select tick {number}")
        assert number == 1 or box.count() == 0 or not box.is_checked()


@with_and_without_script
def test_wrong_metadata_is_explained_and_kept_then_saved(
    site: Server, visit: Visit, script: bool
) -> None:
    page = visit(site, f"/admin/threads/{make(site, 'hi', old='1')}", script)
    follow(page, "Edit metadata")
    page.get_by_label("Value 1", exact=True).fill("v" * 513)
    page.get_by_label("Key 2", exact=True).fill("new")
    page.get_by_label("Value 2", exact=True).fill("kept")
    press(page, "Save metadata")
    value = page.get_by_label("Value 1", exact=True)
    expect(value).to_have_value("v" * 513)
    expect(value).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Value 2", exact=True)).to_have_value("kept")
    value.fill("2")
    press(page, "Save metadata")
    expect(page.get_by_role("link", name="old 2")).to_be_visible()
    expect(page.get_by_role("link", name="new kept")).to_be_visible()


@with_and_without_script
def test_a_person_copies_a_thread_and_deletes_a_message(
    site: Server, visit: Visit, script: bool
) -> None:
    thread_id = make(site, "one", "two")
    page = visit(site, f"/admin/threads/{thread_id}", script)
    press(page, "Copy thread")
    expect(page.get_by_role("status")).to_contain_text("This is the copy.")
    assert thread_id not in page.url
    page.get_by_role("link", name="Delete message").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Delete this message?")
    press(page, "Delete 1 message")
    expect(page.get_by_role("article")).to_have_count(1)
    assert len(call(site, "GET", f"/{thread_id}/messages")["data"]) == 2


@with_and_without_script
def test_selected_threads_are_deleted_after_one_confirmation(
    site: Server, visit: Visit, script: bool
) -> None:
    tag = f"doomed{script}"
    for number in range(3):
        make(site, f"{tag} {number}")
    page = visit(site, f"/admin/?q={tag}", script)
    for number in (0, 2):
        page.get_by_label(f"Select {tag} {number}").check()
    press(page, "Delete…")
    expect(page.get_by_role("heading", level=1)).to_have_text("Delete 2 threads?")
    press(page, "Delete 2 threads")
    expect(page.get_by_role("status")).to_contain_text("Deleted 2 threads. Undo")
    assert page.url == f"{site.root_url}/admin/?q={tag}"
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name=f"{tag} 1").click()
    follow(page, "Delete…")
    press(page, "Delete 1 thread")
    expect(page.get_by_role("status")).to_contain_text("Deleted 1 thread. Undo")


@with_and_without_script
def test_a_person_exports_one_thread_and_a_filtered_set(
    site: Server, visit: Visit, script: bool
) -> None:
    thread_id = make(site, f"pelican{script}")
    page = visit(site, f"/admin/?q=pelican{script}", script)
    page.get_by_label(f"Select pelican{script}").check()
    for role, stem in (("button", "threads"), ("link", thread_id)):
        if role == "link":
            page.goto(f"/admin/threads/{thread_id}")
        for name, suffix in (("Markdown", "md"), ("JSON", "json"), ("JSON Lines", "jsonl")):
            choice = page.get_by_role(role, name=name, exact=True)  # type: ignore[arg-type]
            if not choice.is_visible():
                page.locator("summary", has_text="Export").click()
            with page.expect_download() as download:
                choice.click()
            assert download.value.suggested_filename == f"{stem}.{suffix}"
            assert thread_id in Path(download.value.path()).read_text()


@with_and_without_script
def test_a_person_makes_edits_exports_deletes_and_imports_an_assistant(
    site: Server, visit: Visit, script: bool
) -> None:
    name, own_id = f"Tutor {script}", f"asst_mine_{script}"
    page = visit(site, "/admin/", script)
    follow(page, "Assistants")
    follow(page, "New assistant")
    page.get_by_label("Id").fill(own_id)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Tools").fill("[{]")
    press(page, "Create assistant")
    expect(page.get_by_label("Tools")).to_have_value("[{]")
    expect(page.get_by_label("Tools")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Tools").fill('[{"type": "code_interpreter"}]')
    page.get_by_label("Model").fill("gpt-4o")
    press(page, "Create assistant")
    expect(page.get_by_role("status")).to_have_text("Assistant created.")
    page.get_by_label("Instructions").fill("Be brief.")
    press(page, "Save assistant")
    expect(page.get_by_label("Instructions")).to_have_value("Be brief.")
    follow(page, "← All assistants")
    row = page.get_by_role("row").filter(has_text=name)
    expect(row).to_contain_text("code interpreter")
    with page.expect_download() as download:
        follow(page, "Export")
    line = Path(download.value.path()).read_text()
    row.get_by_role("link", name=name).click()
    follow(page, "Delete…")
    press(page, "Delete 1 assistant")
    expect(page.get_by_role("status")).to_have_text("Assistant deleted.")
    page.goto("/admin/assistants/import")
    file = {"name": "a.jsonl", "mimeType": "application/jsonl", "buffer": line.encode()}
    page.get_by_label("File").set_input_files([file])
    press(page, "Import")
    expect(page.locator(".outcomes")).to_contain_text("1 imported")
    page.goto(f"/admin/assistants/{own_id}")
    expect(page.get_by_label("Name")).to_have_value(name)


def test_a_saved_assistant_keeps_the_lines_of_its_name(site: Server, visit: Visit) -> None:
    body = {"model": "gpt\n4o", "name": "two\nlines"}
    assistant_id = call(site, "POST", "/v1/assistants", body)["id"]
    page = visit(site, f"/admin/assistants/{assistant_id}")
    page.get_by_label("Description").fill("new")
    press(page, "Save")
    expect(page.get_by_role("status")).to_contain_text("saved")
    stored = call(site, "GET", f"/v1/assistants/{assistant_id}")
    assert body | {"description": "new"} == {name: stored[name] for name in (*body, "description")}
    find_nothing(page)


@with_and_without_script
def test_a_person_runs_an_assistant_and_reads_its_answer(
    site: Server, visit: Visit, script: bool
) -> None:
    name = f"Runner {script}"
    reply(site, assistant(site, name), {"text": "It is **mild**. " * 8, "chunk_ms": 700})
    page = visit(site, f"/admin/threads/{make(site, 'How is it?')}", script)
    page.get_by_label("Assistant", exact=True).select_option(label=f"{name} · gpt-4o")
    press(page, "Run")
    answer = page.get_by_role("article").nth(1)
    expect(answer).to_contain_text("It is")
    expect(answer).to_contain_text("being written")
    expect(page.locator(".run .state")).to_have_text("completed")
    expect(answer.locator("strong")).to_have_count(8)
    expect(page.get_by_label("Role")).to_be_in_viewport()
    expect(answer).to_be_in_viewport()


@with_and_without_script
def test_a_person_stops_a_run(site: Server, visit: Visit, script: bool) -> None:
    name = f"Stopped {script}"
    reply(site, assistant(site, name), {"text": "It is mild. " * 99, "chunk_ms": 200})
    page = visit(site, f"/admin/threads/{make(site, 'How is it?')}", script)
    page.get_by_label("Assistant", exact=True).select_option(label=f"{name} · gpt-4o")
    press(page, "Run")
    expect(page.get_by_role("article").nth(1)).to_contain_text("It is")
    press(page, "Stop" if script else "Cancel run")
    expect(page.locator(".run .state")).to_have_text("cancelled")
    expect(page.get_by_role("button", name="Add message")).to_be_enabled()


LINES = "a\u2028b\u2029c"


def begin(site: Server, visit: Visit, thread_id: str, name: str, **answer: Any) -> Page:
    """Run a new assistant on the page of a thread, beside a message that is typed but not sent."""
    body = {"model": "gpt-4o", "name": name, "instructions": LINES}
    reply(site, call(site, "POST", "/v1/assistants", body)["id"], answer)
    page = visit(site, f"/admin/threads/{thread_id}")
    page.get_by_label("Role").select_option("assistant")
    page.get_by_label("Text").fill("typed")
    page.get_by_label("Assistant", exact=True).select_option(label=f"{name} · gpt-4o")
    press(page, "Run")
    return page


def test_a_run_shows_any_text_and_keeps_what_is_typed(site: Server, visit: Visit) -> None:
    answer = {"text": LINES * 4, "chunk_characters": 5, "chunk_ms": 700}
    page = begin(site, visit, make(site, "How is it?"), "Separated", **answer)
    live = page.get_by_role("region", name="A run is active")
    expect(live.locator(".state")).to_have_text("in progress")
    expect(live.get_by_role("button", name="Stop")).to_be_enabled()
    expect(page.locator("article:not([id])")).to_contain_text(LINES)
    expect(page.locator(".run .state")).to_have_text("completed")
    expect(page.get_by_label("Text")).to_have_value("typed")
    expect(page.get_by_label("Role")).to_have_value("assistant")


def test_a_stop_that_fails_is_said(site: Server, visit: Visit) -> None:
    answer = {"text": "It is mild. " * 99, "chunk_ms": 200}
    page = begin(site, visit, make(site, "How is it?"), "Unstopped", **answer)
    stop = page.get_by_role("button", name="Stop")
    page.route("**/cancel", lambda route: route.abort())
    stop.click()
    expect(page.get_by_text("The run is not stopped: try again.")).to_be_visible()
    page.unroute("**/cancel")
    stop.click()
    expect(page.locator(".run .state")).to_have_text("cancelled")


@with_and_without_script
def test_a_person_hands_in_the_outputs_of_calls(site: Server, visit: Visit, script: bool) -> None:
    called = {"name": "get_weather", "arguments": {"city": "Rome"}}
    name = f"Caller {script}"
    reply(site, assistant(site, name), {"tool_calls": [called]}, {"text": "20 degrees."})
    page = visit(site, f"/admin/threads/{make(site, 'How is it?')}", script)
    page.get_by_label("Assistant", exact=True).select_option(label=f"{name} · gpt-4o")
    press(page, "Run")
    page.get_by_label("Output of get_weather").fill('{"degrees":20}')
    press(page, "Send outputs")
    expect(page.get_by_role("article").nth(1)).to_contain_text("20 degrees.")
    page.locator("summary", has_text="2 steps").click()
    expect(page.locator(".steps pre.output")).to_have_text('{\n  "degrees": 20\n}')


@with_and_without_script
def test_an_open_thread_follows_a_run_that_goes_on(
    site: Server, visit: Visit, script: bool
) -> None:
    assistant_id = assistant(site, "Slow")
    reply(site, assistant_id, {"text": "It is mild.", "delay_ms": 1500})
    thread_id = make(site, "How is it?")
    call(site, "POST", f"/{thread_id}/runs", {"assistant_id": assistant_id})
    page = visit(site, f"/admin/threads/{thread_id}", script)
    expect(page.locator(".run .state")).to_have_text("in progress")
    expect(page.locator(".run .state")).to_have_text("completed")
    expect(page.get_by_role("article").nth(1)).to_contain_text("It is mild.")
    expect(page.get_by_role("button", name="Add message")).to_be_enabled()


def test_a_script_shows_what_a_run_writes_on_the_same_page(site: Server, visit: Visit) -> None:
    assistant_id = assistant(site, "Writer")
    reply(site, assistant_id, {"text": "It is mild. " * 16, "delay_ms": 2000, "chunk_ms": 1500})
    thread_id = make(site, "How is it?")
    call(site, "POST", f"/{thread_id}/runs", {"assistant_id": assistant_id})
    page = visit(site, f"/admin/threads/{thread_id}")
    page.evaluate("window.isFirst = true")
    answer = page.get_by_role("article").nth(1)
    expect(answer).to_contain_text("It is mild. It")
    expect(answer).to_contain_text("being written")
    page.locator(".steps").evaluate("steps => { steps.open = true; }")
    written = answer.locator(".bubble").inner_text()
    assert until(lambda: answer.locator(".bubble").inner_text() != written)
    expect(page.locator(".steps")).to_have_attribute("open", "")
    expect(page.locator("#end .state")).to_have_text("in progress")
    assert page.evaluate("window.isFirst")
    expect(page.locator(".run .state")).to_have_text("completed")
    expect(answer).not_to_contain_text("being written")


def test_a_refused_run_is_explained_with_a_script_too(site: Server, visit: Visit) -> None:
    assistant_id = assistant(site, "Leaving")
    page = visit(site, f"/admin/threads/{make(site, 'How is it?')}")
    call(site, "DELETE", f"/v1/assistants/{assistant_id}")
    press(page, "Run")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text("Run an assistant")


def test_script_copies_ids_and_code(site: Server, visit: Visit) -> None:
    thread_id = make(site, "copy me")
    permissions = ["clipboard-read", "clipboard-write"]
    page = visit(site, f"/admin/threads/{thread_id}", permissions=permissions)
    page.locator("summary", has_text="from code").click()
    for name, copied in (
        ("Copy id", thread_id),
        ("Copy as curl", f'curl -s "{site.base_url}/threads/{thread_id}'),
        ("Copy as Python", f'base_url="{site.base_url}"'),
    ):
        page.get_by_role("button", name=name, exact=True).click()
        page.wait_for_function(HAS_COPIED, arg=copied)
    page.get_by_role("button", name="Copy message id").click()
    page.wait_for_function(HAS_COPIED, arg="msg_")
    expect(page.get_by_role("status")).to_have_text("Copied.")


def test_an_empty_value_is_copied_as_it_is(site: Server, visit: Visit) -> None:
    thread_id = make(site, "copy me", k="")
    permissions = ["clipboard-read", "clipboard-write"]
    page = visit(site, f"/admin/threads/{thread_id}", permissions=permissions)
    page.evaluate("navigator.clipboard.writeText('before')")
    page.get_by_role("button", name="Copy value of k").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == ""


def test_script_selects_all_and_slash_finds_the_search(site: Server, visit: Visit) -> None:
    for number in range(2):
        make(site, f"selectable {number}")
    page = visit(site, "/admin/?q=selectable")
    expect(page.get_by_role("button", name="Delete…")).to_be_disabled()
    page.get_by_label("Select all on this page").check()
    expect(page.locator("[data-selected]")).to_have_text("2 selected:")
    page.keyboard.press("/")
    expect(page.get_by_label("Search messages")).to_be_focused()
    page.keyboard.type("a/b")
    expect(page.get_by_label("Search messages")).to_have_value("a/b")


def test_script_counts_characters_as_the_server_does(site: Server, visit: Visit) -> None:
    page = visit(site, "/admin/threads/new")
    page.get_by_label("Key 1", exact=True).fill("😀" * 65)
    counter = page.locator(".counter.over")
    expect(counter).to_have_text("65 / 64")
    page.get_by_label("Key 1", exact=True).fill("😀" * 64)
    expect(counter).to_have_count(0)


@pytest.fixture(scope="module")
def crowded(site: Server) -> str:
    """A thread that holds every kind of part, and texts that would burst a layout."""
    thread_id = "thread_crowded"
    texts = [MARKDOWN, "x" * 10_000, "W" * 1900, "```\n" + "y" * 1500 + "\n```", XSS[4]]
    bring(site, exported(thread_id, texts, {"k" * 64: "v" * 512, "plan": "pro"}))
    bring(site, exported(f"{thread_id}_2", texts[:1], {"plan": "team"}))
    bring(site, exported_assistant(f"asst_{thread_id}", "W" * 512))
    let_wait(site, f"{thread_id}_run", "W" * 2_000)
    return thread_id


def exported(thread_id: str, texts: list[str], metadata: dict[str, str]) -> dict[str, Any]:
    """Return a line of the exchange format whose messages hold a text in every field."""
    messages = [
        {
            "id": f"msg_{thread_id}_{number}",
            "object": "thread.message",
            "created_at": 1_700_000_000 + number,
            "assistant_id": text[:64],
            "thread_id": thread_id,
            "run_id": text[:60],
            "status": "incomplete",
            "incomplete_details": {"reason": text[:200]},
            "completed_at": None,
            "incomplete_at": 1_700_000_000,
            "role": ("user", "assistant")[number % 2],
            "content": [
                {
                    "type": "text",
                    "text": {
                        "value": text,
                        "annotations": [
                            {
                                "type": "file_citation",
                                "text": text[:200],
                                "start_index": 0,
                                "end_index": 1,
                                "file_citation": {"file_id": text[:200]},
                            }
                        ],
                    },
                },
                {
                    "type": "image_url",
                    "image_url": {"url": "https://evil.test/" + "".join(text.split())[:8_000]},
                },
                {"type": "image_file", "image_file": {"file_id": f"file{text[:200]}"}},
                {"type": "refusal", "refusal": text[:500]},
            ],
            "attachments": [{"file_id": f"file{text[:200]}", "tools": [{"type": "file_search"}]}],
            "metadata": {text[:64]: text[:512]},
        }
        for number, text in enumerate(texts)
    ]
    thread = {
        "id": thread_id,
        "object": "thread",
        "created_at": 1_700_000_000,
        "metadata": metadata,
        "tool_resources": {"code_interpreter": {"file_ids": [text[:64] for text in texts[:20]]}},
    }
    return {"thread": thread, "messages": messages}


def exported_assistant(assistant_id: str, text: str) -> dict[str, Any]:
    """Return a line of the exchange format: an assistant that holds a text in every field."""
    function = {"name": "f", "description": text, "parameters": {text: text}}
    assistant = {
        "id": assistant_id,
        "object": "assistant",
        "created_at": 1_700_000_000,
        "name": text[:256],
        "description": text[:512],
        "model": text[:256],
        "instructions": text,
        "tools": [{"type": "function", "function": function}, {"type": "file_search"}],
        "metadata": {text[:64]: text[:512]},
    }
    return {"assistant": assistant}


def addresses(thread_id: str) -> dict[str, str]:
    here = f"/admin/threads/{thread_id}"
    assistant = f"/admin/assistants/asst_{thread_id}"
    return {
        "list": "/admin/?metadata%5Bplan%5D=pro",
        "bad filter": "/admin/?q=%22%22",
        "nothing found": "/admin/?q=zebra",
        "thread": here,
        "runs": f"{here}_run",
        "metadata": f"{here}/metadata",
        "new": "/admin/threads/new",
        "confirmation": f"{here}/delete",
        "confirmation of many": f"/admin/threads/delete?id={thread_id}&id={thread_id}_2",
        "message confirmation": f"{here}/messages/msg_{thread_id}_1/delete",
        "error": "/admin/threads/thread_missing",
        "assistants": "/admin/assistants",
        "assistant": assistant,
        "new assistant": "/admin/assistants/new",
        "assistant confirmation": f"{assistant}/delete",
        "import": "/admin/assistants/import",
    }


@pytest.mark.parametrize("name", list(addresses("")))
def test_axe_finds_nothing_and_nothing_overflows(
    site: Server, visit: Visit, crowded: str, name: str
) -> None:
    page = visit(site, addresses(crowded)[name])
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    for scheme, options in (("light", {}), ("dark", DARK_MATTERS_FOR)):
        page.emulate_media(color_scheme=scheme)
        report = Axe().run(page, options=options | {"resultTypes": ["violations"]})
        assert report.violations_count == 0, report.generate_report()
    for viewport in (PHONE, DESK):
        page.set_viewport_size(viewport)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= viewport["width"], f"{width} at {viewport['width']}"


def test_axe_finds_nothing_in_the_first_minute_and_beside_wrong_fields(
    fresh: Server, visit: Visit
) -> None:
    page = visit(fresh, "/admin/")
    assert Axe().run(page).violations_count == 0
    page.goto("/admin/assistants")
    find_nothing(page)
    for address, button in (
        ("/admin/assistants/new", "Create assistant"),
        ("/admin/threads/new", "Create thread"),
        (f"/admin/threads/{make(fresh, 'hi')}", "Add message"),
    ):
        page.goto(address)
        if (key := page.get_by_label("Key 1", exact=True)).is_visible():
            key.fill("k" * 65)
        press(page, button)
        expect(page.get_by_role("alert")).to_be_visible()
        find_nothing(page)


def find_nothing(page: Page) -> None:
    """Let axe look at a page in both colour schemes."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        report = Axe().run(page)
        assert report.violations_count == 0, report.generate_report()


def test_nothing_stored_or_asked_runs_or_loads(site: Server, visit: Visit) -> None:
    tag = "xss"
    hostile_thread = exported(f"thread_{tag}", XSS, {text[:64]: text for text in XSS})
    titles = [
        exported(f"thread_{tag}-{number}", [text], {"of": tag, text[:64]: "<b>"})
        for number, text in enumerate(XSS)
    ]
    bring(site, hostile_thread, *titles)
    bring(site, exported_assistant(f"asst_thread_{tag}", "".join(XSS)))
    let_wait(site, f"thread_{tag}_run", "".join(XSS))
    page = visit(site, f"/admin/?metadata%5Bof%5D={tag}")
    expect(page.locator("tbody tr")).to_have_count(len(XSS))
    ids = "&".join(f"id={line['thread']['id']}" for line in titles)
    for address in (
        *addresses(f"thread_{tag}").values(),
        f"/admin/threads/delete?{ids}",
        f"/admin/?q={quote(''.join(XSS))[:400]}",
        *(f"/admin/?metadata%5B{quote(text)}%5D={quote(text)}" for text in XSS[3:6]),
        f"/admin/?pair={quote(XSS[3])}&since={quote(XSS[5])}&after={quote(XSS[0])}",
        f"/admin/threads/{quote(XSS[0], '')}",
    ):
        page.goto(address)
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        expect(page.locator(FOREIGN)).to_have_count(0)


def test_every_page_has_its_landmarks(site: Server, visit: Visit, crowded: str) -> None:
    page = visit(site, "/admin/?metadata%5Bplan%5D=pro", script=False)
    for role in ("banner", "main", "contentinfo", "search"):
        expect(page.get_by_role(role)).to_have_count(1)
    expect(page.get_by_role("navigation", name="Main")).to_have_count(1)
    for header in ("Conversation", "Messages", "Last activity"):
        expect(page.get_by_role("columnheader", name=header)).to_be_visible()
    page.goto(f"/admin/threads/{crowded}")
    expect(page.get_by_role("article")).to_have_count(5)


def test_headings_are_in_order_without_styles(site: Server, visit: Visit, crowded: str) -> None:
    page = visit(site, "about:blank", script=False)
    page.route("**/*.css", lambda route: route.abort())
    for address in addresses(crowded).values():
        page.goto(address)
        levels = page.locator(":is(h1, h2, h3, h4, h5, h6)").evaluate_all(
            "all => all.map(one => Number(one.tagName[1]))"
        )
        assert levels[0] == 1
        assert all(below - above <= 1 for above, below in pairwise(levels)), (address, levels)


@pytest.mark.parametrize("entry", ["/admin/threads/new", "/admin/"])
def test_a_link_from_another_site_leaves_open_forms_valid(
    site: Server, visit: Visit, entry: str
) -> None:
    form = visit(site, "/admin/threads/new")
    other = form.context.new_page()
    link = f'<a href="{site.root_url}{entry}">in</a>'
    other.route(
        "http://other.test/", lambda route: route.fulfill(content_type="text/html", body=link)
    )
    other.goto("http://other.test/")
    other.get_by_role("link").click()
    expect(other.get_by_role("heading", level=1)).to_be_visible()
    assert other.url == f"{site.root_url}{entry}"
    press(form, "Create thread")
    expect(form.get_by_role("status")).to_have_text("Thread created.")


def test_the_keyboard_reaches_the_content_and_shows_where_it_is(
    site: Server, visit: Visit, crowded: str
) -> None:
    page = visit(site, "/admin/", script=False)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.press("Tab")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"


@pytest.fixture(scope="module")
def locked(
    tmp_path_factory: pytest.TempPathFactory, migrated: Path
) -> Iterator[tuple[Server, str, Flask]]:
    """A live server on which one key was made, the key, and an app on the same database."""
    folder = tmp_path_factory.mktemp("locked")
    url = f"sqlite:///{shutil.copy(migrated, folder)}"
    with serving(folder / "log", DATABASE_URL=url) as server:
        app = create_app({"DATABASE_URL": url, "DURABILITY": "normal"})
        with app.app_context():
            secret = api_keys.create(DEFAULT_PROJECT, "", None)
        assert until(lambda: asks_for_a_key(server))
        yield server, secret, app
        close(app)


@pytest.fixture
def keyed(locked: tuple[Server, str, Flask]) -> tuple[Server, str]:
    """A live server with a key, which forgot who tried a wrong one; and the key."""
    server, secret, app = locked
    with app.app_context():
        sign_ins.sign_in("127.0.0.1")
    return server, secret


def asks_for_a_key(server: Server) -> bool:
    return server.call("GET", "/v1/threads").status == 401


@with_and_without_script
def test_a_person_signs_in_and_out(keyed: tuple[Server, str], visit: Visit, script: bool) -> None:
    server, secret = keyed
    page = visit(server, "/admin/", script=script)
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    try_key(page, "tsk_wrong")
    expect(page.get_by_role("alert")).to_have_text("This is no valid API key.")
    try_key(page, secret)
    expect(page.get_by_role("heading", level=1)).to_have_text("No threads yet")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("status")).to_contain_text("You are signed out.")


def try_key(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    press(page, "Sign in")


def test_what_is_typed_outlives_the_sign_in(keyed: tuple[Server, str], visit: Visit) -> None:
    server, secret = keyed
    page = visit(server, "/admin/threads/new")
    try_key(page, secret)
    page.get_by_label("Text").fill("hi")
    press(page, "Create thread")
    page.get_by_label("Text").fill("typed " * 1_000)
    other = page.context.new_page()
    other.goto("/admin/")
    press(other, "Sign out")
    signed_out = page.get_by_text("You are signed out: sign in in another tab.")
    expect(signed_out).to_be_visible()
    press(page, "Add message")
    expect(page.get_by_label("Text")).to_have_value("typed " * 1_000)
    try_key(other, secret)
    expect(other.get_by_role("button", name="Sign out")).to_be_visible()
    expect(signed_out).to_have_count(0)
    press(page, "Add message")
    expect(page.locator("article:target")).to_contain_text("typed typed")
    address = f"/v1/threads/{page.url.partition('/threads/')[2].partition('?')[0]}"
    assert server.call("DELETE", address, Authorization=f"Bearer {secret}").status == 200


def test_axe_finds_nothing_at_the_sign_in_and_in_its_header(
    keyed: tuple[Server, str], visit: Visit
) -> None:
    server, secret = keyed
    page = visit(server, "/admin/sign-in", viewport=PHONE)
    try_key(page, "tsk_wrong")
    expect(page.get_by_role("alert")).to_be_visible()
    find_nothing(page)
    try_key(page, secret)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    find_nothing(page)
    for address in ("/admin/", "/admin/assistants"):
        page.goto(address)
        bar = page.get_by_role("banner")
        assert bar.evaluate("bar => bar.clientHeight") <= 62
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_too_many_wrong_keys_make_a_person_wait(keyed: tuple[Server, str], visit: Visit) -> None:
    page = visit(keyed[0], "/admin/threads/new")
    statuses = []
    # The first wait is over in two seconds.
    while 429 not in statuses and len(statuses) < FREE_TRIES + 3:
        with page.expect_response("**/admin/sign-in") as answer:
            try_key(page, "tsk_wrong")
        statuses.append(answer.value.status)
        page.wait_for_load_state()
    assert statuses[:FREE_TRIES] == [401] * FREE_TRIES
    expect(page.get_by_role("alert")).to_contain_text("Too many wrong keys. Try again in")
