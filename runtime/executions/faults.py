"""Which of a task's fused steps an error belongs to: signed in the worker, read where the failure is written down."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import pyarrow as pa

from models.errors import DomainError
from runtime.batches.engine import Engine
from runtime.executions.meters import Meter
from runtime.executions.program import Member, TaskProgram

_SIGNATURE: Final = "step_at_fault"
_QUOTED: Final = re.compile(r"^(LINE \d+: )(.*)\n( *)(\^+)$", re.MULTILINE)
_OPENING: Final = re.compile(r" (?:AS|MATERIALIZED) \(")


def sign(error: Exception, step: str) -> None:
    """Note on an error the step it belongs to, unless that is known; the note survives the way to another process."""
    vars(error).setdefault(_SIGNATURE, step)


@contextmanager
def signing(step: str | None) -> Iterator[None]:
    """What goes wrong in here belongs to the step, if there is one."""
    try:
        yield
    except Exception as error:
        if step is not None:
            sign(error, step)
        raise


def signed_step(error: BaseException, program: TaskProgram) -> str | None:
    """The member that an error was signed with; None where it was not, or the step is no member."""
    step = vars(error).get(_SIGNATURE)
    return next((member.name for member in program.members if member.name == step), None)


def querying_member(program: TaskProgram, error: Exception, read: Meter, engine: Engine) -> str:
    """The member whose query an error of the engine comes from; of several that cannot be told apart, the last.

    The error may quote the query. If it does not, the batches that were in the engine's hands tell, run once more.
    """
    querying = program.querying or program.members
    if len(querying) == 1:
        return querying[0].name
    return _quoted(querying, error) or _repeated(querying, program, read, engine) or querying[-1].name


def _quoted(querying: Sequence[Member], error: Exception) -> str | None:
    """The first member in whose query stands what the engine underlines, with what is before it in that query."""
    place = next(filter(None, map(_QUOTED.search, _texts(error))), None)
    if place is None:
        return None
    told, line, indent, underlined = place.groups()
    start = max(0, len(indent) - len(told))
    text = line[: start + len(underlined)].removeprefix("...")
    own = _OPENING.split(text)[-1]
    return next((member.name for member in querying if own in (member.prefix or "")), None)


def _texts(error: BaseException | None) -> Iterator[str]:
    """What an error says, and those that it comes from."""
    while error is not None:
        yield str(error)
        error = error.__cause__


def _repeated(querying: Sequence[Member], program: TaskProgram, read: Meter, engine: Engine) -> str | None:
    """The first member up to which the chain fails on the latest batches."""
    if not read.latest or len(program.inputs) > 1:
        return None
    rows = {program.extract_step or program.inputs[0]: pa.Table.from_batches(read.latest)}
    for member in querying:
        try:
            engine.table(member.prefix or "", rows)
        except DomainError:
            return member.name
    return None
