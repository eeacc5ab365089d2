"""The suite that every transform passes, over a small wedding platform in DuckDB."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import ClassVar

import duckdb
import pytest

from models.errors import Invalid
from models.fields import Json, JsonObject, StrictModel
from models.parsing import parse
from runtime.batches.types import UNKNOWN, Column
from runtime.transforms import _types as t
from runtime.transforms._contract import TRANSFORMS, Relation, Transform
from runtime.transforms._inference import Inference
from runtime.transforms._sql import render

Row = tuple[object, ...]

SAMPLE: Mapping[str, str] = {
    "bookings": """
        SELECT * FROM (VALUES
            (1, 10, 'Ada', DATE '2026-05-01', 1500.00::DECIMAL(10, 2), 120, TIMESTAMP '2026-01-01 10:00:00', 'yes'),
            (2, 20, 'Bo', DATE '2026-06-15', 900.50, 80, TIMESTAMP '2026-01-02 10:00:00', 'no'),
            (3, 10, 'Cy', DATE '2026-06-20', NULL, NULL, TIMESTAMP '2026-01-03 10:00:00', 'yes'),
            (3, 10, 'Cy', DATE '2026-06-20', 700.00, 60, TIMESTAMP '2026-01-04 10:00:00', 'maybe'),
            (4, 99, 'Di', NULL, 0.00, 0, NULL, NULL)
        ) b(id, venue_id, couple, wedding_date, price, guests, updated_at, confirmed)""",
    "venues": """
        SELECT * FROM (VALUES
            (10, 'Hall', {'city': 'Bath', 'geo': {'lat': 51.4}}, '{"stars": 5, "tags": ["old"]}'::JSON, 300::BIGINT),
            (10, 'Annexe', {'city': 'Bath', 'geo': {'lat': 51.5}}, NULL, 50),
            (20, 'Old Barn', NULL, '{"stars": 3}', 90)
        ) v(id, name, address, details, capacity)""",
    "guests": """
        SELECT * FROM (VALUES ('1', 'g1', '12.05.2026', ' 7 '), ('2', 'g2', '2026-05-13', 'x'), (NULL, 'g3', NULL, '3'))
        g(booking_id, guest, answered_on, plus)""",
}


def sample_database() -> duckdb.DuckDBPyConnection:
    """A DuckDB database with the sample's tables."""
    database = duckdb.connect(config={"threads": 1})
    for name, query in SAMPLE.items():
        database.execute(f"CREATE TABLE {name} AS {query}")
    return database


@lru_cache(maxsize=1)
def _unchanged() -> duckdb.DuckDBPyConnection:
    return sample_database()


def relation(database: duckdb.DuckDBPyConnection, table: str) -> Relation:
    """A table of the sample as an input whose columns are known."""
    return Relation(table, described(database, f"FROM {table}"))


def described(database: duckdb.DuckDBPyConnection, query: str) -> tuple[Column, ...]:
    """The columns that DuckDB itself says a query has."""
    rows = database.execute(f"DESCRIBE {query}").fetchall()
    return tuple(Column(str(row[0]), t.canonical(str(row[1]))) for row in rows)


def made(kind: str, config: JsonObject) -> Transform[StrictModel]:
    """A transform of its kind's validated configuration."""
    plugin = TRANSFORMS.get(kind)
    return plugin(parse(plugin.Config, config))


def rows_of(kind: str, config: JsonObject, tables: Sequence[str], *, known: bool = True) -> list[Row]:
    """What a transform makes of tables of the sample, whose columns it knows or not."""
    database = _unchanged().cursor()
    inputs = [relation(database, table) if known else Relation(table, None) for table in tables]
    return database.execute(render(made(kind, config).expression(inputs))).fetchall()


def refusal(kind: str, config: JsonObject, tables: Sequence[str]) -> Invalid:
    """The error with which a transform refuses its configuration or its inputs."""
    database = _unchanged().cursor()
    with pytest.raises(Invalid) as caught:
        made(kind, config).expression([relation(database, table) for table in tables])
    return caught.value


class TransformContract:
    """Subclass it as `Test…`, with the kind, a configuration that works over `inputs`, and some that miss a column."""

    kind: ClassVar[str]
    config: ClassVar[JsonObject]
    inputs: ClassVar[tuple[str, ...]] = ("bookings",)
    missing: ClassVar[Sequence[tuple[JsonObject, str]]] = ()

    def test_its_configuration_has_a_closed_json_schema_of_which_forms_can_be_drawn(self) -> None:
        schema = TRANSFORMS.get(self.kind).Config.model_json_schema()
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        assert set(self.config) <= set(schema["properties"])

    def test_it_is_registered_under_its_kind_and_documented(self) -> None:
        plugin = TRANSFORMS.get(self.kind)
        assert plugin.kind == self.kind
        assert plugin.__doc__
        assert plugin.Config.__doc__

    def test_an_unknown_key_is_refused_with_its_path(self) -> None:
        wrong: Json = {**self.config, "unheard_of": 1}
        with pytest.raises(Invalid) as caught:
            parse(TRANSFORMS.get(self.kind).Config, wrong, "config")
        assert caught.value.path == "config.unheard_of"

    def test_its_query_gives_the_columns_that_were_inferred(self) -> None:
        database = _unchanged().cursor()
        relations = [relation(database, table) for table in self.inputs]
        query = made(self.kind, self.config).expression(relations)
        inferred = Inference(relations, "").columns(query)
        actual = described(database, render(query))
        assert inferred is not None
        assert [one.name for one in inferred] == [one.name for one in actual]
        for guess, truth in zip(inferred, actual, strict=True):
            assert guess.type in (truth.type, UNKNOWN), guess.name

    def test_a_column_inferred_as_never_null_has_no_null(self) -> None:
        database = _unchanged().cursor()
        relations = [relation(database, table) for table in self.inputs]
        query = made(self.kind, self.config).expression(relations)
        rows = database.execute(render(query)).fetchall()
        for index, one in enumerate(Inference(relations, "").columns(query) or ()):
            assert one.nullable or all(row[index] is not None for row in rows), one.name

    def test_it_gives_the_same_rows_over_inputs_of_unknown_columns(self) -> None:
        known = rows_of(self.kind, self.config, self.inputs)
        unknown = rows_of(self.kind, self.config, self.inputs, known=False)
        assert len(known) == len(unknown)

    def test_it_reads_no_other_table_than_its_inputs(self) -> None:
        database = sample_database()
        renamed = [f"step {index}: {table}" for index, table in enumerate(self.inputs)]
        relations = []
        for table, fresh in zip(self.inputs, renamed, strict=True):
            database.execute(f'ALTER TABLE {table} RENAME TO "{fresh}"')
            relations.append(Relation(fresh, described(database, f'FROM "{fresh}"')))
        config = _renamed(self.config, dict(zip(self.inputs, renamed, strict=True)))
        database.execute(render(made(self.kind, config).expression(relations)))

    def test_each_row_depends_on_one_row_alone_if_it_says_so(self) -> None:
        plugin = made(self.kind, self.config)
        count = 3 if plugin.row_wise else 1
        database = sample_database()
        relations = [relation(database, table) for table in self.inputs]
        sql, first = render(plugin.expression(relations)), self.inputs[0]
        whole = database.execute(sql).fetchall()
        database.execute(f"CREATE TABLE everything AS FROM {first}")
        parts: list[Row] = []
        for part in range(count):
            database.execute(f"CREATE OR REPLACE TABLE {first} AS FROM everything WHERE rowid % {count} = {part}")
            parts.extend(database.execute(sql).fetchall())
        assert Counter(map(repr, parts)) == Counter(map(repr, whole))

    def test_a_row_is_kept_or_set_aside_as_it_came_and_never_both(self) -> None:
        database, plugin = _unchanged().cursor(), made(self.kind, self.config)
        for relations in (
            [relation(database, one) for one in self.inputs],
            [Relation(one, None) for one in self.inputs],
        ):
            query = plugin.set_aside(relations)
            if query is None:
                continue
            assert plugin.row_wise
            assert len(self.inputs) == 1
            given = database.execute(f"FROM {self.inputs[0]}").fetchall()
            aside = database.execute(render(query)).fetchall()
            kept = database.execute(render(plugin.expression(relations))).fetchall()
            assert Counter(map(repr, (row[1:] for row in aside))) <= Counter(map(repr, given))
            assert len(kept) + len(aside) == len(given)
            assert all(isinstance(row[0], str) and row[0] for row in aside)

    def test_a_missing_column_is_refused_by_name_with_those_there_are(self) -> None:
        for config, path in self.missing:
            error = refusal(self.kind, config, self.inputs)
            assert error.path == path
            assert error.hint is not None
            assert "there are" in error.hint


def _renamed(config: Json, names: Mapping[str, str]) -> JsonObject:
    """The configuration with mentions of tables in its SQL and references changed."""

    def change(value: Json) -> Json:
        if isinstance(value, str):
            for old, fresh in names.items():
                value = value.replace(f"FROM {old}", f'FROM "{fresh}"').replace(f"JOIN {old}", f'JOIN "{fresh}"')
            return names.get(value, value)
        if isinstance(value, list):
            return [change(one) for one in value]
        if isinstance(value, dict):
            return {key: change(one) for key, one in value.items()}
        return value

    changed = change(config)
    assert isinstance(changed, dict)
    return changed
