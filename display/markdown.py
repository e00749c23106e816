"""The texts of messages as HTML: Markdown, or as they are written."""

from collections.abc import Callable
from functools import lru_cache
from itertools import chain
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markupsafe import Markup

from display.as_written import keep_as_written
from display.budget import CUT_CHARACTERS, MAX_MARKDOWN_WORK, Budget
from display.marks import marked, parts_of, places
from display.texts import short

MAX_MARKDOWN_DEPTH = 18
MAX_MARKDOWN_CHARACTERS = 10_000
"""A longer text is shown as it is."""
_MAX_MARKS = 500
_STEP_WORK = 2
_SIGNS_OF_WORK = 100
"""A rule of blocks may read its line to the end, at each level of a list again."""


class _TooMuchWork(Exception):
    """The Markdown of a text takes more than MAX_MARKDOWN_WORK."""


def markdown(text: str, budget: Budget, q: str = "") -> Markup:
    """Return the HTML of a text, without HTML, images and styles of the text; words of `q` marked.

    Without work in the budget of its page a text is shown as it is, without characters it is cut.
    """
    if budget.characters < len(text) or len(text) > MAX_MARKDOWN_CHARACTERS or budget.work <= 0:
        return plain(text, budget, q)
    html, work = _render(text, q if budget.marks > 0 else "")
    budget.work -= work
    if html is None or budget.work < 0:
        return plain(text, budget, q)
    budget.characters -= len(text)
    return _counted(html, budget)


def plain(text: str, budget: Budget, q: str = "") -> Markup:
    """Return the HTML of a text as it is written, with the words of `q` marked."""
    budget.characters -= len(text)
    if budget.characters < 0 and len(text) > CUT_CHARACTERS:
        return _PLAIN % short(text, CUT_CHARACTERS) + _REST
    found = places(text, q) if budget.marks > 0 else []
    return _counted(_PLAIN % marked(text, found, min(budget.marks, _MAX_MARKS)), budget)


def _counted(html: Markup, budget: Budget) -> Markup:
    budget.marks -= html.count("<mark>")
    return html


@lru_cache(maxsize=256)
def _render(text: str, q: str) -> tuple[Markup | None, int]:
    """Return the HTML of a text, None if it is to be shown as it is, and the work that it takes."""
    env: dict[str, Any] = {"work": 0, "escaped": set(), "q": q}
    try:
        tokens = _MARKDOWN.parse(text, env)
    except _TooMuchWork:
        return None, MAX_MARKDOWN_WORK
    work = env["work"] + sum(1 + len(token.children or ()) for token in tokens)
    # Deeper lists and quotes leave no room for words, and markdown-it drops text below 100 levels.
    if work > MAX_MARKDOWN_WORK or any(token.level > MAX_MARKDOWN_DEPTH for token in tokens):
        return None, work
    html = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
    return Markup(html), work  # noqa: S704 (html=False escapes stored HTML)


def _markdown_renderer() -> MarkdownIt:
    renderer = MarkdownIt("js-default", {"breaks": True})
    renderer.disable("image")  # an image would load from another server
    keep_as_written(renderer)
    # Rules that never match: markdown-it tries them wherever it looks, also twice at one place.
    renderer.inline.ruler.before("text", "budget", _spend)
    renderer.block.ruler.before("table", "budget", _spend_on_line, {"alt": _INTERRUPTIBLE})
    renderer.core.ruler.push("attributes", _set_attributes)
    renderer.core.ruler.push("marks", _set_marks)
    for name, html in _TEXTS.items():
        renderer.add_render_rule(name, _text_rule(html))
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


def _spend_on_line(state: Any, line: int, *_: Any) -> bool:
    state.env["work"] += (state.eMarks[line] - state.bMarks[line]) // _SIGNS_OF_WORK
    return _spend(state)


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


def _set_marks(state: Any) -> None:
    """Find the words of the search in each block: emphasis may begin inside a word or a phrase."""
    for block in state.tokens if state.env["q"] else ():
        pieces = block.children or [block]
        texts = ["\n" if piece.tag == "br" else piece.content for piece in pieces]
        parts = parts_of(places("".join(texts), state.env["q"])[:_MAX_MARKS], map(len, texts))
        for piece, part in zip(pieces, parts, strict=True):
            piece.meta["places"] = part


def _text_rule(html: str) -> Callable[..., str]:
    """Return a rule that renders the text of a token, with its marks, inside this HTML."""

    def rule(_: Any, tokens: Any, number: int, *__: Any) -> str:
        token = tokens[number]
        found = token.meta.get("places")
        text = marked(token.content, found, len(found)) if found else escapeHtml(token.content)
        return html.replace("{}", text)

    return rule


_TEXTS = {
    "text": "{}",
    "code_inline": "<code>{}</code>",
    "code_block": "<pre><code>{}</code></pre>\n",
    "fence": "<pre><code>{}</code></pre>\n",
}
"""The HTML around what is text."""
_INTERRUPTIBLE = ["paragraph", "blockquote", "list", "table"]
_PLAIN = Markup('<p class="plain">%s</p>')
_REST = Markup('<p class="more">This page is full: the rest of the text is in the raw JSON.</p>')
_MARKDOWN = _markdown_renderer()
