"""The start of a play: a change queues a run, and a player takes it."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import database
from database import Connection
from players import events, pool
from players.events import Event
from players.play import Play
from players.streams import Stream
from runs import creation, states
from runs.objects import run_object
from store.objects import Object

T = TypeVar("T")


class Queued(NamedTuple):
    """The row of a run that is queued now, and the events so far."""

    run: Any
    thread_id: str
    events: list[Event]


Queue = Callable[[Connection, str | None], Queued]
"""It queues a run; the player of its second argument may take it first."""


def creating(project: str, thread_id: str, body: Object) -> Queue:
    """Return what queues a run of a loaded CreateRun body. It raises ApiError 404, 400."""

    def queue(connection: Connection, player: str | None) -> Queued:
        run = creation.create_run(connection, project, thread_id, body, player)
        return Queued(run, thread_id, [events.run_event(run, thread_id, "created")])

    return queue


def submitting(project: str, thread_id: str, run_id: str, outputs: list[Object]) -> Queue:
    """Return what queues a run again with loaded ToolOutputs. It raises ApiError 404, 400."""

    def queue(connection: Connection, player: str | None) -> Queued:
        changed = states.submit(connection, project, thread_id, run_id, outputs, player)
        closed = (events.step_events(step, changed.run, thread_id) for step in changed.steps)
        return Queued(changed.run, thread_id, [*chain.from_iterable(closed)])

    return queue


def start(queue: Queue, write: Callable[[Callable[[Connection], Object]], T]) -> T:
    """Let a player take the run that a change queues.

    `write` runs the change, which returns the run object; a repetition runs none, and needs nothing
    that answers. Raises ApiError 400 if nothing answers.
    """
    players = pool.current()
    begun: list[tuple[Play, Queued]] = []

    def change(connection: Connection) -> Object:
        begun[:] = [(players.prepare(), queue(connection, None))]
        _, queued = begun[0]
        return run_object(queued.run, queued.thread_id)

    written = write(change)
    for play, queued in begun:
        players.start(play, queued.run.seq)
    return written


def start_stream(queue: Queue) -> Iterator[bytes]:
    """Play the run that a change queues in this process; return its events for one reader.

    Raises ApiError 400 if nothing answers.
    """
    players, stream = pool.current(), Stream()
    play = players.prepare(stream)
    queued = database.write(lambda connection: queue(connection, play.token))
    stream.tell([*queued.events, events.run_event(queued.run, queued.thread_id)])
    players.start(play, queued.run.seq)
    return stream.read()
