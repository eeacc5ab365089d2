"""Column types go from DuckDB's names to Arrow's types and back without loss."""

import pyarrow as pa
import pytest

from models.errors import Invalid
from runtime.batches.types import UNKNOWN, Column, arrow_type, columns_of, schema_of, sql_type

SAME = {
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "UINT": pa.uint32(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "BLOB": pa.binary(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP_NS": pa.timestamp("ns"),
    "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
    "UUID": pa.uuid(),
    "JSON": pa.json_(),
    "DECIMAL(12, 2)": pa.decimal128(12, 2),
    "VARCHAR[]": pa.list_(pa.string()),
    'STRUCT("name" VARCHAR, "place" STRUCT("lat" DOUBLE))': pa.struct(
        [("name", pa.string()), ("place", pa.struct([("lat", pa.float64())]))]
    ),
    "MAP(VARCHAR, BIGINT)": pa.map_(pa.string(), pa.int64()),
}


@pytest.mark.parametrize(("name", "kind"), SAME.items())
def test_a_type_has_one_name_and_one_arrow_type(name: str, kind: pa.DataType) -> None:
    assert arrow_type(name) == kind
    assert sql_type(kind) == name


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (pa.large_string(), "VARCHAR"),
        (pa.dictionary(pa.int32(), pa.string()), "VARCHAR"),
        (pa.timestamp("us", tz="Europe/Berlin"), "TIMESTAMPTZ"),
        (pa.date64(), "DATE"),
    ],
)
def test_arrow_types_that_differ_only_in_layout_share_a_name(kind: pa.DataType, name: str) -> None:
    assert sql_type(kind) == name


def test_what_is_no_type_is_refused_with_a_remedy() -> None:
    with pytest.raises(Invalid, match="is not a column type"):
        arrow_type("no such type (")


def test_an_arrow_type_that_duckdb_cannot_hold_is_refused() -> None:
    with pytest.raises(Invalid, match="has no DuckDB type"):
        sql_type(pa.float16())


def test_columns_and_schemas_are_two_spellings_of_one_thing() -> None:
    columns = (Column("id", "BIGINT", nullable=False), Column("name", "VARCHAR"))
    assert columns_of(schema_of(columns)) == columns


def test_an_unknown_type_has_no_arrow_type_of_its_own() -> None:
    assert schema_of((Column("x", UNKNOWN),)).field("x").type == pa.null()
