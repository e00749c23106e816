"""/threads: create, list; /threads/{thread_id}: retrieve, modify, delete, copy."""

from typing import Any

from flask import Blueprint, Response

import database
import schemas
from lists.threads import threads_page
from store import copies, deletions, objects, threads
from web.idempotency import replay, write_once
from web.operations import operation
from web.request import project
from web.responses import answer, list_object

bp = Blueprint("threads", __name__)


@bp.post("")
@operation("createThread", "Create a thread", schemas.ThreadObject, body=schemas.CreateThread)
def create(body: dict[str, Any]) -> Response:
    return write_once(threads.create_thread, project(), body)


@bp.get("")
@operation("listThreads", "List threads", schemas.ThreadList, query=schemas.ListThreads)
def list_threads(query: dict[str, Any]) -> Response:
    with database.snapshot(is_long="q" in query) as connection:
        page = threads_page(connection, project(), query)
    return answer(list_object(page))


@bp.get("/<thread_id>")
@operation("getThread", "Retrieve a thread", schemas.ThreadObject)
def retrieve(thread_id: str) -> Response:
    with database.read() as connection:
        return answer(threads.find_thread(connection, project(), thread_id))


@bp.post("/<thread_id>")
@operation("modifyThread", "Modify a thread", schemas.ThreadObject, body=schemas.ModifyThread)
def modify(thread_id: str, body: dict[str, Any]) -> Response:
    return write_once(threads.modify_thread, project(), thread_id, body)


@bp.delete("/<thread_id>")
@operation("deleteThread", "Delete a thread", schemas.ThreadDeleted)
def delete(thread_id: str) -> Response:
    deletions.delete_thread(project(), thread_id)
    return answer(objects.deleted_object(thread_id, "thread"))


@bp.post("/<thread_id>/copy")
@operation("copyThread", "Copy a thread", schemas.ThreadObject, body=schemas.CopyThread)
def copy(thread_id: str, body: dict[str, Any]) -> Response:
    if stored := replay():
        return stored
    with copies.Copy(project(), thread_id, body) as copied:
        return write_once(copied.show)
