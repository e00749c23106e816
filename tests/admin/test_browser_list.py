"""The list of threads in Chromium: selection, news, zones, typed words, phones, accessibility."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import Server, serving
from pages import DESK, PHONE, tab_of
from playwright.sync_api import Browser, Page, expect

SMALL = """[...document.querySelectorAll("main :is(a, button, summary, input:not([type=hidden]))")]
    .map((each) => each.closest("label") ?? each)
    .filter((each) => each.checkVisibility({visibilityProperty: true}) && !each.closest("[hidden]"))
    .filter((each) => Math.round(each.getBoundingClientRect().height) < 24)
    .map((each) => each.outerHTML)"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("list") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def amiss() -> list[str]:
    return []


@pytest.fixture(scope="module")
def tab(browser: Browser, server: Server, amiss: list[str]) -> Iterator[Page]:
    with tab_of(browser, server, amiss, timezone_id="America/New_York") as tab:
        yield tab


@pytest.fixture
def page(tab: Page, amiss: list[str]) -> Iterator[Page]:
    """A page of the server. A script error, a dialog or a refused resource fails the test."""
    tab.set_viewport_size(DESK)
    amiss.clear()
    yield tab
    # The console tells of answers such as 401, of a person who is signed out.
    assert [each for each in amiss if not each.startswith("Failed to load resource")] == []


def make(server: Server, *texts: str, **metadata: str) -> str:
    messages = [{"role": "user", "content": text} for text in texts]
    body = {"messages": messages, "metadata": metadata}
    return str(json.loads(server.call("POST", "/v1/threads", body).body)["id"])


def say(server: Server, thread_id: str, text: str) -> None:
    body = {"role": "user", "content": text}
    assert server.call("POST", f"/v1/threads/{thread_id}/messages", body).status == 200


def test_what_is_selected_is_said_exported_deleted_and_brought_back(
    server: Server, page: Page
) -> None:
    for number in range(25):
        make(server, f"pelican {number}")
    page.goto("/admin/?q=pelican")
    words = page.locator("[data-selected]")
    expect(page.get_by_role("button", name="Delete…")).to_be_disabled()
    for number in (24, 23, 22):
        page.get_by_label(f"Select pelican {number}").check()
    expect(words).to_have_text("3 selected:")
    assert len(exported(page)) == 3
    page.get_by_label("Select all 25 that match").check()
    expect(words).to_have_text("25 selected:")
    assert len(exported(page)) == 25
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete 25 threads").click()
    expect(page.get_by_role("status")).to_contain_text("Deleted 25 threads.")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("status")).to_contain_text("25 threads are back.")
    expect(page.locator("[data-row]")).to_have_count(20)


def exported(page: Page) -> list[str]:
    page.locator("summary", has_text="Export").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON Lines").click()
    page.keyboard.press("Escape")
    return Path(download.value.path()).read_text().splitlines()


def test_news_are_told_as_they_come_and_shown_when_asked(server: Server, page: Page) -> None:
    old = make(server, "heron old")
    new = make(server, "heron new")
    page.goto("/admin/?q=heron")
    say(server, new, "heron again")  # the first row stays the first
    row = page.locator(f"[data-row={new}]")
    expect(row).to_contain_text("2 messages")
    page.get_by_label("Select heron old").check()
    for number in range(2):
        make(server, f"heron {number}")
    say(server, old, "heron once more")
    news = page.locator(".news")
    expect(news).to_contain_text("2 new threads, 1 thread with news")
    expect(page).to_have_title(re.compile(r"^\(3\) Threads"))
    news.get_by_role("button", name="Show").click()
    expect(page.locator("[data-row] .title").first).to_have_text("heron old")
    expect(page.locator("[data-row]")).to_have_count(4)
    expect(page.get_by_label("Select heron old")).to_be_checked()
    expect(page.locator("[data-selected]")).to_have_text("1 selected:")
    expect(page.locator("[data-row] .icon")).to_have_count(4)
    expect(page).to_have_title(re.compile(r"^Threads"))
    expect(news).to_be_hidden()


def test_a_list_stays_when_the_sign_in_ends(server: Server, page: Page) -> None:
    make(server, "a bittern")
    page.goto("/admin/?q=bittern")
    page.get_by_label("Search messages").fill("typed")
    page.get_by_label("Select a bittern").check()
    make(server, "another bittern")
    show = page.locator(".news").get_by_role("button", name="Show")
    expect(show).to_be_visible()
    page.route("**/admin/threads.json?*", lambda route: route.fulfill(status=401))
    signed_out = page.get_by_text("You are signed out: sign in in another tab.")
    expect(signed_out).to_be_visible()
    page.route(
        "**/admin/?q=bittern",
        lambda route: route.fulfill(status=302, headers={"Location": "/admin/sign-in"}),
    )
    show.click()
    expect(signed_out).to_be_visible()
    expect(page.get_by_label("Search messages")).to_have_value("typed")
    expect(page.get_by_label("Select a bittern")).to_be_checked()
    page.unroute_all()
    expect(signed_out).to_have_count(0)


@pytest.mark.parametrize("order", ["", "&order=asc", "&sort=created_at"])
def test_a_thread_that_moves_up_is_no_news(server: Server, page: Page, order: str) -> None:
    word = f"crane{len(order)}"
    made = [make(server, f"{word} {number}") for number in range(22)]
    page.goto(f"/admin/?q={word}{order}")
    rows = page.locator("[data-row]")
    shown = rows.evaluate_all("rows => rows.map(row => row.dataset.row)")
    server.call("DELETE", f"/v1/threads/{shown[3]}")
    expect(page.locator(f"[data-row={shown[3]}]")).to_have_count(0)
    expect(rows).to_have_count(20)
    expect(page.locator(".news")).to_be_hidden()
    if not order:
        say(server, made[0], f"{word} again")
        expect(page.locator(".news")).to_contain_text("1 thread with news")


def test_what_is_typed_survives_a_chip_and_dates_are_of_the_zone(
    server: Server, page: Page
) -> None:
    make(server, "an ibis", plan="pro")
    page.goto("/admin/")
    page.get_by_label("Search messages").fill("ibis")
    page.get_by_label("From").fill("2026-07-01")
    page.get_by_label("To").fill("2099-12-31")
    page.locator(".chip", has_text="pro").first.click()
    expect(page).to_have_url(re.compile("q=ibis"))
    query = page.evaluate("Object.fromEntries(new URLSearchParams(location.search))")
    dates = {"since": "2026-07-01-04:00", "until": "2099-12-31-05:00"}
    assert query == {"q": "ibis", "metadata[plan]": "pro", **dates}
    expect(page.locator("[data-offset]").first).to_have_js_property("hidden", True)
    page.get_by_role("button", name="Search").click()
    expect(page).to_have_url(re.compile("since=2026-07-01-04%3A00"))
    page.goto("/admin/?since=2026-07-01")
    expect(page.locator("[data-offset]").first).to_have_text("(UTC)")
    expect(page.locator("[data-offset]").first).to_be_visible()
    page.get_by_role("button", name="Search").click()
    expect(page).to_have_url(re.compile(r"since=2026-07-01(%2B00%3A00)?$"))


def test_a_phone_shows_the_first_row_at_once_with_targets_for_fingers(
    server: Server, page: Page
) -> None:
    make(
        server, "a stork, and more of it than fits in a line of a phone", plan="pro", user="u" * 60
    )
    page.set_viewport_size(PHONE)
    for query in ("", "?q=stork&since=2020-01-01&metadata%5Bplan%5D=pro"):
        page.goto(f"/admin/{query}")
        box = page.locator("[data-row]").first.bounding_box()
        assert box
        assert box["y"] < 300
        assert page.evaluate(SMALL) == []
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    page.locator("summary", has_text="Filters (1)").click()
    expect(page.get_by_label("From")).to_have_value("2020-01-01")


@pytest.mark.parametrize(("viewport", "scheme"), [(DESK, "light"), (PHONE, "dark")])
def test_no_list_violates_accessibility(
    server: Server, page: Page, viewport: dict[str, int], scheme: str
) -> None:
    make(server, "a stork", plan="pro")
    page.set_viewport_size(viewport)  # type: ignore[arg-type]
    for address in (
        "/admin/?q=stork",
        "/admin/?q=stor",
        "/admin/threads/import",
        "/admin/threads/delete?all=1&q=stork",
    ):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(address)
        if page.locator("[data-row]").count():
            page.locator("[data-row] input").first.check()
        violations = Axe().run(page).response["violations"]
        assert [each["id"] for each in violations] == [], address


def test_an_empty_page_tells_of_the_first_thread(server: Server, page: Page) -> None:
    while threads := json.loads(server.call("GET", "/v1/threads?limit=100").body)["data"]:
        for thread in threads:
            server.call("DELETE", f"/v1/threads/{thread['id']}")
    page.goto("/admin/")
    expect(page.get_by_role("link", name="Import a file")).to_be_visible()
    make(server, "the first")
    page.locator(".news").get_by_role("button", name="Show").click()
    expect(page.locator("[data-row]")).to_have_count(1)
