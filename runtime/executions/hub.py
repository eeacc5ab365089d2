"""Follows executions for everyone in this process who watches: events are read once and handed to all of them."""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from models.errors import Exhausted, Invalid
from models.events import EventKind
from models.executions import PipelineExecution
from runtime.access.principal import Principal
from runtime.bus import ALL_EVENTS, Bus, events_topic
from runtime.database import Database, Identity
from runtime.executions.events import MOST, Event, Followed, Span, followed, of_all, of_some, settled
from runtime.executions.feeds import Feed, Feeds, Pace, Watcher
from runtime.positions import LATEST

READER: Final = Principal.runtime()
"""Reads for everyone; who may see what is decided for each watcher by a transaction of their own."""

REMEMBERED: Final = 10_000


class Hub:
    """Streams of events without gap or repeat: first what a cursor has missed, then what happens, as it happens."""

    def __init__(self, database: Database, bus: Bus, pace: Pace | None = None) -> None:
        self._database = database
        pace = pace or Pace()
        self._executions = Feeds[UUID](bus, _any_execution(), _execution_of, self._look, pace)
        self._everything = Feeds[None](bus, ALL_EVENTS, lambda _: None, self._look_at_all, pace)

    async def execution(self, who: Identity, reference: str, after: int) -> AsyncGenerator[Event, None]:
        """The events of one execution with `seq > after`, to its last one.

        Raises `NotFound` where there is none that `who` may see, `Invalid` for a cursor that no event has had, and
        `Exhausted`, with the cursor to go on from, for one who takes events slower than they come.
        """
        async with self._database.statements(who) as session:
            found = await followed(session, reference)
        if after > found.last_seq:
            raise Invalid(
                f"no event of this execution has the cursor {after}: its last one is {found.last_seq}",
                hint="give the cursor of the last event seen, or leave it out",
                path="after",
            )
        if found.has_ended:
            async for event in self._replayed(found, after, found.last_seq):
                yield event
            return
        with self._executions.watching(found.id, found.last_seq, found.started_at) as (watcher, joined):
            async for event in self._replayed(found, after, joined):
                yield event
                if event.is_last:
                    return
            async for event in _taken(watcher, max(after, joined)):
                if event.seq > after:
                    yield event
                if event.is_last:
                    return

    async def everything(
        self, who: Identity, after: int | None, kinds: Iterable[EventKind] | None = None
    ) -> AsyncGenerator[Event, None]:
        """The events of all executions that `who` may see with `position > after`, or from now on; never ends.

        With `kinds`, only those. Raises `Exhausted` as `execution` does.
        """
        wanted = frozenset(EventKind if kinds is None else kinds)
        sight = _Sight(self._database, who)
        with self._everything.watching(None, await self._now()) as (watcher, joined):
            position = joined if after is None else after
            while position < joined:
                async with self._database.statements(READER) as session:
                    missed = await of_all(session, position, joined)
                for event in await sight.of(event for event in missed if event.kind in wanted):
                    yield event
                position = missed[-1].position if len(missed) == MOST else joined
            while True:
                taken = await watcher.take()
                news = [event for event in taken if event.kind in wanted and event.position > position]
                for event in await sight.of(news):
                    yield event
                if not taken:
                    raise _too_slow(position)
                position = max(position, taken[-1].position)

    async def close(self) -> None:
        """Stop following."""
        await self._executions.close()
        await self._everything.close()

    async def _now(self) -> int:
        known = self._everything.cursor(None)
        if known is not None:
            return known
        async with self._database.statements(READER) as session:
            return await settled(session)

    async def _replayed(self, execution: Followed, after: int, until: int) -> AsyncGenerator[Event, None]:
        """The events with `after < seq <= until`, page by page, as fast as they are taken."""
        while after < until:
            async with self._database.statements(READER) as session:
                page = await of_some(session, [Span(execution.id, execution.started_at, after, until)])
            for event in page:
                yield event
            after = page[-1].seq if page else until

    async def _look(self, feeds: Mapping[UUID, Feed]) -> None:
        """Hand out what is new in these executions, which all are read in one statement."""
        left = dict(feeds)
        while left:
            spans = [Span(key, feed.since or datetime.min, feed.cursor, LATEST) for key, feed in left.items()]
            counts = dict.fromkeys(left, 0)
            async with self._database.statements(READER) as session:
                for event in await of_some(session, spans):
                    counts[event.execution_id] += 1
                    left[event.execution_id].hand_out(event, event.seq)
            left = {key: feed for key, feed in left.items() if counts[key] == MOST}

    async def _look_at_all(self, feeds: Mapping[None, Feed]) -> None:
        for feed in feeds.values():
            async with self._database.statements(READER) as session:
                last = await settled(session, feed.cursor)
                while feed.cursor < last:
                    events = await of_all(session, feed.cursor, last)
                    for event in events:
                        feed.hand_out(event, event.position)
                    if len(events) < MOST:
                        feed.cursor = last


class _Sight:
    """Which executions a person may see, as row-level security says; asked once for each, as it does not change."""

    def __init__(self, database: Database, who: Identity) -> None:
        self._database = database
        self._who = who
        self._known: OrderedDict[UUID, bool] = OrderedDict()

    async def of(self, events: Iterable[Event]) -> list[Event]:
        """The events of what may be seen."""
        asked = list(events)
        unknown = {event.execution_id for event in asked} - self._known.keys()
        if unknown:
            async with self._database.transaction(self._who) as session:
                seen = await _seen(session, unknown)
            self._known.update((identity, identity in seen) for identity in unknown)
        shown = [event for event in asked if self._known[event.execution_id]]
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return shown


async def _seen(session: AsyncSession, ids: set[UUID]) -> set[UUID]:
    visible = select(col(PipelineExecution.id)).where(col(PipelineExecution.id).in_(ids))
    return set((await session.scalars(visible)).all())


async def _taken(watcher: Watcher, cursor: int) -> AsyncGenerator[Event, None]:
    while taken := await watcher.take():
        for event in taken:
            cursor = event.seq
            yield event
    raise _too_slow(cursor)


def _too_slow(cursor: int) -> Exhausted:
    return Exhausted(
        "events came faster than they were taken",
        hint=f"subscribe again with `after: {cursor}`; nothing is lost",
        code="too_slow",
    )


def _any_execution() -> str:
    return events_topic(UUID(int=0)).replace(str(UUID(int=0)), "*")


def _execution_of(topic: str) -> UUID | None:
    try:
        return UUID(topic.rpartition(":")[2])
    except ValueError:
        return None
