"""The forms of the page: what a person enters, and showing it again beside what is wrong."""

from collections.abc import Callable
from typing import Any, NamedTuple

from flask import flash, redirect, render_template, request
from marshmallow import Schema, ValidationError
from werkzeug.wrappers import Response

from rules.errors import ApiError, Fault, faults_by_path
from schemas import CreateMessage, CreateThread, ModifyThread

Answer = str | Response | tuple[str, int] | tuple[str, int, dict[str, str]]


class Form(NamedTuple):
    """The texts in a form, the body that they load as, and the faults by path."""

    fields: dict[str, Any]
    body: dict[str, Any]
    faults: dict[str, str]


class _Kind(NamedTuple):
    """A form's template, the schema that loads it, and what turns its fields into a body."""

    template: str
    schema: Schema
    body_of: Callable[[dict[str, Any]], dict[str, Any]]


def read_filters() -> dict[str, str]:
    """Return the URL's arguments, `pair=key=value` as `metadata[key]`; that alone may be blank.

    A form sends the line breaks of its hidden fields as CR LF.
    """
    args = {name: text.replace("\r\n", "\n") for name, text in request.args.items()}
    filters = {name: text for name, text in args.items() if text.strip() or name[:9] == "metadata["}
    key, equals, value = filters.get("pair", "").partition("=")
    if equals:
        del filters["pair"]
        filters[f"metadata[{key.strip()}]"] = value.strip()
    return filters


def read_form() -> Form:
    """Read the form of a request to one of FORMS."""
    kind, fields = FORMS[request.endpoint or ""], _fields()
    keys = [key for key, _ in fields["pairs"]]
    faults = {f"metadata.{key}": "This key is given twice." for key in keys if keys.count(key) > 1}
    body = {}
    try:
        _refuse_nul()
        body = kind.schema.load(kind.body_of(fields))
    except ValidationError as error:
        faults |= faults_by_path(error)
    return Form(fields, body, faults)


def show(form: Form, status: int) -> Answer:
    """Show the form of this request, with its faults."""
    template = FORMS[request.endpoint or ""].template
    return render_template(template, form=form, **request.view_args or {}), status


def show_again(refusal: ApiError) -> Answer:
    """Show the form of this request again, beside its refusal; raise that if there is no form."""
    if request.endpoint not in FORMS:
        raise refusal
    return show(Form(_fields(), {}, {"form": refusal.message}), refusal.status)


def done(notice: str, address: str) -> Answer:
    """Go on to another page, with a notice there."""
    flash(notice)
    return redirect(address, 303)


def _fields() -> dict[str, Any]:
    pairs = zip(_texts("key"), _texts("value"), strict=False)
    fields: dict[str, Any] = {name: (_texts(name) or [""])[0] for name in ("role", "content")}
    return fields | {"pairs": [(key, value) for key, value in pairs if key or value]}


def _texts(name: str) -> list[str]:
    return [text.replace("\r\n", "\n") for text in request.form.getlist(name)]


def _refuse_nul() -> None:
    for name, values in request.form.lists():
        if any("\0" in value for value in values):
            fault = Fault(None, "Text cannot hold the NUL character (U+0000).")
            raise ValidationError({"metadata" if name in ("key", "value") else name: [fault]})


def _message_body(fields: dict[str, Any]) -> dict[str, Any]:
    return {"role": fields["role"], "content": fields["content"]}


def _metadata_body(fields: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": dict(fields["pairs"])}


def _thread_body(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a thread; without a text it has no message."""
    messages = [_message_body(fields)] if fields["content"] else []
    return _metadata_body(fields) | {"messages": messages}


FORMS = {
    "admin.create": _Kind("new.html", CreateThread(), _thread_body),
    "admin.save_metadata": _Kind("metadata.html", ModifyThread(), _metadata_body),
    "admin.add_message": _Kind("message.html", CreateMessage(), _message_body),
}
"""The forms that a person writes in, by the view that they are sent to."""
