"""All refusals. The sentences of the hosted API (wire reference, table 1.1) keep every word."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from rules.errors import ApiError, shown

_DO_NOT_RETRY = {"x-should-retry": "false"}
_NOTHING = "nothing was written"
_CLOSE = {"Connection": "close"}
_BEARER = {"WWW-Authenticate": "Bearer"}
_WAITS_OF_429 = {"retry_after": 1, "retry_after_ms": 10}

# The database


def busy() -> ApiError:
    message = f"The database is busy; {_NOTHING}. Try again in a second."
    return ApiError(503, message, code="database_busy", headers={"Retry-After": "1"})


def unavailable() -> ApiError:
    message = f"The database cannot be used; {_NOTHING}. The server's log has the cause."
    return ApiError(503, message, code="database_unavailable", headers={"Retry-After": "5"})


def disk_full() -> ApiError:
    message = f"The server's disk is full; {_NOTHING}. Free some space, then retry."
    return ApiError(507, message, code="disk_full", headers=_DO_NOT_RETRY)


def in_part(refusal: ApiError, done: str) -> ApiError:
    """Return the refusal of a later write: it says what is done already."""
    return replace(refusal, message=refusal.message.replace(_NOTHING, done))


def after_batches(refusal: ApiError, count: int, verb: str) -> ApiError:
    """Return the refusal of what goes on in batches, after those that are stored."""
    done = f"only {count:,} {'was' if count == 1 else 'were'} {verb}"
    return in_part(refusal, done) if count else refusal


def outcome_unknown() -> ApiError:
    message = "The database failed; whether the change was stored is unknown. See the server's log."
    return ApiError(500, message, headers=_DO_NOT_RETRY)


def read_failed() -> ApiError:
    message = "The database failed to read this. The server's log has the cause."
    return ApiError(500, message, headers=_DO_NOT_RETRY)


def id_exists() -> ApiError:
    message = "PUT /_mock/ids made an id that exists already. POST /_mock/reset first."
    return ApiError(400, message, code="id_exists")


def search_too_broad() -> ApiError:
    message = "The search took too long. Ask for a rarer word, or narrow the dates."
    return ApiError(400, message, "q", "search_too_broad")


# Addresses, ids and parameters


def not_found(kind: str, id_: str) -> ApiError:
    return ApiError(404, f"No {kind} found with id '{shown(id_)}'.")


def no_such_cursor(kind: str, cursor: str, param: str) -> ApiError:
    return ApiError(400, f"No {kind} found with id '{cursor}'.", param, "invalid_value")


def nothing_to_search() -> ApiError:
    return ApiError(400, "Invalid 'q': expected at least one word.", "q", "empty_string")


def short_beginning(fewest: int) -> ApiError:
    reason = f"a word that ends with '*' needs {fewest} letters or digits before it"
    return invalid("q", reason)


def invalid(param: str, reason: str) -> ApiError:
    return ApiError(400, f"Invalid '{param}': {reason}.", param, "invalid_value")


def invalid_url(method: str, path: str) -> ApiError:
    return ApiError(404, f"Invalid URL ({shown(method)} {shown(path)})")


def not_served(method: str, path: str) -> ApiError:
    message = f"{method} {shown(path)} is not served here: see README, Differences."
    return ApiError(404, message, code="not_served")


def method_not_allowed(method: str, path: str, methods: Iterable[str]) -> ApiError:
    problem = f"Method not allowed ({shown(method)} {shown(path)})."
    message = f"{problem} Use one of: {', '.join(sorted(methods))}."
    return ApiError(405, message, code="unsupported_operation")


def server_error(status: int) -> ApiError:
    message = "The server had an error while processing your request. Its log has the cause."
    return ApiError(status, message, headers=_DO_NOT_RETRY)


# Runs. Programs match some of these sentences (runs reference, sections 3 to 8)


class ThreadIsLocked(ApiError):
    """The refusal of what a thread takes only while it has no active run."""


def no_message_while_active(thread_id: str, run_id: str) -> ApiError:
    message = f"Can't add messages to {thread_id} while a run {run_id} is active."
    return ThreadIsLocked(400, message)


def has_active_run(thread_id: str, run_id: str) -> ApiError:
    return ThreadIsLocked(400, f"Thread {thread_id} already has an active run {run_id}.")


def nothing_to_answer() -> ApiError:
    expected = "requires a Thread with a user message or an assistant with instructions"
    return ApiError(400, f"Run creation {expected}.", code="invalid_thread")


def cannot_cancel(status: str) -> ApiError:
    return ApiError(400, f"Cannot cancel run with status '{status}'.")


def takes_no_outputs(status: str) -> ApiError:
    return ApiError(400, f'Runs in status "{status}" do not accept tool outputs.')


def wrong_outputs(expected: list[str], got: list[str]) -> ApiError:
    sent = [shown(call_id) for call_id in got[: len(expected) + 1]]
    return ApiError(400, f"Expected tool outputs for call_ids {expected}, got {sent}")


def no_model() -> ApiError:
    problem = "Nothing answers a run here: there is no model, and no script without mock controls."
    advice = "Set THREADS_MODEL_URL, or THREADS_MOCK=on."
    return ApiError(400, f"{problem} {advice}", code="model_not_configured")


def model_failed(sentence: str) -> ApiError:
    return ApiError(502, sentence, code="model_unavailable")


def no_such_model(name: str) -> ApiError:
    message = f"The model '{shown(name)}' does not exist here. GET /v1/models lists those that do."
    return ApiError(404, message, "model", "model_not_found")


def no_stream_again() -> ApiError:
    message = "A stream cannot be repeated: send no Idempotency-Key with 'stream'."
    return ApiError(400, message, "stream", "invalid_value")


# Requests that are no valid HTTP

_MALFORMED = {
    400: "The request is no valid HTTP. Check its first line, its headers and its chunks.",
    414: "The address is too long. It holds at most 8,190 bytes.",
    417: "An Expect header holds 100-continue only.",
    431: "The headers are too large. A request has at most 60, of 8,190 bytes each.",
    501: "This transfer coding is not supported. Send the body as it is, or chunked.",
}


def malformed_request(status: int) -> ApiError:
    if status not in _MALFORMED:
        return server_error(status)
    return ApiError(status, _MALFORMED[status], code="malformed_request", headers=_CLOSE)


# Bodies and query strings


def body_too_large() -> ApiError:
    message = "The request body is too large. THREADS_MAX_BODY_BYTES sets the limit."
    return ApiError(413, message, code="request_too_large", headers=_CLOSE)


def form_too_large() -> ApiError:
    message = "This form is too large. Nothing was changed. Send long texts through the API."
    return ApiError(413, message, code="request_too_large", headers=_CLOSE)


def body_cut_short() -> ApiError:
    problem = "the request body ended early or its chunks are malformed."
    return _invalid_body(problem, headers=_CLOSE)


def small_chunks() -> ApiError:
    problem = "its chunks hold too little. Send larger chunks, without extensions."
    return _invalid_body(problem, headers=_CLOSE)


def body_too_slow() -> ApiError:
    message = "The request body came too slowly, so it was not read to its end."
    return ApiError(408, message, code="request_timeout", headers=_CLOSE)


def no_plain_json() -> ApiError:
    message = "Send the body as plain JSON with the header Content-Type: application/json."
    return ApiError(415, message, code="unsupported_media_type")


def invalid_json() -> ApiError:
    advice = "Please check the value to ensure it is valid JSON."
    errors = "trailing commas, missing closing brackets, missing quotation marks, etc."
    message = f"Invalid body: failed to parse JSON value. {advice} (Common errors include {errors})"
    return ApiError(400, message, code="invalid_json")


def no_utf8() -> ApiError:
    problem = "encountered a unicode decode error when parsing this JSON value. Send it as UTF-8."
    return _invalid_body(problem)


def no_object(kind: str) -> ApiError:
    message = f"Invalid type: expected an object, but got {kind} instead."
    return ApiError(400, message, code="invalid_request_error")


def duplicate_key(key: str) -> ApiError:
    advice = "Duplicate JSON keys are not supported."
    return _invalid_body(f"duplicate JSON key '{shown(key)}'. {advice}")


def too_many_values(most: int) -> ApiError:
    return _invalid_body(f"it holds more than {most:,} values.")


def nul_in_body() -> ApiError:
    return _invalid_body("strings cannot hold the NUL character (U+0000).")


def nul_in_query() -> ApiError:
    return ApiError(400, "Query parameters cannot hold the NUL character (U+0000).")


def duplicate_parameter(name: str) -> ApiError:
    problem = "You provided multiple values for this parameter, whereas only one is allowed."
    message = f"Duplicate parameter: '{shown(name)}'. {problem}"
    return ApiError(400, message, shown(name), "duplicate_parameter")


def _invalid_body(problem: str, **more: Any) -> ApiError:
    return ApiError(400, f"Invalid body: {problem}", code="invalid_request_error", **more)


def malformed_idempotency_key() -> ApiError:
    message = "An Idempotency-Key holds 1 to 255 printable ASCII characters."
    return ApiError(400, message, code="invalid_idempotency_key")


def idempotency_key_reused() -> ApiError:
    problem = "This Idempotency-Key was used with another request."
    advice = "Use a new key for each different request."
    return ApiError(422, f"{problem} {advice}", code="idempotency_key_reused")


def answer_forgotten() -> ApiError:
    message = "The object that this Idempotency-Key made or changed was deleted since."
    return ApiError(404, message, code="object_deleted")


# Callers


def no_api_key() -> ApiError:
    where = "in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)"
    message = f"You didn't provide an API key. You need to provide your API key {where}."
    return ApiError(401, message, headers=_BEARER)


def wrong_api_key(masked: str) -> ApiError:
    message = f"Incorrect API key provided: {masked}. Ask for one that is valid."
    return ApiError(401, message, code="invalid_api_key", headers=_BEARER)


def untrusted_host() -> ApiError:
    allowed = "localhost or a loopback address, or be named in THREADS_TRUSTED_HOSTS"
    message = f"This Host is not served: without API keys it must be {allowed}."
    return ApiError(400, message, code="invalid_host")


def forwarded_request() -> ApiError:
    message = "A server behind a proxy needs API keys; without them forwarded requests are refused."
    return ApiError(403, message, code="forwarded_request")


def foreign_page() -> ApiError:
    message = "Other web pages may not change anything; THREADS_CORS_ORIGINS names those that may."
    return ApiError(403, message, code="foreign_origin")


def no_beta_header() -> ApiError:
    problem = "You must provide the 'OpenAI-Beta' header to access the Assistants API."
    advice = "Please try again by setting the header 'OpenAI-Beta: assistants=v2'."
    return ApiError(400, f"{problem} {advice}", code="invalid_beta")


def malformed_beta_header(beta: str) -> ApiError:
    expected = "The header should be in the format 'OpenAI-Beta: example_beta=v1'."
    message = f"Invalid beta header provided: '{shown(beta)}'. {expected}"
    return ApiError(400, message, code="invalid_beta")


def unknown_beta(name: str) -> ApiError:
    return ApiError(400, f"Unknown beta requested: '{shown(name)}'.", code="invalid_beta")


# The browse page


def not_signed_in() -> ApiError:
    return ApiError(401, "Sign in at /admin/sign-in first.", code="not_signed_in")


def signed_out() -> ApiError:
    message = "You are signed out, and nothing was changed. Sign in in another tab first."
    return ApiError(401, message, code="not_signed_in")


def form_no_longer_valid() -> ApiError:
    cause = "since you opened it, somebody signed in or out here, or the server was set up anew"
    message = f"This form is no longer valid: {cause}. Nothing was changed."
    return ApiError(400, message, "csrf_token", "invalid_form")


def too_late_to_undo() -> ApiError:
    return ApiError(409, "This can no longer be undone: what was deleted is gone.", code="gone")


def no_room_to_undo() -> ApiError:
    message = "The rest was not deleted: it is too large for Undo. Delete it without Undo."
    return ApiError(409, message, code="no_room")


def assistant_exists(id_: str) -> ApiError:
    return ApiError(400, f"Assistant {id_} exists already.", "id", "id_exists")


# Imports


def nothing_to_import() -> ApiError:
    return ApiError(400, "Choose a file, or paste lines.", "lines")


def too_many_lines(most: int) -> ApiError:
    advice = "flask import takes any number."
    return ApiError(400, f"A form takes at most {most:,} lines; {advice}", "lines")


def id_twice(kind: str, parent: str, param: str) -> ApiError:
    return ApiError(400, f"Two {kind}s of this {parent} have the same id.", param)


def of_another(kind: str, parent: str, param: str) -> ApiError:
    return invalid(param, f"the {kind} is of another {parent}")


def one_document() -> ApiError:
    problem = "This is one JSON document, not JSON Lines: nothing of it was read."
    return ApiError(400, f"{problem} Write each thread with its messages on one line (jq -c).")


def bad_seed(place: str, reason: str | None) -> ApiError:
    return ApiError(400, f"THREADS_SEED: {place}: {reason}")


# The mock controls


def mock_is_off() -> ApiError:
    reason = "Requests are shown while the mock controls are on, and here they are off."
    return ApiError(404, f"{reason} Start the server with THREADS_MOCK=on.", code="mock_is_off")


def sqlite_only() -> ApiError:
    message = "This control works with SQLite only; nothing was changed."
    return ApiError(403, message, code="sqlite_only")


def database_is_kept() -> ApiError:
    problem = "This server keeps its database, so nothing was changed."
    advice = "Start it with THREADS_DATABASE_URL=memory, or allow this with THREADS_MOCK=on."
    return ApiError(403, f"{problem} {advice}", code="database_is_kept")


def no_snapshot() -> ApiError:
    return ApiError(400, "There is no snapshot: POST /_mock/snapshot first.", code="no_snapshot")


def bad_seed_lines(faults: list[tuple[int, str]], count: int) -> ApiError:
    first = "; ".join(f"line {number}: {shown(reason)}" for number, reason in faults[:3])
    return ApiError(400, f"{len(faults)} of {count} lines refused: {first}", code="invalid_seed")


def no_logged_request() -> ApiError:
    return ApiError(400, "No logged request has this id.", "since", "invalid_value")


def wrong_mock_header(name: str, expected: str) -> ApiError:
    return ApiError(400, f"{name} takes {expected}.", code="invalid_value")


def connection_dropped() -> ApiError:
    return ApiError(503, "The connection was dropped by a fault rule.")


def client_is_gone() -> ApiError:
    return ApiError(503, "The client hung up while a fault rule delayed its request.")


def injected(fault: dict[str, Any]) -> ApiError:
    status = fault["status"]
    waits = {name: fault[name] for name in _WAITS_OF_429 if name in fault}
    waits = waits or (_WAITS_OF_429 if status == 429 else {})
    headers = {name.replace("_", "-"): str(value) for name, value in waits.items()}
    if "should_retry" in fault:
        headers["x-should-retry"] = str(fault["should_retry"]).lower()
    code = fault.get("code", "rate_limit_exceeded" if status == 429 else "injected_fault")
    message = fault.get("message", f"Status {status} by a fault rule of /_mock.")
    return ApiError(status, message, fault.get("param"), code, headers, fault.get("type"))
