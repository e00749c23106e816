"""API keys: their format, their table, and the ring of keys that each process remembers.

No key was ever made: open mode. From the first one on, for good, the server is keyed.
"""

import hashlib
import hmac
import os
import time
import zlib
from contextlib import suppress
from threading import Lock
from time import monotonic
from typing import Any, NamedTuple

import sqlalchemy as sa
from flask import Flask, current_app

import database
from errors import ApiError
from models import ApiKey, unix_now

PREFIX = "tsk_"
SHOWN_CHARACTERS = 12
REMEMBERED_SECONDS = 0.5
TOUCHED_EVERY_SECONDS = 60
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_BYTES, _SECRET_CHARACTERS, _CHECK_CHARACTERS = 32, 43, 6
_COLUMNS = (ApiKey.seq, ApiKey.sha256, ApiKey.shown, ApiKey.project)
_ALL = sa.select(*_COLUMNS, ApiKey.expires_at, ApiKey.revoked_at, ApiKey.last_used_at)


class Key(NamedTuple):
    """A key that may be used now: its row, the hash of its secret, its project."""

    seq: int
    sha256: str
    shown: str
    project: str
    expires_at: int | None


class Ring:
    """The keys as they were at most REMEMBERED_SECONDS ago, so that requests need not ask."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._read_at = float("-inf")
        self._keys: dict[str, Key] = {}
        self._touched: dict[int, int] = {}
        self.keyed = False

    def refresh(self) -> None:
        """Read the table again when it was read too long ago."""
        if self._is_fresh():
            return
        with self._lock:
            if not self._is_fresh():
                self._read()

    def _is_fresh(self) -> bool:
        return monotonic() - self._read_at < REMEMBERED_SECONDS

    def _read(self) -> None:
        asked_at = monotonic()
        with database.read() as connection:
            rows = connection.rows(_ALL)
        valid = [row for row in rows if row.revoked_at is None]
        self._keys = {row.sha256: Key(*row[:5]) for row in valid}
        self._touched |= {row.seq: row.last_used_at or 0 for row in valid}
        self.keyed = bool(rows)
        self._read_at = asked_at

    def find(self, secret: str) -> Key | None:
        """Return the key that a secret opens, unless it is malformed, expired or revoked."""
        if not is_well_formed(secret):
            return None
        return self.named(hash_of(secret))

    def named(self, digest: str) -> Key | None:
        """Return the key of a stored hash, unless it is expired or revoked."""
        key = self._keys.get(digest)
        if key is None or not hmac.compare_digest(key.sha256, digest):
            return None
        return key if key.expires_at is None or key.expires_at > time.time() else None

    def touch(self, key: Key) -> None:
        """Note the use of a key, once a minute and only when no writer has to be waited for."""
        now = unix_now()
        if now - self._touched.get(key.seq, 0) < TOUCHED_EVERY_SECONDS:
            return
        self._touched[key.seq] = now
        with suppress(ApiError), database.write(wait=0) as connection:
            last_used = sa.func.coalesce(ApiKey.last_used_at, 0)
            is_due = sa.and_(ApiKey.seq == key.seq, last_used <= now - TOUCHED_EVERY_SECONDS)
            connection.change(sa.update(ApiKey).where(is_due).values(last_used_at=now))


def init_app(app: Flask) -> None:
    """Give the app its ring."""
    app.extensions["keys"] = Ring()


def ring() -> Ring:
    """Return the app's ring, fresh enough."""
    found: Ring = current_app.extensions["keys"]
    found.refresh()
    return found


def create(project: str, name: str, expires_at: int | None) -> str:
    """Store a new key for a project; return the secret, which is kept nowhere.

    It expires by the real clock: one that /_mock moves would open what is closed.
    """
    secret = new_secret()
    values: dict[str, Any] = {
        "sha256": hash_of(secret),
        "shown": secret[:SHOWN_CHARACTERS],
        "project": project,
        "name": name,
        "created_at": unix_now(),
        "expires_at": expires_at,
    }
    with database.write() as connection:
        connection.change(sa.insert(ApiKey), values)
    return secret


def revoke(shown: str) -> int:
    """Revoke the keys that begin with what is shown of one; return how many."""
    which = sa.and_(ApiKey.shown == shown[:SHOWN_CHARACTERS], ApiKey.revoked_at.is_(None))
    with database.write() as connection:
        change = sa.update(ApiKey).where(which).values(revoked_at=unix_now())
        return connection.change(change)


def new_secret() -> str:
    """Return PREFIX, 32 random bytes in base 62, and their checksum."""
    number = int.from_bytes(os.urandom(_SECRET_BYTES))
    body = PREFIX + _base62(number, _SECRET_CHARACTERS)
    return body + _checksum(body)


def is_well_formed(secret: str) -> bool:
    """Tell whether a string has the form and the checksum of a key."""
    length = len(PREFIX) + _SECRET_CHARACTERS + _CHECK_CHARACTERS
    if len(secret) != length or not secret.startswith(PREFIX) or not secret.isascii():
        return False
    return _checksum(secret[:-_CHECK_CHARACTERS]) == secret[-_CHECK_CHARACTERS:]


def hash_of(secret: str) -> str:
    """Return what is stored of a key: 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_CHARACTERS)


def _base62(number: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits
