"""A worker process of its own under a cap of memory: `python -m tests.journeys.capped SERVER DATABASE MEBIBYTES WHAT`.

WHAT is `move`, a pipeline's task through the engine, or `hold`, all its rows at once, which the cap must not let pass.
"""

import json
import re
import resource
import sys
from pathlib import Path
from uuid import UUID, uuid4

from models.base import StrictModel
from models.destinations import DestinationType
from models.fields import JsonObject
from models.parsing import parse
from models.sources import SourceType
from runtime.batches.engine import Engine, EngineLimits
from runtime.connectors._contract import DESTINATIONS, SOURCES, Destination, ReadRequest, Source, Split, Target
from runtime.connectors.catalog import Catalog, DestinationEntry, SourceEntry
from runtime.executions.program import Outcome, RunContext, TaskRequest, programs
from runtime.executions.steps import Worker, run_task
from runtime.pipelines.compile import compile_definition
from runtime.pipelines.definition import parse_definition
from runtime.pipelines.plan import LoadPlan

KIND = "postgres"
PLACE = UUID(int=1)
ENGINE_MIB = 64
BATCH_ROWS = 10_000
TABLE = "bookings"
CATALOG = Catalog(
    (SourceEntry(PLACE, "source", SourceType.DATABASE, KIND),),
    (DestinationEntry(PLACE, "target", DestinationType.DATABASE, KIND),),
)
DEFINITION: JsonObject = {
    "pipeline_name": "move",
    "pipeline_type": "etl",
    "source_config": {"source_id": "source", "dataset": TABLE, "batch_size": BATCH_ROWS},
    "transformation_config": {
        "transformations": [
            {"type": "filter", "config": {"condition": "id % 10 > 0"}},
            {"type": "derive", "config": {"columns": {"gross": "price * 1.2", "note": "upper(note)"}}},
        ]
    },
    "destination_config": {"destination_id": "target", "table_name": "facts", "write_mode": "append"},
}


class OneDatabase:
    """Opens one database as every source and destination."""

    def __init__(self, server: str, database: str) -> None:
        self._config: JsonObject = {"host": server, "database": database, "user": "postgres"}

    def source(self, source: UUID, revision: str) -> Source[StrictModel]:
        """The database as a source."""
        plugin = SOURCES.get(KIND)
        return plugin(parse(plugin.Config, self._config))

    def destination(self, destination: UUID, revision: str, load: LoadPlan) -> tuple[Destination[StrictModel], Target]:
        """The database as a destination."""
        plugin = DESTINATIONS.get(KIND)
        return plugin(parse(plugin.Config, self._config)), Target(load.table, load.write_mode)


def move(database: OneDatabase) -> int:
    """Run the pipeline's one task; the rows it inserted."""
    plan = compile_definition(parse_definition(DEFINITION), CATALOG)
    (program,) = programs(plan).values()
    context = RunContext(uuid4(), uuid4(), 1, {}, {PLACE: ""}, block_rows=BATCH_ROWS)
    worker = Worker(database, Engine(EngineLimits(threads=1, memory_mb=ENGINE_MIB, spill_folder=Path("spill"))))
    outcome = [*run_task(TaskRequest(program, context), {}, worker)][-1]
    assert isinstance(outcome, Outcome)
    return outcome.report.steps[-1].inserted


def hold(database: OneDatabase) -> int:
    """Read everything at once; the rows."""
    rows = database.source(PLACE, "").read(ReadRequest(TABLE), Split(0)).read_all()
    return int(rows.num_rows)


def cap(mebibytes: int) -> None:
    """Let this process have only so much private memory more than it has now."""
    status = Path("/proc/self/status").read_text()
    used = re.search(r"VmData:\s+(\d+)", status)
    assert used is not None
    most = int(used[1]) * 1024 + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def main() -> None:
    """Do it, and say how many rows it was."""
    server, database, mebibytes, what = sys.argv[1:]
    place = OneDatabase(server, database)
    place.source(PLACE, "").check()
    cap(int(mebibytes))
    print(json.dumps({"rows": move(place) if what == "move" else hold(place)}))


if __name__ == "__main__":
    main()
