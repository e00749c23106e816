"""Markdown of messages as HTML."""

from functools import lru_cache
from itertools import chain
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup

from display.budget import CUT_CHARACTERS, MAX_MARKDOWN_WORK, Budget
from display.texts import short

MAX_MARKDOWN_DEPTH = 18
MAX_MARKDOWN_CHARACTERS = 10_000
"""A longer text is shown as it is."""
_STEP_WORK = 2


class _TooMuchWork(Exception):
    """The Markdown of a text takes more than MAX_MARKDOWN_WORK."""


def markdown(text: str, budget: Budget) -> Markup:
    """Return the HTML of a message's text, without HTML, images and styles of the text.

    Without work in the budget of its page a text is shown as it is, without characters it is cut.
    """
    budget.characters -= len(text)
    if budget.characters < 0 and len(text) > CUT_CHARACTERS:
        return _plain(short(text, CUT_CHARACTERS)) + _REST
    if len(text) > MAX_MARKDOWN_CHARACTERS or budget.work <= 0:
        return _plain(text)
    html, work = _render(text)
    budget.work -= work
    return html if budget.work >= 0 else _plain(text)


@lru_cache(maxsize=256)
def _render(text: str) -> tuple[Markup, int]:
    """Return the HTML of a text, and the work that it takes."""
    spent = {"work": 0}
    try:
        tokens = _MARKDOWN.parse(text, spent)
    except _TooMuchWork:
        return _plain(text), MAX_MARKDOWN_WORK
    work = spent["work"] + sum(1 + len(token.children or ()) for token in tokens)
    # Deeper lists and quotes leave no room for words, and markdown-it drops text below 100 levels.
    if work > MAX_MARKDOWN_WORK or any(token.level > MAX_MARKDOWN_DEPTH for token in tokens):
        return _plain(text), work
    html = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
    return Markup(html), work  # noqa: S704 (html=False escapes stored HTML)


def _plain(text: str) -> Markup:
    return Markup('<p class="plain">%s</p>') % text


def _markdown_renderer() -> MarkdownIt:
    renderer = MarkdownIt("js-default", {"breaks": True})
    renderer.disable("image")  # an image would load from another server
    # Rules that never match: markdown-it tries them wherever it looks, also twice at one place.
    renderer.inline.ruler.before("text", "budget", _spend)
    renderer.block.ruler.before("table", "budget", _spend, {"alt": _INTERRUPTIBLE})
    renderer.core.ruler.push("attributes", _set_attributes)
    # A heading becomes a bold paragraph: the outline of the page has no headings of messages.
    renderer.add_render_rule("heading_open", lambda *_: '<p class="heading"><strong>')
    renderer.add_render_rule("heading_close", lambda *_: "</strong></p>\n")
    # A group, not a region: a page may hold many tables, and each landmark needs another name.
    opening = '<div class="scroll" role="group" aria-label="Table" tabindex="0"><table>\n'
    renderer.add_render_rule("table_open", lambda *_: opening)
    renderer.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return renderer


def _spend(state: Any, *_: Any) -> bool:
    state.env["work"] += _STEP_WORK
    if state.env["work"] + len(state.tokens) > MAX_MARKDOWN_WORK:
        raise _TooMuchWork
    return False


def _set_attributes(state: Any) -> None:
    for token in chain.from_iterable([block, *(block.children or [])] for block in state.tokens):
        if token.type == "link_open":
            token.attrSet("rel", "noopener noreferrer nofollow")
        elif token.type in ("bullet_list_open", "ordered_list_open", "blockquote_open"):
            # Bullets, numbers and bars stand on the side where the language begins its lines.
            token.attrSet("dir", "auto")
        elif token.type in ("th_open", "td_open") and (style := token.attrs.pop("style", "")):
            # The page's policy refuses the style attribute of the alignment.
            token.attrSet("class", style.removeprefix("text-align:")[0])


_INTERRUPTIBLE = ["paragraph", "reference", "blockquote", "list", "table"]
_REST = Markup('<p class="more">This page is full: the rest of the text is in the raw JSON.</p>')
_MARKDOWN = _markdown_renderer()
