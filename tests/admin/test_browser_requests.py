"""The page of requests in Chromium: it follows the program that is tested."""

from collections.abc import Iterator

import pytest
from conftest import Server, serving
from pages import DESK, assert_fit, tab_of
from playwright.sync_api import Browser, Page, expect

PAGE = "/admin/requests"
HOSTILE = {"metadata": {"a": "<img src=x onerror=alert(1)>"}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("requests") / "log") as server:
        yield server


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A page of the server. A script error, a dialog or a refused resource fails the test."""
    amiss: list[str] = []
    with tab_of(browser, server, amiss, viewport=DESK) as page:
        yield page
    # The console tells of answers such as 401, of a person who is signed out.
    assert [each for each in amiss if not each.startswith("Failed to load resource")] == []


def test_requests_show_up_as_they_come(page: Page, server: Server) -> None:
    page.goto(PAGE)
    expect(page.get_by_text("No request has come yet.")).to_be_visible()
    assert_fit(page)
    page.get_by_role("button", name="429 twice").click()
    for _ in range(3):
        server.call("POST", "/v1/threads", HOSTILE)
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("retry")
    expect(rows.nth(0).locator("[data-cell=fault]")).to_be_hidden()
    expect(rows.nth(2).locator(".state")).to_have_text("429")
    expect(rows.nth(2).locator("[data-cell=retry]")).to_be_hidden()
    expect(page.get_by_text("fired 2 of 3 matched")).to_be_visible()
    assert_fit(page)
    time = rows.nth(0).locator("time").inner_text()
    rows.nth(0).get_by_role("link", name="/v1/threads").click()
    expect(page.locator("time.clock")).to_have_text(time)  # to the millisecond
    assert_fit(page)
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(f"curl -g -X POST {server.root_url}/v1/threads")
    page.get_by_role("link", name="Its thread").click()
    expect(page).to_have_url(f"{server.root_url}/admin/threads/{newest_thread(server)}")


def newest_thread(server: Server) -> str:
    with server.sdk() as sdk:
        return str(sdk.get("/threads", cast_to=dict)["data"][0]["id"])


def test_a_paused_table_catches_up_and_a_cleared_one_is_empty(page: Page, server: Server) -> None:
    server.call("GET", "/v1/assistants")
    page.goto(PAGE)
    rows = page.locator("tbody tr")
    before = rows.count()
    page.get_by_role("button", name="Pause").click()
    server.call("GET", "/v1/threads/nowhere")
    page.get_by_role("button", name="Go on").click()
    expect(rows).to_have_count(before + 1)
    server.call("DELETE", "/_mock/requests")
    expect(rows).to_have_count(0)
    expect(page.get_by_text("No request has come yet.")).to_be_visible()


@pytest.mark.sqlite_only("reset copies SQLite's file")
def test_a_person_resets_the_server(page: Page) -> None:
    page.goto(PAGE)
    page.locator("summary", has_text="Reset…").click()
    assert_fit(page)
    page.get_by_role("button", name="Reset everything").click()
    expect(page.get_by_text("Everything is as at the start.")).to_be_visible()


def test_a_fault_that_is_typed_outlives_the_sign_in(page: Page) -> None:
    page.goto(PAGE)
    page.locator("summary", has_text="Another fault").click()
    page.get_by_label("Path").fill("*/messages")
    page.route("**/requests.json?*", lambda route: route.fulfill(status=401))
    signed_out = page.get_by_text("You are signed out: sign in in another tab.")
    expect(signed_out).to_be_visible()
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_label("Path")).to_have_value("*/messages")
    page.unroute_all()
    expect(signed_out).to_have_count(0)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_label("Path")).to_be_visible()
