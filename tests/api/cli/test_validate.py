"""Files are checked without a server, down to the line."""

from pathlib import Path

import pytest

from tests.kit.platform import Command

GOOD = """
source:
  source_name: files
  kind: csv
  connection_config: {root: /data}
---
pipeline:
  pipeline_name: copy
  pipeline_type: etl
  source_config: {source_id: files, dataset: a.csv}
  destination_config: {destination_id: files, table_name: b}
"""
UNKNOWN_KEY = GOOD.replace("pipeline_type: etl", "pipeline_type: etl\n  pipeline_tpye: etl")
CIRCLE = """
pipeline:
  pipeline_name: circle
  pipeline_type: etl
  steps:
    - {name: a, type: transform, depends_on: [b], config: {type: filter, config: {condition: x > 1}}}
    - {name: b, type: transform, depends_on: [a], config: {type: filter, config: {condition: x > 1}}}
"""
NO_SUCH_KEY = "source:\n  source_name: files\n  kind: csv\n  conection_config: {root: /data}\n"
NO_SUCH_KIND = "source:\n  source_name: files\n  kind: csvv\n  connection_config: {root: /data}\n"
BAD_CONFIG = "source:\n  source_name: files\n  kind: csv\n  connection_config: {rooot: /data}\n"
NAMELESS = "destination:\n  kind: csv\n  connection_config: {root: /data}\n"
NO_CONFIG = "destination:\n  kind: csv\n  destination_name: x\n"


def test_what_holds_is_named(tmp_path: Path, wedsync: Command) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    said = wedsync("validate", tmp_path)
    assert (said.status, said.out) == (0, "source files: valid\npipeline copy: valid\n")
    assert wedsync("validate", tmp_path, "--json").json == {"valid": ["source files", "pipeline copy"]}


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        (UNKNOWN_KEY, 10, "pipeline_tpye"),
        (CIRCLE, 6, "depend on each other: a -> b -> a"),
        (NO_SUCH_KEY, 4, "did you mean connection_config?"),
        (NO_SUCH_KIND, 3, "csvv"),
        (BAD_CONFIG, 4, "rooot"),
        (NAMELESS, 2, "destination_name"),
        (NO_CONFIG, 2, "connection_config: is required"),
        ("source: [", 1, "is not YAML"),
    ],
    ids=["key", "circle", "key of a source", "kind", "configuration", "name", "no configuration", "yaml"],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, told: str, tmp_path: Path, wedsync: Command) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    said = wedsync("validate", tmp_path / "bad.yaml")
    assert said.status == 1
    assert f"bad.yaml:{line}" in said.err
    assert told in said.err


def test_a_file_that_is_not_there_is_told(tmp_path: Path, wedsync: Command) -> None:
    said = wedsync("validate", tmp_path / "none.yaml")
    assert said.status == 1
    assert "cannot be read: No such file" in said.err
