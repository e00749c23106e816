"""A turn of what answers: it writes the parts of an answer as they come, and how it ends."""

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import database
from database import Connection
from players import events
from players.answers import Call, Finish, Part, Text
from players.events import Event
from players.streams import Stream
from rules.ids_and_clock import new_id, sources, unix_now
from runs import drafts, lock, states, steps
from runs.states import Change, End, LostRun
from store.objects import Object, to_json

WRITE_SECONDS = 0.25
"""The pause between two writes of a growing text; a shorter turn writes at its end only."""


class Step:
    """A step that this turn makes: its column values, and its row once it is stored."""

    def __init__(self, run: Any, id_: str, details: Object) -> None:
        self.values = steps.step_values(run, id_, unix_now(), details)
        self.row: Any = None

    def store(self, connection: Connection) -> Any:
        """Store the values; return the row."""
        if self.row is None:
            return connection.row(steps.INSERT, self.values)
        names = ("step_details", "usage", "draft")
        new = {name: self.values[name] for name in names}
        return steps.write_step(connection, self.row, new)


class Turn:
    """The turn of a run that a player has taken."""

    def __init__(self, run: Any, thread_id: str, number: int, stream: Stream | None) -> None:
        """`number` is that of the run's steps so far; `stream` takes the events of a streamed run.

        Each turn draws its ids from a stream of its own, whatever the other runs do.
        """
        self.run, self._thread_id, self._stream = run, thread_id, stream
        self._ids = sources.stream(f"{run.id}:{number}")
        self._text: list[str] = []
        self._calls: list[Object] = []
        self._arguments: list[list[str]] = []  # of each call, in pieces
        self._message: Step | None = None
        self._tools: Step | None = None
        self._written_at = monotonic()

    @property
    def has_shown(self) -> bool:
        """Whether anybody can have seen something of this turn."""
        return any(step and step.row for step in (self._message, self._tools))

    def take(self, part: Part) -> None:
        """Add a part of the answer; the last one ends the turn. Raises LostRun, ApiError."""
        match part:
            case Text(text):
                self._add_text(text)
            case Call() if part.number == 0 or self.run.parallel_tool_calls == "true":
                self._add_call(part)
            case Finish():
                self._finish(part)

    def end(self, ending: End, expected: tuple[str, ...]) -> None:
        """End the run in the middle; keep the text so far. Raises LostRun, ApiError."""
        if self._message:
            self._message.values["draft"] = "".join(self._text)
        self._store(lambda connection: self._end(connection, ending, expected))

    def _add_text(self, text: str) -> None:
        is_first = self._message is None
        if self._message is None:
            step_id, message_id = self._new_id("step"), self._new_id("msg")
            details = {"type": "message_creation", "message_creation": {"message_id": message_id}}
            self._message = Step(self.run, step_id, details)
        self._text.append(text)
        self._write(self._message, is_first)
        if self._stream and text:
            message_id = steps.message_of(self._message.row)
            self._stream.tell([events.text_delta(message_id, text, is_first)])

    def _write(self, message: Step, is_first: bool) -> None:
        """Store the text so far, if it is time."""
        now = monotonic()
        if not (self._stream and is_first) and now - self._written_at < WRITE_SECONDS:
            return
        message.values["draft"] = "" if self._stream and is_first else "".join(self._text)
        is_new = message.row is None
        message.row, self._written_at = self._keep(message), now
        if self._stream and is_new:
            self._stream.tell(events.step_events(message.row, self.run, self._thread_id))
            self._stream.tell(
                events.message_events(drafts.message_row(message.row, self.run), self._thread_id)
            )

    def _add_call(self, part: Call) -> None:
        if part.name:
            self._begin_call(part)
            return
        self._arguments[part.number].append(part.arguments)
        if self._stream:
            piece = {"index": part.number, "type": "function"}
            piece["function"] = {"arguments": part.arguments}
            self._stream.tell([events.call_delta(self._step_of_calls().row.id, piece)])

    def _begin_call(self, part: Call) -> None:
        step = self._step_of_calls()
        function = {"name": part.name, "arguments": part.arguments, "output": None}
        call = {"id": self._new_id("call"), "type": "function", "function": function}
        self._calls.append(call)
        self._arguments.append([part.arguments])
        if self._stream:
            self._stream.tell([events.call_delta(step.row.id, {"index": part.number, **call})])

    def _step_of_calls(self) -> Step:
        if self._tools is None:
            details: Object = {"type": "tool_calls", "tool_calls": []}
            self._tools = Step(self.run, self._new_id("step"), details)
            if self._stream:
                self._tools.row = self._keep(self._tools)
                self._stream.tell(events.step_events(self._tools.row, self.run, self._thread_id))
        return self._tools

    def _finish(self, finish: Finish) -> None:
        if not self._calls and self._message is None:
            self._add_text("")
        last = self._tools if self._calls else self._message
        assert last is not None
        last.values["usage"] = to_json(finish.usage)
        if self._message:
            self._message.values["draft"] = "".join(self._text)
        is_whole = finish.reason in ("stop", "tool_calls")
        if self._calls and is_whole:
            self._store(lambda connection: self._require_action(connection, finish.script))
            return
        reason = None if is_whole else finish.reason
        ending = End("completed" if is_whole else "incomplete", reason=reason)
        self._store(lambda connection: self._end(connection, ending, ("in_progress",)))

    def _end(self, connection: Connection, ending: End, expected: tuple[str, ...]) -> Change:
        """End the run. Calls that are not whole stay out of their step."""
        for step in (self._message, self._tools):
            if step:
                step.store(connection)
        return states.end(connection, self.run, ending, expected)

    def _require_action(self, connection: Connection, script: str | None) -> Change:
        assert self._tools is not None
        if self._message:
            self._message.store(connection)
        for call, pieces in zip(self._calls, self._arguments, strict=True):
            call["function"]["arguments"] = "".join(pieces)
        details = {"type": "tool_calls", "tool_calls": self._calls}
        self._tools.values["step_details"] = to_json(details)
        self._tools.store(connection)
        asked = [_asked(call) for call in self._calls]
        return states.require_action(connection, self.run, asked, script)

    def _store(self, change: Callable[[Connection], Change]) -> None:
        """Run a change that ends the turn, and tell what it did. Raises LostRun."""

        def held(connection: Connection) -> Change:
            if not lock.hold_thread_of(connection, self.run):
                raise LostRun
            return change(connection)

        changed = database.write(held)
        if self._stream:
            self._stream.tell(self._events(changed))

    def _events(self, changed: Change) -> Iterator[Event]:
        for message in changed.messages:
            yield from events.message_events(message, self._thread_id)
        for step in changed.steps:
            yield from events.step_events(step, changed.run, self._thread_id)
        yield events.run_event(changed.run, self._thread_id)

    def _keep(self, step: Step) -> Any:
        """Store a step of a run that goes on; return its row. Raises LostRun."""

        def change(connection: Connection) -> Any:
            states.keep(connection, self.run)
            return step.store(connection)

        return database.write(change)

    def _new_id(self, prefix: str) -> str:
        return new_id(prefix, self._ids)


def _asked(call: Object) -> Object:
    """Return a call as required_action has it: without an output."""
    function = {name: call["function"][name] for name in ("name", "arguments")}
    return {"id": call["id"], "type": "function", "function": function}
