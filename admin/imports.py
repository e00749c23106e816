"""The forms that import JSON Lines: threads, and assistants."""

from flask import render_template, request

from admin import forms, sign_in
from admin.forms import Answer, Form
from exchange.reports import import_bytes, summary
from rules.errors import ApiError
from web.request import project

bp = sign_in.bp
MAX_LINES = 10_000
"""The lines of a file of threads. A form of assistants takes forms.MAX_LINES."""


@bp.get("/threads/import", endpoint="import_form_of_threads")
@bp.get("/assistants/import")
def import_form() -> str:
    return render_template("import.html", form=Form({}, {}, {}))


@bp.post("/threads/import", endpoint="import_threads")
@bp.post("/assistants/import", endpoint="import_assistants")
def import_file() -> Answer:
    form = forms.read_form()
    if form.faults:
        return forms.show(form, 400)
    is_of_threads = request.endpoint == "admin.import_threads"
    file = request.files.get("file")
    data = file.read() if file else form.body["lines"].encode()
    most = MAX_LINES if is_of_threads else forms.MAX_LINES
    try:
        outcomes = import_bytes(project(), data, form.body["on_conflict"], most)
    except ApiError as refusal:
        return forms.show_again(refusal)
    shown = summary(outcomes)._asdict() if is_of_threads else {"outcomes": outcomes}
    return render_template("import.html", form=Form({}, {}, {}), **shown)
