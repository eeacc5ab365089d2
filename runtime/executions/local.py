"""An executor without Ray: tasks run in threads of this process, their blocks stay in memory."""

import asyncio
from collections.abc import Mapping

import pyarrow as pa

from runtime.executions.executor import OnProgress, Ran, Refs, WorkerLost
from runtime.executions.program import Outcome, Progress, TaskRequest
from runtime.executions.steps import Worker, run_task


class LocalExecutor:
    """Runs tasks here, for previews and for stepping supervisors in tests; cancelling waits for the batch at hand."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def run(self, request: TaskRequest, inputs: Mapping[str, Refs], on_progress: OnProgress) -> Ran:
        """Raises the task's own typed error."""
        blocks: dict[str, list[pa.Table]] = {name: list(refs) for name, refs in inputs.items()}
        return await asyncio.to_thread(self._run, request, blocks, on_progress)

    def _run(self, request: TaskRequest, inputs: Mapping[str, list[pa.Table]], on_progress: OnProgress) -> Ran:
        made: list[pa.Table] = []
        for item in run_task(request, inputs, self._worker):
            if isinstance(item, Progress):
                on_progress(item)
            elif isinstance(item, Outcome):
                return Ran(item, (*made, *([item.block] if item.block is not None else [])))
            else:
                made.append(item)
        raise WorkerLost("the task ended without an outcome")
