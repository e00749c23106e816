"""What the pages answer with: a stored form, a file, an address."""

from collections.abc import Callable, Iterator
from urllib.parse import parse_qsl, urlencode

from flask import Response, request, url_for

import database
from admin import forms, schemas
from admin.forms import Answer, done
from exchange import exports
from rules.errors import ApiError
from rules.pairs import read_filters
from store.objects import Object
from web.request import project
from web.request_body import is_known
from web.responses import file_of

_BROWSE = schemas.BrowseThreads()


def save(notice: str, change: Callable[..., Object], *ids: str) -> Answer:
    """Store the form and show its object, or show the form again with its faults."""
    form = forms.read_form()
    if form.faults:
        return forms.show(form, 400)
    try:
        stored = database.write(lambda connection: change(connection, project(), *ids, form.body))
    except ApiError as refusal:
        return forms.show_again(refusal)
    return done(notice, address(stored))


def address(stored: Object) -> str:
    """Return the address at which a thread, a message or an assistant is shown."""
    if stored["object"] == "assistant":
        return url_for(".assistant", assistant_id=stored["id"])
    at = stored["id"] if "thread_id" in stored else None
    return url_for(".thread", thread_id=stored.get("thread_id", stored["id"]), at=at, _anchor=at)


def list_filters() -> dict[str, str]:
    """Return the filters in the URL of the list, or of a page that was opened from it (`list`)."""
    args = dict(parse_qsl(request.args.get("list", ""), keep_blank_values=True))
    filters = read_filters(args if "list" in request.args else request.args)
    return {name: text for name, text in filters.items() if is_known(_BROWSE, name)}


def list_address(filters: dict[str, str]) -> str:
    return f"{url_for('.threads')}?{urlencode(filters)}" if filters else url_for(".threads")


def download(pieces: Iterator[bytes], form: str, name: str) -> Response:
    content_type, suffix = exports.FILES[form]
    return file_of(pieces, content_type, f"{name}.{suffix}")
