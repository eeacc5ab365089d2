"""Where the cause of a run's error is: in the pipeline's definition, or in the configuration of what it reads."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from models.errors import DomainError
from runtime.connectors._contract import SOURCES
from runtime.connectors.configs import placed
from runtime.pipelines.plan import ExtractPlan

_OF_EXTRACT = {
    "dataset": "dataset",
    "query": "query",
    "filters": "filters",
    "partition": "partition",
    "incremental": "incremental",
    "cursor": "incremental.cursor_column",
}


@contextmanager
def traced(extract: ExtractPlan | None, path: str) -> Iterator[None]:
    """Errors that come out with a path that begins at the request to a source begin at `path` in the definition."""
    try:
        yield
    except DomainError as error:
        if extract is not None and error.path is not None:
            error.path = _place(error.path, extract, path)
        raise


def _place(found: str, extract: ExtractPlan, path: str) -> str:
    head = re.split(r"[.\[]", found, maxsplit=1)[0]
    if head in _OF_EXTRACT:
        rest = "" if head == "cursor" else found[len(head) :]
        return ".".join(filter(None, [path, _OF_EXTRACT[head] + rest]))
    return placed(SOURCES.get(extract.kind), found)
