"""The runs of a thread: begin and cancel one, hand in the outputs of its calls."""

from flask import redirect, request, url_for

import database
from admin import assistants, forms
from admin.forms import Answer, done
from lists.messages import messages_page
from players import starts
from players.starts import Queue
from rules.errors import ApiError
from runs import states
from web.request import project
from web.responses import event_stream

bp = assistants.bp
_LAST = {"order": "desc", "limit": 1}


@bp.post("/threads/<thread_id>/runs")
def create_run(thread_id: str) -> Answer:
    form = forms.read_form()
    if form.faults:
        return forms.show(form, 400)
    return _start(starts.creating(project(), thread_id, form.body), thread_id, "The run begins.")


@bp.get("/threads/<thread_id>/end")
def end(thread_id: str) -> Answer:
    return redirect(_end(thread_id))


@bp.post("/threads/<thread_id>/runs/<run_id>/outputs")
def submit_outputs(thread_id: str, run_id: str) -> Answer:
    form = forms.read_form()
    if form.faults:
        return forms.show(form, 400)
    outputs = form.body["tool_outputs"]
    queue = starts.submitting(project(), thread_id, run_id, outputs)
    return _start(queue, thread_id, "The run goes on.")


@bp.post("/threads/<thread_id>/runs/<run_id>/cancel")
def cancel_run(thread_id: str, run_id: str) -> Answer:
    try:
        database.write(lambda connection: states.cancel(connection, project(), thread_id, run_id))
    except ApiError as refusal:
        if refusal.status == 404:
            raise
        return done(refusal.message, _end(thread_id))
    return done("The run is cancelled.", _end(thread_id))


def _start(queue: Queue, thread_id: str, notice: str) -> Answer:
    """Queue a run; answer with its events if they are asked for, else show the thread's end."""
    try:
        if request.headers.get("Accept") == "text/event-stream":
            return event_stream(starts.start_stream(queue))
        starts.start(queue, database.write)
    except ApiError as refusal:
        return forms.show_again(refusal)
    return done(notice, _end(thread_id))


def _end(thread_id: str) -> str:
    """Return the address of the end of a thread."""
    with database.snapshot() as connection:
        page = messages_page(connection, project(), thread_id, dict(_LAST))
    at = page.objects[0]["id"] if page.objects else None
    return url_for(".thread", thread_id=thread_id, at=at, _anchor="end")
