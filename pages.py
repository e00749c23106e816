"""What the browse page shows: filters as its URL states them, summaries, Markdown, forms."""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple
from urllib.parse import urlencode

import orjson
import sqlalchemy as sa
from flask import request
from markdown_it import MarkdownIt
from markupsafe import Markup
from marshmallow import Schema, ValidationError

import database
import listing
import store
from database import Connection
from errors import Fault, by_path
from models import Thread, unix_now
from schemas import Body, Choice, ListThreads, ObjectId, QueryWhole, Wire
from wire import THREAD

MESSAGES_A_PAGE = 50
MAX_COUNTED_MESSAGES = 1000
SHOWN_CHIPS = 4
MAX_MARKDOWN_DEPTH = 18
MAX_MARKDOWN_CHARACTERS = 10_000
"""Longer texts are shown as they are: brackets alone can make Markdown quadratic."""

_TITLE_CHARACTERS = 120
_CHIP_CHARACTERS = 80
_DAY = 86_400
_FIRST_TEXT = re.compile(r'"text":\{"value":"((?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*)')
_SUMMARIES = """
    SELECT id,
        (SELECT count(*) FROM
            (SELECT 1 FROM messages WHERE thread_seq = threads.seq LIMIT :counted) AS counted
        ) AS messages,
        (SELECT created_at FROM messages WHERE thread_seq = threads.seq
            ORDER BY seq DESC LIMIT 1
        ) AS active_at,
        (SELECT substr(content, 1, 8000) FROM messages WHERE seq =
            (SELECT seq FROM
                (SELECT seq, role FROM messages WHERE thread_seq = threads.seq
                    ORDER BY seq LIMIT 20) AS first_messages
             WHERE role = 'user' ORDER BY seq LIMIT 1)
        ) AS opening
    FROM threads WHERE project = :project AND id IN ({ids})
"""


class Day(Wire):
    """A date (UTC); loads as the second that is so far from its first one."""

    def __init__(self, offset: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.offset = offset

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
        try:
            start = datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError as error:
            fault = Fault("invalid_value", "Write it as year-month-day, for example 2026-11-22.")
            raise ValidationError(fault) from error
        return max(0, int(start.timestamp()) + self.offset)


class NotAPair(Wire):
    """What was typed as a metadata filter and tidy_arguments found no key in."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        raise ValidationError(Fault("invalid_value", "Write it as key=value."))


class BrowseThreads(ListThreads):
    """The list's filters as a URL of the page states them: dates instead of seconds."""

    since = Day(-1, attribute="created_after")
    until = Day(_DAY, attribute="created_before")
    pair = NotAPair()

    class Meta(Body.Meta):
        exclude = ("created_after", "created_before")


class ExportThreads(BrowseThreads):
    form = Choice("json", "jsonl", "markdown", data_key="as", load_default="jsonl")


class ExportThread(Body):
    form = Choice("json", "jsonl", "markdown", data_key="as", load_default="jsonl")


class BrowseMessages(Body):
    """A page of a transcript: after or before a message, or the page that holds one (`at`)."""

    limit = QueryWhole(1, 100, load_default=MESSAGES_A_PAGE)
    order = Choice("asc", load_default="asc")
    after = ObjectId("msg")
    before = ObjectId("msg")
    at = ObjectId("msg")


class Summary(NamedTuple):
    """What a list tells about a thread beside the thread itself."""

    title: str
    messages: str
    active_at: int | None


class Chip(NamedTuple):
    """A pair of metadata as a list shows it, and the query that filters by it, a `name` of it."""

    key: str
    shown: str
    title: str
    name: str
    query: str


class Row(NamedTuple):
    """A thread as a list shows it; `chips` are its first pairs of metadata."""

    id: str
    short_id: str
    title: str
    messages: str
    active: Markup
    chips: list[Chip]
    more: int


class Form(NamedTuple):
    """What was typed, what its schema made of it, and the faults by path."""

    typed: dict[str, Any]
    body: dict[str, Any]
    faults: dict[str, str]


def tidy_arguments() -> dict[str, str]:
    """Return the URL's arguments, `pair=key=value` as `metadata[key]`; that alone may be blank.

    A form sends the line breaks of its hidden fields as CR LF.
    """
    given = [(name, text.replace("\r\n", "\n")) for name, text in request.args.items()]
    tidy = {name: text for name, text in given if text.strip() or name.startswith("metadata[")}
    key, equals, value = tidy.get("pair", "").partition("=")
    if equals:
        del tidy["pair"]
        tidy[f"metadata[{key.strip()}]"] = value.strip()
    return tidy


def read_threads(project: str, query: dict[str, Any]) -> tuple[listing.Page, list[Row]]:
    """Return a page of the list, as it is and as it is shown."""
    with database.snapshot() as connection:
        page = listing.list_threads(connection, project, query)
        return page, _rows(connection, project, plain(page.objects))


def find_threads(project: str, ids: Sequence[str]) -> list[Row]:
    """Return those of the named threads that exist."""
    chosen = sa.select(THREAD.label("wired")).where(Thread.project == project, Thread.id.in_(ids))
    with database.snapshot() as connection:
        found = connection.rows(chosen.order_by(Thread.created_at.desc(), Thread.seq.desc()))
        return _rows(connection, project, plain(row.wired for row in found))


def read_thread(
    project: str, thread_id: str, query: dict[str, Any]
) -> tuple[str, Summary, listing.Page]:
    """Return the thread object, its summary and a page of messages. Raises ApiError 404.

    The page that `at` asks for begins half a page before that message, even if it is deleted.
    """
    with database.snapshot() as connection:
        thread = store.find_thread(connection, project, thread_id)
        if "at" in query:
            lead = {"before": query.pop("at"), "limit": MESSAGES_A_PAGE // 2, "order": "asc"}
            earlier = listing.list_messages(connection, project, thread_id, lead)
            query |= {"after": earlier.ids[0]} if earlier.has_more else {}
        page = listing.list_messages(connection, project, thread_id, query)
        return thread, _summaries(connection, project, [thread_id])[thread_id], page


def neighbours(query: dict[str, Any], page: listing.Page) -> tuple[bool, bool]:
    """Tell whether there are rows before the page, in its order, and after it."""
    if "before" in query:
        return page.has_more, True
    return "after" in query, page.has_more


def read_form(schema: Schema, body: Callable[[dict[str, Any]], dict[str, Any]]) -> Form:
    """Read the request's form; `body` turns what was typed into what the schema loads."""
    given = typed()
    keys = [key for key, _ in given["rows"]]
    faults = {f"metadata.{key}": "This key is given twice." for key in keys if keys.count(key) > 1}
    try:
        _refuse_nul()
        loaded = schema.load(body(given))
    except ValidationError as error:
        faults |= by_path(error)
    return Form(given, {} if faults else loaded, faults)


def typed() -> dict[str, Any]:
    """Return what was typed in the request's form."""
    texts = {
        name: [text.replace("\r\n", "\n") for text in texts] for name, texts in request.form.lists()
    }
    rows = zip(texts.get("key", []), texts.get("value", []), strict=False)
    lines: dict[str, Any] = {name: texts.get(name, [""])[0] for name in ("role", "content")}
    return lines | {"rows": [(key, value) for key, value in rows if key or value]}


def pairs_body(typed: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata typed."""
    return {"metadata": dict(typed["rows"])}


def message_body(typed: dict[str, Any]) -> dict[str, Any]:
    """Return the message typed."""
    return {"role": typed["role"], "content": typed["content"]}


def thread_body(typed: dict[str, Any]) -> dict[str, Any]:
    """Return the thread typed; without a text it has no message."""
    messages = [message_body(typed)] if typed["content"] else []
    return pairs_body(typed) | {"messages": messages}


def markdown(text: str) -> Markup:
    """Return the HTML of a message's text, free of HTML, images and styles of its own."""
    if len(text) > MAX_MARKDOWN_CHARACTERS:
        return _plain(text)
    return Markup(_render(text))  # noqa: S704 (html=False escapes what is stored)


def is_long(text: str) -> bool:
    """Tell whether a text is folded."""
    return len(text) > 2_000 or text.count("\n") > 30


def ago(second: int) -> Markup:
    """Return a <time> that reads `3 h ago` and tells the exact time on hover."""
    exact, date = _moment(second)
    distance = _distance(unix_now() - second) or date
    return Markup(  # noqa: S704 (made of numbers)
        f'<time datetime="{exact}Z" title="{exact} UTC">{distance}</time>'
    )


@lru_cache(maxsize=1024)
def _moment(second: int) -> tuple[str, str]:
    """Return a time to the second, and its date."""
    moment = datetime.fromtimestamp(second, UTC)
    return moment.isoformat(" ")[:19], f"{moment:%-d %b %Y}"


def _distance(seconds: int) -> str:
    """Return how long ago that was, unless it is long or still to come."""
    if not -60 < seconds < 30 * _DAY:
        return ""
    for size, unit in ((_DAY, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now"


def short(text: str, most: int = _CHIP_CHARACTERS) -> str:
    """Return a text of so many characters at most."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def short_id(id_: str) -> str:
    """Return an id's beginning and end, enough to tell it from others."""
    return id_ if len(id_) <= 20 else f"{id_[:12]}…{id_[-5:]}"


def pretty(value: Any) -> str:
    """Return JSON to read."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def plain(objects: Iterable[str]) -> list[dict[str, Any]]:
    """Return wire objects decoded, for a template."""
    return list(map(orjson.loads, objects))


def _rows(connection: Connection, project: str, threads: list[dict[str, Any]]) -> list[Row]:
    told = _summaries(connection, project, [thread["id"] for thread in threads])
    return [_row(thread, told[thread["id"]]) for thread in threads]


def _row(thread: dict[str, Any], told: Summary) -> Row:
    pairs = list(thread["metadata"].items())
    active = ago(told.active_at or thread["created_at"])
    more = max(0, len(pairs) - SHOWN_CHIPS)
    chips, id_ = [_chip(*pair) for pair in pairs[:SHOWN_CHIPS]], thread["id"]
    return Row(id_, short_id(id_), told.title, told.messages, active, chips, more)


@lru_cache(maxsize=1024)
def _chip(key: str, value: str) -> Chip:
    name = f"metadata[{key}]"
    return Chip(key, short(value), f"{key}: {value}", name, urlencode({name: value}))


@lru_cache(maxsize=128)
def _summaries_statement(threads: int) -> sa.TextClause:
    """Build the SELECT for so many threads once: an expanding parameter costs more than it all."""
    return sa.text(_SUMMARIES.format(ids=", ".join(f":id{number}" for number in range(threads))))


def _summaries(connection: Connection, project: str, ids: list[str]) -> dict[str, Summary]:
    """Tell about each thread in one statement that never reads a whole thread."""
    if not ids:
        return {}
    values: dict[str, Any] = {f"id{number}": thread_id for number, thread_id in enumerate(ids)}
    values |= {"project": project, "counted": MAX_COUNTED_MESSAGES + 1}
    rows = connection.rows(_summaries_statement(len(ids)), values)
    return {
        row.id: Summary(_title(row.opening or ""), _count(row.messages), row.active_at)
        for row in rows
    }


def _count(messages: int) -> str:
    if messages > MAX_COUNTED_MESSAGES:
        return f"{MAX_COUNTED_MESSAGES:,}+"
    return f"{messages:,}"


@lru_cache(maxsize=1024)
def _title(opening: str) -> str:
    """Return the first line of the first text; `opening` is the start of stored content."""
    found = _FIRST_TEXT.search(opening)
    text = str(orjson.loads(f'"{found[1]}"')).strip() if found else ""
    line = " ".join(text.partition("\n")[0].split())
    return short(line, _TITLE_CHARACTERS)


def _refuse_nul() -> None:
    for name, values in request.form.lists():
        if any("\0" in value for value in values):
            fault = Fault(None, "Text cannot hold the NUL character (U+0000).")
            raise ValidationError({"metadata" if name in ("key", "value") else name: [fault]})


def _markdown_renderer() -> MarkdownIt:
    """Return a renderer without images (they would load from elsewhere) and headings.

    A heading of a message becomes a bold paragraph: the page's outline is the page's own.
    """
    renderer = MarkdownIt("js-default", {"breaks": True}).disable("image")
    renderer.core.ruler.push("dress", _dress)
    renderer.add_render_rule("heading_open", lambda *_: '<p class="heading"><strong>')
    renderer.add_render_rule("heading_close", lambda *_: "</strong></p>\n")
    # A group, not a region: a page may hold many tables, and landmarks need names of their own.
    opening = '<div class="scroll" role="group" aria-label="Table" tabindex="0"><table>\n'
    renderer.add_render_rule("table_open", lambda *_: opening)
    renderer.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return renderer


def _dress(state: Any) -> None:
    for token in chain.from_iterable([block, *(block.children or [])] for block in state.tokens):
        if token.type == "link_open":
            token.attrSet("rel", "noopener noreferrer nofollow")
        elif token.type in ("bullet_list_open", "ordered_list_open", "blockquote_open"):
            # Bullets, numbers and bars stand where the language of the text begins its lines.
            token.attrSet("dir", "auto")
        elif token.type in ("th_open", "td_open") and (style := token.attrs.pop("style", "")):
            # Alignment comes as a style attribute, which the page's policy refuses.
            token.attrSet("class", style.removeprefix("text-align:")[0])


_MARKDOWN = _markdown_renderer()


def _plain(text: str) -> Markup:
    return Markup('<p class="plain">%s</p>') % text


@lru_cache(maxsize=512)
def _render(text: str) -> str:
    tokens = _MARKDOWN.parse(text)
    # Deeper lists and quotes leave no room for words, and below 100 levels there are none.
    if any(token.level > MAX_MARKDOWN_DEPTH for token in tokens):
        return _plain(text)
    return str(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))


FILTERS = (ago, is_long, markdown, pretty, short, short_id)
