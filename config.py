"""Settings: every THREADS_… variable, read once, refused early and together."""

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from environs import Env, EnvValidationError
from marshmallow import ValidationError
from marshmallow.validate import OneOf, Range

ROOT = Path(__file__).parent
MIN_SECRET_CHARACTERS = 32
DEFAULT_DATABASE_URL = f"sqlite:///{ROOT / 'instance' / 'threads.db'}"

_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_NO_PATH_SIGN = re.compile("[?#%]")  # a URL gives each another meaning
_PLAIN = re.compile("[!-~]+")
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]+")
_MOCK_IS_SINGLE = "THREADS_MOCK=on needs THREADS_WORKERS=1: the controls live in one process."
_NO_DEBUG = "Unset FLASK_DEBUG: debugging shows failures, and what is in them, to any caller."


def from_env() -> dict[str, Any]:
    """Return all settings, keyed by variable name without the prefix.

    Raises environs.EnvValidationError, which names every wrong variable.
    """
    env = Env(prefix="THREADS_", eager=False)
    settings: dict[str, Any] = {
        "DATABASE_URL": env.str("DATABASE_URL", DEFAULT_DATABASE_URL, validate=_database_url),
        "BIND": env.str("BIND", "127.0.0.1:8000", validate=address),
        "WORKERS": env.int("WORKERS", None, validate=Range(1, 64)),
        "WORKER_THREADS": env.int("WORKER_THREADS", 4, validate=Range(1, 64)),
        "DURABILITY": env.str("DURABILITY", "full", validate=OneOf(["full", "normal"])),
        "MAX_BODY_BYTES": env.int("MAX_BODY_BYTES", 16_777_216, validate=Range(1024, 1 << 30)),
        "MOCK": env.str("MOCK", "auto", validate=OneOf(["auto", "on", "off"])),
        "SEED": env.str("SEED", ""),
        "RUNS": env.int("RUNS", 16, validate=Range(1, 1024)),
        "REPLIES": env.str("REPLIES", ""),
        "MODEL_URL": env.str("MODEL_URL", "", validate=_model_url),
        "MODEL_KEY": env.str("MODEL_KEY", None, validate=_model_key),
        "MODELS": _pairs(env.str("MODELS", "", validate=_model_names) or ""),
        "MODEL_TIMEOUT": env.int("MODEL_TIMEOUT", 120, validate=Range(1, 3600)),
        "REQUIRE_BETA": env.bool("REQUIRE_BETA", False),
        "CORS_ORIGINS": _words(env.str("CORS_ORIGINS", "", validate=_origins) or ""),
        "TRUSTED_PROXIES": env.int("TRUSTED_PROXIES", 0, validate=Range(0, 8)),
        "TRUSTED_HOSTS": _words(env.str("TRUSTED_HOSTS", "", validate=_hosts) or ""),
        "SECRET_KEY": env.str("SECRET_KEY", None, validate=_secret),
    }
    env.seal()
    _check_together(settings)
    return settings


def _check_together(settings: dict[str, Any]) -> None:
    if os.environ.get("FLASK_DEBUG", "").lower() not in ("", "0", "false", "no"):
        raise EnvValidationError(_NO_DEBUG, {"FLASK_DEBUG": [_NO_DEBUG]})
    if settings["MOCK"] == "on" and (settings["WORKERS"] or 1) > 1:
        raise EnvValidationError(_MOCK_IS_SINGLE, {"THREADS_MOCK": [_MOCK_IS_SINGLE]})


def has_mock(settings: Mapping[str, Any]) -> bool:
    """Return whether the settings allow the mock controls, which live in one process."""
    is_single = settings["WORKERS"] in (None, 1)
    return settings["MOCK"] == "on" or (settings["MOCK"] == "auto" and is_single)


def mock_is_on(settings: Mapping[str, Any], is_keyed: bool) -> bool:
    """Return whether the mock controls are on: with API keys, under THREADS_MOCK=on only."""
    return has_mock(settings) and (settings["MOCK"] == "on" or not is_keyed)


def address(bind: str) -> tuple[str, int]:
    """Split `host:port` (`[::1]:8000` for IPv6); port 0 stands for any free one."""
    host, _, port = bind.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValidationError("Write it as host:port, for example 127.0.0.1:8000.")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address names this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _words(text: str) -> list[str]:
    """Split at commas and spaces; neither an origin nor a host holds one."""
    return text.replace(",", " ").split()


def _origins(text: str) -> None:
    for origin in _words(text):
        if not _ORIGIN.fullmatch(origin):
            raise ValidationError(
                f"Write {origin} as a browser does, without a path and in lower case, "
                "for example https://app.example or http://localhost:5173."
            )


def _hosts(text: str) -> None:
    for host in _words(text):
        if not _HOST.fullmatch(host):
            raise ValidationError(f"Write {host} as a plain name or address: box.lan, 10.0.0.5.")


def _secret(key: str | None) -> None:
    if key is not None and len(key) < MIN_SECRET_CHARACTERS:
        raise ValidationError(f"Give it at least {MIN_SECRET_CHARACTERS} random characters.")


def _model_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if url and not (is_good and _PLAIN.fullmatch(url) and not re.search("[?#@]", url)):
        raise ValidationError(
            "Write it as http://host:port/v1, without ?, # and @: the key is THREADS_MODEL_KEY."
        )


def _model_key(key: str | None) -> None:
    if key is not None and not _PLAIN.fullmatch(key):
        raise ValidationError("Give the key as it is: printable ASCII without spaces.")


def _model_names(text: str) -> None:
    for pair in filter(None, map(str.strip, text.split(","))):
        name, _, there = pair.partition("=")
        if not (name.strip() and there.strip()):
            raise ValidationError("Write it as gpt-4o=qwen3:8b, *=llama3.2.")


def _pairs(text: str) -> dict[str, str]:
    """Return the pairs of `name=value, …`."""
    pairs = [pair.partition("=") for pair in text.split(",") if "=" in pair]
    return {name.strip(): value.strip() for name, _, value in pairs}


def _database_url(url: str) -> None:
    if url.startswith("sqlite:") and (sign := _NO_PATH_SIGN.search(url)):
        raise ValidationError(f"A path of a database cannot hold {sign[0]}, nor any of ?, # and %.")
    try:
        if re.fullmatch(r"memory|sqlite:////.+|postgresql\+psycopg://[^/]*/[^/?]+(\?.*)?", url):
            _ = urlsplit(url).port  # ValueError for one that is no number
            return
    except ValueError:
        pass
    raise ValidationError(
        "Write it as sqlite:////absolute/path.db, postgresql+psycopg://user@host/name, or memory."
    )
