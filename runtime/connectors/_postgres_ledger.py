"""The ledger of published runs and the cursors they reached, kept in the destination's schema beside the rows.

`_wedsync_ledger` has a row for each run (partition -1: its state, generation and counts) and one for each partition
that was published. A run is open from `prepare`, published by the transaction that publishes its rows, or aborted.
Nothing is published twice, and nobody of an older generation than the one recorded may write, publish or abort.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

import asyncpg

from models.errors import Retryable, Terminal
from runtime.connectors._contract import CursorMove, LoadCounts, Receipt, RunKey, cursor_moved
from runtime.connectors._postgres_config import PostgresConfig
from runtime.connectors._postgres_ddl import lock_name
from runtime.connectors._postgres_names import TableName, run_tag
from runtime.connectors._postgres_session import Session

LEDGER = "_wedsync_ledger"
CURSORS = "_wedsync_cursors"
WHOLE_RUN = -1

_PUBLISH = """
WITH claimed AS (
  INSERT INTO {ledger} AS known (execution_id, step, partition, pipeline_id, generation, target, state, rows,
    inserted, updated, deleted, failed)
  VALUES ($1, $2, -1, $3, $4, $5, 'published', coalesce((SELECT sum(rows) FROM unnest($11::int8[]) AS r (rows)), 0),
    $6, $7, $8, $9)
  ON CONFLICT (execution_id, step, partition) DO UPDATE
    SET generation = excluded.generation, state = excluded.state, rows = excluded.rows,
        inserted = excluded.inserted, updated = excluded.updated, deleted = excluded.deleted,
        failed = excluded.failed, recorded_at = now()
    WHERE known.state <> 'published' AND known.generation <= excluded.generation
  RETURNING state
), parts AS (
  INSERT INTO {ledger} (execution_id, step, partition, pipeline_id, generation, target, state, rows, token)
  SELECT $1, $2, part, $3, $4, $5, state, rows, token
  FROM claimed, unnest($10::int4[], $11::int8[], $12::text[]) AS landed (part, rows, token)
), kept AS (
  INSERT INTO {cursors} AS known (pipeline_id, step, cursor, execution_id)
  SELECT $3, $2, $13, $1 FROM claimed
  WHERE $13::text IS NOT NULL
    AND ($14::text IS NULL OR EXISTS (SELECT FROM {cursors} WHERE (pipeline_id, step) = ($3, $2)))
  ON CONFLICT (pipeline_id, step) DO UPDATE
    SET cursor = excluded.cursor, execution_id = excluded.execution_id, recorded_at = now()
    WHERE known.cursor = $14::text
  RETURNING step
)
SELECT $13::text IS NULL OR EXISTS (SELECT FROM kept) AS is_current FROM claimed
"""
_MARK = "wedsync:"
FIRST_GENERATION = 1
_END_OLDER = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
  AND CASE WHEN application_name LIKE $1 || ':%' THEN split_part(application_name, ':', 3)::int4 < $2 END
"""
_MADE: set[tuple[str, str]] = set()


class RunState(StrEnum):
    """What became of a run."""

    OPEN = "open"
    PUBLISHED = "published"
    ABORTED = "aborted"


def make_ledger(config: PostgresConfig) -> None:
    """Make the ledger's tables where they are not there, in a transaction of its own; a process asks once."""
    ledger, cursors = TableName(config.schema_name, LEDGER), TableName(config.schema_name, CURSORS)
    if (config.conninfo, config.schema_name) in _MADE:
        return
    with Session(config) as session:
        if is_there(session, ledger) and is_there(session, cursors):
            _MADE.add((config.conninfo, config.schema_name))
            return
        lock_name(session, ledger.text)
        session.execute(
            f"""
            CREATE TABLE IF NOT EXISTS {ledger.sql} (
              execution_id uuid NOT NULL, step text NOT NULL, partition integer NOT NULL,
              pipeline_id uuid NOT NULL, generation integer NOT NULL, target text NOT NULL, state text NOT NULL,
              rows bigint NOT NULL DEFAULT 0, token text NOT NULL DEFAULT '',
              inserted bigint NOT NULL DEFAULT 0, updated bigint NOT NULL DEFAULT 0,
              deleted bigint NOT NULL DEFAULT 0, failed bigint NOT NULL DEFAULT 0,
              recorded_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (execution_id, step, partition));
            CREATE TABLE IF NOT EXISTS {cursors.sql} (
              pipeline_id uuid NOT NULL, step text NOT NULL, cursor text NOT NULL, execution_id uuid NOT NULL,
              recorded_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (pipeline_id, step))
            """
        )
        session.commit()


@contextmanager
def noticing_loss(config: PostgresConfig) -> Iterator[None]:
    """A use of the ledger; when its tables were dropped since this process saw them, the next attempt makes them."""
    try:
        yield
    except Terminal as error:
        if error.specific_code != "missing_table" or not (LEDGER in error.message or CURSORS in error.message):
            raise
        _MADE.discard((config.conninfo, config.schema_name))
        raise Retryable(error.message, hint="the ledger is made again", code="missing_table") from error


def is_there(session: Session, name: TableName) -> bool:
    """Whether a table exists."""
    return session.fetch("SELECT to_regclass($1) IS NOT NULL AS found", name.sql)[0]["found"] is True


def published(session: Session, run: RunKey, *, lock: bool = False) -> LoadCounts | None:
    """The counts of a run that was published, else None; with `lock`, nobody changes its row meanwhile.

    Raises `Terminal` with the code `superseded` when a younger generation has taken the run over.
    """
    row = _row(session, run, "FOR UPDATE" if lock else "")
    if row is None:
        return None
    refuse_superseded(row, run)
    if row["state"] != RunState.PUBLISHED:
        return None
    return LoadCounts(row["inserted"], row["updated"], row["deleted"], row["failed"])


def mark_of(run: RunKey) -> str:
    """What the transactions of a run's generation are called in `pg_stat_activity`."""
    return f"{_MARK}{run_tag(run.execution_id, run.step)}:{run.generation}"


def end_older(session: Session, run: RunKey) -> None:
    """End the transactions that older generations of a run have open.

    Theirs may be those of a process that is stopped or cut off, and would keep their locks for as long as it is.
    """
    if run.generation > FIRST_GENERATION:
        session.fetch(_END_OLDER, _MARK + run_tag(run.execution_id, run.step), run.generation)


def open_run(session: Session, name: TableName, run: RunKey) -> None:
    """Record that a run writes; raises `Terminal` when a younger generation does."""
    rows = session.fetch(
        f"""
        INSERT INTO {_ledger(session).sql} AS known
          (execution_id, step, partition, pipeline_id, generation, target, state)
        VALUES ($1, $2, $3, $4, $5, $6, '{RunState.OPEN}')
        ON CONFLICT (execution_id, step, partition) DO UPDATE
          SET generation = greatest(known.generation, excluded.generation),
              state = CASE WHEN known.state = '{RunState.PUBLISHED}' OR known.generation > excluded.generation
                      THEN known.state ELSE excluded.state END
        RETURNING generation, state
        """,
        run.execution_id,
        run.step,
        WHOLE_RUN,
        run.pipeline_id,
        run.generation,
        name.text,
    )
    refuse_superseded(rows[0], run)


def refuse_closed(session: Session, name: TableName, run: RunKey) -> None:
    """Raise `Terminal` when the run was taken over or aborted; else nobody can do so before the transaction ends."""
    row = _row(session, run, "FOR SHARE")
    if row is not None:
        refuse_superseded(row, run)
    if row is None or row["state"] == RunState.ABORTED:
        raise Terminal(
            f"the load of step {run.step} into {name.text} is not open: it was aborted or never prepared",
            hint="run the step again",
            code="superseded",
        )


@dataclass(frozen=True, slots=True)
class Publication:
    """What a run publishes: its counts, the parts that landed, and how far its source was read."""

    counts: LoadCounts
    receipts: Sequence[Receipt]
    cursor: CursorMove | None = None


def publish_run(session: Session, name: TableName, run: RunKey, published_now: Publication) -> LoadCounts | None:
    """Record a run, its parts and its cursor; answers None, or the counts of the same run if it was published earlier.

    It waits for a concurrent commit of the same run, and then finds it published; and for one that moves the same
    cursor, and then raises `cursor_moved`.
    """
    counts, receipts, cursor = published_now.counts, published_now.receipts, published_now.cursor
    rows = session.fetch(
        _PUBLISH.format(ledger=_ledger(session).sql, cursors=_cursors(session).sql),
        *(run.execution_id, run.step, run.pipeline_id, run.generation, name.text),
        *(counts.inserted, counts.updated, counts.deleted, counts.failed),
        [receipt.partition for receipt in receipts],
        [receipt.rows for receipt in receipts],
        [receipt.token for receipt in receipts],
        None if cursor is None else cursor.after,
        None if cursor is None else cursor.before,
    )
    if rows and not rows[0]["is_current"]:
        raise cursor_moved(run.step)
    return None if rows else published(session, run)


def abort_run(session: Session, run: RunKey) -> bool:
    """Record an open run as aborted; False when a younger generation has it."""
    if not is_there(session, _ledger(session)):
        return False
    row = _row(session, run, "FOR UPDATE")
    if row is None:
        return True
    if row["generation"] > run.generation:
        return False
    if row["state"] == RunState.OPEN:
        session.fetch(
            f"UPDATE {_ledger(session).sql} SET state = '{RunState.ABORTED}', generation = $4"
            " WHERE (execution_id, step, partition) = ($1, $2, $3)",
            run.execution_id,
            run.step,
            WHOLE_RUN,
            run.generation,
        )
    return True


def kept_cursor(session: Session, pipeline_id: UUID, step: str) -> str | None:
    """How far the pipeline's step had come when it was last published; None before that."""
    cursors = _cursors(session)
    if not is_there(session, cursors):
        return None
    rows = session.fetch(f"SELECT cursor FROM {cursors.sql} WHERE (pipeline_id, step) = ($1, $2)", pipeline_id, step)
    return str(rows[0]["cursor"]) if rows else None


def refuse_superseded(row: asyncpg.Record, run: RunKey) -> None:
    """Raise `Terminal` when the recorded generation is younger than the run's."""
    if row["generation"] > run.generation:
        raise Terminal(
            f"generation {run.generation} of step {run.step} was taken over by generation {row['generation']}",
            hint="nothing to do: the younger one goes on",
            code="superseded",
        )


def _ledger(session: Session) -> TableName:
    return TableName(session.config.schema_name, LEDGER)


def _cursors(session: Session) -> TableName:
    return TableName(session.config.schema_name, CURSORS)


def _row(session: Session, run: RunKey, lock: str) -> asyncpg.Record | None:
    rows = session.fetch(
        "SELECT generation, state, inserted, updated, deleted, failed"
        f" FROM {_ledger(session).sql} WHERE (execution_id, step, partition) = ($1, $2, $3) {lock}",
        run.execution_id,
        run.step,
        WHOLE_RUN,
    )
    return rows[0] if rows else None
