"""The database: read(), snapshot() and write(). sqlite.py and postgres.py have the same shape."""

from database.connection import Connection, Values
from database.transactions import current, health, read, snapshot, the_file, write

__all__ = ["Connection", "Values", "current", "health", "read", "snapshot", "the_file", "write"]
