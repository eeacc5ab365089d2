"""CSV files: how types are told, how broken rows are named, and what divides a file."""

import gzip
import os
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from models.errors import DomainError, Invalid, Terminal
from models.fields import Json, JsonObject, parse
from runtime.batches.types import sql_type
from runtime.connectors._contract import CursorRange, ReadRequest, Split
from runtime.connectors.csv_files import CsvConfig, CsvSource


def source(root: Path, **config: Json) -> CsvSource:
    whole: JsonObject = {"root": str(root), **config}
    return CsvSource(parse(CsvConfig, whole))


def read(root: Path, dataset: str, **config: Json) -> pa.Table:
    return source(root, **config).read(ReadRequest(dataset), Split(0)).read_all()


def types(schema: pa.Schema) -> dict[str, str]:
    return {field.name: sql_type(field.type) for field in schema}


def refused(root: Path, dataset: str, code: str, **config: Json) -> DomainError:
    with pytest.raises(DomainError) as raised:
        read(root, dataset, **config)
    assert raised.value.specific_code == code
    assert raised.value.hint
    return raised.value


def test_types_are_the_narrowest_that_every_value_is_written_as(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text(
        "id,postcode,phone,long,price,vip,day,at,seen,mixed,none\n"
        "1,01067,+49,12345678901234567890,1,true,2024-02-29,2024-02-29 10:00,2024-02-29T10:00:00Z,1,\n"
        "2,80331,030,2,2.5,FALSE,2024-03-01,2024-03-01 11:00:00.5,2024-03-01T10:00:00+02:00,x,\n"
    )
    assert types(source(tmp_path).discover()["g.csv"]) == {
        "id": "BIGINT",
        "postcode": "VARCHAR",
        "phone": "VARCHAR",
        "long": "VARCHAR",
        "price": "DOUBLE",
        "vip": "BOOLEAN",
        "day": "DATE",
        "at": "TIMESTAMP",
        "seen": "TIMESTAMPTZ",
        "mixed": "VARCHAR",
        "none": "VARCHAR",
    }


def test_declared_types_replace_the_inferred_ones(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("id,price,day,at\n007,12.50,04.07.2026,04/07/2026 14:30\n")
    declared: JsonObject = {"g.csv": {"price": "DECIMAL(10, 2)", "day": "DATE", "at": "TIMESTAMPTZ"}}
    formats: JsonObject = {"date_formats": ["%Y-%m-%d", "%d.%m.%Y"], "timestamp_formats": ["%d/%m/%Y %H:%M"]}
    assert read(tmp_path, "g.csv", types=declared, **formats).to_pylist() == [
        {
            "id": "007",
            "price": Decimal("12.50"),
            "day": date(2026, 7, 4),
            "at": datetime(2026, 7, 4, 14, 30, tzinfo=UTC),
        }
    ]


def test_a_type_that_is_none_is_refused_when_configured(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="BIGG INT") as raised:
        source(tmp_path, types={"g": {"id": "BIGG INT"}})
    assert raised.value.path == "types"


def test_a_value_past_the_sample_that_does_not_fit_is_named_by_line_and_column(tmp_path: Path) -> None:
    lines = [f'{at},"a\nb"' for at in range(2000)]
    (tmp_path / "g.csv").write_text("id,text\n" + "\n".join(lines) + "\nmany,c\n")
    error = refused(tmp_path, "g.csv", "bad_row", sample_bytes=1024, block_bytes=4096)
    assert error.message == "g.csv, line 4002: column id: 'many' is not a BIGINT"


BROKEN = 'id,name\n1,"two\nlines"\n\n2\n3,c,d\nx,e\n4,f\n'


def test_the_first_broken_row_ends_the_read_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text(BROKEN)
    error = refused(tmp_path, "g.csv", "bad_row")
    assert error.message == "g.csv, line 5: 1 fields instead of 2"


def test_broken_rows_can_be_skipped_and_are_counted(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text(BROKEN)
    found = source(tmp_path, on_bad_row="skip", types={"g.csv": {"id": "BIGINT"}})
    read = found.read(ReadRequest("g.csv"), Split(0)).read_all()
    assert read.to_pylist() == [{"id": 1, "name": "two\nlines"}, {"id": 4, "name": "f"}]
    assert (found.rejections.count, found.rejections.rows) == (3, [])


def test_broken_rows_can_be_quarantined_with_place_reason_and_text(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text(BROKEN)
    found = source(tmp_path, on_bad_row="quarantine", types={"g.csv": {"id": "BIGINT"}})
    found.read(ReadRequest("g.csv"), Split(0)).read_all()
    assert [(row.place, row.reason, row.text) for row in found.rejections.rows] == [
        ("g.csv, line 5", "1 fields instead of 2", "2"),
        ("g.csv, line 6", "3 fields instead of 2", "3,c,d"),
        ("g.csv, line 7", "column id: 'x' is not a BIGINT", "x,e"),
    ]


def test_an_open_quote_is_a_broken_row_at_the_line_where_it_opens(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text('id,name\n1,6" heels\n2,"never closed\n3,b\n')
    for mode in ("fail", "skip"):
        error = refused(tmp_path, "g.csv", "bad_row", on_bad_row=mode)
        assert error.message == "g.csv, line 3: a quote is opened and never closed"
    (tmp_path / "g.csv").write_text('id,name\n1,6" heels\n2,"closed"\n3,b\n')
    assert read(tmp_path, "g.csv").column("name").to_pylist() == ['6" heels', "closed", "b"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"\n\n", "empty_file"),
        (b"id,name,id\n1,a,2\n", "duplicate_column"),
        (b"id,name\n1," + b"x" * 5000 + b"\n", "bad_file"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "g.csv").write_bytes(content)
    assert "g.csv" in refused(tmp_path, "g.csv", code, block_bytes=1024, sample_bytes=1024).message


def test_a_header_alone_is_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("id,name")
    assert read(tmp_path, "g.csv").schema.names == ["id", "name"]


def test_text_that_is_not_of_the_encoding_is_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_bytes("id,name\n1,Zoë\n2,Zoé\n".encode("latin-1"))
    assert "line 2: column name is not utf-8" in refused(tmp_path, "g.csv", "bad_row").message
    assert read(tmp_path, "g.csv", encoding="latin-1").column("name").to_pylist() == ["Zoë", "Zoé"]
    assert refused(tmp_path, "g.csv", "invalid", encoding="klingon").path == "encoding"


def test_a_dialect_is_read(tmp_path: Path) -> None:
    (tmp_path / "g.tsv").write_text("1\t'a\tb'\tNULL\n")
    config: JsonObject = {"delimiter": "\t", "quote": "'", "header": False, "null_values": ["NULL"]}
    assert read(tmp_path, "g.tsv", **config).to_pylist() == [{"f0": 1, "f1": "a\tb", "f2": None}]
    named = read(tmp_path, "g", column_names=["id", "name", "note"], **config)
    assert named.schema.names == ["id", "name", "note"]


def test_compressed_files_are_read_and_cut_ones_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b"id,name\n" + b"".join(b"%d,%d\n" % (at, at * 7919) for at in range(50_000)))
    (tmp_path / "g.csv.gz").write_bytes(whole)
    (tmp_path / "cut.csv.gz").write_bytes(whole[:-100])
    assert read(tmp_path, "g").num_rows == 50_000
    assert "cut.csv.gz" in refused(tmp_path, "cut.csv.gz", "bad_file").message


def test_files_whose_columns_differ_are_named(tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "a.csv").write_text("id,name\n1,a\n")
    (tmp_path / "g" / "b.csv").write_text("name,id\nb,2\n")
    assert sorted(read(tmp_path, "g").column("id").to_pylist()) == [1, 2]
    (tmp_path / "g" / "c.csv").write_text("id\n3\n")
    assert "c.csv has no column name" in refused(tmp_path, "g", "missing_column").message
    assert read(tmp_path, "g", missing_columns="null").column("name").to_pylist() == ["a", "b", None]
    (tmp_path / "g" / "c.csv").write_text("id,name,new\n3,c,1\n")
    assert "c.csv has the column new" in refused(tmp_path, "g", "extra_column").message
    assert read(tmp_path, "g", extra_columns="ignore").schema.names == ["id", "name"]


def test_globs_and_named_datasets_choose_files(tmp_path: Path) -> None:
    for folder, name in [("2025", "guests"), ("2026", "guests"), ("2026", "venues"), ("2026/deep", "guests")]:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / f"{name}.csv").write_text(f"at\n{folder}\n")

    def found(pattern: str) -> Sequence[str]:
        texts: list[str] = read(tmp_path, "d", datasets={"d": pattern}, types={"d": {"at": "VARCHAR"}})[
            "at"
        ].to_pylist()
        return texts

    assert found("*/guests.csv") == ["2025", "2026"]
    assert found("**/guests.csv") == ["2025", "2026/deep", "2026"]
    assert found("202[6-9]/*.csv") == ["2026", "2026"]
    assert found("2026") == ["2026/deep", "2026", "2026"]
    assert refused(tmp_path, "*.csv", "no_such_dataset")


@pytest.mark.parametrize(
    "dataset", ["../out.csv", "/etc/passwd", "a/../../out.csv", "link.csv", "linked/*.csv", "linked"]
)
def test_nothing_outside_the_root_is_read(tmp_path: Path, dataset: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "out.csv").write_text("secret\n1\n")
    (root / "link.csv").symlink_to(tmp_path / "out.csv")
    (root / "linked").symlink_to(tmp_path)
    error = refused(root, dataset, "invalid")
    assert error.path == "dataset"


def test_folders_named_for_values_become_columns_and_prune(tmp_path: Path) -> None:
    for day in ("2026-07-04", "2026-07-05", "__HIVE_DEFAULT_PARTITION__"):
        folder = tmp_path / "g" / f"day={day}" / "city=M%C3%BCnchen"
        folder.mkdir(parents=True)
        (folder / "p.csv").write_text("id\n1\n")
    found = source(tmp_path)
    assert types(found.schema(ReadRequest("g"))) == {"id": "BIGINT", "day": "DATE", "city": "VARCHAR"}
    (tmp_path / "g" / "day=2026-07-05" / "city=M%C3%BCnchen" / "p.csv").write_text("broken,file\n")
    request = ReadRequest("g", filters={"day": "2026-07-04"})
    (split,) = found.split(request, 4)
    assert found.read(request, split).read_all().to_pylist() == [{"id": 1, "day": date(2026, 7, 4), "city": "München"}]


@pytest.mark.parametrize("column", ["_modified", "_file"])
def test_new_files_alone_can_be_read(tmp_path: Path, column: str) -> None:
    folder = tmp_path / "g"
    folder.mkdir()
    for at, name in enumerate(["a", "b"]):
        (folder / f"{name}.csv").write_text(f"id\n{at}\n")
        os.utime(folder / f"{name}.csv", (1_750_000_000 + at, 1_750_000_000 + at))
    upper = source(tmp_path).watermark(ReadRequest("g"), column)
    first = ReadRequest("g", cursor=CursorRange(None, upper, column))
    assert read_split(source(tmp_path), first) == [0, 1]
    (folder / "c.csv").write_text("id\n2\n")
    later = source(tmp_path).watermark(ReadRequest("g"), column)
    assert read_split(source(tmp_path), ReadRequest("g", cursor=CursorRange(upper, later, column))) == [2]


def read_split(found: CsvSource, request: ReadRequest) -> list[int]:
    splits = found.split(request, 2)
    return [one for split in splits for one in found.read(request, split).read_all().column("id").to_pylist()]


def test_rows_can_carry_their_file_and_its_date(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("id\n1\n")
    os.utime(tmp_path / "g.csv", (1_750_000_000, 1_750_000_000))
    assert read(tmp_path, "g.csv", file_columns=True).to_pylist() == [
        {"id": 1, "_file": "g.csv", "_modified": datetime.fromtimestamp(1_750_000_000, UTC)}
    ]


def test_a_large_file_without_line_breaks_in_fields_is_divided(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("id,name\n" + "".join(f"{at},name {at}\n" for at in range(1000)))
    request = ReadRequest("g.csv")
    assert len(source(tmp_path, divide_bytes=1).split(request, 4)) == 1
    found = source(tmp_path, divide_bytes=1, multiline=False)
    assert len(found.split(request, 4)) == 4
    assert read_split(found, request) == list(range(1000))


def test_a_bad_row_in_a_later_part_of_a_file_is_named_by_its_line_of_the_file(tmp_path: Path) -> None:
    lines = [f"{at},name {at}" for at in range(1000)]
    lines[900] = "nine hundred,x"
    (tmp_path / "g.csv").write_text("\n".join(["id,name", *lines]) + "\n")
    config: JsonObject = {"divide_bytes": 1, "multiline": False, "types": {"g.csv": {"id": "BIGINT"}}}
    found = source(tmp_path, **config)
    last = found.split(ReadRequest("g.csv"), 4)[3]
    with pytest.raises(Terminal, match="line 902"):
        found.read(ReadRequest("g.csv"), last).read_all()


def test_a_query_is_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no query language") as raised:
        source(tmp_path).read(ReadRequest(query="SELECT 1"), Split(0))
    assert raised.value.path == "query"
