"""A private PostgreSQL cluster for tests, where Debian's server is installed."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from socket import socket

import sqlalchemy as sa

from models import SCHEMA_REVISION, Base

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
USER = "postgres" if os.getuid() == 0 else None
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = '32MB'
max_connections = 200
"""
EMPTY = """
SET LOCAL lock_timeout = '1s';
DO $$ BEGIN
    ASSERT (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal) = 1;
    ASSERT (SELECT count(*) FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0) = 0;
    ASSERT (SELECT version_num FROM alembic_version) = '{revision}';
END $$;
{deletions}
SELECT setval(oid, 1, false) FROM pg_class WHERE relkind = 'S';
"""
NOT_DURABLE = "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n"


def _emptying() -> str:
    """Return the SQL that empties every table of the models, children first."""
    tables = reversed(Base.metadata.sorted_tables)
    deletions = "".join(f"DELETE FROM {table.name};" for table in tables)
    return EMPTY.format(revision=SCHEMA_REVISION, deletions=deletions)


class Cluster:
    """A running server: its databases are made from a template, in milliseconds."""

    def __init__(self, folder: Path, settings: str = NOT_DURABLE) -> None:
        self.folder = folder
        with socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._numbers = count()
        self._free: list[str] = []
        self._run("initdb", "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        with (folder / "postgresql.conf").open("a") as conf:
            conf.write(f"{SETTINGS}{settings}port = {self.port}\n")
        self.start()
        self._admin = sa.create_engine(
            self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        )

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://test@127.0.0.1:{self.port}/{name}"

    def template(self) -> str:
        """Make the database that `new` copies, and return its URL."""
        self.command("CREATE DATABASE migrated")
        return self.url("migrated")

    def new(self) -> str:
        """Return the URL of an empty database: one that was given back, or a copy of `template`."""
        if self._free:
            return self._free.pop()
        name = f"test_{next(self._numbers)}"
        self.command(f"CREATE DATABASE {name} TEMPLATE migrated")
        return self.url(name)

    def give_back(self, url: str) -> None:
        """Empty a database, which is faster than to drop it; drop one whose schema is changed."""
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql(_emptying())
            self._free.append(url)
        except sa.exc.DBAPIError:
            self.command(f"DROP DATABASE {sa.make_url(url).database} WITH (FORCE)")

    def command(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.exec_driver_sql(statement)

    def start(self) -> None:
        self._run("pg_ctl", "-w", "-l", str(self.folder / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(BINARIES[-1].with_name(program)), "-D", str(self.folder), *arguments]
        # A pipe would be held open by the server that pg_ctl leaves behind.
        done = subprocess.run(command, user=USER, cwd="/", stdout=subprocess.DEVNULL)
        assert done.returncode == 0, command


@contextmanager
def cluster(settings: str = NOT_DURABLE) -> Iterator[Cluster]:
    """Run a cluster of its own in a temporary folder, and remove it."""
    home = Path("/dev/shm") if settings == NOT_DURABLE and os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="threads-postgres-", dir=home))
    if USER:
        shutil.chown(folder, USER)
    try:
        running = Cluster(folder, settings)
        try:
            yield running
        finally:
            running.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
