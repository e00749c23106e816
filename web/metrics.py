"""Counts and times of requests and runs, over all processes, for Prometheus."""

import os
from contextlib import suppress
from functools import cache
from typing import Any

import orjson
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector

from runs import states
from web import counts_file

if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    # By process id each reload would leave its files.
    values.ValueClass = values.MultiProcessValue(counts_file.number)  # type: ignore[no-untyped-call]

_SECONDS = Histogram(
    "threads_request_seconds",
    "Seconds to answer a request.",
    ("method", "route", "status"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
_RUNS = Counter("threads_runs", "Runs that ended.", ("status",))
_TOKENS = Counter("threads_run_tokens", "Tokens of the runs that ended.", ("kind",))
_MODEL_SECONDS = Histogram(
    "threads_model_seconds",
    "Seconds from a question to the end of the model's answer.",
    ("end",),
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
)


def count_run(run: Any) -> None:
    """Count a run that ends, by its row."""
    with suppress(OSError):  # a lost count must not fail the run
        _RUNS.labels(run.status).inc()
        usage = orjson.loads(run.usage) if run.usage else {}
        for kind in ("prompt", "completion"):
            _TOKENS.labels(kind).inc(usage.get(f"{kind}_tokens", 0))


states.told.append(count_run)


def time_model(seconds: float, end: str) -> None:
    """Count an answer of the model: its `end` is `whole`, `fault` or `stopped`."""
    with suppress(OSError):
        _MODEL_SECONDS.labels(end).observe(seconds)


@cache
def timer(method: str, route: str, status: int) -> Histogram:
    """Return the histogram of one kind of request."""
    return _SECONDS.labels(method, route, status)


def as_text() -> bytes:
    """Return everything as Prometheus text; under gunicorn, the sums over all workers."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
