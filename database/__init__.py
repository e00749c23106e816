"""The database: read(), snapshot() and write(), on SQLite or PostgreSQL.

What differs between the two is in sqlite.py and postgres.py, two modules of one shape.
"""

from database.connection import Connection, Statement, Values
from database.transactions import current, health, read, snapshot, the_file, write

__all__ = [
    "Connection",
    "Statement",
    "Values",
    "current",
    "health",
    "read",
    "snapshot",
    "the_file",
    "write",
]
