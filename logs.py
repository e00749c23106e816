"""How the server logs: every line on stderr is one JSON object."""

import logging
from datetime import UTC, datetime
from typing import Any

import orjson
from gunicorn.glogging import Logger as GunicornLogger


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class Discretion(logging.Filter):
    """Takes what a client sent out of gunicorn's own lines, and calls a slow one no error."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = str(record.msg)
        if message.startswith("Invalid request"):
            record.msg = message.partition(":")[0]
        elif message.startswith("Error handling request"):
            record.msg, record.args = "Error handling request", ()
        elif message.startswith("Socket error") and _is_out_of_time(record):
            record.levelname, record.exc_info = "WARNING", None
            record.msg = "A client sent half a request; its connection was closed"
        return True


def _is_out_of_time(record: logging.LogRecord) -> bool:
    """Tell whether a socket's time to be read, SO_RCVTIMEO, is what ended."""
    return bool(record.exc_info and isinstance(record.exc_info[1], BlockingIOError))


class Logger(GunicornLogger):  # type: ignore[misc]
    """gunicorn's logger without access lines: it made them up (a tenth of a create) for nothing."""

    access_log_enabled = False


CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": JsonFormatter}},
    "filters": {"discretion": {"()": Discretion}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "json",
            "filters": ["discretion"],
        }
    },
    "root": {"level": "WARNING", "handlers": ["stderr"]},
    "loggers": {"gunicorn.error": {"level": "WARNING", "handlers": ["stderr"], "propagate": False}},
}
"""For logging.config.dictConfig."""
