"""Tests of compiling load steps."""

import pytest

from models.destinations import WriteMode
from models.errors import Invalid
from models.fields import Json, JsonObject, StrictModel
from runtime.connectors._contract import Destination
from runtime.pipelines.definition import LoadConfig
from runtime.pipelines.loading import compile_load
from runtime.registry import Registry
from tests.runtime.pipelines.platform import BOOKINGS, CATALOG, compiled, entry, refused, simple


def written(**config: Json) -> JsonObject:
    """A destination config of the warehouse."""
    return {"destination_id": "analytics-warehouse", "table_name": "t", **config}


def test_the_write_mode_is_the_destination_s_unless_given() -> None:
    plan = compiled(simple(destination_config={"destination_id": "mirror", "table_name": "t"}))
    load = plan.step("load").load
    assert load is not None
    assert load.write_mode is WriteMode.OVERWRITE


def test_keys_and_partition_columns_take_the_case_of_the_rows() -> None:
    config = written(write_mode="upsert", key_columns=["ID"], partition_by=["Wedding_Date"])
    load = compiled(simple(destination_config=config)).step("load").load
    assert load is not None
    assert (load.key_columns, load.partition_by) == (("id",), ("wedding_date",))


@pytest.mark.parametrize(
    ("config", "path", "said"),
    [
        (written(destination_id="warehouse"), "destination_id", "no destination 'warehouse'"),
        (written(destination_id="old-warehouse"), "destination_id", "not active"),
        (written(write_mode="upsert"), "key_columns", "needs keys"),
        (written(write_mode="upsert", key_columns=["id", "idd"]), "key_columns[1]", "no column 'idd'"),
        (written(write_mode="append", partition_by=["day"]), "partition_by[0]", "no column 'day'"),
        (written(write_mode="upsert", table_name="fact_bookings"), "key_columns", "the rows lack booking_id"),
        (written(write_mode="append", options={"create_table": True}), "options", "has no options"),
        (written(destination_id="store", options={"crate_table": 1}), "options.crate_table", "is not a known key"),
        (written(destination_id="store", options={"create_table": 1}), "options.create_table", "boolean"),
    ],
)
def test_what_cannot_be_written_is_refused_with_its_path(config: JsonObject, path: str, said: str) -> None:
    error = refused(simple(destination_config=config))
    assert error.path == f"destination_config.{path}"
    assert said in error.message
    assert error.hint or "should be" in error.message


def test_an_upsert_takes_the_primary_key_of_its_table() -> None:
    config = written(write_mode="upsert", table_name="fact_bookings")
    plan = compiled(simple(entry("mapping", mappings={"booking_id": "id"}), destination_config=config))
    load = plan.step("load").load
    assert load is not None
    assert load.key_columns == ("booking_id",)


class AppendOnly(Destination[StrictModel]):
    """A destination that only appends; never opened here."""

    kind = "parquet"
    write_modes = frozenset({WriteMode.APPEND})


@pytest.mark.parametrize(
    ("destination", "mode", "path"),
    [("analytics-warehouse", "overwrite", "c.write_mode"), ("mirror", None, "c.destination_id")],
)
def test_a_write_mode_that_a_destination_lacks_is_refused(destination: str, mode: str | None, path: str) -> None:
    plugins: Registry[type[Destination[StrictModel]]] = Registry("destination", "tests.runtime.pipelines", "none")
    plugins.register(AppendOnly)  # type: ignore[type-abstract]  # never made
    config = LoadConfig(
        destination_id=destination, table_name="t", write_mode=None if mode is None else WriteMode(mode)
    )
    with pytest.raises(Invalid) as caught:
        compile_load(config, "c", CATALOG, BOOKINGS, plugins)
    assert caught.value.path == path
    assert caught.value.hint == "it can: append"
