"""Counts the SQL statements of a piece of work."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event

from runtime.database import Database


@contextmanager
def recorded(database: Database) -> Iterator[list[str]]:
    """The statements sent meanwhile, of either kind of transaction, without those that only set the identity."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "set_config('role'" not in statement:
            statements.append(statement)

    engine = database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    database._connections.listeners.append(statements.append)
    try:
        yield statements
    finally:
        database._connections.listeners.remove(statements.append)
        event.remove(engine, "before_cursor_execute", note)
