"""/threads/{thread_id}/messages: create, list; …/{message_id}: retrieve, modify, delete."""

from typing import Any

from flask import Blueprint, Response

import database
import schemas
from lists.messages import messages_page
from runs import creation, drafts
from store import messages, objects
from web.idempotency import write_once
from web.operations import operation
from web.request import project
from web.responses import answer, list_object

bp = Blueprint("messages", __name__)


@bp.post("/<thread_id>/messages")
@operation("createMessage", "Add a message", schemas.MessageObject, body=schemas.CreateMessage)
def create(thread_id: str, body: dict[str, Any]) -> Response:
    return write_once(creation.add_message, project(), thread_id, body)


@bp.get("/<thread_id>/messages")
@operation("listMessages", "List messages", schemas.MessageList, query=schemas.ListMessages)
def list_messages(thread_id: str, query: dict[str, Any]) -> Response:
    with database.snapshot() as connection:
        page = messages_page(connection, project(), thread_id, query)
    return answer(list_object(page))


@bp.get("/<thread_id>/messages/<message_id>")
@operation("getMessage", "Retrieve a message", schemas.MessageObject)
def retrieve(thread_id: str, message_id: str) -> Response:
    with database.snapshot() as connection:
        return answer(drafts.find_message(connection, project(), thread_id, message_id))


@bp.post("/<thread_id>/messages/<message_id>")
@operation("modifyMessage", "Modify a message", schemas.MessageObject, body=schemas.ModifyMessage)
def modify(thread_id: str, message_id: str, body: dict[str, Any]) -> Response:
    return write_once(messages.modify_message, project(), thread_id, message_id, body)


@bp.delete("/<thread_id>/messages/<message_id>")
@operation("deleteMessage", "Delete a message", schemas.MessageDeleted)
def delete(thread_id: str, message_id: str) -> Response:
    database.write(
        lambda connection: messages.delete_message(connection, project(), thread_id, message_id)
    )
    return answer(objects.deleted_object(message_id, "thread.message"))
