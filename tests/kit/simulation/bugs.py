"""Bugs that somebody might write, each of which a simulated world must betray."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from models.events import EventKind
from runtime.bus import WORK
from runtime.cluster.actors import SupervisorHost
from runtime.cluster.dispatcher import Dispatcher, SupervisorHandle
from runtime.database import Identity
from runtime.executions.assignments import Taken
from runtime.executions.checkpoints import Kept
from runtime.executions.keeper import SAVE_SECONDS, Keeper, Keeps
from runtime.executions.state import Failure
from runtime.executions.supervisor import Supervisor
from runtime.queue.store import Claim
from runtime.schedules.ticker import LEASE
from runtime.statements import Parameters, Statements
from tests.kit.simulation import backfilling, claiming, queueing, scheduling, statements
from tests.kit.simulation.destination import Ungoverned
from tests.kit.simulation.store import Row, SimulatedDatabase, SimulatedStatements, Transaction
from tests.kit.simulation.world import Parts


def _always(_row: Row) -> bool:
    return True


async def claim_without_skip_locked(transaction: Transaction, given: Parameters) -> list[Row]:
    """Two read the same waiting item, and the second does not look again once it has the row."""
    seen = {key: row["state"] for key, row in transaction.rows("work_items")}
    claimed = await claiming.claim_from(transaction, given, lambda _table, _key: False)
    return [row for row in claimed if seen[row["id"]] == "queued"]


async def renew_ignores_generation(transaction: Transaction, given: Parameters) -> list[Row]:
    """Whoever once held an item renews its lease."""
    return await statements.beat_where(transaction, given, lambda row: bool(row["state"] == "claimed"))


async def finish_without_generation_check(transaction: Transaction, given: Parameters) -> list[Row]:
    """A supervisor that was taken over ends the execution all the same."""
    return await statements.end_where(transaction, given, _always, _always)


async def write_without_generation_check(transaction: Transaction, given: Parameters) -> list[Row]:
    """A supervisor that was taken over goes on telling."""
    return await statements.write_where(transaction, given, _always)


async def journal_reuses_seq(transaction: Transaction, given: Parameters) -> list[Row]:
    """A supervisor goes on from the last number of its own, whatever others told meanwhile."""
    execution = await transaction.lock("pipeline_executions", given["id"])
    own = [
        key[1]
        for key, row in transaction.rows("execution_events")
        if isinstance(key, tuple) and key[0] == given["id"] and row["kind"] != EventKind.EXECUTION_CANCELLING
    ]
    transaction.write("pipeline_executions", given["id"], {**execution, "last_event_seq": max(own)})
    return await statements.write(transaction, given)


async def release_running(transaction: Transaction, _given: Parameters) -> list[Row]:
    """What is held is put back whether its lease has lapsed or not."""
    return await queueing.release_where(transaction, _always)


async def lapsed_stay_claimed(_transaction: Transaction, _given: Parameters) -> list[Row]:
    """Nobody takes over from the dead."""
    return []


async def takeover_keeps_generation(transaction: Transaction, given: Parameters) -> list[Row]:
    """A claim does not raise the generation once there is one."""
    first = any(not row["generation"] for _, row in transaction.rows("work_items") if row["state"] == "queued")
    return await claiming.claim_from(transaction, given, transaction.is_locked, rise=1 if first else 0)


async def cancel_loses_to_completion(transaction: Transaction, given: Parameters) -> list[Row]:
    """The next thing that happens writes over the state of an execution that is being cancelled."""
    return await statements.write_where(
        transaction, given, lambda row: bool(row["generation"] == given["generation"]), lasting_states=()
    )


async def ending_leaves_work_item(transaction: Transaction, given: Parameters) -> list[Row]:
    """The execution ends in one transaction, and its work item in another that never comes."""
    item = dict(transaction.get("work_items", given["work_id"]))
    found = await statements.end(transaction, given)
    transaction.write("work_items", given["work_id"], item)
    return found


async def takeover_forgets_checkpoints(transaction: Transaction, given: Parameters) -> list[Row]:
    """Who takes over looks at the steps' rows alone."""
    return [{**row, "kept": None} for row in await statements.chain(transaction, given)]


async def claim_counts_without_locks(transaction: Transaction, given: Parameters) -> list[Row]:
    """Two count what runs at the same time, and both take the last slot."""
    return await claiming.claim_from(transaction, given, transaction.is_locked, alone=False)


async def perform_without_comparing(transaction: Transaction, given: Parameters) -> list[Row]:
    """A scheduler that was stopped writes down what it decided, whoever decided since."""
    return await scheduling.advance_where(transaction, given, lambda _row, _expected, _seen: True)


async def advance_on_its_own(transaction: Transaction, given: Parameters) -> list[Row]:
    """A schedule goes on in one transaction, and its moments are written down in another."""
    server = transaction.server
    own = await server.begin(transaction.process, lasting=True)
    try:
        rows = await scheduling.advance(own, given)
        await server.commit(own)
    finally:
        server.end(own)
    return rows


async def leader_never_gives_way(transaction: Transaction, given: Parameters) -> list[Row]:
    """The lease of a scheduler never lapses."""
    known = transaction.get("leases", given["name"])
    if given["name"] == LEASE and known and known["holder"] != given["holder"]:
        return []
    return await queueing.hold(transaction, given)


async def all_held_are_released(transaction: Transaction, _given: Parameters) -> list[Row]:
    """What waits for the run before is let go together with all that waits behind it."""
    held = [key for key, row in transaction.rows("work_items") if row["run_after"] == scheduling.NEVER]
    return await scheduling.let_go_of(transaction, held)


async def due_does_not_see_what_runs(transaction: Transaction, given: Parameters) -> list[Row]:
    """Whether the run before has ended is not looked at."""
    return [{**row, "is_busy": False} for row in await scheduling.due(transaction, given)]


async def due_does_not_see_a_pause(transaction: Transaction, given: Parameters) -> list[Row]:
    """Whether a schedule is paused is not looked at."""
    return [{**row, "is_paused": False} for row in await scheduling.due(transaction, given)]


async def moments_are_submitted_and_not_told(_transaction: Transaction, _given: Parameters) -> list[Row]:
    """Nothing is written down of a moment."""
    return []


async def chunks_that_wait_do_not_count(transaction: Transaction, given: Parameters) -> list[Row]:
    """Only what is claimed counts against the chunks that a backfill has at once."""
    return await backfilling.keep_where(transaction, given, going=("claimed",))


async def backfills_end_before_their_chunks(transaction: Transaction, given: Parameters) -> list[Row]:
    """A backfill is finished once its last chunk is claimed."""
    return await backfilling.keep_where(transaction, given, unfinished_states=("held", "queued"))


class Retrying(Supervisor):
    """Forgets how often a task was tried."""

    def _failed(self, name: str, attempt: int, failure: Failure) -> None:
        super()._failed(name, 0, failure)


class RetryingHost(SupervisorHost):
    """Has such a supervisor."""

    async def _supervisor(self, taken: Taken) -> Supervisor:
        right = await super()._supervisor(taken)
        return Retrying(right.assignment, self._executor, right.journal, right.keeper, self._clock)


class Hasty(Keeper):
    """Tells, with what was done when it was asked, of what was done since."""

    async def kept(self, within: float = SAVE_SECONDS) -> list[Kept]:
        """What is written, and every report there is by now."""
        found = await super().kept(within)
        later, self._reported = self._reported, []
        return [*found, *later]


class HastyHost(SupervisorHost):
    """Has such a keeper."""

    async def _supervisor(self, taken: Taken) -> Supervisor:
        right = await super()._supervisor(taken)
        keeps = Keeps.of(taken.plan, dry_run=taken.context.dry_run)
        shelf = self.shelves(self._settings.artifacts, taken.holding.execution_id)
        keeper = Hasty(self._executor.save, shelf, keeps, taken.holding.generation)
        return Supervisor(right.assignment, self._executor, right.journal, keeper, self._clock)


class Deaf(Dispatcher):
    """Looks only when it is told to."""

    async def _listen(self) -> None:
        async for topic in self._bus.wakeups(WORK, every=NEVER):
            if topic is not None:
                self._news.set()

    async def step(self) -> bool:
        """Claim and hand out, and then wait for news for as long as it takes."""
        more = await super().step()
        if not more:
            await self._news.wait()
        return more


class Keeping(Dispatcher):
    """Gives a supervisor back only when all went well."""

    async def _supervise(self, supervisor: SupervisorHandle, claim: Claim) -> None:
        await supervisor.run(claim)
        self._pool.give_back(supervisor)
        self._news.set()


class Leaking(SimulatedDatabase):
    """Does not end the transaction of what was cancelled."""

    @asynccontextmanager
    async def statements(self, identity: Identity, *, lasting: bool = True) -> AsyncIterator[Statements]:
        """A transaction; commits at the end."""
        async with self._turn():
            transaction = await self._server.begin(self._process, lasting=lasting)
            try:
                yield SimulatedStatements(transaction)
                await self._server.commit(transaction)
            except asyncio.CancelledError:
                raise
            except BaseException:
                self.give_back(transaction)
                raise


NEVER: Final = 1e6

BUGS: Final[dict[str, Parts]] = {
    "claim_without_skip_locked": Parts({"claim": claim_without_skip_locked}),
    "renew_ignores_generation": Parts({"beat": renew_ignores_generation}),
    "finish_without_generation_check": Parts({"end": finish_without_generation_check}),
    "write_without_generation_check": Parts({"write": write_without_generation_check}),
    "journal_reuses_seq": Parts({"write": journal_reuses_seq}),
    "release_running": Parts({"release_lapsed": release_running}),
    "lapsed_stay_claimed": Parts({"release_lapsed": lapsed_stay_claimed}),
    "takeover_keeps_generation": Parts({"claim": takeover_keeps_generation}),
    "cancel_loses_to_completion": Parts({"write": cancel_loses_to_completion}),
    "ending_leaves_work_item": Parts({"end": ending_leaves_work_item}),
    "takeover_forgets_checkpoints": Parts({"chain": takeover_forgets_checkpoints}),
    "commit_without_ledger": Parts(destination=Ungoverned),
    "claim_counts_without_locks": Parts({"claim": claim_counts_without_locks}),
    "perform_without_comparing": Parts({"advance": perform_without_comparing}),
    "advance_on_its_own": Parts({"advance": advance_on_its_own}),
    "leader_never_gives_way": Parts({"hold": leader_never_gives_way}),
    "all_held_are_released": Parts({"let_go": all_held_are_released}),
    "due_does_not_see_what_runs": Parts({"due": due_does_not_see_what_runs}),
    "due_does_not_see_a_pause": Parts({"due": due_does_not_see_a_pause}),
    "moments_are_submitted_and_not_told": Parts({"record": moments_are_submitted_and_not_told}),
    "chunks_that_wait_do_not_count": Parts({"keep_backfills": chunks_that_wait_do_not_count}),
    "backfills_end_before_their_chunks": Parts({"keep_backfills": backfills_end_before_their_chunks}),
    "reports_before_completions": Parts(host=HastyHost),
    "retry_counts_from_zero": Parts(host=RetryingHost),
    "lost_wakeup_without_poll": Parts(dispatcher=Deaf),
    "slots_are_kept": Parts(dispatcher=Keeping),
    "connections_leak": Parts(database=Leaking),
}
