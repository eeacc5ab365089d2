"""Runs one task in a worker: reads, transforms and loads Arrow batches in bounded memory, and reports what it did."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol, TypeAlias, TypeVar
from uuid import UUID

import pyarrow as pa

from models.base import StrictModel
from models.errors import Terminal
from models.fields import Json
from runtime.batches.engine import Engine
from runtime.connectors._contract import Destination, LoadCounts, Rejections, RunKey, Source, Target
from runtime.executions.causes import traced
from runtime.executions.chains import Chain
from runtime.executions.cursors import cursor_move, kept_cursors, ranges_read, read_range, read_request
from runtime.executions.faults import querying_member, sign, signing
from runtime.executions.meters import Meter, Usage, sample_of
from runtime.executions.program import CommitKey, Outcome, Phase, Progress, TaskRequest
from runtime.executions.reports import Measured, commit_report, task_report
from runtime.executions.state import TaskReport
from runtime.pipelines.plan import LoadPlan

INLINE_BYTES = 64 * 1024
PROGRESS_SECONDS = 0.5

R = TypeVar("R")

Blocks: TypeAlias = Iterable[pa.Table]
Item: TypeAlias = pa.Table | Progress | Outcome


class Connections(Protocol):
    """Opens sources and destinations by their id; a revision tells a changed configuration from a cached one."""

    def source(self, source: UUID, revision: str) -> Source[StrictModel]:
        """The source, opened; the caller closes it."""

    def destination(self, destination: UUID, revision: str, load: LoadPlan) -> tuple[Destination[StrictModel], Target]:
        """The destination, opened, and where and how the load writes there; the caller closes it."""


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker process has at hand for its tasks."""

    connections: Connections
    engine: Engine


def run_task(request: TaskRequest, inputs: Mapping[str, Blocks], worker: Worker) -> Generator[Item, None, None]:
    """Run one phase of a task: blocks of its output or progress as it goes, and an `Outcome` last.

    `inputs` are re-iterable blocks by input name. A failed or abandoned run leaves the destination as it was.
    """
    with traced(request.program.extract, request.program.members[0].path):
        match request.phase:
            case Phase.SPLIT:
                with signing(request.program.extract_step):
                    outcome = _split(request, worker)
                yield outcome
            case Phase.COMMIT:
                yield _commit(request, worker)
            case Phase.ABORT:
                _abort(request, worker)
                yield Outcome(TaskReport(()))
            case Phase.WHOLE | Phase.PARTITION:
                yield from TaskRun(request, inputs, worker).items()


class TaskRun:
    """One run of a task's chain: a read or input blocks, a query over them, and a load or output blocks."""

    def __init__(self, request: TaskRequest, inputs: Mapping[str, Blocks], worker: Worker) -> None:
        self.request = request
        self.program = request.program
        self.inputs = inputs
        self.worker = worker
        self.usage = Usage()
        keep = worker.engine.limits.threads if len(self.program.querying) > 1 else 0
        self.read = Meter(self.usage.sample, keep=keep)
        self.made = Meter(self.usage.sample)
        self.chain = Chain(self.program, worker.engine)
        self.ranges = dict(request.ranges)
        self.rejections = Rejections()
        self.flowing = False

    def items(self) -> Iterator[Item]:
        """Blocks or progress, then the outcome; an error is signed with the member it belongs to."""
        at_fault = self.program.members[0].name
        try:
            with ExitStack() as resources:
                readers = self._open(resources)
                try:
                    yield from self._flow(readers, resources)
                except Exception as error:
                    at_fault = _member_at_fault(self, error)
                    raise
        except Exception as error:
            sign(error, at_fault)
            raise

    def _flow(self, readers: Mapping[str, pa.RecordBatchReader], resources: ExitStack) -> Iterator[Item]:
        result = resources.enter_context(self._query(readers))
        stream = self.made.reader(result)
        self.flowing = True
        if self.program.load is not None:
            yield from self._load(stream, resources)
        else:
            yield from self._blocks(stream)

    def _open(self, resources: ExitStack) -> dict[str, pa.RecordBatchReader]:
        extract = self.program.extract
        if extract is None:
            return {name: self.read.reader(_reader(name, blocks)) for name, blocks in self.inputs.items()}
        identity = UUID(extract.source)
        request = self.request
        source = self.worker.connections.source(identity, request.context.revisions[identity])
        resources.callback(source.close)
        self.rejections = source.rejections
        if extract.incremental and request.range is None:
            with signing(self.program.load_step):
                kept = kept_cursors(request, self.worker.connections)
            request = replace(request, range=read_range(source, request, kept))
        self.ranges = ranges_read(request)
        wanted = read_request(request)
        split = request.split or source.split(wanted, 1)[0]
        return {self.program.members[0].name: self.read.reader(source.read(wanted, split))}

    @contextmanager
    def _query(self, readers: Mapping[str, pa.RecordBatchReader]) -> Iterator[pa.RecordBatchReader]:
        sql, context = self.program.sql, self.request.context
        if sql is None or (self.program.unites and _are_alike(readers.values())):
            yield _one_after_another(list(readers.values()))
        elif self.program.by_batches:
            ((name, reader),) = readers.items()
            yield self.chain.reader(sql, name, reader)
        else:
            if self.program.counting is not None:
                self.chain.count({name: _reader(name, blocks) for name, blocks in self.inputs.items()})
            with self.worker.engine.stream(sql, readers, batch_rows=context.block_rows) as result:
                yield result

    def _blocks(self, stream: pa.RecordBatchReader) -> Iterator[Item]:
        pending, size = list[pa.RecordBatch](), 0
        for batch in stream:
            pending.append(batch)
            if sum(part.num_rows for part in pending) >= self.request.context.block_rows:
                block = pa.Table.from_batches(pending)
                size += block.nbytes
                yield block
                pending = []
        rest = pa.Table.from_batches(pending, stream.schema)
        size += rest.nbytes
        if rest.nbytes > INLINE_BYTES:
            yield rest
            rest = stream.schema.empty_table()
        yield Outcome(self._report(), block=rest, output_bytes=size)

    def _load(self, stream: pa.RecordBatchReader, resources: ExitStack) -> Iterator[Item]:
        destination, target = resources.enter_context(_destination(self.request, self.worker))
        run, split = _run_key(self.request), self.request.split
        if self.request.context.dry_run:
            destination.fit(target, stream.schema)
            for _ in stream:
                continue
            yield Outcome(self._report())
        elif self.request.phase is Phase.PARTITION and split is not None:
            destination.prepare(target, stream.schema, run)
            receipt = yield from self._watched(lambda: destination.write(target, run, split.index, stream))
            yield Outcome(self._report(), receipt=receipt)
        else:
            cursor = cursor_move(self.ranges, run.step)
            counts = yield from self._watched(lambda: destination.load(target, run, stream, cursor))
            yield Outcome(self._report(counts))

    def _watched(self, work: Callable[[], R]) -> Generator[Item, None, R]:
        """Do blocking work in a thread, and yield progress meanwhile."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            future = pool.submit(work)
            while not wait([future], timeout=PROGRESS_SECONDS).done:
                yield Progress(self.read.rows, self.made.rows)
            return future.result()

    def _report(self, counts: LoadCounts | None = None) -> TaskReport:
        measured = Measured(self.usage, self.read, self.made, self.chain, self.ranges, self._samples(), self.rejections)
        return task_report(self.program, measured, counts)

    def _samples(self) -> dict[str, Json]:
        """The first rows after each step; those between fused steps come from running the chain on a few rows."""
        read, members, made = self.read.first, self.program.members, sample_of(self.made.first)
        if read is None or len(self.inputs) > 1:
            return {members[-1].name: made}
        source, last = self.program.extract_step or self.program.inputs[0], members[-1].prefix
        rows, samples = {source: pa.Table.from_batches([read])}, dict[str, Json]()
        for member in members[:-1]:
            if member.prefix == last:
                samples[member.name] = made
            elif member.prefix is None:
                samples[member.name] = sample_of(read)
            else:
                samples[member.name] = sample_of(self.worker.engine.table(member.prefix, rows))
        return {**samples, members[-1].name: made}


def _member_at_fault(run: TaskRun, error: Exception) -> str:
    """Whose an error is that came while rows flowed: the read's, the query's, or the last member's."""
    if run.read.broke:
        return run.program.members[0].name
    if run.made.broke or not run.flowing:
        return querying_member(run.program, error, run.read, run.worker.engine)
    return run.program.members[-1].name


def _split(request: TaskRequest, worker: Worker) -> Outcome:
    """Divide a partitioned read, once, so that all its parts read the same range; prepare its load's staging."""
    extract = request.program.extract
    if extract is None:
        raise Terminal(f"task {request.program.task} reads no source", hint="report this plan", code="bad_plan")
    identity = UUID(extract.source)
    source = worker.connections.source(identity, request.context.revisions[identity])
    try:
        if extract.incremental:
            with signing(request.program.load_step):
                kept = kept_cursors(request, worker.connections)
            request = replace(request, range=read_range(source, request, kept))
        splits = source.split(read_request(request), request.program.partitions)
    finally:
        source.close()
    return Outcome(TaskReport(()), splits=tuple(splits), range=request.range)


def _commit(request: TaskRequest, worker: Worker) -> Outcome:
    """Publish what all partitions landed, in the destination's one final transaction."""
    usage = Usage()
    ranges, run = ranges_read(request), _run_key(request)
    with _destination(request, worker) as (destination, target):
        counts = destination.commit(target, run, request.receipts, cursor_move(ranges, run.step))
    return Outcome(commit_report(request.program, usage, counts, ranges))


def _abort(request: TaskRequest, worker: Worker) -> None:
    with _destination(request, worker) as (destination, target):
        destination.abort(target, _run_key(request))


@contextmanager
def _destination(request: TaskRequest, worker: Worker) -> Iterator[tuple[Destination[StrictModel], Target]]:
    load = request.program.load
    if load is None:
        raise Terminal(f"task {request.program.task} has no load", hint="report this plan", code="bad_plan")
    identity = UUID(load.destination)
    destination, target = worker.connections.destination(identity, request.context.revisions[identity], load)
    try:
        yield destination, target
    finally:
        destination.close()


def _run_key(request: TaskRequest) -> RunKey:
    context, step = request.context, request.program.members[-1].name
    own = CommitKey(context.execution_id, context.generation)
    key = context.commits.get(step, own)
    return RunKey(context.pipeline_id, key.execution_id, step, key.generation)


def _are_alike(readers: Iterable[pa.RecordBatchReader]) -> bool:
    """Whether all have the same columns, in the same order and of the same types."""
    first, *others = (reader.schema for reader in readers)
    return all(first.equals(schema, check_metadata=False) for schema in others)


def _one_after_another(readers: Sequence[pa.RecordBatchReader]) -> pa.RecordBatchReader:
    if len(readers) == 1:
        return readers[0]
    return pa.RecordBatchReader.from_batches(readers[0].schema, chain.from_iterable(readers))


def _reader(name: str, blocks: Blocks) -> pa.RecordBatchReader:
    """The blocks of one input as one stream; the first one tells the schema."""
    waiting = iter(blocks)
    first = next(waiting, None)
    if first is None:
        raise Terminal(f"{name} delivered no block, not even an empty one", hint="run it again", code="lost_input")

    def batches() -> Iterator[pa.RecordBatch]:
        yield from first.to_batches()
        for block in waiting:
            yield from block.cast(first.schema).to_batches()

    return pa.RecordBatchReader.from_batches(first.schema, batches())
