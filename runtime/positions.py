"""Numbers that order the rows of a table across transactions, up to which nothing is still to commit: cursors."""

import asyncio
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text

from models.errors import Invalid
from runtime.database import Session

LATEST: Final = 2**63 - 1
SHORTEST_WAIT: Final = 0.001
LONGEST_WAIT: Final = 0.05


@dataclass(frozen=True, slots=True)
class Positions:
    """A table in `public` whose rows are numbered by a sequence in `wedsync`."""

    table: str
    sequence: str


_LAST = text("""
    SELECT coalesce(last_value, 0) FROM pg_catalog.pg_sequences
    WHERE schemaname = 'wedsync' AND sequencename = :sequence
""")

# An INSERT locks the table before it takes numbers, and holds the lock until its transaction ends.
_WRITERS = text("""
    SELECT DISTINCT virtualtransaction FROM pg_catalog.pg_locks
    WHERE locktype = 'relation' AND relation = CAST(:table AS regclass) AND mode = 'RowExclusiveLock'
        AND granted AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
        AND pid IS DISTINCT FROM pg_backend_pid()
""")


async def settled(session: Session, positions: Positions, known: int = 0) -> int:
    """The last position taken, once every transaction that may have taken one up to it has ended.

    What is read afterwards, up to that position, is all there will ever be. Writers are short, so the wait is; it is
    none when nothing was taken after `known`. People may not see the sequence: to be asked as the runtime.
    """
    last = int((await session.execute(_LAST, {"sequence": positions.sequence})).scalar_one())
    if last <= known:
        return known
    # Only after the position is known: whoever takes a number from now on takes a greater one.
    writers = await _writers(session, positions)
    pause = SHORTEST_WAIT
    while writers:
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_WAIT)
        writers &= await _writers(session, positions)
    return last


def cursor_of(text: str | None, otherwise: int, path: str = "after") -> int:
    """The number that a cursor is, or `otherwise` without one; raises `Invalid` for other texts."""
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit() and int(text) <= LATEST):
        hint = "give the `cursor` of an event of this stream as it was, or 0 for all of them"
        raise Invalid("is not a cursor", hint=hint, path=path)
    return int(text)


async def _writers(session: Session, positions: Positions) -> set[str]:
    return set((await session.scalars(_WRITERS, {"table": f"public.{positions.table}"})).all())
