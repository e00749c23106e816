"""The forms of the page: they are read here, and shown again with their faults."""

import re
from itertools import islice
from typing import Any, NamedTuple

from flask import current_app, flash, redirect, render_template, request, session
from marshmallow import Schema, ValidationError
from werkzeug.wrappers import Response

from admin.schemas import EditAssistant, ImportLines, NewAssistant
from rules import fields, refusals
from rules.errors import ApiError, Fault, faults_by_path
from rules.form_fields import typed
from rules.pairs import pair_faults
from schemas import (
    EFFORTS,
    MAX_TEXT_CHARACTERS,
    MAX_TOOLS,
    CreateMessage,
    CreateRun,
    CreateThread,
    ModifyAssistant,
    ModifyThread,
    SubmitToolOutputs,
)
from web.request_body import read_bytes
from web.request_checks import MAX_FORM_BYTES

MAX_LINES = 500
"""The lines of an import by form: as many as one transaction stores."""
LIMITS: dict[str, Any] = {
    "MAX_TEXT": MAX_TEXT_CHARACTERS,
    "MAX_PAIRS": fields.MAX_METADATA_PAIRS,
    "MAX_KEY": fields.MAX_METADATA_KEY_CHARACTERS,
    "MAX_VALUE": fields.MAX_METADATA_VALUE_CHARACTERS,
    "LONGEST": {
        name: field.maximum
        for name, field in ModifyAssistant().fields.items()
        if isinstance(field, fields.Text)
    },
    "EFFORTS": EFFORTS,
    "MAX_LINES": MAX_LINES,
}
"""The limits as the templates name them."""
_MAX_FIELDS = 2 * fields.MAX_METADATA_PAIRS + 12
_MAX_CHARACTERS = MAX_TEXT_CHARACTERS + 50_000
_MAX_BYTES_WITHOUT_TEXTS = 16_384
_MAX_BYTES_SHOWN_AGAIN = 65_536
_MAX_BYTES_OF_STRANGERS = 16_384
_MAX_SHOWN_TO_STRANGERS = 4_000
_MOST_OF_HEAD = 4_000
_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")
Answer = str | Response | tuple[str, int] | tuple[str, int, dict[str, str]]


class Form(NamedTuple):
    """The texts in a form, the body made of them, and the faults by path."""

    fields: dict[str, Any]
    body: dict[str, Any]
    faults: dict[str, str]


class _Kind(NamedTuple):
    """A form: its template, the schema of its body, and the names of the body's values."""

    template: str
    schema: Schema
    names: tuple[str, ...]
    texts: tuple[str, ...] = ("role", "content")  # the fields beside metadata
    characters: int = _MAX_CHARACTERS
    fields: int = _MAX_FIELDS
    is_large: bool = False  # its file may be as large as any body


def read_form() -> Form:
    """Read the form of a request to one of FORMS."""
    kind, texts = FORMS[request.endpoint or ""], _fields()
    faults = pair_faults(texts["pairs"]) if "metadata" in kind.names else {}
    body = {}
    try:
        _refuse_nul()
        body = kind.schema.load(_body(texts, kind.names))
    except ValidationError as error:
        faults |= faults_by_path(error)
    return Form(texts, body, faults)


def show(form: Form, status: int) -> Answer:
    """Show the form of this request, with its faults."""
    template = FORMS[request.endpoint or ""].template
    return render_template(template, form=form, **request.view_args or {}), status


def show_again(refusal: ApiError) -> Answer:
    """Show the form of this request again with a refusal; raise that if there is no form."""
    if request.endpoint not in FORMS:
        raise refusal
    place = refusal.param if refusal.param in FORMS[request.endpoint or ""].texts else None
    return show(Form(_fields(), {}, {place or "form": refusal.message}), refusal.status)


def show_short_again(refusal: ApiError) -> Answer:
    """Show a short form again, without reading a longer one: anybody may have sent it.

    Whoever has signed in here gets more of it back: the cookie is signed.
    """
    is_stranger = "id" not in session
    most = _MAX_BYTES_OF_STRANGERS if is_stranger else _MAX_BYTES_SHOWN_AGAIN
    if (request.content_length or most + 1) > most:
        raise refusal
    refuse_large_form()
    if is_stranger and sum(map(len, map(str.encode, _typed()))) > _MAX_SHOWN_TO_STRANGERS:
        raise refusal
    return show_again(refusal)


def refuse_large_form() -> None:
    """Refuse what no page sends: too many bytes, fields or characters. Raises ApiError 413."""
    kind = FORMS.get(request.endpoint or "")
    has_parts = request.mimetype == "multipart/form-data"
    if kind is None:
        request.max_content_length = _MAX_BYTES_WITHOUT_TEXTS
    elif kind.is_large and has_parts:
        request.max_content_length = current_app.config["MAX_BODY_BYTES"]
    # The fields are counted before they are parsed: each takes far more memory than its bytes.
    most = kind.fields if kind else _MAX_FIELDS
    request.max_form_parts = most
    data = read_bytes()
    if _has_long_heads(data, most) if has_parts else data.count(b"&") >= most:
        raise refusals.form_too_large()
    if sum(map(len, _typed())) > (kind.characters if kind else _MAX_CHARACTERS):
        raise refusals.form_too_large()


def _typed() -> list[str]:
    """Return what the fields hold, without the frame around it."""
    return [text for _, texts in request.form.lists() for text in texts]


def _has_long_heads(data: bytes, most: int) -> bool:
    """Return whether a part has more headers than a browser sends, or parts are more than `most`.

    They are counted first: what is read of their heads may be far more than the body.
    """
    boundary = request.mimetype_params.get("boundary", "").encode()
    begin = re.compile(re.escape(b"--" + boundary) + rb"[ \t]*[\r\n]")
    ends = [found.end() for found in islice(begin.finditer(data), most + 1)]
    return len(ends) > most or any(
        not _BLANK_LINE.search(data, end, end + _MOST_OF_HEAD) for end in ends
    )


def done(notice: str, address: str) -> Answer:
    """Redirect to another page, with a notice there."""
    flash(notice)
    return redirect(address, 303)


def _fields() -> dict[str, Any]:
    pairs = zip(_texts("key"), _texts("value"), strict=False)
    names = FORMS[request.endpoint or ""].texts
    texts: dict[str, Any] = {name: (_texts(name) or [""])[0] for name in names}
    return texts | {"pairs": [(key, value) for key, value in pairs if key or value]}


def _texts(name: str) -> list[str]:
    return [typed(text) for text in request.form.getlist(name)]


def _refuse_nul() -> None:
    for name, values in request.form.lists():
        if any("\0" in value for value in values):
            fault = Fault(None, "Text cannot hold the NUL character (U+0000).")
            raise ValidationError({"metadata" if name in ("key", "value") else name: [fault]})


def _body(texts: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the body of a form. A thread without a text has no message."""
    message = {name: texts[name] for name in ("role", "content") if name in texts}
    messages = [message] if texts.get("content") else []
    outputs = [{"tool_call_id": key, "output": value} for key, value in texts["pairs"]]
    values = {**texts, "messages": messages, "metadata": dict(texts["pairs"])}
    values["tool_outputs"] = outputs
    return {name: values[name] for name in names}


def _assistant(schema: Schema) -> _Kind:
    names = tuple(schema.fields)
    texts = tuple(name for name in names if name != "metadata")
    return _Kind("assistant.html", schema, names, texts, 2 * MAX_TEXT_CHARACTERS)


_RUN = ("assistant_id", "additional_instructions")
_IMPORT = ("lines", "on_conflict")
_OF_LINES = _Kind(
    *("import.html", ImportLines(), _IMPORT, _IMPORT, MAX_FORM_BYTES),
    is_large=True,
)
FORMS = {
    "admin.create": _Kind("new.html", CreateThread(), ("messages", "metadata")),
    "admin.save_metadata": _Kind("metadata.html", ModifyThread(), ("metadata",)),
    "admin.add_message": _Kind("message.html", CreateMessage(), ("role", "content")),
    "admin.create_run": _Kind("run.html", CreateRun(), _RUN, _RUN),
    "admin.submit_outputs": _Kind(
        *("outputs.html", SubmitToolOutputs(), ("tool_outputs",), ()),
        characters=MAX_FORM_BYTES,
        fields=2 * MAX_TOOLS + 2,
    ),
    "admin.create_assistant": _assistant(NewAssistant()),
    "admin.save_assistant": _assistant(EditAssistant()),
    "admin.import_assistants": _OF_LINES,
    "admin.import_threads": _OF_LINES,
}
"""The forms, by the view that receives each."""
