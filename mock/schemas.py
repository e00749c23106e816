"""The schemas of the mock controls."""

from typing import Any

from marshmallow import ValidationError, validates_schema

from rules import errors, fields
from schemas import MAX_MODEL_CHARACTERS, MAX_SECONDS, MAX_TEXT_CHARACTERS, MAX_TOOLS

MAX_DELAY_MILLISECONDS = 60_000
MAX_RULES = 100
MAX_TIMES = 1_000_000_000
ERROR_CODES = ("server_error", "rate_limit_exceeded", "invalid_prompt")
SEED = (
    '{"thread": {"id": "thread_abc123", "object": "thread", "created_at": 1704067200, '
    '"metadata": {"user": "u3"}}, "messages": []}'
)
"""An example of a line."""
_PATH = {"description": "Without it: every API request.", "examples": ["*/messages"]}
_OF_STREAMS = ("stall_ms", "stream_error")
_OF_STATUS = ("retry_after", "retry_after_ms", "should_retry", "message", "code", "type", "param")


class Delay(fields.Field):
    """Milliseconds: one number, or an array of a minimum and a maximum; loads as a pair."""

    expected = "an integer or an array of two integers"

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> tuple[int, int]:
        bounds = value if type(value) is list else [value, value]
        if len(bounds) != 2 or any(type(bound) is not int for bound in bounds):
            raise self.wrong_type(value)
        for bound in bounds:
            if fault := fields.out_of_range(bound, 0, MAX_DELAY_MILLISECONDS):
                raise ValidationError(fault)
        return min(bounds), max(bounds)

    def json_schema(self) -> dict[str, Any]:
        number = {"type": "integer", "minimum": 0, "maximum": MAX_DELAY_MILLISECONDS}
        return {"oneOf": [number, {"type": "array", "items": number, "minItems": 2, "maxItems": 2}]}


class Rate(fields.Field):
    """A number from 0 to 1."""

    expected = "a number from 0 to 1"

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> float:
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise self.wrong_type(value)
        return float(value)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": 0, "maximum": 1}


class FaultRule(fields.StrictSchema):
    method = fields.Choice("GET", "POST", "DELETE")
    path = fields.Text(metadata=_PATH)
    status = fields.Integer(400, 599)
    delay_ms = Delay()
    drop = fields.Choice("before", "after", "midway")
    after_events = fields.Integer(0)
    stall_ms = Delay()
    stream_error = fields.Boolean()
    times = fields.Integer(1, MAX_TIMES)
    every = fields.Integer(1)
    rate = Rate()
    seed = fields.Integer()
    retry_after = fields.Integer(0)
    retry_after_ms = fields.Integer(0)
    should_retry = fields.Boolean()
    message = fields.Text(maximum=1_000)
    code = fields.Text(maximum=100, allow_none=True)
    type = fields.Text(maximum=100)
    param = fields.Text(maximum=100, allow_none=True)

    @validates_schema
    def refuse_senseless(self, rule: dict[str, Any], **_: Any) -> None:
        """Refuse a rule with a part that does nothing."""
        header = next((name for name in _OF_STATUS if name in rule), None)
        if "status" in rule and rule.get("drop") == "after":
            raise _senseless("drop", "a request that fails with 'status' has no answer to drop")
        if header and "status" not in rule:
            raise _senseless(header, "it is told with a 'status' only")
        if rule.keys().isdisjoint(("status", "delay_ms", "drop", *_OF_STREAMS)):
            raise _senseless("status", "without it, 'delay_ms' or 'drop' the rule does nothing")
        if "after_events" in rule and not breaks_stream(rule):
            raise _senseless("after_events", "it is told with what happens to a stream only")
        if "status" in rule and breaks_stream(rule):
            raise _senseless("status", "a request that fails has no stream to break")


class FaultForm(FaultRule):
    """A rule as the form of the page sends it."""

    status = fields.QueryInteger(400, 599)
    times = fields.QueryInteger(1, MAX_TIMES)


def breaks_stream(fault: dict[str, Any]) -> bool:
    """Return whether a fault breaks the stream of a run."""
    return fault.get("drop") == "midway" or not fault.keys().isdisjoint(_OF_STREAMS)


def _senseless(name: str, reason: str) -> ValidationError:
    fault = errors.Fault("invalid_value", f"Invalid '{errors.PARAM}': {reason}.")
    return ValidationError({name: [fault]})


class FaultRules(fields.StrictSchema):
    example = {"rules": [{"method": "POST", "path": "/v1/threads*", "status": 429, "times": 2}]}
    rules = fields.Array(fields.Object(FaultRule), maximum=MAX_RULES, required=True)


class ScriptedCall(fields.StrictSchema):
    name = fields.Name(required=True)
    arguments = fields.AnyObject(load_default=dict)


class ScriptedError(fields.StrictSchema):
    code = fields.Choice(*ERROR_CODES, required=True)
    message = fields.Text(maximum=1_000, load_default="A reply rule of /_mock failed this run.")


class Reply(fields.StrictSchema):
    text = fields.Text(0, MAX_TEXT_CHARACTERS)
    tool_calls = fields.Array(fields.Object(ScriptedCall), minimum=1, maximum=MAX_TOOLS)
    error = fields.Object(ScriptedError)
    incomplete = fields.Choice("max_completion_tokens", "max_prompt_tokens")
    delay_ms = Delay()
    chunk_ms = Delay()
    chunk_characters = fields.Integer(1)

    @validates_schema
    def refuse_senseless(self, reply: dict[str, Any], **_: Any) -> None:
        """Refuse a reply that says nothing, or two things."""
        if reply.keys().isdisjoint(("text", "tool_calls", "error")):
            raise _senseless("text", "a reply has a 'text', 'tool_calls' or an 'error'")
        if "error" in reply and not reply.keys().isdisjoint(("text", "tool_calls", "incomplete")):
            raise _senseless("error", "a reply that fails says nothing else")
        if "incomplete" in reply and "tool_calls" in reply:
            raise _senseless("incomplete", "a reply that is cut short has a 'text' only")


class ReplyRule(fields.StrictSchema):
    match = fields.Text(maximum=1_000, load_default="*")
    assistant = fields.ObjectId("asst")
    model = fields.Text(maximum=MAX_MODEL_CHARACTERS)
    times = fields.Integer(1, MAX_TIMES)
    replies = fields.Array(fields.Object(Reply), minimum=1, maximum=100, required=True)


class ReplyRules(fields.StrictSchema):
    example = {"rules": [{"match": "*weather*", "replies": [{"text": "It is 20 degrees."}]}]}
    rules = fields.Array(fields.Object(ReplyRule), maximum=MAX_RULES, required=True)


class IdSeed(fields.StrictSchema):
    example = {"seed": 7}
    seed = fields.Integer(required=True, allow_none=True)


class Clock(fields.StrictSchema):
    example = {"frozen_at": 1_700_000_000}
    frozen_at = fields.Integer(0, MAX_SECONDS, allow_none=True)
    offset_seconds = fields.Integer(-MAX_SECONDS, MAX_SECONDS)


class RequestFilter(fields.StrictSchema):
    path = fields.Text(load_default="*", metadata={"examples": ["*/messages"]})
    since = fields.Text(metadata={"examples": ["req_abc123"]})
