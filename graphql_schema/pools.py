"""Pools that limit how many executions run at once, and what a queued execution waits for."""

from typing import Annotated, TypeAlias

import strawberry

from graphql_schema.context import Info
from graphql_schema.fields import mutation, query
from graphql_schema.permissions import Permission, permitted
from models.pipelines import DataPipeline
from runtime.bus import WORK
from runtime.queue import pools
from runtime.queue.pools import PoolUse, Wait, WaitReason

POOL = "concurrency_pool"

strawberry.enum(WaitReason, description="What a queued execution waits for.")

PoolName: TypeAlias = Annotated[str, strawberry.argument(description="The pool's name, as definitions have it.")]
Slots: TypeAlias = Annotated[int, strawberry.argument(description="How many executions may run in it at once.")]


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="A pool in which executions of some pipelines hold a slot each while they run.")
class ConcurrencyPool:
    """`runtime.queue.pools.PoolUse`."""

    name: str = strawberry.field(description="Its name.")
    slots: int | None = strawberry.field(description="How many may run at once; null: any number.")
    running: int = strawberry.field(description="How many run.")

    @classmethod
    def of(cls, pool: PoolUse) -> "ConcurrencyPool":
        """Show a pool."""
        return cls(name=pool.name, slots=pool.slots, running=pool.running)


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="What a queued execution waits for.")
class WaitingFor:
    """`runtime.queue.pools.Wait`."""

    reason: WaitReason = strawberry.field(
        description="An earlier run of its schedule or backfill, a slot, a rest once its supervisors died, or a worker."
    )
    name: str | None = strawberry.field(description="The pipeline or the pool that holds it back.")
    limit: int | None = strawberry.field(description="How many may run there at once.")
    running: int | None = strawberry.field(description="How many run there.")

    @classmethod
    def of(cls, wait: Wait) -> "WaitingFor":
        """Show a wait."""
        return cls(reason=wait.reason, name=wait.name, limit=wait.limit, running=wait.running)


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="What a pipeline's executions are held to while they wait.")
class PipelineConcurrency:
    """The `concurrency` of a definition."""

    max_active: int | None = strawberry.field(description="How many may run at once; null: any number.")
    pool: str = strawberry.field(description="The pool in which each that runs holds a slot.")
    priority: int = strawberry.field(description="The highest goes first; 0 unless set.")

    @classmethod
    def of(cls, row: DataPipeline) -> "PipelineConcurrency":
        """Show what a pipeline's newest version says."""
        return cls(max_active=row.max_active, pool=row.pool, priority=row.priority)


@strawberry.type
class PoolQueries:
    """Reads pools."""

    @query(Permission.SIGNED_IN, "The pools that have a size, and those that pipelines name without one.")
    async def concurrency_pools(self, info: Info) -> list[ConcurrencyPool]:
        async with info.context.reading() as session:
            return [ConcurrencyPool.of(pool) for pool in await pools.pools(session)]


@strawberry.type
class PoolMutations:
    """Changes pools."""

    @mutation(Permission.ENGINEERS, "Say how many executions may run in a pool at once; what runs beyond that goes on.")
    async def set_concurrency_pool(self, info: Info, name: PoolName, slots: Slots) -> ConcurrencyPool:
        async with info.context.writing(WORK) as session:
            pool = await pools.set_pool(session, name, slots)
            info.context.note("set", POOL, name, slots=slots)
        return ConcurrencyPool.of(pool)

    @mutation(Permission.ENGINEERS, "Let any number of executions run in a pool; answers what it was.")
    async def remove_concurrency_pool(self, info: Info, name: PoolName) -> ConcurrencyPool:
        async with info.context.writing(WORK) as session:
            pool = await pools.remove_pool(session, name)
            info.context.note("remove", POOL, name)
        return ConcurrencyPool.of(pool)
