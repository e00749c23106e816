"""The line in the log, and the count, of each request."""

from contextlib import suppress
from datetime import UTC, datetime

import orjson

from web.log_stream import stream
from web.metrics import timer
from web.request import Request


def record(request: Request, status: int, size: int | None, elapsed: int) -> None:
    """Count a request and log it: without its body, key, cookies and path.

    `size` is in bytes, None for a stream; `elapsed` is in nanoseconds.
    """
    rule = request.url_rule
    method, route = (request.method, rule.rule) if rule else ("-", "-")
    line = {
        "time": datetime.now(UTC),
        "request_id": request.request_id,
        "method": request.method,
        "route": route,
        "status": status,
        "ms": round(elapsed / 1e6, 2),
        "bytes": size,
        "key": request.key_shown,
    }
    with suppress(OSError):  # the change is stored: a lost count or line must not fail the request
        timer(method, route, status).observe(elapsed / 1e9)
    with suppress(OSError):
        stream.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
