"""The list of threads: browse and search it; make a thread."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from flask import Response, redirect, render_template, request
from marshmallow import ValidationError

import database
from admin import forms, schemas, sign_in
from admin.answers import address, list_address, list_filters, save
from admin.forms import Answer, Form, done
from database import Connection, Values
from display.rows import Row, address_of, row, state
from display.snippets import beginnings
from lists import pasted_ids
from lists.pages import neighbours
from lists.snippets import hits
from lists.summaries import summaries
from lists.threads import threads_page
from rules.errors import ApiError, first_fault
from rules.ids_and_clock import unix_now
from store import deleted_threads
from store.objects import Object, decoded
from store.threads import create_thread
from web.request import project
from web.request_body import read_query
from web.responses import answer, list_object

bp = sign_in.bp
_BROWSE = schemas.BrowseThreads()
_MAX_QUERY_SHOWN_AGAIN = 1_000


@bp.get("/")
def threads() -> Answer:
    filters = list_filters()
    if filters != request.args.to_dict():
        return redirect(list_address(filters))
    try:
        query = read_query(_BROWSE)
        with database.snapshot(is_long="q" in query) as connection:
            if found := pasted_ids.find(connection, project(), query.get("q", "")):
                return redirect(address_of(*found, {}))
            page = threads_page(connection, project(), query)
            rows = rows_of(connection, page.objects, filters, query)
            undo = deleted_threads.kept(connection, project())
    except (ApiError, ValidationError) as error:
        return _refused_list(filters, error)
    if undo.has_expired:
        with suppress(ApiError):  # the next look deletes them
            database.write(deleted_threads.purge)
    return _list(filters, rows=rows, undo=undo.deletions, **neighbours(query, page))


@bp.get("/threads.json")
def threads_json() -> Response:
    query = read_query(_BROWSE)
    with database.snapshot(is_long="q" in query) as connection:
        page = threads_page(connection, project(), query)
        ids = [thread["id"] for thread in page.objects] if "states" in request.args else []
        of_thread = summaries(connection, project(), ids)
    states = {thread_id: state(summary) for thread_id, summary in of_thread.items()}
    return answer(list_object(page) | ({"states": states} if states else {}))


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


def rows_of(
    connection: Connection, threads: Sequence[Object], filters: Mapping[str, str], query: Values
) -> list[Row]:
    """Return threads as the list with these filters shows them, for its loaded query."""
    ids = [thread["id"] for thread in threads]
    of_thread = summaries(connection, project(), ids)
    found = hits(connection, project(), query, ids)
    return [
        row(thread, of_thread[thread["id"]], filters, found.get(thread["id"]))
        for thread in decoded(threads)
    ]


def _list(filters: dict[str, str], **page: Any) -> str:
    """Show the list; `filters` are all arguments of its URL."""
    lasting = {name: text for name, text in filters.items() if name not in ("after", "before")}
    page |= {"now": unix_now(), "beginnings": beginnings(filters.get("q", ""))}
    return render_template("threads.html", here=filters, filters=lasting, **page)


def _refused_list(filters: dict[str, str], error: ApiError | ValidationError) -> tuple[str, int]:
    """Show the list's filters again, with the refusal beside the wrong one."""
    refusal = first_fault(error) if isinstance(error, ValidationError) else error
    is_ours = (refusal.param or "").partition(".")[0] in _BROWSE.load_fields
    if not is_ours or len(request.query_string) > _MAX_QUERY_SHOWN_AGAIN:
        raise error
    return _list(filters, fault=refusal, rows=[]), 400
