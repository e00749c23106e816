"""The list of threads: browse, search, export, make and delete them."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from flask import Response, redirect, render_template, request, url_for
from marshmallow import ValidationError

import database
from admin import forms, schemas, sign_in
from admin.answers import FILES, address, download, list_address, neighbours, save
from admin.forms import Answer, Form, done
from display.rows import Row, row
from exchange import exports
from lists.summaries import named_threads, summaries
from lists.threads import threads_page
from models import Thread
from rules import fields, refusals
from rules.errors import ApiError, first_fault
from store import deletions
from store.objects import Object, decoded
from store.threads import create_thread
from web.request import project
from web.request_body import read_query
from web.responses import answer, list_object

bp = sign_in.bp
_BROWSE, _EXPORT = schemas.BrowseThreads(), schemas.ExportThreads()
_MAX_SELECTED = 100
_MAX_QUERY_SHOWN_AGAIN = 1_000


@bp.get("/")
def threads() -> Answer:
    filters = forms.read_filters()
    if filters != request.args.to_dict():
        return redirect(list_address(filters))
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
    threads = exports.export(project(), query, FILES[form][2])
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
    return done("This is what a thread looks like.", address(thread))


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


def _list_behind() -> str:
    """Return the address of the list in which the threads are selected."""
    return list_address({name: text for name, text in request.args.items() if name != "id"})


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
