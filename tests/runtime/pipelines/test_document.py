"""Tests of writing plans down for people."""

from models.fields import JsonObject
from runtime.pipelines.document import describe_plan, document_plan
from runtime.pipelines.plan import Plan
from tests.runtime.pipelines.platform import compiled, explicit, extract, load, transform

UPSERT: JsonObject = {
    "destination_id": "analytics-warehouse",
    "table_name": "daily",
    "write_mode": "upsert",
    "key_columns": ["day"],
}


def plan() -> Plan:
    """A plan with a step of each kind."""
    incremental: JsonObject = {"source_id": "guest-files", "incremental": {"cursor_column": "name"}}
    aggregation: JsonObject = {"group_by": ["wedding_date AS day"], "aggregates": {"n": "count(*)"}}
    return compiled(
        explicit(
            extract("bookings"),
            {"name": "guests", "type": "extract", "config": incremental},
            transform("off", "filter", {"condition": "id > 1"}, "bookings", is_enabled=False),
            transform("daily", "aggregation", aggregation, "off", critical=False),
            {"name": "write", "type": "load", "depends_on": ["daily"], "config": UPSERT},
            load("all_guests", "guests", "write"),
        )
    )


def test_the_text_names_every_step_its_columns_and_its_sql() -> None:
    text = describe_plan(plan())
    assert "1. bookings: extract bookings from postgres" in text
    assert "new by name" in text
    assert "off: transform, off" in text
    assert "daily: aggregation of bookings (may fail)" in text
    assert "columns: day DATE, n BIGINT not null" in text
    assert "GROUP BY\n" in text
    assert "upsert by day into daily of parquet" in text
    assert "all_guests: append into all_guests" in text
    assert "after write" in text


def test_the_text_names_the_tasks_and_the_notes() -> None:
    text = describe_plan(plan())
    assert "daily reading bookings" in text
    assert "Step 'off' does not run: it is disabled." in text


def test_what_a_step_sets_aside_is_written_down() -> None:
    strict: JsonObject = {"columns": {"price": "INTEGER"}, "on_error": "reject"}
    made = compiled(explicit(extract("e"), transform("c", "cast", strict, "e"), load("l", "c")))
    assert made.step("c").set_aside
    for told in (describe_plan(made), document_plan(made)):
        assert "ets aside:" in told
        assert "'price is no INT'" in told


def test_the_markdown_has_a_table_of_columns_for_each_step() -> None:
    text = document_plan(plan())
    assert text.startswith("# bookings-etl\n")
    assert "```sql\nSELECT" in text
    assert "| day | DATE | yes |" in text
    assert "| n | BIGINT | no |" in text
