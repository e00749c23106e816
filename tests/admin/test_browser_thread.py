"""The page of a thread in Chromium: it goes on by itself, walks from hit to hit, obeys keys."""

import json
import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import Server, serving, until
from pages import DESK, assert_fit, tab_of
from playwright.sync_api import Browser, Page, expect

COPIED = "wanted => navigator.clipboard.readText().then(text => text === wanted)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("thread") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def amiss() -> list[str]:
    return []


@pytest.fixture(scope="module")
def tab(browser: Browser, server: Server, amiss: list[str]) -> Iterator[Page]:
    with tab_of(browser, server, amiss, timezone_id="Asia/Tokyo") as tab:
        yield tab


@pytest.fixture
def page(tab: Page, amiss: list[str]) -> Iterator[Page]:
    """A page of the server. A script error, a dialog or a refused resource fails the test."""
    tab.set_viewport_size(DESK)
    tab.emulate_media(color_scheme="light", media="screen")
    amiss.clear()
    yield tab
    # The console tells of answers such as 404, of a thread that is deleted.
    assert [each for each in amiss if not each.startswith("Failed to load resource")] == []


def make(server: Server, *texts: str) -> str:
    """Make a thread in which a user and an assistant speak in turn."""
    messages = [
        {"role": ("user", "assistant")[number % 2], "content": text, "metadata": {"number": "1"}}
        for number, text in enumerate(texts)
    ]
    return str(json.loads(server.call("POST", "/v1/threads", {"messages": messages}).body)["id"])


def say(server: Server, thread_id: str, *texts: str) -> None:
    for text in texts:
        body = {"role": "user", "content": text}
        server.call("POST", f"/v1/threads/{thread_id}/messages", body)


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.innerText"))


def test_new_messages_are_appended_or_told(page: Page, server: Server) -> None:
    thread_id = make(server, *map(str, range(30)))
    page.goto(f"/admin/threads/{thread_id}#end")
    say(server, thread_id, "**thirty**")
    articles = page.get_by_role("article")
    expect(articles).to_have_count(31)
    expect(articles.last).to_contain_text("**thirty**")
    expect(articles.last).to_be_in_viewport()
    expect(articles.last.get_by_role("button", name="Copy message id")).to_be_visible()
    expect(page.locator("[data-range]").first).to_have_text("1–31")
    expect(page.locator(".day")).to_have_count(1)
    title = page.title()
    page.evaluate("scrollTo(0, 0)")
    say(server, thread_id, "one more", "and one")
    show = page.get_by_role("button", name="2 new messages – show")
    expect(show).to_be_visible()
    assert page.title() == f"(2) {title}"
    expect(articles).to_have_count(31)
    assert_fit(page)
    show.click()
    expect(articles).to_have_count(33)
    assert "one more" in focused(page)
    expect(show).to_have_count(0)
    assert page.title() == title


def test_an_empty_thread_takes_its_first_message(page: Page, server: Server) -> None:
    thread_id = make(server)
    page.goto(f"/admin/threads/{thread_id}")
    say(server, thread_id, "the first")
    expect(page.get_by_role("article")).to_have_count(1)
    expect(page.get_by_text("No messages yet.")).to_have_count(0)
    server.call("DELETE", f"/v1/threads/{thread_id}")
    expect(page.get_by_text("This thread is deleted.")).to_be_visible()


def test_a_long_transcript_opens_at_its_end(page: Page, server: Server) -> None:
    thread_id = make(server, *map(str, range(30)))
    say(server, thread_id, *map(str, range(30, 60)))
    page.goto(f"/admin/threads/{thread_id}")
    expect(page.get_by_role("article").last).to_be_in_viewport()
    page.get_by_role("link", name="First").first.click()
    expect(page.get_by_role("heading", level=1)).to_be_in_viewport()


def test_hits_are_walked_by_button_and_key(page: Page, server: Server) -> None:
    thread_id = make(server, "heron, heron", "a **heron**", *map(str, range(29)), "heron")
    say(server, thread_id, *map(str, range(60)), "the last heron")
    page.goto(f"/admin/threads/{thread_id}?order=asc&limit=100")
    ids = page.locator("article").evaluate_all("articles => articles.map(article => article.id)")
    page.goto(f"/admin/threads/{thread_id}?order=asc&q=heron")
    current = page.locator("mark.current")
    for number in range(2):
        page.get_by_role("link", name="Next hit").click()
        expect(current).to_be_in_viewport()
        assert page.locator("mark").nth(number).get_attribute("class") == "current"
    page.goto(f"/admin/threads/{thread_id}?at={ids[0]}&q=heron#{ids[0]}")
    for number in (1, 2, 3):
        page.keyboard.press("n")
        assert page.locator("mark").nth(number).get_attribute("class") == "current"
    page.keyboard.press("n")
    expect(page).to_have_url(re.compile(f"#{ids[-1]}$"))
    expect(page.locator("article:target mark")).to_be_in_viewport()
    assert_fit(page)


def test_keys_walk_send_and_are_told(page: Page, server: Server) -> None:
    page.goto(f"/admin/threads/{make(server, 'one', 'two', 'three')}")
    for key, text in (("j", "one"), ("j", "two"), ("j", "three"), ("k", "two")):
        page.keyboard.press(key)
        assert text in focused(page)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert Axe().run(page).violations_count == 0
    page.keyboard.press("Escape")
    page.get_by_label("Text").fill("j is a letter here")
    page.keyboard.press("Control+Enter")
    expect(page.locator("article:target")).to_contain_text("j is a letter here")
    expect(page.get_by_text("Message added.")).to_be_in_viewport()
    assert page.get_by_text("Message added.").evaluate(
        "notice => notice.parentElement.previousElementSibling.matches(':target')"
    )


def test_a_busy_button_looks_busy(page: Page, server: Server) -> None:
    page.goto(f"/admin/threads/{make(server, 'hi')}")
    button = page.get_by_role("button", name="Add message")
    page.locator("form", has=button).evaluate(
        "form => form.addEventListener('submit', event => event.preventDefault())"
    )
    page.get_by_label("Text").fill("x")
    button.click()
    expect(button).to_have_attribute("aria-busy", "true")


def test_texts_are_copied_as_written_and_times_are_local(page: Page, server: Server) -> None:
    text = "a *b*\n\n    c"
    thread_id = make(server, "hi", text)
    page.goto(f"/admin/threads/{thread_id}")
    page.get_by_role("article").last.get_by_role("button", name="Copy text").click()
    assert until(lambda: page.evaluate(COPIED, text))
    clock = page.locator("time.clock").first
    local = (
        "at => new Date(at.replace(' ', 'T')).toLocaleTimeString('en-GB', {timeZone: 'Asia/Tokyo'})"
    )
    assert clock.inner_text() == page.evaluate(local, clock.get_attribute("datetime"))
    expect(page.get_by_role("contentinfo")).to_contain_text("Asia/Tokyo")
    page.get_by_role("link", name="As written").click()
    expect(page.get_by_role("article").last.locator(".plain")).to_have_text(
        text, use_inner_text=True
    )
    page.get_by_role("link", name="JSON of message").first.click()
    expect(page.locator("pre")).to_contain_text('"object": "thread.message"')
    assert_fit(page)


def test_print_is_dark_on_white_with_whole_times(page: Page, server: Server) -> None:
    thread_id = make(server, "hi", "line\n" * 100)
    page.goto(f"/admin/threads/{thread_id}")
    page.emulate_media(color_scheme="dark", media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    text = page.locator(".folded")
    assert text.evaluate("text => text.clientHeight >= text.scrollHeight")
    expect(page.locator(".composer").first).to_be_hidden()
    expect(page.locator("time.clock").first).to_be_visible()


def test_what_cannot_be_copied_leaves_the_clipboard(page: Page, server: Server) -> None:
    thread_id = make(server, "hi")
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    body = {"role": "user", "content": [image]}
    server.call("POST", f"/v1/threads/{thread_id}/messages", body)
    page.goto(f"/admin/threads/{thread_id}")
    page.evaluate("navigator.clipboard.writeText('before')")
    text, picture = (page.get_by_role("article").nth(number) for number in (0, 1))
    picture.get_by_role("button", name="Copy text").click()
    expect(page.get_by_text("This message has no text.")).to_be_visible()
    page.route("**/messages/*.json", lambda route: route.abort())
    text.get_by_role("button", name="Copy text").click()
    expect(page.get_by_text("The server gives no text: nothing is copied.")).to_be_visible()
    page.unroute_all()
    picture.get_by_role("button", name="Copy message id").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    page.evaluate("navigator.clipboard.writeText('before')")
    server.call("DELETE", f"/v1/threads/{thread_id}")
    text.get_by_role("button", name="Copy text").click()
    expect(page.get_by_text("The server gives no text: nothing is copied.")).to_be_visible()
    assert page.evaluate(COPIED, "before")


def test_the_link_leads_to_a_hit_whose_mark_is_not_shown(page: Page, server: Server) -> None:
    thread_id = make(server, "heron", "heron")
    page.goto(f"/admin/threads/{thread_id}?order=asc")
    first, second = page.locator("article").evaluate_all("all => all.map(each => each.id)")
    page.goto(f"/admin/threads/{thread_id}?at={first}&q=heron#{first}")
    page.evaluate("document.querySelectorAll('mark').forEach(mark => mark.remove())")
    page.get_by_role("link", name="Next hit").click()
    expect(page).to_have_url(re.compile(f"#{second}$"))


def test_ages_grow_while_the_machine_sleeps(page: Page, server: Server) -> None:
    page.goto(f"/admin/threads/{make(server, 'hi')}")
    page.evaluate("{ const now = Date.now; Date.now = () => now() + 3_600_000; }")
    expect(page.locator("article .age")).to_have_text("1 h ago", timeout=8_000)
