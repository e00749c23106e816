"""A thread and its messages, and the changes that their forms make."""

from functools import partial
from typing import Any

from flask import Response, render_template, url_for

import database
from admin import schemas, sign_in, transcript
from admin.answers import address, download, save
from admin.forms import Answer, Form, done
from display.budget import Budget
from display.entries import entries
from exchange import exports
from lists.summaries import summaries
from lists.transcripts import Part, next_hits, part_of_thread, place_in_thread
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
def thread(thread_id: str) -> str:
    query = read_query(_MESSAGES)
    transcript.expire(thread_id)
    with database.snapshot() as connection:
        shown, part = _read(connection, thread_id, query)
        beside = (part.page.objects, not part.has_previous)
        runs = runs_beside(connection, project(), thread_id, *beside)
        active = active_of(connection, project(), thread_id)
    shown |= next_hits(project(), thread_id, query, part.ends[1])
    shown |= {"link": partial(transcript.link, thread_id), "query": query}
    shown |= {"budget": Budget(), "active": active}
    shown["entries"] = entries(shown["messages"], runs)
    if part.has_next or active is None:
        return render_template("thread.html", **shown)
    shown["entries"] += [("message", active.draft)] if active.draft else []
    return render_template("thread.html", reload=transcript.reload(active.run), **shown)


def _read(
    connection: database.Connection, thread_id: str, query: dict[str, Any]
) -> tuple[dict[str, Any], Part]:
    """Return what a page shows of a thread, and its part of the messages. Raises ApiError 404."""
    thread = decoded(find_thread(connection, project(), thread_id))
    part = part_of_thread(connection, project(), thread_id, query)
    place = place_in_thread(connection, project(), thread_id, part.ends[0])
    shown = {"thread": thread, "messages": decoded(part.page.objects), "place": place}
    shown |= {"summary": summaries(connection, project(), [thread_id])[thread_id]}
    return shown | part._asdict() | transcript.choice(connection), part


@bp.get("/threads/<thread_id>.json")
def thread_json(thread_id: str) -> Response:
    with database.snapshot() as connection:
        thread = find_thread(connection, project(), thread_id)
        page = part_of_thread(connection, project(), thread_id, read_query(_MESSAGES)).page
    return answer({"thread": thread, "messages": list_object(page)})


@bp.get("/threads/<thread_id>/messages/<message_id>")
def message(thread_id: str, message_id: str) -> str:
    message = decoded(_find(thread_id, message_id))
    return render_template("object.html", thread_id=thread_id, message=message)


@bp.get("/threads/<thread_id>/messages/<message_id>.json")
def message_json(thread_id: str, message_id: str) -> Response:
    return answer(_find(thread_id, message_id))


@bp.get("/threads/<thread_id>/export")
def export_thread(thread_id: str) -> Response:
    form = read_query(_EXPORT)["form"]
    pieces = exports.export_thread(project(), thread_id, exports.RENDERS[form])
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
    message = decoded(_find(thread_id, message_id))
    return render_template("confirm_message.html", thread_id=thread_id, message=message)


@bp.post("/threads/<thread_id>/messages/<message_id>/delete")
def delete_message(thread_id: str, message_id: str) -> Answer:
    database.write(
        lambda connection: messages.delete_message(connection, project(), thread_id, message_id)
    )
    return done("Message deleted.", url_for(".thread", thread_id=thread_id, at=message_id))


def _find(thread_id: str, message_id: str) -> Object:
    with database.read() as connection:
        return messages.find_message(connection, project(), thread_id, message_id)
