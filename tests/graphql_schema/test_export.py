"""The schema in the repository is the one the code makes."""

from pathlib import Path

from graphql import build_schema as parse_sdl

from graphql_schema.export import FILE, difference, sdl


def test_the_schema_beside_the_code_is_up_to_date() -> None:
    assert difference() == "", "review the change, then run `python -m graphql_schema.export`"


def test_the_schema_is_sdl_that_others_can_read() -> None:
    assert parse_sdl(FILE.read_text()).query_type


def test_a_difference_is_shown_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "schema.graphql"
    assert "+type Query {" in difference(file)
    file.write_text(sdl().replace("type Query {", "type Questions {"))
    assert "-type Questions {" in difference(file)
