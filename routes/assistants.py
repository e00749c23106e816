"""/assistants: create, list; /assistants/{assistant_id}: retrieve, modify, delete."""

from typing import Any

from flask import Blueprint, Response

import database
import schemas
from lists.assistants import assistants_page
from store import assistants, objects
from web.idempotency import write_once
from web.operations import operation
from web.request import project
from web.responses import answer, list_object

bp = Blueprint("assistants", __name__)


@bp.post("")
@operation(
    "createAssistant", "Create an assistant", schemas.AssistantObject, body=schemas.CreateAssistant
)
def create(body: dict[str, Any]) -> Response:
    return write_once(assistants.create_assistant, project(), body)


@bp.get("")
@operation("listAssistants", "List assistants", schemas.AssistantList, query=schemas.ListAssistants)
def list_assistants(query: dict[str, Any]) -> Response:
    with database.snapshot() as connection:
        page = assistants_page(connection, project(), query)
    return answer(list_object(page))


@bp.get("/<assistant_id>")
@operation("getAssistant", "Retrieve an assistant", schemas.AssistantObject)
def retrieve(assistant_id: str) -> Response:
    with database.read() as connection:
        return answer(assistants.find_assistant(connection, project(), assistant_id))


@bp.post("/<assistant_id>")
@operation(
    "modifyAssistant", "Modify an assistant", schemas.AssistantObject, body=schemas.ModifyAssistant
)
def modify(assistant_id: str, body: dict[str, Any]) -> Response:
    return write_once(assistants.modify_assistant, project(), assistant_id, body)


@bp.delete("/<assistant_id>")
@operation("deleteAssistant", "Delete an assistant", schemas.AssistantDeleted)
def delete(assistant_id: str) -> Response:
    database.write(
        lambda connection: assistants.delete_assistant(connection, project(), assistant_id)
    )
    return answer(objects.deleted_object(assistant_id, "assistant"))
