"""/threads/runs and /threads/{thread_id}/runs: create, list, retrieve, modify, cancel, outputs."""

from typing import Any

from flask import Blueprint, Response

import database
import schemas
from database import Connection
from lists.pages import Page
from players import events, pool, starts
from players.starts import Queue, Queued
from rules import refusals
from runs import creation, rows, states, steps
from runs.objects import run_object
from store.objects import Object
from web.idempotency import write_once
from web.operations import operation
from web.request import current, project
from web.responses import answer, event_stream, list_object

bp = Blueprint("runs", __name__)


@bp.post("/runs")
@operation(
    "createThreadAndRun",
    "Create a thread and run it",
    schemas.RunObject,
    body=schemas.CreateThreadAndRun,
)
def create_thread(body: Object) -> Response:
    def queue(connection: Connection, player: str | None) -> Queued:
        thread, run = creation.create_thread_and_run(connection, project(), body, player)
        created = [("thread.created", thread), events.run_event(run, thread["id"], "created")]
        return Queued(run, thread["id"], created)

    return _queue(queue, body)


@bp.post("/<thread_id>/runs")
@operation("createRun", "Run an assistant on a thread", schemas.RunObject, body=schemas.CreateRun)
def create(thread_id: str, body: Object) -> Response:
    return _queue(starts.creating(project(), thread_id, body), body)


@bp.get("/<thread_id>/runs")
@operation("listRuns", "List runs", schemas.RunList, query=schemas.ListRuns)
def list_runs(thread_id: str, query: Object) -> Response:
    page = _list(thread_id, query)
    if any(map(states.is_due, page[0])):
        _expire(thread_id)
        page = _list(thread_id, query)
    objects = [run_object(row, thread_id) for row in page[0]]
    return answer(list_object(Page(objects, page[1])))


@bp.get("/<thread_id>/runs/<run_id>")
@operation("getRun", "Retrieve a run", schemas.RunObject)
def retrieve(thread_id: str, run_id: str) -> Response:
    return _told_to_poll(answer(run_object(_find(thread_id, run_id), thread_id)))


@bp.post("/<thread_id>/runs/<run_id>")
@operation("modifyRun", "Modify a run", schemas.RunObject, body=schemas.ModifyRun)
def modify(thread_id: str, run_id: str, body: Object) -> Response:
    return write_once(rows.modify_run, project(), thread_id, run_id, body)


@bp.post("/<thread_id>/runs/<run_id>/cancel")
@operation("cancelRun", "Cancel a run", schemas.RunObject)
def cancel(thread_id: str, run_id: str) -> Response:
    def change(connection: Connection) -> Object:
        return run_object(states.cancel(connection, project(), thread_id, run_id), thread_id)

    return write_once(change)


@bp.post("/<thread_id>/runs/<run_id>/submit_tool_outputs")
@operation(
    "submitToolOutputs",
    "Submit tool outputs",
    schemas.RunObject,
    body=schemas.SubmitToolOutputs,
)
def submit(thread_id: str, run_id: str, body: Object) -> Response:
    return _queue(starts.submitting(project(), thread_id, run_id, body["tool_outputs"]), body)


@bp.get("/<thread_id>/runs/<run_id>/steps")
@operation("listRunSteps", "List the steps of a run", schemas.StepList, query=schemas.ListSteps)
def list_steps(thread_id: str, run_id: str, query: Object) -> Response:
    _find(thread_id, run_id)
    with database.snapshot() as connection:
        page = steps.list_steps(connection, project(), thread_id, run_id, query)
    return answer(list_object(page))


@bp.get("/<thread_id>/runs/<run_id>/steps/<step_id>")
@operation("getRunStep", "Retrieve a step of a run", schemas.StepObject)
def retrieve_step(thread_id: str, run_id: str, step_id: str) -> Response:
    _find(thread_id, run_id)
    with database.snapshot() as connection:
        return answer(steps.find_step(connection, project(), thread_id, run_id, step_id))


def _queue(queue: Queue, body: Object) -> Response:
    """Let a player take the run that a change queues; answer with the run, or with its stream.

    Raises ApiError 400 if nothing answers here.
    """
    if not body.get("stream"):
        return _told_to_poll(starts.start(queue, write_once))
    if "Idempotency-Key" in current().headers:
        raise refusals.no_stream_again()
    return event_stream(starts.start_stream(queue))


def _find(thread_id: str, run_id: str) -> Any:
    """Return the row of a run, which has expired if its time is over. Raises ApiError 404."""
    row = _read(thread_id, run_id)
    if states.is_due(row):
        _expire(thread_id)
        row = _read(thread_id, run_id)
    return row


def _read(thread_id: str, run_id: str) -> Any:
    with database.read() as connection:
        return rows.find_row(connection, project(), thread_id, run_id)


def _list(thread_id: str, query: Object) -> tuple[list[Any], bool]:
    with database.snapshot() as connection:
        return rows.list_rows(connection, project(), thread_id, query)


def _expire(thread_id: str) -> None:
    database.write(lambda connection: states.expire_due(connection, project(), thread_id))


def _told_to_poll(response: Response) -> Response:
    """Say how soon a client may look again at a run (runs reference, decision 10)."""
    response.headers["openai-poll-after-ms"] = pool.current().poll_milliseconds
    return response
