"""File connectors pass the shared suites."""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.fields import JsonObject, parse
from runtime.batches.types import sql_type
from runtime.connectors._contract import ReadRequest, Split
from runtime.connectors._row_writers import CsvWriter, JsonLinesWriter
from runtime.connectors.csv_files import CsvConfig, CsvSource
from runtime.connectors.json_lines import JsonLinesConfig, JsonLinesSource
from tests.kit.contracts.connector_rows import SCHEMA
from tests.kit.contracts.connectors import (
    DATASET,
    DestinationContract,
    DestinationHarness,
    NestedSourceContract,
    SourceHarness,
)


class FileHarness(SourceHarness):
    """A folder `guests` of two files, and one more for rows that are added; its columns are declared."""

    divides: ClassVar[bool] = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self.schema = SCHEMA

    def write(self, path: Path, rows: pa.Table) -> None:
        raise NotImplementedError

    def config(self) -> JsonObject:
        columns: list[JsonObject] = [{"name": f.name, "type": sql_type(f.type)} for f in self.schema]
        return {"root": str(self.root), "schema_config": {"datasets": {DATASET: {"columns": columns}}}}  # type: ignore[dict-item]

    def put(self, rows: pa.Table) -> None:
        folder = self.root / DATASET
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        self.schema = rows.schema
        half = rows.num_rows // 2
        self.write(folder / "a", rows.slice(0, half))
        self.write(folder / "b", rows.slice(half))

    def add(self, rows: pa.Table) -> None:
        self.write(self.root / DATASET / "c", rows)

    def bad_configs(self) -> Mapping[str, JsonObject]:
        return {
            "root": {"root": "/there/is/no/such/folder"},
            "rooot": {"root": str(self.root), "rooot": 1},
            "storage.type": {"root": "s3://bucket/x", "storage": {"type": "gcs"}},
            "datasets.guests": {"root": str(self.root), "datasets": {"guests": 1}},
        }


class CsvHarness(FileHarness):
    kind = "csv"

    def write(self, path: Path, rows: pa.Table) -> None:
        writer = CsvWriter(path.with_suffix(".csv"), rows.schema, ",")
        for batch in rows.to_batches():
            writer.write(batch)
        writer.close()


class JsonLinesHarness(FileHarness):
    kind = "jsonl"

    def write(self, path: Path, rows: pa.Table) -> None:
        writer = JsonLinesWriter(path.with_suffix(".jsonl.gz"), rows.schema)
        for batch in rows.to_batches():
            writer.write(batch)
        writer.close()


class ParquetHarness(FileHarness):
    kind = "parquet"

    def write(self, path: Path, rows: pa.Table) -> None:
        pq.write_table(rows, path.with_suffix(".parquet"), row_group_size=10)


class TestCsvSource(NestedSourceContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> CsvHarness:
        return CsvHarness(tmp_path)


class TestJsonLinesSource(NestedSourceContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> JsonLinesHarness:
        return JsonLinesHarness(tmp_path)


class TestParquetSource(NestedSourceContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> ParquetHarness:
        return ParquetHarness(tmp_path)


class FileDestinationHarness(DestinationHarness):
    """A folder that tables are written to, compressed where the format can be."""

    nested: ClassVar[bool] = True

    def __init__(self, root: Path) -> None:
        self.root = root

    def config(self) -> JsonObject:
        return {"root": str(self.root), "compression": "gzip"}

    def columns(self) -> dict[str, str]:
        manifest = orjson.loads((self.root / DATASET / "_wedsync.json").read_bytes())
        return {column["name"]: column["type"] for column in manifest["columns"]}

    def bad_configs(self) -> Mapping[str, JsonObject]:
        return {
            "root": {"root": "/there/is/no/such/folder/at/all"},
            "compression": {"root": str(self.root), "compression": "zip"},
        }


class CsvDestinationHarness(FileDestinationHarness):
    kind = "csv"

    def read(self, table: str) -> pa.Table | None:
        folder = self.root / table
        if not folder.exists():
            return None
        assert all(gzip.decompress(path.read_bytes()).startswith(b'"id"') for path in folder.glob("*.csv.gz"))
        config = parse(CsvConfig, {"root": str(self.root), "types": {table: self.columns()}})
        return CsvSource(config).read(ReadRequest(dataset=table), Split(0)).read_all()


class JsonLinesDestinationHarness(FileDestinationHarness):
    kind = "jsonl"

    def read(self, table: str) -> pa.Table | None:
        if not (self.root / table).exists():
            return None
        config = parse(JsonLinesConfig, {"root": str(self.root), "types": {table: self.columns()}})
        return JsonLinesSource(config).read(ReadRequest(dataset=table), Split(0)).read_all()


class ParquetDestinationHarness(FileDestinationHarness):
    kind = "parquet"

    def read(self, table: str) -> pa.Table | None:
        if not (self.root / table).exists():
            return None
        files = sorted((self.root / table).glob("*.parquet"))
        return pa.concat_tables([pq.read_table(file) for file in files])


class TestCsvDestination(DestinationContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> CsvDestinationHarness:
        return CsvDestinationHarness(tmp_path)


class TestJsonLinesDestination(DestinationContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> JsonLinesDestinationHarness:
        return JsonLinesDestinationHarness(tmp_path)


class TestParquetDestination(DestinationContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> ParquetDestinationHarness:
        return ParquetDestinationHarness(tmp_path)
