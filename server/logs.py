"""The log of gunicorn and of failures: every line on stderr is one JSON object."""

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
    """Removes what a client sent from gunicorn's lines, and makes a slow client a warning."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = str(record.msg)
        error = record.exc_info[1] if record.exc_info else None
        if message.startswith("Error handling request"):
            record.msg, record.args = "Error handling request", ()
        elif message.startswith("Socket error") and isinstance(error, TimeoutError):
            record.levelname, record.exc_info = "WARNING", None
            record.msg = str(error)
        return True


class Logger(GunicornLogger):  # type: ignore[misc]
    """gunicorn's logger without access lines. It builds them even where nobody reads them."""

    access_log_enabled = False


_HANDLER = {
    "class": "logging.StreamHandler",
    "stream": "ext://web.log_stream.stream",
    "formatter": "json",
    "filters": ["discretion"],
}
CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": JsonFormatter}},
    "filters": {"discretion": {"()": Discretion}},
    "handlers": {"stderr": _HANDLER},
    "root": {"level": "WARNING", "handlers": ["stderr"]},
    "loggers": {"gunicorn.error": {"level": "WARNING", "handlers": ["stderr"], "propagate": False}},
}
"""For logging.config.dictConfig."""
