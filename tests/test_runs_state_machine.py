"""Runs against a plain model: any order of calls, and of minutes, ends every lock."""

import os
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import pytest
from conftest import close, until
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from runs_client import CALL, ENDS, SLOW, RunsClient, Wire, of
from sentences import refusal_of

import database
from app import create_app
from players import pool
from rules.ids_and_clock import sources

CI = os.environ.get("CI") == "true"
PLAYERS = 2
FIRST_SECOND = 1_000_000
NEXT = {
    "queued": {"in_progress", "cancelled", "expired"},
    "in_progress": {
        *("requires_action", "completed", "incomplete", "failed", "cancelling", "expired"),
    },
    "requires_action": {"queued", "cancelled", "expired"},
    "cancelling": {"cancelled", "expired"},
} | {end: set() for end in ENDS}
"""The states that may follow each (runs reference, section 5)."""
CALLS: Wire = {"tool_calls": [CALL, CALL]}
REPLIES: dict[str, list[Wire]] = {
    "answer": [{"text": "Done."}],
    "call": [CALLS, {"text": "Done."}],
    "twice": [CALLS, CALLS, {"text": "Done."}],
    "fail": [{"error": {"code": "server_error"}}],
    "cut": [{"text": "Half", "incomplete": "max_completion_tokens"}],
    "slow": [{"text": "late", "delay_ms": SLOW}],
    "later": [CALLS, {"text": "late", "delay_ms": SLOW}],
}
"""What a run answers to each question, turn by turn."""
KINDS = st.sampled_from(list(REPLIES))
PICK = st.integers(0, 1_000)
INACTIVE = "SELECT count(*) FROM threads WHERE active_run IS NOT NULL AND NOT EXISTS ("
INACTIVE += "SELECT 1 FROM runs WHERE thread_seq = threads.seq AND id = active_run AND status IN "
INACTIVE += "('queued', 'in_progress', 'requires_action', 'cancelling'))"
UNLOCKED = "SELECT count(*) FROM runs WHERE status IN "
UNLOCKED += "('queued', 'in_progress', 'requires_action', 'cancelling') AND NOT EXISTS ("
UNLOCKED += "SELECT 1 FROM threads WHERE seq = thread_seq AND active_run = runs.id)"


def reachable(status: str) -> set[str]:
    """Return the states that may come after one, with any number of steps between."""
    found: set[str] = set()
    new = {status}
    while new:
        new = {after for each in new for after in NEXT[each]} - found
        found |= new
    return found


class Played:
    """A run of the model: its replies that are left, and the status that it must come to."""

    def __init__(self, wire: Wire, kind: str) -> None:
        self.wire = wire
        self.rest = list(REPLIES[kind])
        self.status = self.seen = "queued"
        self.messages = 0  # that it wrote

    @property
    def is_active(self) -> bool:
        return self.status not in ENDS

    def play(self) -> None:
        """Play a turn."""
        reply = self.rest.pop(0)
        self.status = "completed"
        if "delay_ms" in reply:
            self.status = "in_progress"
        elif "tool_calls" in reply:
            self.status = "requires_action"
        elif "error" in reply:
            self.status = "failed"
        elif "incomplete" in reply:
            self.status = "incomplete"
        self.messages += self.status in ("completed", "incomplete")


class Conversation:
    """A thread of the model."""

    def __init__(self, id_: str, kind: str) -> None:
        self.id, self.kind = id_, kind
        self.messages = 1
        self.runs: list[Played] = []

    @property
    def active(self) -> Played | None:
        return next((run for run in self.runs if run.is_active), None)


class Runs(RuleBasedStateMachine):
    """Rules act on server and model alike; after each, every run comes to the model's status."""

    migrated: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        copy(self.migrated, f"{self.folder.name}/threads.db")
        url = f"sqlite:///{self.folder.name}/threads.db"
        self.app = create_app(
            {"DATABASE_URL": url, "DURABILITY": "normal", "MOCK": "on", "RUNS": PLAYERS}
        )
        self.client = RunsClient(self.app.test_client())
        rules = [{"match": kind, "replies": replies} for kind, replies in REPLIES.items()]
        self.client.rules(*rules)
        self.now = FIRST_SECOND
        self.set_clock()
        self.assistant = self.client.assistant()
        self.threads: list[Conversation] = []
        self.queue: list[Played] = []  # runs that wait for a player, the next one first

    def teardown(self) -> None:
        try:
            self.now += 600
            self.set_clock()
            for thread in self.threads:
                assert self.client.say(thread.id).status_code == 200
        finally:
            close(self.app)
            sources.__init__()
            self.folder.cleanup()

    def set_clock(self) -> None:
        self.client.call("PUT", "/_mock/clock", {"frozen_at": self.now})

    def pick(self, number: int) -> Conversation:
        return self.threads[number % len(self.threads)]

    def pick_run(self, number: int) -> Played | None:
        runs = [run for thread in self.threads for run in thread.runs]
        return runs[-1 - number % min(len(runs), 4)] if runs else None

    def settle(self) -> None:
        """Let the model's players take what waits, and wait until the server is as far."""
        every = [run for thread in self.threads for run in thread.runs]
        for run in every:
            if run.is_active and self.now >= run.wire["expires_at"]:
                run.status = "expired"
        self.queue = [run for run in self.queue if run in every and run.is_active]
        playing = sum(run.status == "in_progress" for run in every)
        while self.queue and playing < PLAYERS:
            run = self.queue.pop(0)
            run.play()
            playing += run.status == "in_progress"
        for run in every:
            assert until(lambda run=run: self.see(run) == run.status), (run.seen, run.status)

    def see(self, run: Played) -> str:
        """Return the status of a run, which may follow the one that was seen before."""
        status = str(self.client.see(run.wire)["status"])
        assert status == run.seen or status in reachable(run.seen), (run.seen, status)
        run.seen = status
        return status

    @rule(kind=KINDS)
    def create_thread(self, kind: str) -> None:
        self.threads.append(Conversation(self.client.thread(kind), kind))

    @precondition(lambda self: self.threads)
    @rule(number=PICK, kind=KINDS)
    def create_message(self, number: int, kind: str) -> None:
        thread = self.pick(number)
        answer = self.client.say(thread.id, kind)
        if thread.active is None:
            assert answer.status_code == 200, answer.text
            thread.kind = kind
            thread.messages += 1
        else:
            run = thread.active.wire["id"]
            sentence = f"Can't add messages to {thread.id} while a run {run} is active."
            assert refusal_of(answer) == (sentence, None, None)

    @precondition(lambda self: self.threads)
    @rule(number=PICK, kind=st.none() | KINDS)
    def create_run(self, number: int, kind: str | None) -> None:
        thread = self.pick(number)
        more = [{"role": "user", "content": kind}] if kind else []
        body = {"assistant_id": self.assistant, "additional_messages": more}
        answer = self.client.call("POST", f"/v1/threads/{thread.id}/runs", body)
        if thread.active is None:
            assert answer.status_code == 200, answer.text
            thread.kind = kind or thread.kind
            thread.messages += len(more)
            thread.runs.append(Played(answer.json, thread.kind))
            self.queue.append(thread.runs[-1])
            self.settle()
        else:
            run = thread.active.wire["id"]
            sentence = f"Thread {thread.id} already has an active run {run}."
            assert refusal_of(answer) == (sentence, None, None)

    @rule(kind=KINDS)
    def create_thread_and_run(self, kind: str) -> None:
        thread = {"messages": [{"role": "user", "content": kind}]}
        body = {"assistant_id": self.assistant, "thread": thread}
        run = self.client.post("/v1/threads/runs", body)
        self.threads.append(Conversation(run["thread_id"], kind))
        self.threads[-1].runs.append(Played(run, kind))
        self.queue.append(self.threads[-1].runs[-1])
        self.settle()

    @precondition(lambda self: self.threads)
    @rule(number=PICK)
    def submit(self, number: int) -> None:
        if run := self.pick_run(number):
            address = f"{of(run.wire)}/submit_tool_outputs"
            action = self.client.see(run.wire)["required_action"]
            calls = action["submit_tool_outputs"]["tool_calls"] if action else []
            outputs = [{"tool_call_id": call["id"], "output": "20"} for call in calls]
            answer = self.client.call("POST", address, {"tool_outputs": outputs})
            if run.status == "requires_action":
                assert answer.status_code == 200, answer.text
                assert answer.json["status"] == "queued"
                run.seen = run.status = "queued"
                self.queue.append(run)
                self.settle()
            else:
                sentence = f'Runs in status "{run.status}" do not accept tool outputs.'
                assert refusal_of(answer) == (sentence, None, None)

    @precondition(lambda self: self.threads)
    @rule(number=PICK)
    def cancel(self, number: int) -> None:
        if run := self.pick_run(number):
            answer = self.client.call("POST", f"{of(run.wire)}/cancel")
            if run.is_active:
                is_played = run.status == "in_progress"
                assert answer.json["status"] == ("cancelling" if is_played else "cancelled")
                run.seen, run.status = answer.json["status"], "cancelled"
                self.settle()
            else:
                sentence = f"Cannot cancel run with status '{run.status}'."
                assert refusal_of(answer) == (sentence, None, None)

    @rule(seconds=st.sampled_from([1, 299, 300, 599, 600]))
    def move_the_clock(self, seconds: int) -> None:
        self.now += seconds
        self.set_clock()
        self.settle()

    @precondition(lambda self: self.threads)
    @rule(number=PICK)
    def delete_thread(self, number: int) -> None:
        thread = self.pick(number)
        assert self.client.call("DELETE", f"/v1/threads/{thread.id}").status_code == 200
        self.threads.remove(thread)
        self.settle()

    @precondition(lambda self: self.threads)
    @rule(number=PICK)
    def copy_thread(self, number: int) -> None:
        thread = self.pick(number)
        copied = self.client.post(f"/v1/threads/{thread.id}/copy")["id"]
        self.threads.append(Conversation(copied, thread.kind))
        self.threads[-1].messages = thread.messages + sum(run.messages for run in thread.runs)

    @precondition(lambda self: self.threads)
    @rule(number=PICK)
    def read_thread(self, number: int) -> None:
        thread = self.pick(number)
        listed = self.client.get(f"/v1/threads/{thread.id}/runs?order=asc&limit=100")["data"]
        expected = [(run.wire["id"], run.status) for run in thread.runs]
        assert [(run["id"], run["status"]) for run in listed] == expected
        written = sum(run.messages for run in thread.runs)
        assert len(self.client.messages(thread.id, "limit=100")) == thread.messages + written
        for run in listed:
            is_active = run["status"] not in ENDS
            assert (run["expires_at"] is not None) == is_active
            assert (run["required_action"] is not None) == (run["status"] == "requires_action")
            is_open = [step["status"] == "in_progress" for step in self.client.steps(run)]
            assert any(is_open) == (run["status"] == "requires_action")

    @invariant()
    def a_thread_is_locked_by_its_active_run(self) -> None:
        with self.app.app_context(), database.snapshot() as connection:
            assert [connection.value(each) for each in (INACTIVE, UNLOCKED)] == [0, 0]


def test_every_run_goes_the_ways_of_the_reference(
    migrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runs, "migrated", migrated, raising=False)
    monkeypatch.setattr(pool, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(pool, "SWEEP_SECONDS", 0.1)
    Runs.TestCase.settings = settings(
        max_examples=40 if CI else 15,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],  # to shrink a failure can take minutes
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    Runs.TestCase("runTest").runTest()
