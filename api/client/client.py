"""The client: what a person or a program does with a server, typed."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final
from uuid import UUID

from api.client import operations, places
from api.client.backfills import Backfills
from api.client.backups import Backups
from api.client.following import followed
from api.client.pools import Pools
from api.client.retries import Retries
from api.client.schedules import Schedules
from api.client.transport import Transport
from api.client.values import (
    Accepted,
    Event,
    Execution,
    ExecutionSummary,
    Log,
    PipelineName,
    PlanText,
    Value,
)
from api.signing import signed
from models.access import Role
from models.errors import NotFound, Unavailable
from models.executions import ExecutionState
from models.fields import Json, JsonObject
from models.parsing import as_uuid
from runtime.embedded.home import Home
from runtime.pipelines.difference import Change, ChangeKind, difference
from runtime.pipelines.expand import references
from runtime.pipelines.files import Entry, EntryKind
from runtime.settings import Settings

PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Saved:
    """What saving a definition did, or would do: created, updated or unchanged; what differs; what to know of it."""

    kind: EntryKind
    name: str
    action: str
    changes: tuple[Change, ...] = ()
    incomparable: bool = False
    notes: tuple[str, ...] = ()


class Client:
    """A server, spoken to as one person; every method raises typed errors."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._transport = Transport(url, token)

    @classmethod
    def of_home(cls, settings: Settings, role: Role = Role.DATA_ENGINEER) -> "Client":
        """The server of a home, or the one that WEDSYNC_URL names; raises `NotFound` when none runs there.

        Without WEDSYNC_TOKEN it signs itself a token with the home's secret.
        """
        url = settings.url or Home(settings.home).running().url
        token = settings.token.get_secret_value() if settings.token else signed(settings, role)
        return cls(url, token)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    @property
    def backups(self) -> Backups:
        """The earlier versions of the tables of destinations."""
        return Backups(self._transport)

    @property
    def retries(self) -> Retries:
        """Ended executions, taken up again."""
        return Retries(self._transport)

    @property
    def pools(self) -> Pools:
        """The pools that limit how many executions run at once."""
        return Pools(self._transport)

    @property
    def backfills(self) -> Backfills:
        """The backfills of pipelines."""
        return Backfills(self._transport)

    @property
    def schedules(self) -> Schedules:
        """The schedules of pipelines."""
        return Schedules(self._transport)

    async def save(self, entry: Entry) -> Saved:
        """Add or change the pipeline, source or destination of a file's entry."""
        if entry.kind is EntryKind.PIPELINE:
            return await self._apply(entry, dry_run=False)
        created = await places.save(self._transport, entry.kind, entry.document)
        return Saved(entry.kind, places.check(entry.kind, entry.document), "created" if created else "updated")

    async def compare(self, entry: Entry, after: Collection[str] = ()) -> Saved:
        """What `save` would do; sealed parts of sources and destinations cannot be compared.

        `after` names sources and destinations that are to be added before: a pipeline over them is compared as it is
        written, since it cannot be compiled yet.
        """
        if entry.kind is EntryKind.PIPELINE and set(after).intersection(references(entry.pipeline())):
            return await _written(self, entry)
        if entry.kind is EntryKind.PIPELINE:
            return await self._apply(entry, dry_run=True)
        name = places.check(entry.kind, entry.document)
        found = await places.changes(self._transport, entry.kind, entry.document)
        action = "created" if found is None else "updated" if found else "unchanged"
        return Saved(entry.kind, name, action, tuple(found or ()), incomparable=places.seals(entry.document))

    async def _apply(self, entry: Entry, *, dry_run: bool) -> Saved:
        found = await self._transport.ask(operations.APPLY, definition=entry.document, dryRun=dry_run)
        applied = _Applied.model_validate(found)
        changed = tuple(change.told() for change in applied.changes)
        name = str(entry.document.get("pipeline_name"))
        return Saved(entry.kind, name, applied.action.lower(), changed, notes=applied.plan.notes)

    async def discover_source(self, name: str) -> list[str]:
        """Have the runtime look which datasets a source has; waits until it has, and answers their names."""
        found = await places.find(self._transport, EntryKind.SOURCE, name)
        if found is None:
            raise places.missing(EntryKind.SOURCE, name)
        answer = await self._transport.ask(operations.DISCOVER_SOURCE, id=str(found.id))
        return [dataset.name for dataset in _Discovered.model_validate(answer).datasets]

    async def pipelines(self) -> list[str]:
        """The names of all pipelines, in order."""
        names, after = list[str](), None
        while True:
            page = _Names.model_validate(await self._transport.ask(operations.PIPELINES, first=PAGE, after=after))
            names.extend(node.pipeline_name for node in page.nodes)
            if not page.page_info.has_next_page:
                return names
            after = page.page_info.end_cursor

    async def definition(self, name: str) -> JsonObject:
        """The newest definition of a pipeline, as it was written."""
        found = await self._transport.ask(operations.DEFINITION, name=name)
        return _Defined.model_validate(found).definition

    async def plan(self, name: str) -> PlanText:
        """What a saved pipeline is compiled to."""
        found = _Planned.model_validate(await self._transport.ask(operations.PLAN, name=name))
        if found.plan is None:
            raise Unavailable(f"{name} has no plan", hint="save it again")
        return found.plan

    async def compile(self, definition: JsonObject) -> PlanText:
        """What a definition would be compiled to, against the server's sources; raises `Invalid`."""
        return PlanText.model_validate(await self._transport.ask(operations.COMPILE, definition=definition))

    async def execute(
        self,
        name: str,
        parameters: JsonObject | None = None,
        *,
        dry_run: bool = False,
        idempotency_key: str | None = None,
        priority: int | None = None,
    ) -> Execution:
        """Queue an execution of a pipeline; a key that was given before answers its execution as it is now.

        Without a priority it has its pipeline's.
        """
        given: JsonObject = {
            "parameters": parameters or {},
            "dryRun": dry_run,
            "idempotencyKey": idempotency_key,
            "priority": priority,
        }
        answer = await self._transport.ask(operations.EXECUTE, id=name, input=given)
        accepted = Accepted.model_validate(answer)
        if accepted.state is not ExecutionState.QUEUED or as_uuid(name) is not None:
            return await self.execution(accepted.id)
        return Execution(**dict(accepted), pipeline=PipelineName(pipeline_name=name))

    async def execution(self, reference: UUID | str) -> Execution:
        """An execution with its steps, by `id` or `execution_id`."""
        return Execution.model_validate(await self._transport.ask(operations.EXECUTION, id=str(reference)))

    async def executions(self, pipeline: str | None = None, first: int = 20) -> Sequence[ExecutionSummary]:
        """The executions accepted last, of all pipelines or of one."""
        found = await self._transport.ask(operations.EXECUTIONS, first=first, pipeline=pipeline)
        return _Executions.model_validate(found).nodes

    async def cancel(self, reference: UUID | str) -> Execution:
        """Ask an execution to stop."""
        return Execution.model_validate(await self._transport.ask(operations.CANCEL, id=str(reference)))

    async def events(self, reference: UUID | str, after: str | None = None) -> AsyncIterator[Event]:
        """What happens in an execution up to its end, from the first event or a cursor on, without gap or repeat.

        A stream that is cut is followed again; a server that is away is waited for up to 20 s, once it was there.
        """
        async for value in followed(self._transport, operations.EVENTS, id=str(reference), after=after):
            yield Event.model_validate(value)

    async def finished(self, reference: UUID | str) -> Execution:
        """Wait for the end of an execution and answer it."""
        async for _ in self.events(reference):
            pass
        return await self.execution(reference)

    async def log(self, reference: UUID | str, after: int = 0) -> Log:
        """Some lines of an execution's log from a cursor on; none and the same cursor when there are no more."""
        return Log.model_validate(await self._transport.ask(operations.LOGS, id=str(reference), after=after))


async def _written(client: Client, entry: Entry) -> Saved:
    """How a definition differs from the saved one, as both are written."""
    name = entry.pipeline().pipeline_name
    try:
        earlier = await client.definition(name)
    except NotFound:
        return Saved(entry.kind, name, "created", tuple(difference({}, entry.document)))
    changes = tuple(difference(earlier, entry.document))
    return Saved(entry.kind, name, "updated" if changes else "unchanged", changes)


class _Change(Value):
    kind: str
    path: str
    old: Json = None
    new: Json = None

    def told(self) -> Change:
        return Change(kind=ChangeKind(self.kind.lower()), path=self.path, old=self.old, new=self.new)


class _Noted(Value):
    notes: tuple[str, ...]


class _Applied(Value):
    action: str
    changes: tuple[_Change, ...]
    plan: _Noted


class _Dataset(Value):
    name: str


class _Discovered(Value):
    datasets: tuple[_Dataset, ...]


class _PageInfo(Value):
    has_next_page: bool
    end_cursor: str | None = None


class _Name(Value):
    pipeline_name: str


class _Names(Value):
    nodes: tuple[_Name, ...]
    page_info: _PageInfo


class _Defined(Value):
    definition: JsonObject


class _Planned(Value):
    plan: PlanText | None


class _Executions(Value):
    nodes: tuple[ExecutionSummary, ...]
