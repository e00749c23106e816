"""What the tests of pages share: the token of a form, a tab of Chromium, how a page looks."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from conftest import Server
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page
from werkzeug.test import TestResponse, encode_multipart

DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


def token_in(html: str) -> str:
    """Return the CSRF token of a page's first form."""
    match = re.search(r'name="csrf_token" value="([^"]+)"', html)
    assert match, html
    return match[1]


def submit_form(client: FlaskClient, html: str, to: str, fields: dict[str, Any]) -> TestResponse:
    """Send fields and the token of a page to an address, encoded as its form there says."""
    data = {"csrf_token": token_in(html)} | fields
    is_multipart = f'action="{to}" method="post" enctype="multipart/form-data"' in html
    if "file" in fields or not is_multipart:  # the client encodes these
        return client.post(to, data=data)
    boundary, body = encode_multipart(data)
    return client.post(to, data=body, content_type=f"multipart/form-data; boundary={boundary}")


@contextmanager
def tab_of(browser: Browser, server: Server, amiss: list[str], **options: Any) -> Iterator[Page]:
    """Yield a tab on a server; script errors, dialogs and lines of the console go to `amiss`."""
    context = browser.new_context(base_url=server.root_url, **options)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab = context.new_page()
    tab.on("pageerror", lambda error: amiss.append(str(error)))
    tab.on("dialog", lambda dialog: (amiss.append(dialog.message), dialog.dismiss()))
    tab.on("console", lambda line: amiss.append(line.text))
    yield tab
    context.close()


def assert_fit(page: Page) -> None:
    """Check a page in both sizes and themes: no violation of axe, nothing to scroll sideways."""
    for size in (PHONE, DESK):
        page.set_viewport_size(size)
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            report = Axe().run(page)
            assert report.violations_count == 0, report.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
