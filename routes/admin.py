"""/admin/: the page on which a person finds, reads, exports, edits and deletes conversations."""

import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain
from typing import Any
from urllib.parse import quote, urlencode

from flask import (
    Blueprint,
    Flask,
    Request,
    Response,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    stream_with_context,
    url_for,
)
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask_wtf.csrf import CSRFProtect
from marshmallow import ValidationError
from werkzeug.wrappers import Response as AnyResponse

import database
import exchange
import pages
import schemas
import store
from access import check_id, project
from body import read_query
from errors import ApiError, first_fault
from models import Thread
from routes.threads import check_thread_id
from wire import answer, id_of, list_to_wire

bp = Blueprint("admin", __name__)
CSRF = CSRFProtect()
_BROWSE = pages.BrowseThreads()
_EXPORT = pages.ExportThreads()
_EXPORT_ONE = pages.ExportThread()
_MESSAGES = pages.BrowseMessages()
_CREATE = schemas.CreateThread()
_MODIFY = schemas.ModifyThread()
_CREATE_MESSAGE = schemas.CreateMessage()
_MOST_CHOSEN = 100
_DOWNLOADS = {
    "json": ("application/json", "json"),
    "jsonl": ("application/jsonl", "jsonl"),
    "markdown": ("text/markdown; charset=utf-8", "md"),
}
NO_LONGER_VALID = (
    "This form is no longer valid: since you opened it, somebody signed in or out here, or the "
    "server was set up anew. Nothing was changed."
)
FORMS = {"admin.create": "new", "admin.save_metadata": "metadata", "admin.add_message": "message"}
"""The views that take in what a person typed, and the template that holds its form."""

Answer = str | AnyResponse | tuple[str, int]


class PageSession(SecureCookieSessionInterface):
    """A session for the pages alone: the API neither reads nor pays for one."""

    @cached_property
    def _serializer(self) -> Any:
        return super().get_signing_serializer(current_app)

    def get_signing_serializer(self, app: Flask) -> Any:
        """Return what signs and reads sessions; Flask makes it anew for each page."""
        return self._serializer

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        return super().open_session(app, request) if request.path.startswith("/admin/") else None

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure


def init_app(app: Flask) -> None:
    """Register the pages, their CSRF check and their session cookie.

    The cookie's name tells servers apart: a browser sends a host's cookies to all of its ports.
    """
    server = hashlib.sha256(app.config["SECRET_KEY"].encode()).hexdigest()[:8]
    app.config.update(
        SESSION_COOKIE_NAME=f"threads-{server}",
        SESSION_COOKIE_PATH="/admin/",
        SESSION_COOKIE_SAMESITE="Strict",
        WTF_CSRF_CHECK_DEFAULT=False,
        WTF_CSRF_TIME_LIMIT=None,
    )
    app.session_interface = PageSession()
    CSRF.init_app(app)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters |= {function.__name__: function for function in pages.FILTERS}
    app.register_blueprint(bp, url_prefix="/admin")


@bp.before_request
def _come_again() -> Response | None:
    """Let a browser that comes from another site ask again from here.

    It left out the session's cookie, which is Strict; an answer would set one in its place.
    """
    foreign = request.method == "GET" and request.headers.get("Sec-Fetch-Site") == "cross-site"
    if not foreign or current_app.config["SESSION_COOKIE_NAME"] in request.cookies:
        return None
    # Chromium loads no address again that differs from its own by nothing.
    return Response(headers={"Refresh": f"0; url={own_address().replace('#', '&#')}"})


def own_address() -> str:
    """Return the path and query that were asked for, as a header can carry them.

    A browser keeps the anchor of a permalink to itself: it is the message in `at`.
    """
    query = quote(request.query_string, "%&=+-._~[]!$'()*,;:@/?")
    at = request.args.get("at", "")
    anchor = f"#{at}" if schemas.PATH_ID.fullmatch(at) else ""
    return quote(request.path) + (f"?{query}" if query else "") + anchor


def show_again(refusal: ApiError) -> Answer:
    """Show the form that was sent, all that was typed in it, beside what stopped it.

    Raises the refusal when nothing was typed.
    """
    if request.endpoint not in FORMS:
        raise refusal
    form = pages.Form(pages.typed(), {}, {"form": refusal.description or ""})
    return _show(form, refusal.code or 400)


def _show(form: pages.Form, status: int) -> tuple[str, int]:
    name = FORMS[request.endpoint or ""]
    return render_template(f"{name}.html", form=form, **request.view_args or {}), status


def _save(
    message: str, address: Callable[[str], str], form: pages.Form, change: Any, *ids: str
) -> Answer:
    """Store what was typed and go where it is, or show it again beside what stopped it."""
    if form.faults:
        return _show(form, 400)
    try:
        with database.write() as connection:
            saved = change(connection, project(), *ids, form.body)
    except ApiError as refusal:
        return show_again(refusal)
    return _done(message, address(saved))


@bp.get("/")
def threads() -> Answer:
    filters = pages.tidy_arguments()
    if filters != request.args.to_dict():
        return redirect(_list_address(filters))
    try:
        query = read_query(_BROWSE)
        page, rows = pages.read_threads(project(), query)
    except (ApiError, ValidationError) as error:
        return _refused_list(filters, error)
    newer, older = pages.neighbours(query, page)
    return _list(filters, rows=rows, newer=newer, older=older)


@bp.get("/threads.json")
def threads_json() -> Response:
    page, _ = pages.read_threads(project(), read_query(_BROWSE))
    return answer(list_to_wire(page.objects, page.has_more))


@bp.get("/threads/export")
def export() -> Response:
    query = read_query(_EXPORT)
    form = query.pop("form")
    render = exchange.RENDERS["markdown" if form == "markdown" else "jsonl"]
    found = (b"".join(pieces) for pieces in exchange.export(project(), query, render))
    return _download(_as_array(found) if form == "json" else found, form, "threads")


@bp.get("/threads/new")
def new() -> str:
    return render_template("new.html", form=pages.Form({"rows": []}, {}, {}))


@bp.post("/threads")
def create() -> Answer:
    form = pages.read_form(_CREATE, pages.thread_body)
    return _save("Thread created.", _address, form, store.create_thread)


@bp.post("/example")
def example() -> Answer:
    form = pages.Form({}, _CREATE.loads(render_template("example.json")), {})
    return _save("This is what a thread looks like.", _address, form, store.create_thread)


@bp.get("/threads/<thread_id>")
def thread(thread_id: str) -> str:
    check_thread_id(thread_id)
    query = read_query(_MESSAGES)
    found, told, page = pages.read_thread(project(), thread_id, query)
    earlier, later = pages.neighbours(query, page)
    shown = pages.plain([found, *page.objects])
    return render_template(
        "thread.html", thread=shown[0], messages=shown[1:], told=told, earlier=earlier, later=later
    )


@bp.get("/threads/<thread_id>.json")
def thread_json(thread_id: str) -> Response:
    check_thread_id(thread_id)
    found, _, page = pages.read_thread(project(), thread_id, read_query(_MESSAGES))
    messages = list_to_wire(page.objects, page.has_more)
    return answer(f'{{"thread":{found},"messages":{messages}}}')


@bp.get("/threads/<thread_id>/export")
def export_thread(thread_id: str) -> Response:
    check_thread_id(thread_id)
    form = read_query(_EXPORT_ONE)["form"]
    render = exchange.RENDERS["markdown" if form == "markdown" else "jsonl"]
    return _download(exchange.export_thread(project(), thread_id, render), form, thread_id)


@bp.get("/threads/<thread_id>/metadata")
def edit_metadata(thread_id: str) -> str:
    check_thread_id(thread_id)
    with database.read() as connection:
        [found] = pages.plain([store.find_thread(connection, project(), thread_id)])
    pairs = found["metadata"]
    form = pages.Form({"rows": list(pairs.items())}, {}, {})
    return render_template("metadata.html", thread_id=thread_id, form=form)


@bp.post("/threads/<thread_id>/metadata")
def save_metadata(thread_id: str) -> Answer:
    check_thread_id(thread_id)
    form = pages.read_form(_MODIFY, pages.pairs_body)
    return _save("Metadata saved.", _address, form, store.modify_thread, thread_id)


@bp.post("/threads/<thread_id>/messages")
def add_message(thread_id: str) -> Answer:
    check_thread_id(thread_id)
    form = pages.read_form(_CREATE_MESSAGE, pages.message_body)

    def address(added: str) -> str:
        return url_for(".thread", thread_id=thread_id, at=id_of(added), _anchor=id_of(added))

    return _save("Message added.", address, form, store.create_message, thread_id)


@bp.post("/threads/<thread_id>/copy")
def copy(thread_id: str) -> AnyResponse:
    check_thread_id(thread_id)
    with database.write() as connection:
        copied = store.copy_thread(connection, project(), thread_id, {})
    return _done("This is the copy.", _address(copied))


@bp.get("/threads/<thread_id>/messages/<message_id>/delete")
def confirm_delete_message(thread_id: str, message_id: str) -> str:
    _check_message_id(thread_id, message_id)
    with database.read() as connection:
        found = store.find_message(connection, project(), thread_id, message_id)
    [message] = pages.plain([found])
    return render_template("confirm_message.html", thread_id=thread_id, message=message)


@bp.post("/threads/<thread_id>/messages/<message_id>/delete")
def delete_message(thread_id: str, message_id: str) -> AnyResponse:
    _check_message_id(thread_id, message_id)
    with database.write() as connection:
        store.delete_message(connection, project(), thread_id, message_id)
    return _done("Message deleted.", url_for(".thread", thread_id=thread_id, at=message_id))


@bp.get("/threads/delete")
@bp.get("/threads/<thread_id>/delete")
def confirm_delete(thread_id: str | None = None) -> Answer:
    rows = pages.find_threads(project(), _chosen(thread_id))
    if thread_id and not rows:
        raise ApiError(404, f"No thread found with id '{thread_id}'.")
    if not rows:
        return _done("Select at least one thread first.", _chosen_from())
    back = url_for(".thread", thread_id=thread_id) if thread_id else _chosen_from()
    return render_template("confirm.html", rows=rows, back=back)


@bp.post("/threads/delete")
@bp.post("/threads/<thread_id>/delete")
def delete(thread_id: str | None = None) -> AnyResponse:
    chosen = Thread.id.in_(_chosen(thread_id))
    with database.write() as connection:
        count = store.delete_threads(connection, project(), chosen)
    return _done(f"Deleted {count} thread{'' if count == 1 else 's'}.", _chosen_from())


def _list(filters: dict[str, str], **shown: Any) -> str:
    kept = {name: text for name, text in filters.items() if name not in ("after", "before")}
    shown |= {"filters": kept, "query": urlencode(kept), "paged": kept != filters, "here": filters}
    shown["twin"] = f"/admin/threads.json{'?' if filters else ''}{urlencode(filters)}"
    pairs = [
        (name, text, _list_address({key: kept[key] for key in kept if key != name}))
        for name, text in kept.items()
        if name.startswith("metadata[")
    ]
    return render_template("threads.html", pairs=pairs, **shown)


def _refused_list(filters: dict[str, str], error: ApiError | ValidationError) -> tuple[str, int]:
    """Show the filters as they were given, with the refusal beside the one it speaks of."""
    refusal = first_fault(error) if isinstance(error, ValidationError) else error
    if refusal.code != 400 or (refusal.param or "").partition(".")[0] not in _BROWSE.load_fields:
        raise error
    return _list(filters, fault=refusal, rows=[], newer=False, older=False), 400


def _address(thread: str) -> str:
    return url_for(".thread", thread_id=id_of(thread))


def _done(message: str, address: str) -> AnyResponse:
    flash(message)
    return redirect(address, 303)


def _chosen(thread_id: str | None) -> list[str]:
    if thread_id:
        check_thread_id(thread_id)
        return [thread_id]
    return list(filter(schemas.PATH_ID.fullmatch, request.args.getlist("id")[:_MOST_CHOSEN]))


def _list_address(filters: dict[str, str]) -> str:
    return f"{url_for('.threads')}?{urlencode(filters)}" if filters else url_for(".threads")


def _chosen_from() -> str:
    """Return the list as it was filtered when threads were selected."""
    return _list_address({name: text for name, text in request.args.items() if name != "id"})


def _check_message_id(thread_id: str, message_id: str) -> None:
    check_thread_id(thread_id)
    check_id(message_id, "msg", "message_id", "message")


def _as_array(lines: Iterator[bytes]) -> Iterator[bytes]:
    opening = b"["
    for line in lines:
        yield opening + line.rstrip(b"\n")
        opening = b",\n"
    yield b"[]\n" if opening == b"[" else b"]\n"


def _download(pieces: Iterator[bytes], form: str, name: str) -> Response:
    """Stream a file; what is refused is refused before the first byte leaves."""
    first = next(pieces, b"")
    content_type, suffix = _DOWNLOADS[form]
    body = stream_with_context(chain([first], pieces))
    response = Response(body, content_type=content_type)
    response.headers.set("Content-Disposition", "attachment", filename=f"{name}.{suffix}")
    return response
