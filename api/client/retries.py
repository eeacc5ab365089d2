"""Ended executions taken up again: retried, run again from a step, and what that would run."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import BeforeValidator

from api.client import operations
from api.client.transport import Transport
from api.client.values import Execution, Value, lowered


class Fate(StrEnum):
    """What becomes of a step."""

    RUN = "run"
    RESTORE = "restore"
    SKIP = "skip"


class RerunStep(Value):
    """A step, what becomes of it, and why."""

    step_name: str
    fate: Annotated[Fate, BeforeValidator(lowered)]
    reason: str


class RerunPreview(Value):
    """What taking an execution up again would do with each step, in the plan's order; in that execution's version."""

    execution_id: str
    version: int | None
    steps: tuple[RerunStep, ...]


class Retries:
    """What has ended, run again; every method raises typed errors."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def retry(self, reference: UUID | str, *, idempotency_key: str | None = None) -> Execution:
        """Queue an execution of what a failed or cancelled one did not finish; raises `Conflict` if that is nothing."""
        answer = await self._transport.ask(operations.RETRY, id=str(reference), key=idempotency_key)
        return Execution.model_validate(answer)

    async def rerun(self, reference: UUID | str, from_step: str, *, idempotency_key: str | None = None) -> Execution:
        """Queue an execution of an ended one's steps from one on; raises `Invalid` for a step that there is not."""
        answer = await self._transport.ask(operations.RERUN, id=str(reference), step=from_step, key=idempotency_key)
        return Execution.model_validate(answer)

    async def preview(self, reference: UUID | str, from_step: str | None = None) -> RerunPreview:
        """What `rerun`, or without a step `retry`, would run again and what it would restore."""
        answer = await self._transport.ask(operations.RERUN_PREVIEW, id=str(reference), step=from_step)
        return RerunPreview.model_validate(answer)
