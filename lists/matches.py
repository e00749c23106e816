"""The SQL that finds what a search matches.

`many` is a row if there are more than `most` matches. `rare` and `common` are conditions: the first
collects all matches, the second walks threads in the order of a list, and `page` is that list
without the search. `next` is the next match in a thread.
"""

import database

# The second condition alone is right but slow: each look for a message steps over all earlier
# matches. The first condition reads the matches of `page` in one pass.
_SQLITE_COMMON = (
    "(threads.seq IN (SELECT messages.thread_seq FROM message_text CROSS JOIN messages"
    " ON messages.seq = message_text.rowid WHERE message_text MATCH :q AND message_text.rowid >="
    " (SELECT min((SELECT {end}(seq) FROM messages WHERE thread_seq = page.seq)) FROM page)"
    " LIMIT 25 * :limit)"
    " OR EXISTS (SELECT 1 FROM messages CROSS JOIN message_text"
    " ON message_text.rowid = messages.seq"
    " WHERE messages.thread_seq = threads.seq AND message_text MATCH :q))"
)
_ON_SQLITE = {
    "many": "SELECT 1 FROM message_text WHERE message_text MATCH :q LIMIT 1 OFFSET :most",
    # The plus keeps SQLite from walking an index of threads: it must walk the matches.
    "rare": "+threads.project = :project AND threads.seq IN"
    " (SELECT messages.thread_seq FROM message_text CROSS JOIN messages"
    " ON messages.seq = message_text.rowid WHERE message_text MATCH :q)",
    "common": _SQLITE_COMMON.format(end="min"),
    # The newest messages of the threads that were active last stand close together.
    "common_by_activity": _SQLITE_COMMON.format(end="max"),
    "next": "SELECT messages.id FROM message_text CROSS JOIN messages"
    " ON messages.seq = message_text.rowid"
    " WHERE message_text MATCH :q AND message_text.rowid > :seq"
    " AND message_text.rowid <= (SELECT max(seq) FROM messages WHERE thread_seq = :thread_seq)"
    " AND messages.thread_seq = :thread_seq ORDER BY message_text.rowid LIMIT 1",
}
# OFFSET 0 keeps the planner from collecting all matches: it must walk the threads.
_POSTGRES_COMMON = (
    "EXISTS (SELECT 1 FROM messages WHERE messages.thread_seq = threads.seq"
    " AND message_text @@ (SELECT message_query(:q)) OFFSET 0)"
)
ON_POSTGRES = {
    "many": "SELECT 1 FROM messages WHERE message_text @@ (SELECT message_query(:q))"
    " LIMIT 1 OFFSET :most",
    # Without the array the planner may walk all threads: it cannot know that matches are few.
    "rare": "threads.project = :project AND threads.seq = ANY (ARRAY"
    "(SELECT messages.thread_seq FROM messages WHERE message_text @@ (SELECT message_query(:q))))",
    "common": _POSTGRES_COMMON,
    "common_by_activity": _POSTGRES_COMMON,
    "next": "SELECT id FROM messages WHERE thread_seq = :thread_seq AND seq > :seq"
    " AND message_text @@ (SELECT message_query(:q)) ORDER BY seq LIMIT 1",
}


def sql_of(name: str) -> str:
    """Return the SQL of a name for the app's database."""
    return (ON_POSTGRES if database.current().FOLDS_TEXT else _ON_SQLITE)[name]
