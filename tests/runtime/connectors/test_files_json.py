"""JSON lines and Parquet files: structs, digits, conflicts and damage."""

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import DomainError, Terminal
from models.fields import Json, JsonObject, parse
from runtime.batches.types import sql_type
from runtime.connectors._contract import ReadRequest, Split
from runtime.connectors.json_lines import JsonLinesConfig, JsonLinesSource
from runtime.connectors.parquet_files import ParquetConfig, ParquetSource

REQUEST = ReadRequest("g.jsonl")


def source(root: Path, lines: str | bytes, **config: Json) -> JsonLinesSource:
    (root / "g.jsonl").write_bytes(lines.encode() if isinstance(lines, str) else lines)
    whole: JsonObject = {"root": str(root), **config}
    return JsonLinesSource(parse(JsonLinesConfig, whole))


def read(found: JsonLinesSource) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = found.read(REQUEST, Split(0)).read_all().to_pylist()
    return rows


def refused(found: JsonLinesSource, code: str) -> str:
    with pytest.raises(DomainError) as raised:
        read(found)
    assert raised.value.specific_code == code
    assert raised.value.hint
    return raised.value.message


def test_objects_become_structs_and_absent_fields_nulls(tmp_path: Path) -> None:
    found = source(
        tmp_path,
        '{"id": 1, "venue": {"name": "Barn", "geo": {"lat": 51.4}}, "tags": ["a"], "big": 123456789012345678901}\n'
        "\n"
        '{"id": 2, "venue": {"name": null}, "late": true}\n',
    )
    assert {field.name: sql_type(field.type) for field in found.schema(REQUEST)} == {
        "id": "BIGINT",
        "venue": 'STRUCT("name" VARCHAR, "geo" STRUCT("lat" DOUBLE))',
        "tags": "VARCHAR[]",
        "big": "DECIMAL(38, 0)",
        "late": "BOOLEAN",
    }
    assert read(found)[1] == {
        "id": 2,
        "venue": {"name": None, "geo": None},
        "tags": None,
        "big": None,
        "late": True,
    }


def test_declared_decimals_keep_their_digits_written_as_number_or_text(tmp_path: Path) -> None:
    lines = '{"price": 1234567890123456.10}\n{"price": "0.10"}\n'
    found = source(tmp_path, lines, types={"g.jsonl": {"price": "DECIMAL(20, 2)"}})
    assert read(found) == [{"price": Decimal("1234567890123456.10")}, {"price": Decimal("0.10")}]


def test_two_types_of_one_field_are_named_with_both_lines(tmp_path: Path) -> None:
    lines = '{"venue": {"seats": 1}}\n{"venue": {"seats": "many"}}\n'
    assert (
        refused(source(tmp_path, lines), "type_conflict")
        == "venue.seats is an integer at g.jsonl, line 1, and text at g.jsonl, line 2"
    )
    found = source(tmp_path, lines, types={"g.jsonl": {"venue": "JSON"}})
    assert read(found) == [{"venue": '{"seats": 1}'}, {"venue": '{"seats": "many"}'}]


def late(bad: str) -> str:
    return "".join(f'{{"id": {at}}}\n' for at in range(500)) + bad + '\n{"id": 501}\n'


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"id": "x"}', 'id: "x" is not a BIGINT'),
        ('{"id": 1.5}', "id: 1.5 is not a BIGINT"),
        ('{"id": 99999999999999999999}', "id: "),
        ("[1]", "it is not an object"),
        ('{"id": 1', "it is not JSON"),
        ('{"id": NaN}', "it is not JSON"),
        ('{"id": 1}{"id": 2}', "it is not JSON"),
    ],
)
def test_a_line_past_the_sample_that_does_not_fit_is_named(tmp_path: Path, bad: str, reason: str) -> None:
    config: JsonObject = {"sample_bytes": 1024, "block_bytes": 1024}
    assert refused(source(tmp_path, late(bad), **config), "bad_row").startswith(f"g.jsonl, line 501: {reason}")
    found = source(tmp_path, late(bad), on_bad_row="quarantine", **config)
    assert [row["id"] for row in read(found)] == [*range(500), 501]
    assert [(row.place, row.text) for row in found.rejections.rows] == [("g.jsonl, line 501", bad)]


def test_unexpected_fields_are_left_out_or_refused(tmp_path: Path) -> None:
    lines = late('{"id": 500, "new": {"x": 1}}')
    config: JsonObject = {"sample_bytes": 1024, "block_bytes": 1024}
    assert len(read(source(tmp_path, lines, **config))) == 502
    message = refused(source(tmp_path, lines, extra_columns="fail", **config), "extra_column")
    assert message.startswith("g.jsonl, line 501 has the field new")


def test_moments_are_taken_only_as_they_are_declared(tmp_path: Path) -> None:
    lines = '{"at": "2026-07-04T14:30:00"}\n'
    message = refused(source(tmp_path, lines, types={"g.jsonl": {"at": "TIMESTAMPTZ"}}), "bad_row")
    assert "it has no zone; declare the column TIMESTAMP" in message
    lines = '{"at": "2026-07-04T14:30:00Z"}\n'
    message = refused(source(tmp_path, lines, types={"g.jsonl": {"at": "TIMESTAMP"}}), "bad_row")
    assert "it has a zone; declare the column TIMESTAMPTZ" in message


def test_a_large_file_is_divided_at_lines_and_keeps_its_line_numbers(tmp_path: Path) -> None:
    config: JsonObject = {"divide_bytes": 1, "block_bytes": 1024, "types": {"g.jsonl": {"id": "BIGINT"}}}
    found = source(tmp_path, late("{}"), **config)
    splits = found.split(REQUEST, 4)
    ids = [found.read(REQUEST, split).read_all().column("id").to_pylist() for split in splits]
    assert [len(part) > 0 for part in ids] == [True] * 4
    assert [one for part in ids for one in part] == [*range(500), None, 501]
    found = source(tmp_path, late('{"id": "x"}'), **config)
    with pytest.raises(Terminal, match="line 501"):
        found.read(REQUEST, found.split(REQUEST, 4)[3]).read_all()


def parquet(root: Path, **config: Json) -> ParquetSource:
    whole: JsonObject = {"root": str(root), **config}
    return ParquetSource(parse(ParquetConfig, whole))


def test_a_parquet_file_is_divided_by_row_groups(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": range(100)}), tmp_path / "g.parquet", row_group_size=10)
    found, request = parquet(tmp_path, divide_bytes=1), ReadRequest("g")
    splits = found.split(request, 3)
    parts = [found.read(request, split).read_all().column("id").to_pylist() for split in splits]
    assert len(parts) == 3
    assert [one for part in parts for one in part] == list(range(100))


def test_parquet_files_of_other_types_are_cast_without_loss_or_named(tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    pq.write_table(pa.table({"id": pa.array([1], pa.int64())}), tmp_path / "g" / "a.parquet")
    pq.write_table(pa.table({"id": pa.array([2], pa.int16())}), tmp_path / "g" / "b.parquet")
    assert parquet(tmp_path).read(ReadRequest("g"), Split(0)).read_all().column("id").to_pylist() == [1, 2]
    pq.write_table(pa.table({"id": ["x"]}), tmp_path / "g" / "b.parquet")
    with pytest.raises(Terminal, match=r"b\.parquet, column id"):
        parquet(tmp_path).read(ReadRequest("g"), Split(0)).read_all()


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all, whatever its name says"])
def test_a_damaged_parquet_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "g.parquet").write_bytes(content)
    with pytest.raises(Terminal, match=r"g\.parquet") as raised:
        parquet(tmp_path).read(ReadRequest("g"), Split(0))
    assert raised.value.specific_code == "bad_file"
