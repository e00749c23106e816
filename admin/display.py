"""The contents of the pages: rows of a list, times, shortened texts, Markdown."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple
from urllib.parse import urlencode

import orjson
from markdown_it import MarkdownIt
from markupsafe import Markup

from rules.errors import shown
from rules.ids_and_clock import unix_now
from store.summaries import MAX_COUNTED_MESSAGES, Summary

SHOWN_CHIPS = 4
MAX_MARKDOWN_DEPTH = 18
MAX_MARKDOWN_CHARACTERS = 10_000
MAX_MARKDOWN_WORK = 8_000
"""Texts above either are shown as they are. An ordinary text takes a third of it, or less."""
_STEP_WORK = 2
_CUT_CHARACTERS = 200
_MAX_PRETTY = 20_000
_DAY_SECONDS = 86_400


class Chip(NamedTuple):
    """A metadata pair in a list. `query` filters by it, and `name` is its argument."""

    key: str
    value: str
    title: str
    name: str
    query: str


class Row(NamedTuple):
    """A thread in a list; `chips` are its first pairs of metadata, `more` counts the others."""

    id: str
    title: str
    run_status: str | None
    messages: str
    active: Markup
    chips: list[Chip]
    more: int


class Budget:
    """What a page may still hold: work of Markdown, characters of texts, and parts of messages."""

    def __init__(self) -> None:
        self.work, self.characters, self.parts = 5 * MAX_MARKDOWN_WORK, 1_000_000, 2_000

    def cut(self, text: str) -> str:
        """Return the beginning of a text that is not Markdown, in lines if it is JSON."""
        is_whole = self.characters > 0 and len(text) <= _MAX_PRETTY
        text = _in_lines(text) if is_whole else text
        cut = short(text, _MAX_PRETTY if self.characters > 0 else _CUT_CHARACTERS)
        self.characters -= len(text)
        return cut

    def first(self, parts: list[Any]) -> list[Any]:
        """Return the parts of a message, annotations of a part or attachments to be shown."""
        shown_parts = parts[: min(50, self.parts)]
        self.parts -= len(shown_parts)
        return shown_parts


class _TooMuchWork(Exception):
    """The Markdown of a text takes more than MAX_MARKDOWN_WORK."""


def row(thread: Mapping[str, Any], summary: Summary) -> Row:
    """Return a decoded thread object as a list shows it."""
    pairs = list(thread["metadata"].items())
    active = ago(summary.active_at or thread["created_at"])
    chips = [_chip(*pair) for pair in pairs[:SHOWN_CHIPS]]
    more = max(0, len(pairs) - SHOWN_CHIPS)
    counted = message_count(summary)
    return Row(thread["id"], headline(summary), summary.run_status, counted, active, chips, more)


@lru_cache(maxsize=1024)
def _chip(key: str, value: str) -> Chip:
    name = f"metadata[{key}]"
    return Chip(key, short(value), f"{key}: {value}", name, urlencode({name: value}))


def headline(summary: Summary) -> str:
    """Return the first line of a thread's first text."""
    return short(" ".join(summary.text.partition("\n")[0].split()), 120)


def message_count(summary: Summary) -> str:
    """Return the number of a thread's messages; a `+` stands for more."""
    plus = "+" if summary.messages > MAX_COUNTED_MESSAGES else ""
    return f"{min(summary.messages, MAX_COUNTED_MESSAGES):,}{plus}"


def ago(second: int) -> Markup:
    """Return a <time> that reads `3 h ago` and has the exact time in its title."""
    exact, day = _moment(second)
    distance = _distance(unix_now() - second) or day
    html = f'<time datetime="{exact}Z" title="{exact} UTC">{distance}</time>'
    return Markup(html)  # noqa: S704 (made of numbers)


@lru_cache(maxsize=1024)
def _moment(second: int) -> tuple[str, str]:
    """Return a time to the second, and its day."""
    moment = datetime.fromtimestamp(second, UTC)
    return moment.isoformat(" ")[:19], f"{moment:%-d %b %Y}"


def _distance(seconds: int) -> str:
    """Return a distance up to 30 days in the past, such as `3 h ago`, else an empty text."""
    if not -60 < seconds < 30 * _DAY_SECONDS:
        return ""
    for size, unit in ((_DAY_SECONDS, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now"


def short(text: str, maximum: int = 80) -> str:
    """Return a text, cut to a maximum number of characters."""
    return text if len(text) <= maximum else f"{text[: maximum - 1]}…"


def short_id(id_: str) -> str:
    """Return the beginning and the end of an id."""
    return id_ if len(id_) <= 20 else f"{id_[:12]}…{id_[-5:]}"


def pretty(value: Any) -> str:
    """Return JSON with line breaks and indents."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _in_lines(text: str) -> str:
    """Return a text with line breaks and indents if it is JSON, else as it is."""
    try:
        orjson.loads(text)  # stricter: what json reads may be no Unicode
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def tools_in_words(tools: list[dict[str, Any]]) -> str:
    """Return the kinds of an assistant's tools, with their numbers."""
    counts = Counter(tool["type"].replace("_", " ") for tool in tools)
    words = [kind if count == 1 else f"{count} {kind}s" for kind, count in counts.items()]
    return ", ".join(words) or "none"


def faults_of(faults: dict[str, str], name: str) -> str:
    """Return the sentences about a field of a form and about what is in it."""
    inside = (f"{name}.", f"{name}[")
    return " ".join(
        text for path, text in faults.items() if path == name or path.startswith(inside)
    )


def is_long(text: str) -> bool:
    """Return whether the page folds a text."""
    return len(text) > 2_000 or text.count("\n") > 30


def markdown(text: str, budget: Budget) -> Markup:
    """Return the HTML of a message's text, without HTML, images and styles of the text.

    Without work in the budget of its page a text is shown as it is, without characters it is cut.
    """
    budget.characters -= len(text)
    if budget.characters < 0 and len(text) > _CUT_CHARACTERS:
        return _plain(short(text, _CUT_CHARACTERS)) + _REST
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
FILTERS: tuple[Callable[..., Any], ...] = (
    ago,
    faults_of,
    headline,
    is_long,
    markdown,
    message_count,
    pretty,
    short,
    short_id,
    shown,
    tools_in_words,
)
