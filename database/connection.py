"""The driver's connection inside one transaction. It runs Core statements, each compiled once."""

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

import sqlalchemy as sa

Statement = sa.Executable | str
Values = Mapping[str, Any]
_Processor = Callable[[Any], Any]
_NONE: dict[str, Any] = {}


class Connection:
    """Runs statements and returns rows; a `str` goes to the driver as it is."""

    def __init__(self, raw: Any, dialect: sa.Dialect, pooled: Any = None) -> None:
        self.raw, self.pooled = raw, pooled
        self._dialect = dialect
        self.after_commit: list[Callable[[], None]] = []
        """What write() calls once the change is stored. It must not raise."""

    def value(self, statement: Statement, values: Values = _NONE) -> Any:
        """Return the first column of the first row, or None."""
        row = self.row(statement, values)
        return row[0] if row else None

    def row(self, statement: Statement, values: Values = _NONE) -> Any:
        """Return the first row, or None."""
        rows = self.rows(statement, values)
        return rows[0] if rows else None

    def rows(self, statement: Statement, values: Values = _NONE) -> list[Any]:
        """Return all rows, as tuples with names."""
        cursor, types = self._run(statement, values)
        return _named(cursor, types, cursor.fetchall())

    def rows_at_once(self, statement: sa.Select[*tuple[Any, ...]], values: Values) -> list[Any]:
        """Return all rows of a list, in any order."""
        return self.rows(statement, values)

    def change(self, statement: Statement, values: Values = _NONE) -> int:
        """Run a statement that returns no rows; return how many rows it changed."""
        return int(self._run(statement, values)[0].rowcount)

    def change_many(self, statement: sa.Executable, rows: Iterable[Values]) -> None:
        """Run a statement for each dict of values. All dicts have the same names."""
        rows = iter(rows)
        if first := next(rows, None):
            compiled = _compiled(statement, self._dialect, first)
            self.raw.cursor().executemany(compiled.sql, map(compiled.bind, chain([first], rows)))

    def _run(self, statement: Statement, values: Values) -> tuple[Any, list[_Processor | None]]:
        if isinstance(statement, str):
            return self.raw.execute(statement), []
        compiled = _compiled(statement, self._dialect, values)
        return self.raw.execute(compiled.sql, compiled.bind(values)), compiled.types


class _Compiled(NamedTuple):
    """SQL, its own values, and the functions that convert values for the driver and from it."""

    sql: str
    constants: dict[str, Any]
    processors: list[tuple[str, _Processor]]
    types: list[_Processor | None]

    def bind(self, values: Values) -> Values:
        """Return the values as the driver takes them."""
        if not self.constants and not self.processors:
            return values
        bound = {**self.constants, **values}
        for name, processor in self.processors:
            bound[name] = processor(bound[name])
        return bound


_CACHE: dict[tuple[Any, ...], _Compiled] = {}


def _compiled(statement: Any, dialect: sa.Dialect, values: Values) -> _Compiled:
    """Return a statement's SQL for values of these names."""
    key = (statement, dialect.name, tuple(values))
    if (compiled := _CACHE.get(key)) is None:
        compiled, is_reusable = _compile(statement, dialect, values)
        if len(_CACHE) >= 1_000:
            _CACHE.clear()
        if is_reusable:
            _CACHE[key] = compiled
    return compiled


def _compile(statement: Any, dialect: Any, values: Values) -> tuple[_Compiled, bool]:
    """Compile a statement; the flag is False for a list of values: its SQL fits that list only."""
    compiler = statement.compile(dialect=dialect, column_keys=list(values))
    state = compiler.construct_expanded_state(values)
    constants = {name: value for name, value in state.parameters.items() if name not in values}
    constants |= _defaults(getattr(compiler, "insert_prefetch", ()))
    to_driver = {
        name: bound.type.dialect_impl(dialect).bind_processor(dialect)
        for name, bound in compiler.binds.items()
        if name in state.parameters
    }
    processors = [(name, each) for name, each in (to_driver | state.processors).items() if each]
    columns = getattr(statement, "exported_columns", ())
    types = [each.type.dialect_impl(dialect).result_processor(dialect, None) for each in columns]
    compiled = _Compiled(state.statement, constants, processors, types if any(types) else [])
    return compiled, values.keys().isdisjoint(state.parameter_expansion)


def _defaults(columns: Iterable[sa.Column[Any]]) -> dict[str, Any]:
    """Return the constant defaults of columns. Raises TypeError for one that is computed."""
    defaults = {}
    for column in columns:
        if not isinstance(column.default, sa.ColumnDefault) or not column.default.is_scalar:
            raise TypeError(f"Give {column} a server_default, or a value in each statement.")
        defaults[column.key] = column.default.arg
    return defaults


def _named(cursor: Any, types: list[_Processor | None], rows: Iterable[Any]) -> list[Any]:
    make = row_type(tuple(column[0] for column in cursor.description))
    if types:
        pairs = [[*zip(types, row, strict=True)] for row in rows]
        rows = [[turn(value) if turn else value for turn, value in pair] for pair in pairs]
    return [make(*row) for row in rows]


@cache
def row_type(names: tuple[str, ...]) -> Any:
    """Return the type of rows with these column names."""
    return namedtuple("Row", names, rename=True)
