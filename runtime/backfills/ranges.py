"""Whether a pipeline can be backfilled: each run must read a range of its own, and leave what the others wrote."""

import re
from collections.abc import Iterator
from typing import Final

from models.destinations import WriteMode
from models.errors import Invalid
from runtime.pipelines.plan import Plan, PlanStep
from runtime.transforms import _types as t

RANGE_START: Final = "range_start"
RANGE_END: Final = "range_end"
_NAMED: Final = re.compile(rf"(?<!:):({RANGE_START}|{RANGE_END})\b")


def refuse_unbounded(plan: Plan, chunks: int) -> None:
    """Raise `Invalid` for a plan whose runs would not each read their own range, or would overwrite each other.

    A range reaches an extract as the parameters `:range_start` and `:range_end` of its query or of its endpoint, or as
    the range of an incremental read over a column of moments.
    """
    extracts = [step for step in plan.steps if step.extract is not None and step.enabled]
    for step in _numbered(extracts):
        raise Invalid(
            f"the extract {step.name!r} is incremental over a column of numbers, which no range of time bounds",
            hint="write :range_start and :range_end into its query instead of `incremental`",
            path="pipeline",
            code="no_range",
        )
    if not (_is_declared(plan) or any(_takes_range(step) for step in extracts)):
        raise Invalid(
            f"pipeline {plan.pipeline_name!r} reads the same whatever the range",
            hint="write :range_start and :range_end into the query of an extract, as in "
            "`WHERE day >= :range_start AND day < :range_end`, with defaults for other runs in `parameters`; "
            "or make an extract incremental over a column of moments",
            path="pipeline",
            code="no_range",
        )
    for step in plan.steps:
        if chunks > 1 and step.enabled and step.load is not None and step.load.write_mode is WriteMode.OVERWRITE:
            raise Invalid(
                f"the load {step.name!r} overwrites its table, so that only the last chunk would be left",
                hint="set its write_mode to append or upsert, or take the whole range as one chunk",
                path="pipeline",
                code="overwrites",
            )


def _is_declared(plan: Plan) -> bool:
    """Whether the definition has the range among its parameters, as it must where only a source's own configuration
    reads them.
    """
    return bool({RANGE_START, RANGE_END} & plan.parameters.keys())


def _takes_range(step: PlanStep) -> bool:
    extract = step.extract
    if extract is None:
        return False
    return extract.cursor_column is not None or _NAMED.search(extract.query or "") is not None


def _numbered(extracts: list[PlanStep]) -> Iterator[PlanStep]:
    for step in extracts:
        cursor = step.extract.cursor_column if step.extract else None
        kinds = [column.type for column in step.columns or () if column.name == cursor]
        if any(t.is_number(t.canonical(kind)) for kind in kinds):
            yield step
