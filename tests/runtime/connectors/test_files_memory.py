"""Two million rows go through files in bounded memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.connectors._contract import DESTINATIONS, SOURCES

ROWS = 2_000_000

COPY_UNDER_A_CAP = """
import json, re, resource, sys
from uuid import uuid4
import pyarrow as pa
from models.destinations import WriteMode
from models.fields import parse
from runtime.connectors._contract import DESTINATIONS, SOURCES, ReadRequest, RunKey, Split, Target
kind, root, target, cap = sys.argv[1:]
source = SOURCES.get(kind)(parse(SOURCES.get(kind).Config, {"root": root}))
plugin = DESTINATIONS.get("parquet")
tables = plugin(parse(plugin.Config, {"root": target}))
rows = source.read(ReadRequest("big"), Split(0))
used = int(re.search(r"VmData:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + int(cap), used + int(cap)))
counts = tables.load(Target("big", WriteMode.OVERWRITE), RunKey(uuid4(), uuid4(), "load"), rows, None)
print(json.dumps({"rows": counts.inserted}))
"""


def write_lines(path: Path, kind: str) -> None:
    """Two million rows of about fifty bytes."""
    with path.open("w") as file:
        if kind == "csv":
            file.write("id,name,price,at\n")
        for start in range(0, ROWS, 10_000):
            ids = range(start, start + 10_000)
            if kind == "csv":
                file.write("".join(f"{at},guest {at},{at % 997}.5,2026-07-04 12:00:00\n" for at in ids))
            else:
                file.write("".join(f'{{"id":{at},"name":"guest {at}","price":{at % 997}.5}}\n' for at in ids))


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts all private memory on Linux alone")
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_two_million_rows_are_copied_under_a_memory_cap(tmp_path: Path, kind: str) -> None:
    assert kind in SOURCES.all()
    assert "parquet" in DESTINATIONS.all()
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    write_lines(tmp_path / "in" / f"big.{kind}", kind)
    done = subprocess.run(
        [sys.executable, "-c", COPY_UNDER_A_CAP, kind, str(tmp_path / "in"), str(tmp_path / "out"), str(256 << 20)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "ARROW_DEFAULT_MEMORY_POOL": "system"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"rows": ROWS}
