"""The threads that are ticked in the list, or all that match: export, delete, undo."""

from collections import Counter
from contextlib import AbstractContextManager
from itertools import chain

from flask import Response, redirect, render_template, request

import database
from admin import schemas, sign_in
from admin.answers import download, list_address, list_filters
from admin.forms import Answer, done
from admin.threads import rows_of
from database import Connection
from display.rows import address_of
from display.texts import quantity
from exchange import exports, undo
from lists.summaries import named_threads
from lists.threads import matching_ids
from rules import fields, refusals
from rules.errors import ApiError
from store import deleted_threads
from web.request import project
from web.request_body import read_query
from web.responses import answer

bp = sign_in.bp
MOST_SELECTED = 10_000
"""The most threads that one deletion takes of those that match a filter."""
_SHOWN = 20
_MAX_TICKED = 100
_BROWSE, _EXPORT = schemas.BrowseThreads(), schemas.ExportThreads()


@bp.get("/threads/export")
def export() -> Answer:
    query = read_query(_EXPORT)
    render = exports.RENDERS[form := query.pop("form")]
    if "ticked" in request.args and "all" not in request.args:
        if not (ids := _ticked()):
            return _nothing_selected()
        threads = exports.export_named(project(), ids, render)
    else:
        threads = exports.export(project(), query, render)
    pieces = exports.as_array(threads) if form == "json" else chain.from_iterable(threads)
    return download(pieces, form, "threads")


@bp.get("/threads/count.json")
def count() -> Response:
    with _snapshot() as connection:
        ids, has_more = _selected(connection, None)
    return answer({"count": len(ids), "has_more": has_more})


@bp.get("/threads/delete")
@bp.get("/threads/<thread_id>/delete")
def confirm_delete(thread_id: str | None = None, refusal: ApiError | None = None) -> Answer:
    """Ask whether to delete what is selected; `refusal` is why it cannot be undone."""
    with _snapshot() as connection:
        ids, has_more = _selected(connection, thread_id)
        first = named_threads(connection, project(), ids[:_SHOWN])
        shown = {
            "rows": rows_of(connection, first, {}, {}),
            "is_kept": not refusal and deleted_threads.fits(connection, project(), ids),
            "last": deleted_threads.newest_seq(connection),
        }
    if thread_id and not ids:
        raise refusals.not_found("thread", thread_id)
    if not ids:
        return _nothing_selected()
    shown |= {"count": len(ids), "has_more": has_more, "refusal": refusal}
    back = address_of(thread_id, None, list_filters()) if thread_id else _list_behind()
    return render_template("confirm.html", back=back, **shown), 409 if refusal else 200


@bp.post("/threads/delete")
@bp.post("/threads/<thread_id>/delete")
def delete(thread_id: str | None = None) -> Answer:
    with _snapshot() as connection:
        ids, _ = _selected(connection, thread_id)
    last, is_kept = request.form.get("last", ""), "final" not in request.form
    last_seq = int(last) if last.isdecimal() and len(last) < 19 else None
    try:
        count = undo.delete_threads(project(), ids, last_seq, is_kept)
    except ApiError as refusal:
        if refusal.code != "no_room":
            raise
        return confirm_delete(thread_id, refusal)
    if thread_id and not count:
        raise refusals.not_found("thread", thread_id)
    if count and is_kept:
        return redirect(_list_behind(), 303)  # the list offers Undo
    return done(f"Deleted {quantity(count, 'thread')}.", _list_behind())


@bp.post("/threads/undo")
def undo_deletion() -> Answer:
    outcomes = undo.restore(project(), request.form.get("deletion", ""))
    counts = Counter(outcome.result for outcome in outcomes)
    count, existing, refused = (counts[each] for each in ("imported", "skipped", "refused"))
    notice = f"{quantity(count, 'thread')} {'is' if count == 1 else 'are'} back."
    if existing:
        notice += f" {existing:,} not: their ids are in use again. Delete those, then undo again."
    if refused:
        first = next(outcome.reason for outcome in outcomes if outcome.result == "refused")
        notice += f" {refused:,} cannot be read: {first}"
    return done(notice, _list_behind())


def _selected(connection: Connection, thread_id: str | None) -> tuple[list[str], bool]:
    """Return the ids of the thread in the path, of the ticked ones, or of all that match.

    Of those that match there may be more.
    """
    if "all" not in request.args or thread_id:
        ids = [thread_id] if thread_id else _ticked()
        return [thread["id"] for thread in named_threads(connection, project(), ids)], False
    query = read_query(_BROWSE) | {"limit": MOST_SELECTED, "sort": "created_at"}
    filters = {name: value for name, value in query.items() if name not in ("after", "before")}
    return matching_ids(connection, project(), filters)


def _ticked() -> list[str]:
    return list(filter(fields.PATH_ID.fullmatch, request.args.getlist("id")[:_MAX_TICKED]))


def _snapshot() -> AbstractContextManager[Connection]:
    return database.snapshot(is_long="all" in request.args)


def _nothing_selected() -> Answer:
    return done("Select at least one thread first.", _list_behind())


def _list_behind() -> str:
    """Return the address of the list in which the threads are selected."""
    return list_address(list_filters())
