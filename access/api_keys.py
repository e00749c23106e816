"""API keys: their format, their table, their cache. From the first key on a server is keyed."""

import hashlib
import hmac
import os
import time
import zlib
from contextlib import suppress
from dataclasses import replace
from threading import Lock
from time import monotonic
from typing import Any, NamedTuple

import sqlalchemy as sa
from flask import Flask, current_app

import database
from database.waits import waiting
from models import ApiKey
from rules import refusals
from rules.errors import ApiError
from rules.ids_and_clock import unix_now

PREFIX = "tsk_"
SHOWN_CHARACTERS = 12
CACHED_SECONDS = 0.5
NOTED_EVERY_SECONDS = 60
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_BYTES, _SECRET_CHARACTERS, _CHECK_CHARACTERS = 32, 43, 6
_COLUMNS = (ApiKey.seq, ApiKey.sha256, ApiKey.shown, ApiKey.project)
_ALL = sa.select(*_COLUMNS, ApiKey.expires_at, ApiKey.revoked_at, ApiKey.last_used_at)
_NOW: Any = sa.bindparam("now")
_IS_OLD_USE = sa.func.coalesce(ApiKey.last_used_at, 0) <= sa.bindparam("before")
_IS_USED = sa.and_(ApiKey.seq == sa.bindparam("of_seq"), _IS_OLD_USE)
_IS_SHOWN = sa.and_(ApiKey.shown == sa.bindparam("of_shown"), ApiKey.revoked_at.is_(None))
_NOTE_USE = sa.update(ApiKey).where(_IS_USED).values(last_used_at=_NOW)
_REVOKE = sa.update(ApiKey).where(_IS_SHOWN).values(revoked_at=_NOW)


class Key(NamedTuple):
    """A key that is not revoked, without its secret."""

    seq: int
    sha256: str
    shown: str
    project: str
    expires_at: int | None


class KeyCache:
    """The keys, read again when CACHED_SECONDS have passed: most requests do not read them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._read_at = self._failed_at = float("-inf")
        self._failure = refusals.unavailable()
        self._keys: dict[str, Key] = {}
        self._used_at: dict[int, int] = {}
        self.is_keyed = False

    def refresh(self) -> None:
        """Read the table again when the cache is too old. Raises ApiError.

        Those who wait meanwhile share a failure: else they would try one after another.
        """
        began = monotonic()
        if self._is_fresh():
            return
        with waiting():
            self._lock.acquire()
        try:
            if self._failed_at > began:
                raise replace(self._failure)
            if not self._is_fresh():
                self._try_to_read()
        finally:
            self._lock.release()

    def _is_fresh(self) -> bool:
        return monotonic() - self._read_at < CACHED_SECONDS

    def _try_to_read(self) -> None:
        try:
            self._read()
        except ApiError as failure:
            self._failure, self._failed_at = failure, monotonic()
            raise

    def _read(self) -> None:
        read_at = monotonic()
        with database.read() as connection:
            rows = connection.rows(_ALL)
        valid = [row for row in rows if row.revoked_at is None]
        self._keys = {row.sha256: Key(*row[:5]) for row in valid}
        self._used_at |= {row.seq: row.last_used_at or 0 for row in valid}
        self.is_keyed = bool(rows)
        self._read_at = read_at

    def find(self, secret: str) -> Key | None:
        """Return the key of a secret, unless it is malformed, expired or revoked."""
        return self.find_hash(hash_of(secret)) if is_well_formed(secret) else None

    def find_hash(self, sha256: str) -> Key | None:
        """Return the key of a stored hash, unless it is expired or revoked."""
        key = self._keys.get(sha256)
        if key is None or not hmac.compare_digest(key.sha256, sha256):
            return None
        # The clock is the real one: /_mock can move the other, and could open an expired key.
        return key if key.expires_at is None or key.expires_at > time.time() else None

    def note_use(self, key: Key) -> None:
        """Store the time of a key's use, once a minute, if no other writer is at work."""
        now = unix_now()
        if now - self._used_at.get(key.seq, 0) < NOTED_EVERY_SECONDS:
            return
        self._used_at[key.seq] = now
        values = {"of_seq": key.seq, "now": now, "before": now - NOTED_EVERY_SECONDS}
        with suppress(ApiError):
            database.write(lambda connection: connection.change(_NOTE_USE, values), seconds=0)


def init_app(app: Flask) -> None:
    """Give the app its cache of keys."""
    app.extensions["keys"] = KeyCache()


def cache() -> KeyCache:
    """Return the app's cache of keys, refreshed."""
    keys: KeyCache = current_app.extensions["keys"]
    keys.refresh()
    return keys


def create(project: str, name: str, expires_at: int | None) -> str:
    """Store a new key for a project; return its secret, which is not stored."""
    secret = new_secret()
    values = {"sha256": hash_of(secret), "shown": secret[:SHOWN_CHARACTERS], "project": project}
    more = {"name": name, "created_at": unix_now(), "expires_at": expires_at}
    database.write(lambda connection: connection.change(sa.insert(ApiKey), {**values, **more}))
    return secret


def revoke(shown: str) -> int:
    """Revoke the keys with these first characters; return how many."""
    values = {"of_shown": shown[:SHOWN_CHARACTERS], "now": unix_now()}
    return database.write(lambda connection: connection.change(_REVOKE, values))


def list_all() -> list[Any]:
    """Return the rows of all keys, oldest first."""
    with database.read() as connection:
        return connection.rows(sa.select(*ApiKey.__table__.c).order_by(ApiKey.seq))


def new_secret() -> str:
    """Return PREFIX, 32 random bytes in base 62, and their checksum."""
    number = int.from_bytes(os.urandom(_SECRET_BYTES))
    body = PREFIX + _base62(number, _SECRET_CHARACTERS)
    return body + _checksum(body)


def is_well_formed(secret: str) -> bool:
    """Return whether a string has the form and the checksum of a key."""
    length = len(PREFIX) + _SECRET_CHARACTERS + _CHECK_CHARACTERS
    if len(secret) != length or not secret.startswith(PREFIX) or not secret.isascii():
        return False
    return _checksum(secret[:-_CHECK_CHARACTERS]) == secret[-_CHECK_CHARACTERS:]


def hash_of(secret: str) -> str:
    """Return the stored hash of a secret: 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_CHARACTERS)


def _base62(number: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits
