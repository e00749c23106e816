"""Counts and times of requests, over all processes, for Prometheus."""

import os
from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

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
