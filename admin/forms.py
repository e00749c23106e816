"""The forms of the page: they are read here, and shown again with their faults."""

from typing import Any, NamedTuple

from flask import flash, redirect, render_template, request
from marshmallow import Schema, ValidationError
from werkzeug.wrappers import Response

from rules.errors import ApiError, Fault, faults_by_path
from schemas import CreateMessage, CreateThread, ModifyThread

Answer = str | Response | tuple[str, int] | tuple[str, int, dict[str, str]]


class Form(NamedTuple):
    """The texts in a form, the body made of them, and the faults by path."""

    fields: dict[str, Any]
    body: dict[str, Any]
    faults: dict[str, str]


class _Kind(NamedTuple):
    """A form's template, the schema of its body, and the names of the body's values."""

    template: str
    schema: Schema
    names: tuple[str, ...]


def read_filters() -> dict[str, str]:
    """Return the URL's arguments without blank ones, `pair=key=value` as `metadata[key]=value`."""
    # A form sends the line breaks of its hidden fields as CR LF. Blank metadata is a filter, too.
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
        body = kind.schema.load(_body(fields, kind.names))
    except ValidationError as error:
        faults |= faults_by_path(error)
    return Form(fields, body, faults)


def show(form: Form, status: int) -> Answer:
    """Show the form of this request, with its faults."""
    template = FORMS[request.endpoint or ""].template
    return render_template(template, form=form, **request.view_args or {}), status


def show_again(refusal: ApiError) -> Answer:
    """Show the form of this request again with a refusal; raise that if there is no form."""
    if request.endpoint not in FORMS:
        raise refusal
    return show(Form(_fields(), {}, {"form": refusal.message}), refusal.status)


def done(notice: str, address: str) -> Answer:
    """Redirect to another page, with a notice there."""
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


def _body(fields: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the body of a form. A thread without a text has no message."""
    message = {"role": fields["role"], "content": fields["content"]}
    messages = [message] if fields["content"] else []
    values = {**message, "messages": messages, "metadata": dict(fields["pairs"])}
    return {name: values[name] for name in names}


FORMS = {
    "admin.create": _Kind("new.html", CreateThread(), ("messages", "metadata")),
    "admin.save_metadata": _Kind("metadata.html", ModifyThread(), ("metadata",)),
    "admin.add_message": _Kind("message.html", CreateMessage(), ("role", "content")),
}
"""The forms, by the view that receives each."""
