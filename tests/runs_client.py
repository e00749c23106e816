"""A client of runs: it makes assistants and threads, scripts the replies, and waits for states."""

import json
from threading import Event
from typing import Any

import pytest
from conftest import until
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from players import pool

Wire = dict[str, Any]
ENDS = ("completed", "incomplete", "failed", "cancelled", "expired")
SLOW = 60_000
"""Milliseconds: no test waits for a reply that is delayed so long."""
HALF = "Half"
CALL: Wire = {"name": "get", "arguments": {"city": "Rome"}}


class Wake(Event):
    """What wakes the watch over runs, and how many seconds that last began to wait for it."""

    seconds: float | None = None
    _is_awaited = False

    @property
    def is_quiet(self) -> bool:
        """Whether the watch waits, and nothing has woken it."""
        return self._is_awaited and not self.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds, self._is_awaited = timeout, True
        try:
            return super().wait(timeout)
        finally:
            self._is_awaited = False


class RunsClient:
    """The client of an app that plays runs."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        """Send a request; `_` in header names stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else json.dumps(body)
        kind = None if body is None else "application/json"
        return self.client.open(
            path, method=method, data=data, content_type=kind, headers=named, buffered=True
        )

    def get(self, path: str) -> Any:
        return self._answer(self.call("GET", path))

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self._answer(self.call("POST", path, body, **headers))

    def assistant(self, **settings: Any) -> str:
        """Make an assistant; return its id."""
        return str(self.post("/v1/assistants", {"model": "m", **settings})["id"])

    def thread(self, *texts: str) -> str:
        """Make a thread with messages of the user; return its id."""
        messages = [{"role": "user", "content": text} for text in texts]
        return str(self.post("/v1/threads", {"messages": messages})["id"])

    def reply(self, *replies: Wire, **rule: Any) -> None:
        """Let every run answer with these replies, or the runs that a rule names."""
        self.rules({"replies": list(replies), **rule})

    def rules(self, *rules: Wire) -> None:
        self._answer(self.call("PUT", "/_mock/replies", {"rules": list(rules)}))

    def run(self, thread: str, assistant: str, **body: Any) -> Wire:
        """Create a run; return its first answer."""
        return dict(self.post(f"/v1/threads/{thread}/runs", {"assistant_id": assistant, **body}))

    def see(self, run: Wire) -> Wire:
        return dict(self.get(of(run)))

    def wait(self, run: Wire, *statuses: str) -> Wire:
        """Wait until a run ends, or has one of some states; return it."""
        wanted = statuses or (*ENDS, "requires_action")
        assert until(lambda: self.see(run)["status"] in wanted), self.see(run)
        return self.see(run)

    def finished(self, thread: str, assistant: str, **body: Any) -> Wire:
        return self.wait(self.run(thread, assistant, **body))

    def waiting(self, thread: str, assistant: str, **body: Any) -> Wire:
        """Return a run that waits for the output of one call."""
        self.reply({"tool_calls": [CALL]}, {"text": "20 degrees."})
        return self.wait(self.run(thread, assistant, **body), "requires_action")

    def slow(self, thread: str, assistant: str, **body: Any) -> Wire:
        """Return a run in progress that shows nothing for long."""
        self.reply({"text": "late", "delay_ms": SLOW})
        run = self.run(thread, assistant, **body)
        assert until(lambda: self.get("/_mock/replies")["rules"][0]["runs"] == 1), self.see(run)
        return self.see(run)

    def unwatched(self, thread: str, assistant: str, monkeypatch: pytest.MonkeyPatch) -> Wire:
        """Return a slow run that a cancel does not reach. It is the first of its app."""
        wake = self.client.application.extensions["players"]._wake = Wake()
        for pause in ("LOOK_SECONDS", "SWEEP_SECONDS"):
            monkeypatch.setattr(pool, pause, 1000)
        run = self.slow(thread, assistant)
        assert until(lambda: wake.is_quiet)
        return run

    def writing(self, thread: str, assistant: str, **body: Any) -> Wire:
        """Return a run that has written the first half of "Half of it." and goes on for long.

        The delay is longer than the pause before a text is stored.
        """
        size = len(HALF)
        reply = {"text": HALF + " of it.", "delay_ms": 300, "chunk_ms": SLOW}
        self.reply({**reply, "chunk_characters": size})
        run = self.run(thread, assistant, **body)
        assert until(lambda: bool(self.steps(run))), self.see(run)
        return self.see(run)

    def submit(self, run: Wire, output: str = "20") -> Wire:
        """Give every call of a run this output; return the answer."""
        ids = [call["id"] for call in calls_of(run)]
        outputs = [{"tool_call_id": id_, "output": output} for id_ in ids]
        return dict(self.post(f"{of(run)}/submit_tool_outputs", {"tool_outputs": outputs}))

    def cancel(self, run: Wire) -> Wire:
        return dict(self.post(f"{of(run)}/cancel"))

    def steps(self, run: Wire, order: str = "asc") -> list[Wire]:
        return list(self.get(f"{of(run)}/steps?order={order}")["data"])

    def messages(self, thread: str, query: str = "") -> list[Wire]:
        return list(self.get(f"/v1/threads/{thread}/messages?order=asc&{query}")["data"])

    def texts(self, thread: str) -> list[str]:
        return [text_of(message) for message in self.messages(thread)]

    def say(self, thread: str, text: str = "more") -> TestResponse:
        body = {"role": "user", "content": text}
        return self.call("POST", f"/v1/threads/{thread}/messages", body)

    def move_clock(self, seconds: int) -> None:
        self._answer(self.call("PUT", "/_mock/clock", {"offset_seconds": seconds}))

    def _answer(self, answer: TestResponse) -> Any:
        assert answer.status_code == 200, answer.text
        return answer.json


def of(run: Wire) -> str:
    """The address of a run."""
    return f"/v1/threads/{run['thread_id']}/runs/{run['id']}"


def calls_of(run: Wire) -> list[Wire]:
    return list(run["required_action"]["submit_tool_outputs"]["tool_calls"])


def text_of(message: Wire) -> str:
    return "".join(part["text"]["value"] for part in message["content"])
