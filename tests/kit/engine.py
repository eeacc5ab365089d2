"""Runs pipelines through the real engine in this process: real database, real connectors, threads in place of Ray."""

import asyncio
import csv
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from models.fields import Json, JsonObject
from runtime.access.sealing import Sealer
from runtime.batches.engine import Engine, EngineLimits
from runtime.bus import Bus
from runtime.cluster.worker import Background, StoredConnections
from runtime.connectors import store as places
from runtime.connectors.discoveries import catalog
from runtime.connectors.store import DestinationDraft, SourceDraft
from runtime.database import Database
from runtime.executions.assignments import Plans, Taken, take
from runtime.executions.checkpoints import Shelf
from runtime.executions.journal import DEFAULT_PACE, Ending, Journal, Pace
from runtime.executions.keeper import Keeper, Keeps
from runtime.executions.local import LocalExecutor
from runtime.executions.logs import LogFile
from runtime.executions.steps import Worker
from runtime.executions.submission import Submission, submit
from runtime.executions.supervisor import Supervisor, assigned
from runtime.pipelines.compile import compile_definition
from runtime.pipelines.definition import parse_definition
from runtime.pipelines.plan import Plan
from runtime.queue import store as queue
from tests.kit.database import Postgres
from tests.kit.identities import ENGINEER, RUNTIME

LEASE = 15.0


@dataclass
class Bench:
    """One database, one folder of files, and the engine between them."""

    database: Database
    bus: Bus
    folder: Path
    sealer: Sealer
    worker: Worker
    plans: Plans

    async def files(self, name: str, rows: Sequence[Mapping[str, object]] = (), **config: Json) -> UUID:
        """A CSV source named `name` over a folder of that name, holding `rows.csv`."""
        place = self.folder / name
        place.mkdir(parents=True, exist_ok=True)
        self.write(place / "rows.csv", rows)
        async with self.database.transaction(ENGINEER) as session:
            draft = SourceDraft(name=name, connection={"root": str(place), **config})
            return (await places.create_source(session, self.sealer, ENGINEER, "csv", draft)).id

    async def shelf(self, name: str) -> UUID:
        """A CSV destination named `name` over a folder of that name."""
        async with self.database.transaction(ENGINEER) as session:
            draft = DestinationDraft(name=name, connection={"root": str(self.folder / name)})
            return (await places.create_destination(session, self.sealer, ENGINEER, "csv", draft)).id

    @staticmethod
    def write(file: Path, rows: Sequence[Mapping[str, object]]) -> None:
        """Write rows with a header."""
        with file.open("w", newline="") as out:
            if rows:
                writer = csv.DictWriter(out, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)

    def read(self, shelf: str, table: str) -> list[dict[str, str]]:
        """All rows of a table on a shelf, in no order; empty where there is none."""
        found: list[dict[str, str]] = []
        for file in sorted((self.folder / shelf / table).glob("*.csv")):
            with file.open(newline="") as opened:
                found.extend(csv.DictReader(opened))
        return found

    async def pipeline(self, definition: JsonObject) -> tuple[UUID, Plan]:
        """Save a definition as version 1 of a new pipeline."""
        async with self.database.transaction(ENGINEER) as session:
            plan = compile_definition(parse_definition(definition), await catalog(session))
            identity = uuid4()
            await save_plan(session, identity, str(definition["pipeline_name"]), plan)
            return identity, plan

    async def submit(
        self, pipeline: UUID, *, dry_run: bool = False, parameters: Mapping[str, Json] | None = None
    ) -> UUID:
        """Submit an execution."""
        async with self.database.transaction(ENGINEER) as session:
            submission = Submission(pipeline, dry_run=dry_run, parameters=parameters or {})
            return (await submit(session, submission, ENGINEER)).id

    async def take(self) -> Taken:
        """Claim the next execution."""
        async with self.database.transaction(RUNTIME) as session:
            (claim,) = await queue.claim(session, "bench", executions=1, lease_seconds=LEASE)
            taken = await take(session, claim, self.plans, 1024)
        assert taken is not None
        return taken

    def executor(self) -> LocalExecutor:
        """What runs tasks here."""
        return LocalExecutor(self.worker, self.artifacts)

    @property
    def artifacts(self) -> Path:
        """The artifact store."""
        return self.folder / "artifacts"

    def supervisor(self, taken: Taken, executor: LocalExecutor | None = None, pace: Pace = DEFAULT_PACE) -> Supervisor:
        """A supervisor for it."""
        holding, executor = taken.holding, executor or self.executor()
        log, shelf = LogFile(self.artifacts, holding.execution_id), Shelf(self.artifacts, holding.execution_id)
        journal = Journal(self.database, self.bus, holding, log, pace)
        keeper = Keeper(executor.save, shelf, Keeps.of(taken.plan, dry_run=taken.context.dry_run), holding.generation)
        return Supervisor(assigned(taken, shelf), executor, journal, keeper)

    async def run(self, definition: JsonObject, *, dry_run: bool = False) -> tuple[UUID, Ending]:
        """Save, submit and supervise a definition to its end."""
        pipeline, _ = await self.pipeline(definition)
        return await self.again(pipeline, dry_run=dry_run)

    async def again(self, pipeline: UUID, *, dry_run: bool = False) -> tuple[UUID, Ending]:
        """Submit and supervise another execution."""
        execution = await self.submit(pipeline, dry_run=dry_run)
        return execution, await self.supervisor(await self.take()).supervise()


async def save_plan(session: AsyncSession, identity: UUID, name: str, plan: Plan) -> None:
    """Keep a plan as version 1 of a new pipeline."""
    await session.execute(
        text("""INSERT INTO data_pipelines (id, pipeline_name, pipeline_type, source_config, destination_config,
                                            version, created_by)
                VALUES (:id, :name, 'etl', '{}', '{}', 1, :by)"""),
        {"id": identity, "name": name, "by": ENGINEER.user_id},
    )
    await session.execute(
        text("""INSERT INTO pipeline_versions (pipeline_id, version, document, fingerprint, plan)
                VALUES (:id, 1, '{}', :fingerprint, CAST(:plan AS jsonb))"""),
        {"id": identity, "fingerprint": plan.fingerprint, "plan": plan.model_dump_json()},
    )


@pytest.fixture
async def bench(postgres: Postgres, database: Database, database_name: str, tmp_path: Path) -> AsyncIterator[Bench]:
    """The engine over the test's own database and folder."""
    sealer, background = Sealer({"test": b"0" * 32}), Background()
    own = Database(postgres.server.url(database_name), pool_size=1)
    engine = Engine(EngineLimits(threads=1, memory_mb=512, spill_folder=tmp_path / "spill"))
    worker = Worker(StoredConnections(own, sealer, background), engine)
    yield Bench(database, Bus(None), tmp_path, sealer, worker, Plans())
    engine.close()
    await asyncio.to_thread(background.wait, own.close())
