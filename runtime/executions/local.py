"""An executor without Ray: tasks run in threads of this process, their blocks stay in memory."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import cast

import pyarrow as pa

from runtime.executions.checkpoints import Place, StoredBlocks, write_blocks
from runtime.executions.executor import OnProgress, Ran, Refs, TaskResult, WorkerLost
from runtime.executions.program import Outcome, Progress, TaskRequest
from runtime.executions.steps import Blocks, Worker, run_task


class LocalExecutor:
    """Runs tasks here, for previews and for stepping supervisors in tests; cancelling waits for the batch at hand."""

    def __init__(self, worker: Worker, artifacts: Path) -> None:
        self._worker = worker
        self._artifacts = artifacts

    async def run(self, request: TaskRequest, inputs: Mapping[str, Refs], on_progress: OnProgress) -> Ran:
        """Raises the task's own typed error."""
        blocks = {name: _LocalBlocks(self._artifacts, refs) for name, refs in inputs.items()}
        return await asyncio.to_thread(self._run, request, blocks, on_progress)

    async def save(self, output: TaskResult, file: str) -> Place:
        """Write the output of a task to a file of the artifact store."""
        blocks = cast(Iterable[pa.Table], output.blocks)
        return await asyncio.to_thread(write_blocks, self._artifacts, file, blocks)

    def _run(self, request: TaskRequest, inputs: Mapping[str, Blocks], on_progress: OnProgress) -> Ran:
        made: list[pa.Table] = []
        for item in run_task(request, inputs, self._worker):
            if isinstance(item, Progress):
                on_progress(item)
            elif isinstance(item, Outcome):
                return Ran(item, (*made, *([item.block] if item.block is not None else [])))
            else:
                made.append(item)
        raise WorkerLost("the task ended without an outcome")


class _LocalBlocks:
    """Blocks in memory or in the artifact store."""

    def __init__(self, artifacts: Path, refs: Refs) -> None:
        self._artifacts = artifacts
        self._refs = refs

    def __iter__(self) -> Iterator[pa.Table]:
        for ref in self._refs:
            if isinstance(ref, Place):
                yield from StoredBlocks(self._artifacts, ref)
            else:
                yield cast(pa.Table, ref)
