"""A thread and its messages, and the changes that their forms make."""

from typing import Any

from flask import Response, render_template, url_for

import database
from admin import schemas, sign_in, transcript
from admin.answers import FILES, address, download, neighbours, save
from admin.forms import Answer, Form, done
from display.budget import Budget
from exchange import exports
from lists.messages import messages_page
from lists.pages import Page
from lists.summaries import Summary, summaries
from runs import creation
from runs.summaries import active_of, runs_beside
from store import copies, messages
from store.objects import Object, decoded
from store.threads import find_thread, modify_thread
from web.request import project
from web.request_body import read_query
from web.responses import answer, list_object

bp = sign_in.bp
_MESSAGES, _EXPORT = schemas.BrowseMessages(), schemas.ExportThread()


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
    form = read_query(_EXPORT)["form"]
    pieces = exports.export_thread(project(), thread_id, FILES[form][2])
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
    return done("This is the copy.", address(thread))


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
