"""/threads/{thread_id}/messages: create, list; …/{message_id}: retrieve, modify, delete."""

from flask import Blueprint, Response

import database
import listing
import schemas
import store
from access import check_id, project
from body import read_body, read_query
from idempotency import write_once
from routes.threads import check_thread_id
from wire import answer, deleted_to_wire, list_to_wire

bp = Blueprint("messages", __name__)
_CREATE = schemas.CreateMessage()
_LIST = schemas.ListMessages()
_MODIFY = schemas.ModifyMessage()


@bp.post("/<thread_id>/messages")
def create(thread_id: str) -> Response:
    check_thread_id(thread_id)
    return write_once(store.create_message, thread_id, read_body(_CREATE))


@bp.get("/<thread_id>/messages")
def list_messages(thread_id: str) -> Response:
    check_thread_id(thread_id)
    query = read_query(_LIST)
    with database.snapshot() as connection:
        page = listing.list_messages(connection, project(), thread_id, query)
    return answer(list_to_wire(page.objects, page.has_more))


@bp.get("/<thread_id>/messages/<message_id>")
def retrieve(thread_id: str, message_id: str) -> Response:
    _check_ids(thread_id, message_id)
    with database.read() as connection:
        return answer(store.find_message(connection, project(), thread_id, message_id))


@bp.post("/<thread_id>/messages/<message_id>")
def modify(thread_id: str, message_id: str) -> Response:
    _check_ids(thread_id, message_id)
    return write_once(store.modify_message, thread_id, message_id, read_body(_MODIFY))


@bp.delete("/<thread_id>/messages/<message_id>")
def delete(thread_id: str, message_id: str) -> Response:
    _check_ids(thread_id, message_id)
    with database.write() as connection:
        store.delete_message(connection, project(), thread_id, message_id)
        return answer(deleted_to_wire(message_id, "thread.message"))


def _check_ids(thread_id: str, message_id: str) -> None:
    check_thread_id(thread_id)
    check_id(message_id, "msg", "message_id", "message")
