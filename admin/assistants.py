"""The pages of assistants: list, make, edit, delete, import and export them."""

from typing import Any

from flask import Response, render_template, url_for
from marshmallow import EXCLUDE

import database
import schemas
from admin import sign_in
from admin.answers import download, save
from admin.forms import Answer, Form, done
from display.texts import form_texts
from exchange import exports
from lists.assistants import assistants_page
from lists.pages import Page, neighbours
from rules import refusals
from store import assistants
from store.newest import next_second
from store.objects import Object, decoded
from web.request import project
from web.request_body import read_query
from web.responses import answer, list_object

bp = sign_in.bp
_LIST = schemas.ListAssistants(unknown=EXCLUDE)


@bp.get("/assistants")
def list_of_assistants() -> str:
    query = read_query(_LIST)
    page = _page(query)
    shown = {"assistants": decoded(page.objects), **neighbours(query, page)}
    return render_template("assistants.html", **shown)


@bp.get("/assistants.json")
def assistants_json() -> Response:
    return answer(list_object(_page(read_query(_LIST))))


def _page(query: dict[str, Any]) -> Page:
    with database.snapshot() as connection:
        return assistants_page(connection, project(), query)


@bp.get("/assistants/export")
def export_assistants() -> Response:
    return download(exports.export_assistants(project()), "jsonl", "assistants")


@bp.get("/assistants/new")
def new_assistant() -> str:
    return render_template("assistant.html", form=Form({"pairs": []}, {}, {}))


@bp.post("/assistants")
def create_assistant() -> Answer:
    return save("Assistant created.", _create)


def _create(connection: database.Connection, project: str, body: Object) -> Object:
    """Store a loaded NewAssistant body. Raises ApiError 400 for an id that exists."""
    if "id" not in body:
        return assistants.create_assistant(connection, project, body)
    if assistants.exists(connection, project, body["id"]):
        raise refusals.assistant_exists(body["id"])
    second = next_second(connection, project, "assistant")
    return assistants.insert(connection, project, body | {"created_at": second})


@bp.get("/assistants/<assistant_id>")
def assistant(assistant_id: str) -> str:
    texts = form_texts(decoded(_find(assistant_id)))
    return render_template("assistant.html", form=Form(texts, {}, {}), assistant_id=assistant_id)


@bp.get("/assistants/<assistant_id>.json")
def assistant_json(assistant_id: str) -> Response:
    return answer(_find(assistant_id))


@bp.post("/assistants/<assistant_id>")
def save_assistant(assistant_id: str) -> Answer:
    return save("Assistant saved.", assistants.modify_assistant, assistant_id)


def _find(assistant_id: str) -> Object:
    with database.read() as connection:
        return assistants.find_assistant(connection, project(), assistant_id)


@bp.get("/assistants/<assistant_id>/delete")
def confirm_delete_assistant(assistant_id: str) -> str:
    return render_template("confirm_assistant.html", assistant=decoded(_find(assistant_id)))


@bp.post("/assistants/<assistant_id>/delete")
def delete_assistant(assistant_id: str) -> Answer:
    database.write(
        lambda connection: assistants.delete_assistant(connection, project(), assistant_id)
    )
    return done("Assistant deleted.", url_for(".list_of_assistants"))
