"""Tables of files: one switch for all files, exactly one effect, merges, folders by value, backups and full disks."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import duckdb
import pyarrow as pa
import pytest

from models.destinations import WriteMode
from models.errors import DomainError, Invalid, NotFound, Terminal
from models.fields import Json, parse
from runtime.connectors._contract import CursorMove, LoadCounts, ReadRequest, RunKey, Split, Target
from runtime.connectors.csv_files import CsvConfig, CsvDestination, CsvDestinationConfig, CsvSource
from runtime.connectors.parquet_files import ParquetDestination, ParquetDestinationConfig

NOON = datetime(2026, 7, 4, 12, tzinfo=UTC)


def csv_tables(root: Path, now: datetime = NOON) -> CsvDestination:
    return CsvDestination(parse(CsvDestinationConfig, {"root": str(root)}), clock=lambda: now)


def parquet_tables(root: Path) -> ParquetDestination:
    return ParquetDestination(parse(ParquetDestinationConfig, {"root": str(root)}))


def run(generation: int = 0) -> RunKey:
    return RunKey(uuid4(), uuid4(), "load", generation)


def to(mode: WriteMode, **options: object) -> Target:
    return Target("guests", mode, **options)  # type: ignore[arg-type]


def guests(*ids: int, city: str = "Bath") -> pa.RecordBatchReader:
    return pa.table({"id": pa.array(ids, pa.int64()), "city": [city] * len(ids)}).to_reader()


def ids(root: Path) -> list[int]:
    """The ids as anybody reads a folder of CSV files."""
    found = query(f"SELECT id FROM read_csv('{root}/guests/*.csv') ORDER BY id")
    return [int(str(row[0])) for row in found]


def query(sql: str) -> list[tuple[object, ...]]:
    found = duckdb.sql(sql)
    assert found is not None
    return found.fetchall()


def rows(root: Path) -> list[dict[str, object]]:
    source = CsvSource(parse(CsvConfig, {"root": str(root)}))
    read: list[dict[str, object]] = source.read(ReadRequest("guests"), Split(0)).read_all().sort_by("id").to_pylist()
    return read


def test_a_folder_of_plain_files_is_what_others_read(tmp_path: Path) -> None:
    tables = csv_tables(tmp_path)
    tables.load(to(WriteMode.APPEND), run(), guests(1, 2), None)
    tables.load(to(WriteMode.APPEND), run(), guests(3), None)
    assert ids(tmp_path) == [1, 2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".wedsync", "guests"]


def test_files_of_an_append_are_not_copied(tmp_path: Path) -> None:
    tables = csv_tables(tmp_path)
    tables.load(to(WriteMode.APPEND), run(), guests(1, 2), None)
    (first,) = (tmp_path / "guests").glob("*.csv")
    before = first.stat().st_ino
    tables.load(to(WriteMode.APPEND), run(), guests(3), None)
    assert before in {path.stat().st_ino for path in (tmp_path / "guests").glob("*.csv")}


def test_a_reader_that_has_begun_goes_on_with_the_version_it_saw(tmp_path: Path) -> None:
    tables = csv_tables(tmp_path)
    tables.load(to(WriteMode.APPEND), run(), guests(1, 2), None)
    source = CsvSource(parse(CsvConfig, {"root": str(tmp_path)}))
    splits = source.split(ReadRequest("guests"), 1)
    tables.load(to(WriteMode.OVERWRITE), run(), guests(7), None)
    assert source.read(ReadRequest("guests"), splits[0]).read_all().column("id").to_pylist() == [1, 2]
    assert ids(tmp_path) == [7]


def test_what_a_crash_left_behind_does_not_show_and_does_not_hinder(tmp_path: Path) -> None:
    tables = csv_tables(tmp_path)
    tables.load(to(WriteMode.APPEND), run(), guests(1), None)
    home = tmp_path / ".wedsync" / "guests"
    key = run()
    tables.prepare(to(WriteMode.APPEND), guests().schema, key)
    receipt = tables.write(to(WriteMode.APPEND), key, 0, guests(2))
    half = home / ".building-crashed"
    half.mkdir()
    (half / "part.csv").write_text("id,city\n99,x\n")
    shutil.copytree(home / "v-00000001", home / "v-00000002")
    assert ids(tmp_path) == [1]
    assert csv_tables(tmp_path).commit(to(WriteMode.APPEND), key, [receipt], None) == LoadCounts(inserted=1)
    assert ids(tmp_path) == [1, 2]
    assert not half.exists()
    assert sorted(path.name for path in home.glob("v-*")) == ["v-00000001", "v-00000002"]


def test_a_zombie_of_an_earlier_generation_cannot_change_what_the_next_one_landed(tmp_path: Path) -> None:
    tables, plan = csv_tables(tmp_path), to(WriteMode.APPEND)
    old = run()
    new = RunKey(old.pipeline_id, old.execution_id, old.step, generation=1)
    receipt = tables.write(plan, new, 0, guests(1, 2))
    late = tables.write(plan, old, 0, guests(8, 9))
    assert tables.commit(plan, new, [receipt], None) == LoadCounts(inserted=2)
    assert tables.commit(plan, old, [late], None) == LoadCounts(inserted=2)
    assert ids(tmp_path) == [1, 2]


def test_loads_at_the_same_time_all_arrive(tmp_path: Path) -> None:
    def load(part: int) -> LoadCounts:
        return csv_tables(tmp_path).load(to(WriteMode.APPEND), run(), guests(*range(part * 10, part * 10 + 10)), None)

    with ThreadPoolExecutor(4) as threads:
        counts = list(threads.map(load, range(8)))
    assert counts == [LoadCounts(inserted=10)] * 8
    assert ids(tmp_path) == list(range(80))


def test_staging_that_is_lost_is_told(tmp_path: Path) -> None:
    tables, key = csv_tables(tmp_path), run()
    receipt = tables.write(to(WriteMode.APPEND), key, 0, guests(1))
    tables.abort(to(WriteMode.APPEND), key)
    with pytest.raises(Terminal) as raised:
        tables.commit(to(WriteMode.APPEND), key, [receipt], None)
    assert raised.value.specific_code == "lost_staging"


def test_values_become_folders_that_others_read_and_an_upsert_keeps(tmp_path: Path) -> None:
    tables = parquet_tables(tmp_path)
    plan = to(WriteMode.UPSERT, key_columns=("id",), partition_by=("city", "vip"))
    first = pa.table({"id": [1, 2, 3], "city": ["Bath", "Köln/Süd", None], "vip": [True, False, None]})
    tables.load(plan, run(), first.to_reader(), None)
    second = pa.table({"id": [2, 4], "city": ["Bath", "a=b"], "vip": [True, True]})
    assert tables.load(plan, run(), second.to_reader(), None) == LoadCounts(inserted=1, updated=1)
    files = f"read_parquet('{tmp_path}/guests/**/*.parquet', hive_partitioning = true)"
    found = query(f"SELECT id, city, vip::BOOLEAN FROM {files} ORDER BY id")
    assert found == [(1, "Bath", True), (2, "Bath", True), (3, None, None), (4, "a=b", True)]


def test_many_values_keep_few_files_open(tmp_path: Path) -> None:
    table = pa.table({"id": range(3000), "day": [at % 300 for at in range(3000)]})
    parquet_tables(tmp_path).load(to(WriteMode.APPEND, partition_by=("day",)), run(), table.to_reader(1000), None)
    count = query(f"SELECT count(*) FROM read_parquet('{tmp_path}/guests/**/*.parquet')")
    assert count == [(3000,)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"partition_by": ("town",)}, "partition_by names town"),
        ({"partition_by": ("city",)}, "the table is partitioned by nothing"),
    ],
)
def test_partition_columns_must_be_there_and_stay(tmp_path: Path, options: dict[str, object], told: str) -> None:
    tables = csv_tables(tmp_path)
    tables.load(to(WriteMode.APPEND), run(), guests(1), None)
    with pytest.raises(Terminal, match=told):
        tables.load(to(WriteMode.APPEND, **options), run(), guests(2), None)
    assert ids(tmp_path) == [1]


BY_CITY: dict[str, Json] = {"columns": ["city"]}


def folders(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "guests").iterdir() if path.is_dir())


def test_the_columns_of_the_destination_divide_a_load_that_names_none(tmp_path: Path) -> None:
    tables = csv_tables(tmp_path)
    tables.load(to(WriteMode.APPEND, partition=BY_CITY), run(), guests(1), None)
    tables.load(to(WriteMode.UPSERT, key_columns=("id",), partition=BY_CITY), run(), guests(1, 2, city="York"), None)
    assert folders(tmp_path) == ["city=York"]
    tables.load(to(WriteMode.APPEND), run(), guests(3, city="Ely"), None)
    assert folders(tmp_path) == ["city=Ely", "city=York"]
    assert [(row["id"], row["city"]) for row in rows(tmp_path)] == [(1, "York"), (2, "York"), (3, "Ely")]


def test_a_table_whose_rows_stay_is_divided_no_other_way(tmp_path: Path) -> None:
    tables = csv_tables(tmp_path)
    tables.load(to(WriteMode.APPEND), run(), guests(1), None)
    tables.load(to(WriteMode.APPEND, partition=BY_CITY), run(), guests(2), None)
    assert (folders(tmp_path), ids(tmp_path)) == ([], [1, 2])
    tables.load(to(WriteMode.OVERWRITE, partition=BY_CITY), run(), guests(3), None)
    assert folders(tmp_path) == ["city=Bath"]
    tables.load(to(WriteMode.OVERWRITE, partition={"columns": ["town"]}), run(), guests(4), None)
    assert (folders(tmp_path), ids(tmp_path)) == ([], [4])


def test_an_upsert_into_a_table_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    tables = csv_tables(tmp_path)
    tables.load(to(WriteMode.APPEND), run(), guests(1, 1, 2), None)
    with pytest.raises(Terminal) as raised:
        tables.load(to(WriteMode.UPSERT, key_columns=("id",)), run(), guests(1, 2, 3, city="York"), None)
    assert raised.value.specific_code == "duplicate_key"
    assert ids(tmp_path) == [1, 1, 2]


def test_an_upsert_by_several_keys_replaces_whole_rows(tmp_path: Path) -> None:
    tables = csv_tables(tmp_path)
    plan = to(WriteMode.UPSERT, key_columns=("id", "city"))
    tables.load(plan, run(), pa.table({"id": [1, 1], "city": ["a", "b"], "seats": [5, 6]}).to_reader(), None)
    counts = tables.load(plan, run(), pa.table({"city": ["b", "c"], "id": [1, 1]}).to_reader(), None)
    assert counts == LoadCounts(inserted=1, updated=1)
    assert sorted(rows(tmp_path), key=lambda row: str(row["city"])) == [
        {"id": 1, "city": "a", "seats": 5},
        {"id": 1, "city": "b", "seats": None},
        {"id": 1, "city": "c", "seats": None},
    ]


BACKUP: dict[str, Json] = {"enabled": True, "keep_versions": 2, "retention_days": 7}


def overwrites(root: Path, days: Sequence[int], backup: dict[str, Json]) -> CsvDestination:
    """Overwrite the table on each of these days with the day's number."""
    for day in days:
        csv_tables(root, NOON + timedelta(days=day)).load(
            to(WriteMode.OVERWRITE, backup=backup), run(), guests(day), None
        )
    return csv_tables(root)


def test_an_overwritten_table_can_be_restored(tmp_path: Path) -> None:
    tables = overwrites(tmp_path, [1, 2, 3], BACKUP)
    newest, oldest = tables.versions("guests")
    assert (newest.rows, newest.replaced_at) == (1, NOON + timedelta(days=3))
    assert newest.expires_at == NOON + timedelta(days=10)
    tables.restore("guests", oldest.version)
    assert ids(tmp_path) == [1]
    assert tables.load(to(WriteMode.APPEND), run(), guests(9), None) == LoadCounts(inserted=1)
    assert ids(tmp_path) == [1, 9]


def test_a_restored_table_still_knows_what_was_loaded(tmp_path: Path) -> None:
    tables, key = overwrites(tmp_path, [1], BACKUP), run()
    counts = tables.load(to(WriteMode.OVERWRITE, backup=BACKUP), key, guests(5, 6), CursorMove("c5"))
    tables.restore("guests", tables.versions("guests")[0].version)
    assert tables.commit(to(WriteMode.OVERWRITE), key, [], None) == counts
    assert tables.cursor(key.pipeline_id, key.step) == "c5"
    assert ids(tmp_path) == [1]


def test_backups_end_with_their_retention_and_their_number(tmp_path: Path) -> None:
    tables = overwrites(tmp_path, [1, 2, 3, 4, 5], BACKUP)
    assert [backup.replaced_at.day for backup in tables.versions("guests")] == [9, 8]
    overwrites(tmp_path, [30, 31], BACKUP)
    assert [backup.replaced_at for backup in tables.versions("guests")] == [
        NOON + timedelta(days=31),
        NOON + timedelta(days=30),
    ]
    with pytest.raises(NotFound, match="no earlier version '1'"):
        tables.restore("guests", "1")


def test_without_backups_no_more_than_the_version_before_is_kept(tmp_path: Path) -> None:
    tables = overwrites(tmp_path, [1, 2, 3, 4], {})
    assert tables.versions("guests") == []
    assert len(list((tmp_path / ".wedsync" / "guests").glob("v-*"))) == 2


@pytest.mark.parametrize("table", ["../guests", "/guests", "", ".guests", "_guests", "a/b", "x" * 300])
def test_a_table_stays_below_the_root(tmp_path: Path, table: str) -> None:
    with pytest.raises(Invalid) as raised:
        csv_tables(tmp_path).load(Target(table, WriteMode.APPEND), run(), guests(1), None)
    assert raised.value.path == "table"


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "guests").mkdir()
    (tmp_path / "guests" / "theirs.csv").write_text("id\n1\n")
    with pytest.raises(Terminal) as raised:
        csv_tables(tmp_path).load(to(WriteMode.OVERWRITE), run(), guests(2), None)
    assert raised.value.specific_code == "foreign_table"
    assert (tmp_path / "guests" / "theirs.csv").exists()


def test_a_root_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Invalid) as raised:
        csv_tables(tmp_path / "file" / "x").check()
    assert raised.value.path == "root"
    with pytest.raises(DomainError):
        parse(CsvDestinationConfig, {"root": "relative/path"})


def test_a_type_that_a_file_cannot_hold_is_named(tmp_path: Path) -> None:
    table = pa.table({"id": [1], "took": pa.array([1], pa.duration("s"))})
    with pytest.raises(Terminal, match="took"):
        csv_tables(tmp_path).load(to(WriteMode.APPEND), run(), table.to_reader(), None)


FULL_DISK = """
import json, resource, sys
from uuid import uuid4
import pyarrow as pa
from models.destinations import WriteMode
from models.errors import Terminal
from models.fields import parse
from runtime.connectors._contract import DESTINATIONS, RunKey, Target
kind, root = sys.argv[1:]
plugin = DESTINATIONS.get(kind)
tables = plugin(parse(plugin.Config, {"root": root}))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
rows = pa.table({"id": range(200_000), "city": [f"city {at * 7919}" for at in range(200_000)]})
try:
    tables.load(Target("guests", WriteMode.OVERWRITE), RunKey(uuid4(), uuid4(), "load"), rows.to_reader(), None)
except Terminal as error:
    print(json.dumps({"code": error.specific_code, "hint": error.hint}))
"""


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_full_disk_is_told_and_leaves_the_table_as_it_was(tmp_path: Path, kind: str) -> None:
    csv_tables(tmp_path).load(to(WriteMode.APPEND), run(), guests(1, 2), None)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, kind, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert json.loads(done.stdout.splitlines()[-1])["code"] == "disk_full"
    assert ids(tmp_path) == [1, 2]
    assert not any((tmp_path / ".wedsync" / "guests").glob("staging/*/*/*"))
