"""Tables that loads make and replace: partitions, indexes, what hangs on a table, and earlier versions."""

from datetime import UTC, date, datetime
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest

from models.destinations import WriteMode
from models.errors import NotFound, Terminal
from runtime.connectors._contract import LoadCounts, RunKey, Target
from runtime.connectors._postgres_names import TableName
from runtime.connectors._postgres_overwrite import is_swappable
from runtime.connectors._postgres_session import Session
from runtime.connectors._postgres_table import inspect
from tests.runtime.connectors.postgres_place import Place, a_run

GUESTS = pa.table({"id": [1, 2, 3], "name": ["a", "b", "c"]})
STAYS = pa.table(
    {
        "id": [1, 2, 3, 4],
        "day": [date(2024, 1, 31), date(2024, 2, 1), date(2023, 12, 31), date(2024, 2, 29)],
        "hall": ["Æ", "b'c", "Æ", None],
    }
)


@pytest.fixture
def place(scratch: str) -> Place:
    return Place(scratch)


def partitions(place: Place, table: str = "guests") -> dict[str, str]:
    rows = place.fetch(
        """SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits AS i
           JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = $1::text::regclass ORDER BY 1""",
        table,
    )
    return dict(rows)


def landed(place: Place, target: Target, parts: list[pa.Table], run: RunKey | None = None) -> LoadCounts:
    run, destination = run or a_run(), place.destination()
    destination.prepare(target, parts[0].schema, run)
    receipts = [destination.write(target, run, number, part.to_reader()) for number, part in enumerate(parts)]
    return destination.commit(target, run, receipts, None)


@pytest.mark.parametrize("mode", list(WriteMode))
@pytest.mark.parametrize("staged", [False, True])
def test_months_get_partitions_as_rows_need_them(place: Place, mode: WriteMode, staged: bool) -> None:
    partition: dict[str, Any] = {"columns": ["day"], "strategy": "range", "granularity": "month"}
    keys = ("id", "day") if mode is WriteMode.UPSERT else ()
    target = Target("guests", mode, keys, partition=partition)
    for rows, names in ((STAYS.slice(0, 2), 2), (STAYS.slice(2), 3)):
        if staged:
            landed(place, target, [rows.slice(0, 1), rows.slice(1)])
        else:
            place.load(rows, mode, key_columns=keys, partition=partition)
        assert len(partitions(place)) == names
    assert partitions(place)["guests_p2024_02"] == "FOR VALUES FROM ('2024-02-01') TO ('2024-03-01')"
    kept = 2 if mode is WriteMode.OVERWRITE else 4
    assert place.fetch("SELECT count(*) FROM guests") == [(kept,)]


@pytest.mark.parametrize(
    ("granularity", "names"),
    [
        ("day", {"guests_p20231231", "guests_p20240131", "guests_p20240201", "guests_p20240229"}),
        ("year", {"guests_p2023", "guests_p2024"}),
    ],
)
def test_ranges_come_in_days_and_years_too(place: Place, granularity: str, names: set[str]) -> None:
    place.load(STAYS, partition={"columns": ["day"], "granularity": granularity})
    assert set(partitions(place)) == names


def test_moments_are_divided_in_utc(place: Place) -> None:
    rows = pa.table({"at": pa.array([datetime(2024, 1, 31, 23, 59, 59, tzinfo=UTC)], pa.timestamp("us", "UTC"))})
    place.load(rows, partition_by=("at",))
    assert set(partitions(place)) == {"guests_p2024_01"}


def test_lists_and_hashes_divide_too(place: Place) -> None:
    place.load(STAYS, partition_by=("hall",))
    assert sorted(partitions(place).values()) == [
        "FOR VALUES IN ('b''c')", "FOR VALUES IN ('Æ')", "FOR VALUES IN (NULL)",
    ]  # fmt: skip
    place.load(STAYS, table="spread", partition={"columns": ["id", "hall"], "strategy": "hash", "buckets": 3})
    place.load(STAYS, table="spread", partition={"columns": ["id", "hall"], "strategy": "hash", "buckets": 3})
    assert set(partitions(place, "spread")) == {"spread_h0", "spread_h1", "spread_h2"}
    assert place.fetch("SELECT count(*) FROM spread") == [(8,)]


@pytest.mark.parametrize(
    ("rows", "target", "shown"),
    [
        (STAYS, {"partition": {"columns": ["id"], "strategy": "range"}}, "dates or moments"),
        (STAYS, {"partition_by": ("day", "id")}, "one column"),
        (STAYS, {"partition_by": ("nope",)}, "nope"),
        (STAYS.set_column(1, "day", pa.nulls(4, pa.date32())), {"partition_by": ("day",)}, "null"),
    ],
)
def test_what_cannot_be_divided_is_refused(place: Place, rows: pa.Table, target: dict[str, Any], shown: str) -> None:
    with pytest.raises(Terminal, match=shown):
        place.load(rows, **target)
    assert place.fetch("SELECT to_regclass('guests')") == [(None,)]


def test_keys_of_a_divided_table_hold_the_column_that_divides_it(place: Place) -> None:
    with pytest.raises(Terminal, match="day is not one"):
        place.load(STAYS, WriteMode.UPSERT, key_columns=("id",), partition_by=("day",))


def test_columns_of_the_destination_that_a_load_lacks_divide_nothing(place: Place) -> None:
    place.load(GUESTS, partition={"columns": ["day"]})
    assert partitions(place) == {}
    place.load(GUESTS, partition={"columns": ["id"], "strategy": "hash"})
    assert place.fetch("SELECT count(*) FROM guests") == [(6,)]


def test_indexes_are_made_once(place: Place) -> None:
    indexing = {
        "indexes": [
            {"columns": ["name"]},
            {"columns": ["id"], "unique": True, "name": "one_each"},
            {"columns": ["id", "name"], "method": "brin", "table": "guests"},
            {"columns": ["nope"]},
            {"columns": ["id"], "table": "others"},
        ]
    }
    for mode in (WriteMode.APPEND, WriteMode.OVERWRITE, WriteMode.UPSERT):
        place.load(GUESTS, mode, indexing=indexing, key_columns=("id",) if mode is WriteMode.UPSERT else ())
        rows = place.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = 'guests' ORDER BY 1")
        assert [row[0] for row in rows] == [
            "CREATE INDEX ix_guests_id_name ON public.guests USING brin (id, name)",
            "CREATE INDEX ix_guests_name ON public.guests USING btree (name)",
            "CREATE UNIQUE INDEX one_each ON public.guests USING btree (id)",
        ]


def test_a_unique_index_that_rows_break_stops_the_load(place: Place) -> None:
    twice = pa.table({"id": [1, 1]})
    with pytest.raises(Terminal) as raised:
        place.load(twice, indexing={"indexes": [{"columns": ["id"], "unique": True}]})
    assert raised.value.specific_code == "duplicate_key"
    assert place.fetch("SELECT to_regclass('guests')") == [(None,)]


PLAIN = """
CREATE TABLE guests (id int PRIMARY KEY, name text DEFAULT 'x' CHECK (name <> 'no'), extra text DEFAULT 'given',
  size int GENERATED ALWAYS AS (length(name)) STORED);
CREATE INDEX "by name" ON guests (lower(name)) WHERE id > 0;
COMMENT ON TABLE guests IS 'who''s coming';
COMMENT ON COLUMN guests.name IS 'their name';
GRANT SELECT ON guests TO PUBLIC;
GRANT UPDATE (name) ON guests TO PUBLIC;
INSERT INTO guests VALUES (9, 'old');
"""
HANGING = {
    "view": "CREATE VIEW seen AS SELECT id, name FROM guests",
    "materialized view": "CREATE MATERIALIZED VIEW seen AS SELECT id FROM guests",
    "foreign key": "CREATE TABLE seats (guest int REFERENCES guests)",
    "outgoing foreign key": "CREATE TABLE halls (id int PRIMARY KEY); ALTER TABLE guests ADD hall int REFERENCES halls",
    "policy": "ALTER TABLE guests ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON guests USING (true)",
    "trigger": """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
        CREATE TRIGGER t BEFORE INSERT ON guests FOR EACH ROW EXECUTE FUNCTION note()""",
    "serial": "ALTER TABLE guests ADD number serial",
    "identity": "ALTER TABLE guests ADD number int GENERATED BY DEFAULT AS IDENTITY",
    "publication": "CREATE PUBLICATION guests_out FOR TABLE guests",
    "row type": "CREATE FUNCTION first_guest() RETURNS guests LANGUAGE sql AS 'SELECT * FROM guests LIMIT 1'",
    "inheritance": "CREATE TABLE vips () INHERITS (guests)",
    "options": "ALTER TABLE guests SET (fillfactor = 70)",
}
SHAPE = """
SELECT (SELECT array_agg(indexdef ORDER BY indexdef) FROM pg_indexes WHERE tablename = 'guests'),
  (SELECT array_agg(pg_get_constraintdef(oid) || conname ORDER BY conname) FROM pg_constraint
   WHERE conrelid = 'guests'::regclass),
  obj_description('guests'::regclass), col_description('guests'::regclass, 2),
  (SELECT array_agg(privilege_type || grantee::text ORDER BY 1) FROM pg_class, aclexplode(relacl)
   WHERE oid = 'guests'::regclass),
  (SELECT array_agg(privilege_type || attname ORDER BY 1) FROM pg_attribute, aclexplode(attacl)
   WHERE attrelid = 'guests'::regclass),
  (SELECT array_agg(attname || coalesce(pg_get_expr(adbin, adrelid), '') ORDER BY attnum) FROM pg_attribute
   LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = 'guests'::regclass AND attnum > 0)
"""


def swappable(place: Place) -> bool:
    with Session(place.config()) as session:
        return is_swappable(session, inspect(session, TableName("public", "guests")))


@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_a_swapped_table_keeps_its_shape_grants_and_comments(place: Place, staged: bool, kept: bool) -> None:
    place.execute(PLAIN)
    assert swappable(place)
    before, number = place.fetch(SHAPE), place.fetch("SELECT 'guests'::regclass::oid")
    backup = {"enabled": kept}
    if staged:
        counts = landed(place, Target("guests", WriteMode.OVERWRITE, backup=backup), [GUESTS])
    else:
        counts = place.load(GUESTS, WriteMode.OVERWRITE, backup=backup)
    assert counts == LoadCounts(inserted=3, deleted=1)
    assert place.fetch(SHAPE) == before
    assert place.fetch("SELECT 'guests'::regclass::oid") != number
    assert place.fetch("SELECT id, name, extra, size FROM guests ORDER BY id")[0] == (1, "a", "given", 1)
    assert place.leftovers() == []


@pytest.mark.parametrize("thing", list(HANGING))
def test_a_table_that_things_hang_on_keeps_its_identity(place: Place, thing: str) -> None:
    place.execute(PLAIN, HANGING[thing])
    assert not swappable(place)
    before, number = place.fetch(SHAPE), place.fetch("SELECT 'guests'::regclass::oid")
    assert place.load(GUESTS, WriteMode.OVERWRITE) == LoadCounts(inserted=3, deleted=1)
    assert place.fetch(SHAPE) == before
    assert place.fetch("SELECT 'guests'::regclass::oid") == number
    if thing == "view":
        assert place.fetch("SELECT name FROM seen ORDER BY id") == [("a",), ("b",), ("c",)]


def test_rows_that_others_refer_to_stop_an_overwrite(place: Place) -> None:
    place.execute(PLAIN, HANGING["foreign key"], "INSERT INTO seats VALUES (9)")
    with pytest.raises(Terminal) as raised:
        place.load(GUESTS, WriteMode.OVERWRITE)
    assert raised.value.specific_code == "foreign_key"
    assert place.fetch("SELECT id FROM guests") == [(9,)]


def test_readers_see_the_old_rows_until_the_new_ones_are_whole(place: Place) -> None:
    place.execute(PLAIN)
    seen = []

    def watching() -> Any:
        for batch in GUESTS.to_batches(max_chunksize=1):
            seen.append(place.fetch("SELECT id FROM guests"))
            yield batch

    reader = pa.RecordBatchReader.from_batches(GUESTS.schema, watching())
    place.destination().load(Target("guests", WriteMode.OVERWRITE), a_run(), reader, None)
    assert seen == [[(9,)]] * 3
    assert len(place.fetch("SELECT id FROM guests")) == 3


@pytest.mark.parametrize("hanging", [False, True])
def test_what_an_overwrite_replaced_can_be_brought_back(place: Place, hanging: bool) -> None:
    place.execute(PLAIN, *([HANGING["view"]] if hanging else []))
    backup = {"enabled": True, "keep_versions": 2, "retention_days": 3}
    runs = [a_run() for _ in range(3)]
    for number, run in enumerate(runs):
        place.load(GUESTS.slice(number, 1), WriteMode.OVERWRITE, run, backup=backup)
    destination = place.destination()
    versions = destination.versions("guests")
    assert [(one.replaced_by, one.rows) for one in versions] == [(runs[2].execution_id, 1), (runs[1].execution_id, 1)]
    assert place.fetch("SELECT count(*) FROM pg_tables WHERE schemaname = '_wedsync_backups'") == [(3,)]
    assert destination.restore("guests", versions[1].version) == 1
    assert place.fetch("SELECT id, name, extra, size FROM guests") == [(1, "a", "given", 1)]
    with pytest.raises(NotFound):
        destination.restore("guests", str(uuid4()))
    with pytest.raises(NotFound):
        destination.restore("others", versions[1].version)


def test_versions_past_their_retention_are_removed(place: Place) -> None:
    backup = {"enabled": True, "keep_versions": 9, "retention_days": 3}
    for _ in range(3):
        place.load(GUESTS, WriteMode.OVERWRITE, backup=backup)
    assert len(place.destination().versions("guests")) == 2
    place.execute("UPDATE _wedsync_backups._versions SET replaced_at = now() - interval '4 days'")
    place.load(GUESTS, WriteMode.OVERWRITE, backup=backup)
    assert len(place.destination().versions("guests")) == 1
    assert place.fetch("SELECT count(*) FROM pg_tables WHERE schemaname = '_wedsync_backups'") == [(2,)]


def test_an_overwrite_that_fails_keeps_the_table_and_no_version(place: Place) -> None:
    place.execute(PLAIN)
    with pytest.raises(Terminal, match="name"):
        place.load(pa.table({"id": [1], "name": ["no"]}), WriteMode.OVERWRITE, backup={"enabled": True})
    assert place.fetch("SELECT id FROM guests") == [(9,)]
    assert place.destination().versions("guests") == []
    assert place.leftovers() == []
