"""The dispatcher hands each item to whoever does it, holds its lease, and survives those who break."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
from sqlalchemy import text

from models.errors import Unavailable
from models.work import WorkItem
from runtime.bus import WORK, Bus
from runtime.cluster.dispatcher import Dispatcher, SupervisorHandle, SupervisorLost
from runtime.cluster.pool import Pool
from runtime.database import Database
from runtime.executions.logs import LogFile
from runtime.queue import store as queue
from runtime.queue.kinds import WorkKind
from runtime.queue.store import Claim
from runtime.settings import Settings
from tests.kit.eventually import eventually
from tests.kit.identities import ENGINEER, RUNTIME

LEASE = Settings().lease_seconds


class Hands:
    """A supervisor, or a worker, that settles what it is given once it may."""

    def __init__(self, database: Database, seen: list[Claim], gate: asyncio.Event, breaks_at: set[UUID]) -> None:
        self.database = database
        self.seen = seen
        self.gate = gate
        self.breaks_at = breaks_at
        self.is_dead = False
        self.died = asyncio.Event()
        self.is_cut_off = False

    async def run(self, claim: Claim) -> None:
        self.seen.append(claim)
        if self.is_dead:
            raise SupervisorLost("killed while it was idle")
        if self.is_cut_off:
            self.is_cut_off = False
            raise Unavailable("PostgreSQL restarts")
        await self.gate.wait()
        if claim.subject in self.breaks_at:
            raise RuntimeError("broken")
        async with self.database.transaction(RUNTIME) as session:
            await queue.settle(session, claim)

    async def lives(self) -> None:
        await self.died.wait()

    def end(self) -> None:
        self.gate.set()


class FatedPool(Pool[SupervisorHandle]):
    """A pool of which so many members die as soon as somebody counts on them."""

    doomed = 0

    @property
    def idle(self) -> int:
        found = super().idle
        for one in self._idle[: self.doomed]:
            assert isinstance(one, Hands)
            one.died.set()
            self.doomed -= 1
        return found


class Office:
    """A running dispatcher and what it handed out."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        supervisors: int,
        settings: Settings | None = None,
    ) -> None:
        self.database = database
        self.bus = bus
        self.seen: list[Claim] = []
        self.gate = asyncio.Event()
        self.breaks_at: set[UUID] = set()
        self.supervisors: list[Hands] = []
        self.makes = asyncio.Event()
        self.makes.set()
        workers = Hands(database, self.seen, self.gate, self.breaks_at)

        async def make() -> SupervisorHandle:
            await self.makes.wait()
            self.supervisors.append(Hands(database, self.seen, self.gate, self.breaks_at))
            return self.supervisors[-1]

        self.pool = FatedPool(make, least=supervisors, most=supervisors)
        self.dispatcher = Dispatcher(settings or Settings(), database, bus, self.pool, workers)

    async def submit(self, kind: WorkKind, count: int = 1) -> list[UUID]:
        async with self.database.transaction(ENGINEER) as session:
            subjects = [uuid4() for _ in range(count)]
            for subject in subjects:
                asked = WorkItem(kind=kind, subject=subject, pipeline_id=uuid4(), requested_by=ENGINEER.user_id)
                session.add(asked)
        await self.bus.publish(WORK)
        return subjects

    async def until_seen(self, count: int) -> None:
        async def enough() -> bool:
            return len(self.seen) >= count

        await eventually(enough, because=f"{count} items are handed out")

    async def is_live(self) -> bool:
        async with self.database.transaction(RUNTIME) as session:
            query = text("SELECT count(*) FROM leases WHERE name = :name AND expires_at > now()")
            return bool((await session.execute(query, {"name": self.dispatcher.name})).scalar_one())

    async def done(self) -> int:
        async with self.database.transaction(RUNTIME) as session:
            return int(
                (await session.execute(text("SELECT count(*) FROM work_items WHERE state = 'done'"))).scalar_one()
            )


@asynccontextmanager
async def office(
    database: Database,
    bus: Bus,
    supervisors: int = 2,
    settings: Settings | None = None,
) -> AsyncIterator[Office]:
    made = Office(database, bus, supervisors, settings)
    running = asyncio.create_task(made.dispatcher.run())
    try:
        yield made
    finally:
        made.gate.set()
        made.dispatcher.close()
        await running


async def test_no_more_executions_are_claimed_than_supervisors_are_idle(database: Database, bus: Bus) -> None:
    async with office(database, bus, supervisors=2) as made:
        await made.submit(WorkKind.EXECUTION, 5)
        await made.until_seen(2)
        async with database.transaction(RUNTIME) as session:
            waiting, _ = await queue.waiting(session, 10)
        assert (waiting, len(made.seen)) == (3, 2)
        made.gate.set()

        async def all_done() -> bool:
            return await made.done() == 5

        await eventually(all_done, because="those who end take the next")
    assert len({claim.id for claim in made.seen}) == 5


async def test_other_work_does_not_wait_for_supervisors(database: Database, bus: Bus) -> None:
    async with office(database, bus, supervisors=1) as made:
        await made.submit(WorkKind.EXECUTION, 2)
        await made.until_seen(1)
        await made.submit(WorkKind.CHECK)
        await made.until_seen(2)
    assert sorted(claim.kind for claim in made.seen[:2]) == [WorkKind.CHECK, WorkKind.EXECUTION]


async def test_a_live_dispatcher_holds_a_lease_that_the_probe_reads(database: Database, bus: Bus) -> None:
    async with office(database, bus) as made:
        await eventually(made.is_live, because="the dispatcher's lease is there")


async def test_a_dispatcher_that_stops_drops_its_lease_at_once(database: Database, bus: Bus) -> None:
    async with office(database, bus) as made:
        await eventually(made.is_live, because="the dispatcher's lease is there")
        made.dispatcher.close()
        await made.dispatcher.ended()
        assert not await made.is_live()


async def test_a_broken_supervisor_is_replaced_and_the_rest_goes_on(database: Database, bus: Bus) -> None:
    async with office(database, bus, supervisors=1) as made:
        (bad,) = await made.submit(WorkKind.EXECUTION)
        await made.until_seen(1)
        made.breaks_at.add(bad)
        made.gate.set()
        await made.submit(WorkKind.EXECUTION, 3)

        async def others_done() -> bool:
            return await made.done() == 3

        await eventually(others_done, because="the others are done by the supervisor that took its place")
    assert made.seen[0].subject == bad


async def test_a_supervisor_that_lost_the_database_gives_its_execution_back_and_stays(
    database: Database, bus: Bus
) -> None:
    async with office(database, bus, supervisors=1) as made:
        made.gate.set()
        await made.submit(WorkKind.EXECUTION)

        async def done(count: int) -> bool:
            return await made.done() == count

        await eventually(partial(done, 1), because="the supervisor is there and idle")
        (only,) = made.supervisors
        only.is_cut_off = True
        (subject,) = await made.submit(WorkKind.EXECUTION)
        await eventually(partial(done, 2), within=LEASE / 2, because="it is not left until its lease lapses")
        assert [claim.attempts for claim in made.seen if claim.subject == subject] == [1, 2]
        assert made.supervisors == [only]


async def test_other_work_whose_workers_keep_dying_is_given_up_and_holds_up_nothing(
    database: Database, bus: Bus, owner: asyncpg.Connection
) -> None:
    async with office(database, bus) as made:
        (poison,) = await made.submit(WorkKind.PREVIEW)
        made.breaks_at.add(poison)
        made.gate.set()
        await made.submit(WorkKind.CHECK, 3)

        async def ended() -> bool:
            return bool(await owner.fetchval("SELECT count(*) = 0 FROM work_items WHERE finished_at IS NULL"))

        await eventually(ended, because="the one is given up and the others are done")
    rows = await owner.fetch("SELECT state, count(*) AS items FROM work_items GROUP BY state")
    states = {row["state"]: row["items"] for row in rows}
    assert states == {"failed": 1, "done": 3}
    assert await owner.fetchval("SELECT error ->> 'code' FROM work_items WHERE state = 'failed'") == "gave_up"
    assert Counter(claim.subject for claim in made.seen)[poison] == queue.MOST_TRIES


async def test_an_execution_that_a_dead_supervisor_was_handed_is_given_to_another_at_once(
    database: Database, bus: Bus
) -> None:
    async with office(database, bus, supervisors=2) as made:

        async def ready() -> bool:
            return len(made.supervisors) == 2

        await eventually(ready, because="both supervisors are made")
        for one in made.supervisors:
            one.is_dead = True
        (subject,) = await made.submit(WorkKind.EXECUTION)
        await made.until_seen(3)
        made.gate.set()

        async def done() -> bool:
            return await made.done() == 1

        await eventually(done, within=LEASE / 2, because="a third supervisor has it long before the lease lapses")
    assert [(claim.subject, claim.generation) for claim in made.seen] == [(subject, 1), (subject, 2), (subject, 3)]


async def test_an_execution_whose_supervisors_died_while_it_was_claimed_waits_for_the_next_ones(
    database: Database, bus: Bus
) -> None:
    made = Office(database, bus, supervisors=2)
    made.gate.set()
    made.pool.resize(0, 0.0)

    async def ready() -> bool:
        return made.pool.idle == 2

    async def done() -> bool:
        return await made.done() == 1

    await eventually(ready, because="both supervisors are made")
    (subject,) = await made.submit(WorkKind.EXECUTION)
    made.makes.clear()
    made.pool.doomed = 2
    await made.dispatcher.step()
    assert (made.seen, made.pool.idle) == ([], 0)
    made.makes.set()
    running = asyncio.create_task(made.dispatcher.run())
    await eventually(done, within=LEASE / 2, because="another supervisor has it long before the lease lapses")
    made.dispatcher.close()
    await running
    assert [claim.subject for claim in made.seen] == [subject]


async def test_a_dispatcher_that_stops_gives_back_what_it_holds(database: Database, bus: Bus) -> None:
    async with office(database, bus) as made:
        await made.submit(WorkKind.EXECUTION)
        await made.submit(WorkKind.CHECK)
        await made.until_seen(2)
        made.dispatcher.close()
        await made.dispatcher.ended()
        async with database.transaction(RUNTIME) as session:
            states = await session.execute(text("SELECT state, holder FROM work_items"))
            assert [tuple(row) for row in states] == [("queued", None)] * 2


async def test_work_and_logs_past_their_retention_are_removed(
    database: Database, bus: Bus, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    async with database.transaction(ENGINEER) as session:
        await queue.enqueue(session, WorkKind.PREVIEW, by=ENGINEER.user_id)
    await owner.execute("UPDATE work_items SET state = 'done', finished_at = now() - interval '8 days'")
    log = LogFile(tmp_path / "artifacts", uuid4())
    log.write([{"kind": "execution_started"}])
    path = tmp_path / "artifacts" / log.location
    os.utime(path, (0, 0))

    async def gone() -> bool:
        return not path.exists() and await owner.fetchval("SELECT count(*) FROM work_items") == 0

    async with office(database, bus, settings=Settings(home=tmp_path)):
        await eventually(gone, because="the dispatcher keeps house")
