"""The tables."""

from typing import Any

import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

DEFAULT_PROJECT = "default"
HIDDEN_PROJECT = ""
"""The project of threads during their copy or deletion: no key opens it, no list shows it."""
SCHEMA_REVISION = "0013"
"""The newest revision in migrations/; each start compares it with the database."""


class Base(DeclarativeBase):
    """Declarative base; strings are TEXT, because STRICT tables of SQLite know no VARCHAR."""

    type_annotation_map = {
        str: sa.Text,
        int: sa.Integer().with_variant(sa.BigInteger, "postgresql"),
    }


db = SQLAlchemy(metadata=Base.metadata)
_HAS_RUN: Any = dict.fromkeys(("sqlite_where", "postgresql_where"), sa.text("run_id IS NOT NULL"))
ACTIVE_STATUSES = ("queued", "in_progress", "requires_action", "cancelling")
"""A run with one of these locks its thread (runs reference, decision 3)."""
_IS_ACTIVE = sa.text(f"status IN {ACTIVE_STATUSES}")
_ACTIVE: Any = dict.fromkeys(("sqlite_where", "postgresql_where"), _IS_ACTIVE)
_KEYED: dict[str, Any] = {"sqlite_strict": True, "sqlite_with_rowid": False}
_SEQUENCED: dict[str, Any] = {"sqlite_strict": True, "sqlite_autoincrement": True}


class Thread(Base):
    """A conversation; `metadata` and `tool_resources` are JSON text.

    `active_run` is the id of the run that locks the thread; store/activity.py says what
    `last_active_at` and `touch` are.
    """

    __tablename__ = "threads"

    seq: Mapped[int] = mapped_column(primary_key=True)
    project: Mapped[str]
    id: Mapped[str]
    created_at: Mapped[int]
    metadata_: Mapped[str] = mapped_column("metadata")
    tool_resources: Mapped[str]
    active_run: Mapped[str | None]
    last_active_at: Mapped[int] = mapped_column(server_default="0")
    touch: Mapped[int] = mapped_column(server_default="0")

    __table_args__ = (
        sa.UniqueConstraint("project", "id"),
        sa.Index("threads_by_time", "project", "created_at", "seq"),
        sa.Index("threads_by_activity", "project", "last_active_at", "touch", "seq"),
        _SEQUENCED,
    )


class Message(Base):
    """A message of one thread; `content`, `attachments` and `metadata` are JSON text."""

    __tablename__ = "messages"

    seq: Mapped[int] = mapped_column(primary_key=True)
    thread_seq: Mapped[int] = mapped_column(sa.ForeignKey("threads.seq", ondelete="CASCADE"))
    id: Mapped[str]
    created_at: Mapped[int]
    assistant_id: Mapped[str | None]
    run_id: Mapped[str | None]
    status: Mapped[str]
    incomplete_details: Mapped[str | None]
    completed_at: Mapped[int | None]
    incomplete_at: Mapped[int | None]
    role: Mapped[str]
    content: Mapped[str]
    attachments: Mapped[str]
    metadata_: Mapped[str] = mapped_column("metadata")

    __table_args__ = (
        sa.UniqueConstraint("thread_seq", "id"),
        sa.Index("messages_by_thread", "thread_seq", "seq"),
        sa.Index("messages_by_run", "thread_seq", "run_id", "seq", **_HAS_RUN),
        _SEQUENCED,
    )


class ThreadMetadata(Base):
    """One metadata pair of one thread, in the order of a filtered list; kept by triggers."""

    __tablename__ = "thread_metadata"

    project: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[int] = mapped_column(primary_key=True)
    thread_seq: Mapped[int] = mapped_column(primary_key=True)

    __table_args__ = (_KEYED,)


class Assistant(Base):
    """The settings of runs; store/assistants.py names the columns of JSON text."""

    __tablename__ = "assistants"

    seq: Mapped[int] = mapped_column(primary_key=True)
    project: Mapped[str]
    id: Mapped[str]
    created_at: Mapped[int]
    name: Mapped[str | None]
    description: Mapped[str | None]
    model: Mapped[str]
    instructions: Mapped[str | None]
    tools: Mapped[str]
    top_p: Mapped[str]
    temperature: Mapped[str]
    reasoning_effort: Mapped[str | None]
    tool_resources: Mapped[str]
    metadata_: Mapped[str] = mapped_column("metadata")
    response_format: Mapped[str]

    __table_args__ = (
        sa.UniqueConstraint("project", "id"),
        sa.Index("assistants_by_time", "project", "created_at", "seq"),
        _SEQUENCED,
    )


class Run(Base):
    """A run; runs/rows.py names the columns of JSON text.

    `player` holds the run until `lease_end`, a second of real time. `script` is what is left of the
    replies that a rule of the mock controls gives.
    """

    __tablename__ = "runs"

    seq: Mapped[int] = mapped_column(primary_key=True)
    thread_seq: Mapped[int] = mapped_column(sa.ForeignKey("threads.seq", ondelete="CASCADE"))
    id: Mapped[str]
    created_at: Mapped[int]
    assistant_id: Mapped[str]
    status: Mapped[str]
    started_at: Mapped[int | None]
    expires_at: Mapped[int | None]
    cancelled_at: Mapped[int | None]
    failed_at: Mapped[int | None]
    completed_at: Mapped[int | None]
    required_action: Mapped[str | None]
    last_error: Mapped[str | None]
    model: Mapped[str]
    instructions: Mapped[str | None]
    tools: Mapped[str]
    tool_resources: Mapped[str]
    metadata_: Mapped[str] = mapped_column("metadata")
    temperature: Mapped[str]
    top_p: Mapped[str]
    reasoning_effort: Mapped[str | None]
    max_completion_tokens: Mapped[int | None]
    max_prompt_tokens: Mapped[int | None]
    truncation_strategy: Mapped[str]
    incomplete_details: Mapped[str | None]
    usage: Mapped[str | None]
    response_format: Mapped[str]
    tool_choice: Mapped[str]
    parallel_tool_calls: Mapped[str]
    player: Mapped[str | None]
    lease_end: Mapped[int | None]
    script: Mapped[str | None]

    __table_args__ = (
        sa.UniqueConstraint("thread_seq", "id"),
        sa.Index("runs_by_thread", "thread_seq", "seq"),
        sa.Index("active_runs", "thread_seq", unique=True, **_ACTIVE),
        _SEQUENCED,
    )


class RunStep(Base):
    """A step of a run; `draft` is the text so far of the message that it writes."""

    __tablename__ = "run_steps"

    seq: Mapped[int] = mapped_column(primary_key=True)
    run_seq: Mapped[int] = mapped_column(sa.ForeignKey("runs.seq", ondelete="CASCADE"))
    id: Mapped[str]
    created_at: Mapped[int]
    type: Mapped[str]
    status: Mapped[str]
    cancelled_at: Mapped[int | None]
    completed_at: Mapped[int | None]
    expires_at: Mapped[int | None]
    failed_at: Mapped[int | None]
    last_error: Mapped[str | None]
    step_details: Mapped[str]
    usage: Mapped[str | None]
    draft: Mapped[str | None]

    __table_args__ = (
        sa.UniqueConstraint("run_seq", "id"),
        sa.Index("steps_by_run", "run_seq", "seq"),
        _SEQUENCED,
    )


class Tombstone(Base):
    """The place of a deleted object in its lists; `thread_seq` is 0 unless it is a message.

    Threads alone have `last_active_at` and `touch`.
    """

    __tablename__ = "tombstones"

    project: Mapped[str] = mapped_column(primary_key=True)
    thread_seq: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[int]
    seq: Mapped[int]
    deleted_at: Mapped[int]
    last_active_at: Mapped[int | None]
    touch: Mapped[int | None]

    __table_args__ = (sa.Index("tombstones_by_age", "deleted_at"), _KEYED)


class DeletedThreads(Base):
    """Threads that the browse page deleted: a part of a deletion, as export lines for Undo."""

    __tablename__ = "deleted_threads"

    seq: Mapped[int] = mapped_column(primary_key=True)
    project: Mapped[str]
    deletion: Mapped[str]
    deleted_at: Mapped[int]
    threads: Mapped[int]
    lines: Mapped[str]

    __table_args__ = (
        sa.Index("deleted_threads_by_age", "deleted_at"),
        {"sqlite_strict": True},
    )


class ApiKey(Base):
    """An API key: the hash of its secret, its first characters, and its project."""

    __tablename__ = "api_keys"

    seq: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    shown: Mapped[str]
    project: Mapped[str]
    name: Mapped[str]
    created_at: Mapped[int]
    last_used_at: Mapped[int | None]
    expires_at: Mapped[int | None]
    revoked_at: Mapped[int | None]

    __table_args__ = (_SEQUENCED,)


class StoredAnswer(Base):
    """The answer of a write with an Idempotency-Key, without its body once the object is gone."""

    __tablename__ = "idempotency"

    project: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[int]
    thread: Mapped[str | None]
    object: Mapped[str | None]

    __table_args__ = (
        sa.Index("idempotency_by_age", "created_at"),
        sa.Index("idempotency_by_thread", "project", "thread"),
        {"sqlite_strict": True},
    )


class NewestSecond(Base):
    """The second that the newest object of a kind in a project was given."""

    __tablename__ = "newest_seconds"

    project: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    second: Mapped[int]

    __table_args__ = (_KEYED,)


class FailedSignIn(Base):
    """The tries of an address to sign in: how many since the last success, and the newest."""

    __tablename__ = "failed_sign_ins"

    address: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int]
    last_at: Mapped[int]

    __table_args__ = ({"sqlite_strict": True},)


class Session(Base):
    """A sign-in to the browse page that is not signed out: its id, and when it began."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(primary_key=True)
    began_at: Mapped[int]

    __table_args__ = ({"sqlite_strict": True},)


OF_ACCESS = tuple(each.__tablename__ for each in (ApiKey, FailedSignIn, Session))
"""The tables that say who may call. They are no data: what replaces all data leaves them."""
