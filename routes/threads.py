"""/threads: create, list; /threads/{thread_id}: retrieve, modify, delete, copy."""

from flask import Blueprint, Response
from werkzeug.exceptions import NotFound

import database
import listing
import schemas
import store
from access import check_id, project
from body import read_body, read_query
from idempotency import write_once
from wire import answer, deleted_to_wire, list_to_wire

bp = Blueprint("threads", __name__)
_CREATE = schemas.CreateThread()
_LIST = schemas.ListThreads()
_COPY = schemas.CopyThread()
_MODIFY = schemas.ModifyThread()


@bp.post("")
def create() -> Response:
    return write_once(store.create_thread, read_body(_CREATE))


@bp.get("")
def list_threads() -> Response:
    query = read_query(_LIST)
    with database.snapshot() as connection:
        page = listing.list_threads(connection, project(), query)
    return answer(list_to_wire(page.objects, page.has_more))


@bp.get("/<thread_id>")
def retrieve(thread_id: str) -> Response:
    check_thread_id(thread_id)
    with database.read() as connection:
        return answer(store.find_thread(connection, project(), thread_id))


@bp.post("/<thread_id>")
def modify(thread_id: str) -> Response:
    check_thread_id(thread_id)
    return write_once(store.modify_thread, thread_id, read_body(_MODIFY))


@bp.delete("/<thread_id>")
def delete(thread_id: str) -> Response:
    check_thread_id(thread_id)
    with database.write() as connection:
        store.delete_thread(connection, project(), thread_id)
        return answer(deleted_to_wire(thread_id, "thread"))


@bp.post("/<thread_id>/copy")
def copy(thread_id: str) -> Response:
    check_thread_id(thread_id)
    return write_once(store.copy_thread, thread_id, read_body(_COPY), alone=False)


def check_thread_id(thread_id: str) -> None:
    """Refuse a malformed thread id. Raises ApiError 400 or 404, NotFound for `/threads/runs`."""
    if thread_id == "runs":
        raise NotFound
    check_id(thread_id, "thread", "thread_id", "thread")
