"""The pages, and the changes that their forms make."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any
from urllib.parse import urlencode

from flask import Response, redirect, render_template, request, stream_with_context, url_for
from marshmallow import ValidationError

import database
from admin import forms, schemas, sign_in, transcript
from admin.forms import Answer, Form, done
from display.budget import Budget
from display.rows import Row, row
from exchange import exports
from lists.messages import messages_page
from lists.pages import Page
from lists.summaries import Summary, named_threads, summaries
from lists.threads import threads_page
from models import Thread
from rules import fields, refusals
from rules.errors import ApiError, first_fault
from runs import creation
from runs.summaries import active_of, runs_beside
from store import copies, deletions, messages
from store.objects import Object, decoded
from store.threads import create_thread, find_thread, modify_thread
from web.request import project
from web.request_body import read_query
from web.responses import answer, list_object

bp = sign_in.bp
_BROWSE, _MESSAGES = schemas.BrowseThreads(), schemas.BrowseMessages()
_EXPORT, _EXPORT_ONE = schemas.ExportThreads(), schemas.ExportThread()
_MAX_SELECTED = 100
_MAX_QUERY_SHOWN_AGAIN = 1_000
_FILES = {
    "json": ("application/json", "json", exports.as_jsonl),
    "jsonl": ("application/jsonl", "jsonl", exports.as_jsonl),
    "markdown": ("text/markdown; charset=utf-8", "md", exports.as_markdown),
}
"""The content type, the suffix and the renderer of each form of export."""


@bp.get("/")
def threads() -> Answer:
    filters = forms.read_filters()
    if filters != request.args.to_dict():
        return redirect(_list_address(filters))
    try:
        query = read_query(_BROWSE)
        with database.snapshot(is_long="q" in query) as connection:
            page = threads_page(connection, project(), query)
            rows = _rows(connection, page.objects)
    except (ApiError, ValidationError) as error:
        return _refused_list(filters, error)
    return _list(filters, rows=rows, **neighbours(query, page))


@bp.get("/threads.json")
def threads_json() -> Response:
    query = read_query(_BROWSE)
    with database.snapshot(is_long="q" in query) as connection:
        page = threads_page(connection, project(), query)
    return answer(list_object(page))


@bp.get("/threads/export")
def export() -> Response:
    query = read_query(_EXPORT)
    form = query.pop("form")
    threads = exports.export(project(), query, _FILES[form][2])
    pieces = _as_array(threads) if form == "json" else chain.from_iterable(threads)
    return download(pieces, form, "threads")


@bp.get("/threads/new")
def new() -> str:
    return render_template("new.html", form=Form({"pairs": []}, {}, {}))


@bp.post("/threads")
def create() -> Answer:
    return save("Thread created.", create_thread)


@bp.post("/example")
def example() -> Answer:
    body = forms.FORMS["admin.create"].schema.loads(render_template("example.json"))
    thread = database.write(lambda connection: create_thread(connection, project(), body))
    return done("This is what a thread looks like.", _address(thread))


@bp.get("/threads/<thread_id>")
def thread(thread_id: str) -> Answer:
    query = read_query(_MESSAGES)
    transcript.expire(thread_id)
    with database.snapshot() as connection:
        thread, summary, page = _read_thread(connection, thread_id, query)
        near = neighbours(query, page)
        beside = (page.objects, not near["has_previous"])
        runs = runs_beside(connection, project(), thread_id, *beside)
        active = active_of(connection, project(), thread_id)
        shown = {"thread": decoded(thread), "summary": summary, **transcript.choice(connection)}
    shown |= {"messages": decoded(page.objects), "budget": Budget(), "active": active}
    shown["entries"] = transcript.entries(shown["messages"], runs)
    if near["has_next"] or active is None:
        return render_template("thread.html", **shown, **near)
    shown["entries"] += [("message", active.draft)] if active.draft else []
    headers = transcript.reload_headers(active.run)
    return render_template("thread.html", **shown, **near), 200, headers


@bp.get("/threads/<thread_id>.json")
def thread_json(thread_id: str) -> Response:
    with database.snapshot() as connection:
        thread, _, page = _read_thread(connection, thread_id, read_query(_MESSAGES))
    return answer({"thread": thread, "messages": list_object(page)})


@bp.get("/threads/<thread_id>/export")
def export_thread(thread_id: str) -> Response:
    form = read_query(_EXPORT_ONE)["form"]
    pieces = exports.export_thread(project(), thread_id, _FILES[form][2])
    return download(pieces, form, thread_id)


@bp.get("/threads/<thread_id>/metadata")
def edit_metadata(thread_id: str) -> str:
    with database.read() as connection:
        thread = decoded(find_thread(connection, project(), thread_id))
    form = Form({"pairs": list(thread["metadata"].items())}, {}, {})
    return render_template("metadata.html", thread_id=thread_id, form=form)


@bp.post("/threads/<thread_id>/metadata")
def save_metadata(thread_id: str) -> Answer:
    return save("Metadata saved.", modify_thread, thread_id)


@bp.post("/threads/<thread_id>/messages")
def add_message(thread_id: str) -> Answer:
    return save("Message added.", creation.add_message, thread_id)


@bp.post("/threads/<thread_id>/copy")
def copy(thread_id: str) -> Answer:
    with copies.Copy(project(), thread_id, {}) as copied:
        thread = database.write(copied.show)
    return done("This is the copy.", _address(thread))


@bp.get("/threads/<thread_id>/messages/<message_id>/delete")
def confirm_delete_message(thread_id: str, message_id: str) -> str:
    with database.read() as connection:
        message = decoded(messages.find_message(connection, project(), thread_id, message_id))
    return render_template("confirm_message.html", thread_id=thread_id, message=message)


@bp.post("/threads/<thread_id>/messages/<message_id>/delete")
def delete_message(thread_id: str, message_id: str) -> Answer:
    database.write(
        lambda connection: messages.delete_message(connection, project(), thread_id, message_id)
    )
    return done("Message deleted.", url_for(".thread", thread_id=thread_id, at=message_id))


@bp.get("/threads/delete")
@bp.get("/threads/<thread_id>/delete")
def confirm_delete(thread_id: str | None = None) -> Answer:
    with database.snapshot() as connection:
        rows = _rows(connection, named_threads(connection, project(), _selected(thread_id)))
    if thread_id and not rows:
        raise refusals.not_found("thread", thread_id)
    if not rows:
        return done("Select at least one thread first.", _list_behind())
    back = url_for(".thread", thread_id=thread_id) if thread_id else _list_behind()
    return render_template("confirm.html", rows=rows, back=back)


@bp.post("/threads/delete")
@bp.post("/threads/<thread_id>/delete")
def delete(thread_id: str | None = None) -> Answer:
    count = deletions.delete_threads(project(), Thread.id.in_(_selected(thread_id)))
    return done(f"Deleted {count} thread{'' if count == 1 else 's'}.", _list_behind())


def _rows(connection: database.Connection, threads: Sequence[Object]) -> list[Row]:
    of_thread = summaries(connection, project(), [thread["id"] for thread in threads])
    return [row(thread, of_thread[thread["id"]]) for thread in decoded(threads)]


def _read_thread(
    connection: database.Connection, thread_id: str, query: dict[str, Any]
) -> tuple[Object, Summary, Page]:
    """Return the thread, its summary and a page of messages. Raises ApiError 404."""
    thread = find_thread(connection, project(), thread_id)
    if at := query.pop("at", None):  # the message may be deleted; half a page precedes it
        lead = {"before": at, "limit": schemas.MESSAGES_A_PAGE // 2, "order": "asc"}
        earlier = messages_page(connection, project(), thread_id, lead)
        query |= {"after": earlier.objects[0]["id"]} if earlier.has_more else {}
    page = messages_page(connection, project(), thread_id, query)
    return thread, summaries(connection, project(), [thread_id])[thread_id], page


def neighbours(query: dict[str, Any], page: Page) -> dict[str, bool]:
    """Return whether there are objects before the page and after it."""
    if "before" in query:
        return {"has_previous": page.has_more, "has_next": True}
    return {"has_previous": "after" in query, "has_next": page.has_more}


def save(notice: str, change: Callable[..., Object], *ids: str) -> Answer:
    """Store the form and show its object, or show the form again with its faults."""
    form = forms.read_form()
    if form.faults:
        return forms.show(form, 400)
    try:
        stored = database.write(lambda connection: change(connection, project(), *ids, form.body))
    except ApiError as refusal:
        return forms.show_again(refusal)
    return done(notice, _address(stored))


def _list(filters: dict[str, str], **page: Any) -> str:
    """Show the list; `filters` are all arguments of its URL."""
    lasting = {name: text for name, text in filters.items() if name not in ("after", "before")}
    return render_template("threads.html", here=filters, filters=lasting, **page)


def _refused_list(filters: dict[str, str], error: ApiError | ValidationError) -> tuple[str, int]:
    """Show the list's filters again, with the refusal beside the wrong one."""
    refusal = first_fault(error) if isinstance(error, ValidationError) else error
    is_ours = (refusal.param or "").partition(".")[0] in _BROWSE.load_fields
    if not is_ours or len(request.query_string) > _MAX_QUERY_SHOWN_AGAIN:
        raise error
    return _list(filters, fault=refusal, rows=[]), 400


def _address(stored: Object) -> str:
    """Return the address at which a thread, a message or an assistant is shown."""
    if stored["object"] == "assistant":
        return url_for(".assistant", assistant_id=stored["id"])
    at = stored["id"] if "thread_id" in stored else None
    return url_for(".thread", thread_id=stored.get("thread_id", stored["id"]), at=at, _anchor=at)


def _list_address(filters: dict[str, str]) -> str:
    return f"{url_for('.threads')}?{urlencode(filters)}" if filters else url_for(".threads")


def _list_behind() -> str:
    """Return the address of the list in which the threads are selected."""
    return _list_address({name: text for name, text in request.args.items() if name != "id"})


def _selected(thread_id: str | None) -> list[str]:
    """Return the id in the path, or the ids of the selected threads in the list."""
    selected = request.args.getlist("id")[:_MAX_SELECTED]
    return [thread_id] if thread_id else list(filter(fields.PATH_ID.fullmatch, selected))


def _as_array(threads: Iterator[Iterator[bytes]]) -> Iterator[bytes]:
    """Yield threads as one JSON array; each thread is the pieces of a line."""
    opening = b"["
    for pieces in threads:
        yield opening
        last = next(pieces)
        for piece in pieces:
            yield last
            last = piece
        yield last.rstrip(b"\n")
        opening = b",\n"
    yield b"[]\n" if opening == b"[" else b"]\n"


def download(pieces: Iterator[bytes], form: str, name: str) -> Response:
    """Stream a file. The first piece is read at once: a refusal comes before any byte leaves."""
    first = next(pieces, b"")
    content_type, suffix, _ = _FILES[form]
    response = Response(stream_with_context(chain([first], pieces)), content_type=content_type)
    response.headers.set("Content-Disposition", "attachment", filename=f"{name}.{suffix}")
    return response
