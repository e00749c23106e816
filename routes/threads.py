"""/threads: create, list; /threads/{thread_id}: retrieve, modify, delete, copy."""

from typing import Any

from flask import Blueprint, Response

import database
import schemas
from store import deletions, lists, threads
from store.copies import Copy
from store.objects import deleted_object
from web.idempotency import write_once
from web.operations import operation
from web.request import project
from web.responses import answer, list_object

bp = Blueprint("threads", __name__)


@bp.post("")
@operation(
    "createThread",
    "Create a thread",
    body=schemas.CreateThread,
    answers=schemas.ThreadObject,
)
def create(body: dict[str, Any]) -> Response:
    return write_once(lambda connection: threads.create_thread(connection, project(), body))


@bp.get("")
@operation("listThreads", "List threads", query=schemas.ListThreads, answers=schemas.ThreadList)
def list_threads(query: dict[str, Any]) -> Response:
    with database.snapshot() as connection:
        page = lists.list_threads(connection, project(), query)
    return answer(list_object(page))


@bp.get("/<thread_id>")
@operation("getThread", "Retrieve a thread", answers=schemas.ThreadObject)
def retrieve(thread_id: str) -> Response:
    with database.read() as connection:
        return answer(threads.find_thread(connection, project(), thread_id))


@bp.post("/<thread_id>")
@operation(
    "modifyThread", "Modify a thread", body=schemas.ModifyThread, answers=schemas.ThreadObject
)
def modify(thread_id: str, body: dict[str, Any]) -> Response:
    return write_once(
        lambda connection: threads.modify_thread(connection, project(), thread_id, body)
    )


@bp.delete("/<thread_id>")
@operation("deleteThread", "Delete a thread", answers=schemas.ThreadDeleted)
def delete(thread_id: str) -> Response:
    deletions.delete_thread(project(), thread_id)
    return answer(deleted_object(thread_id, "thread"))


@bp.post("/<thread_id>/copy")
@operation("copyThread", "Copy a thread", body=schemas.CopyThread, answers=schemas.ThreadObject)
def copy(thread_id: str, body: dict[str, Any]) -> Response:
    with Copy(project(), thread_id, body) as copied:
        return write_once(copied.show)
