"""Tests of reading and writing YAML files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import Invalid
from models.fields import JsonObject
from runtime.pipelines.files import Entry, EntryKind, export, pipeline_entry, read_files, read_text
from tests.runtime.pipelines.platform import definition, entry, explicit, extract, load, simple

TWO = """\
# the platform
pipeline:
  pipeline_name: guests
  pipeline_type: etl
  source_config: {source_id: guest-files, dataset: guests.csv}
  destination_config: {destination_id: wh, table_name: guests}
  transformation_config:
    transformations:
      - type: enrichment
        config:
          source_id: venues-db
          on: {venue_id: id}
          columns: [name]
---
source:
  source_name: guest-files
  opened: 2026-05-01
  answer: no
  zip: 01234
  share: 1.5
  nothing: ~
---
"""


def refusal(text: str) -> Invalid:
    """The error with which a text is refused."""
    with pytest.raises(Invalid) as caught:
        _ = [one.pipeline() for one in read_text(text, "a.yaml")]
    return caught.value


def test_a_file_may_hold_several_definitions() -> None:
    found = read_text(TWO, "a.yaml")
    assert [one.kind for one in found] == [EntryKind.PIPELINE, EntryKind.SOURCE]
    assert found[0].pipeline().pipeline_name == "guests"


def test_on_and_no_and_dates_are_text_as_in_json() -> None:
    pipeline, source = read_text(TWO)
    assert source.document == {
        "source_name": "guest-files",
        "opened": "2026-05-01",
        "answer": "no",
        "zip": 1234,
        "share": 1.5,
        "nothing": None,
    }
    text = str(pipeline.document)
    assert "'on': {'venue_id': 'id'}" in text


def test_files_and_folders_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("source: {source_name: b}")
    (tmp_path / "a.yml").write_text("source: {source_name: a}")
    (tmp_path / "c.txt").write_text("not yaml: [")
    found = read_files([tmp_path, tmp_path / "b.yaml"])
    assert [one.document["source_name"] for one in found] == ["a", "b", "b"]
    assert found[0].file == str(tmp_path / "a.yml")


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        ("pipeline:\n  a: [1\n", "a.yaml:3", "is not YAML"),
        ("pipeline:\n\ta: 1", "a.yaml:2", "is not YAML"),
        ("pipeline:\n  a: 'x\n", "a.yaml:3", "is not YAML"),
        ("pipeline:\n  a: 1\n  a: 2\n", "a.yaml:3", "the key 'a' twice"),
        ("pipeline:\n  ? [x]\n  : 1\n", "a.yaml:2", "a key that is not text"),
        ("source: {}\n---\npipelin:\n  a: 1\n", "a.yaml:3", "no kind of definition 'pipelin'"),
        ("- 1\n", "a.yaml:1", "one key"),
        ("pipeline: {}\nsource: {}\n", "a.yaml:1", "one key"),
        ("pipeline:\n", "a.yaml:1", "holds no keys"),
        ("pipeline:\n  a: !!python/name:os.system x\n", "a.yaml:2", "is not YAML"),
        ("pipeline:\n  a: &x [*x]\n", "a.yaml", "holds too much"),
        ("pipeline: {a: \x00}", "a.yaml", "is not YAML"),
        ("pipeline:\n  pipeline_name: x\n  pipeline_type: elt\n", "a.yaml:3: pipeline_type", "not known"),
        ("\npipeline:\n  pipeline_type: etl\n", "a.yaml:3: pipeline_name", "required"),
        (
            "pipeline:\n  pipeline_name: x\n  pipeline_type: etl\n  steps:\n"
            "    - name: e\n      type: extract\n      config:\n        source_id: s\n        quer: y\n",
            "a.yaml:9: steps[0].config.quer",
            "unknown",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_line(text: str, path: str, said: str) -> None:
    error = refusal(text)
    assert error.path == path
    assert said in error.message or said == "unknown"


def test_aliases_that_blow_up_are_refused() -> None:
    lines = ["pipeline:", "  a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    assert "too much" in refusal("\n".join(lines)).message


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path, content in ((tmp_path / "none.yaml", None), (tmp_path / "latin.yaml", b"source: {a: \xe9}")):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(Invalid) as caught:
            read_files([path])
        assert caught.value.path == str(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Invalid, match="no YAML files"):
        read_files([tmp_path / "empty"])


def test_files_that_define_nothing_are_refused(tmp_path: Path) -> None:
    blank, full = tmp_path / "blank.yaml", tmp_path / "full.yaml"
    blank.write_text("# to come\n---\n")
    full.write_text("source: {source_name: s}\n")
    with pytest.raises(Invalid, match="defines nothing") as caught:
        read_files([blank])
    assert (caught.value.path, "`pipeline:`" in str(caught.value.hint)) == (str(blank), True)
    assert len(read_files([tmp_path])) == 1


@pytest.mark.parametrize(
    "document", [simple(entry("filter", condition="a > 1\nOR b")), explicit(extract("e"), load("l", "e"))]
)
def test_what_is_exported_is_read_back(document: JsonObject) -> None:
    written = export([pipeline_entry(definition(document)), Entry(EntryKind.SOURCE, {"source_name": "s"})])
    pipeline, source = read_text(written)
    assert pipeline.pipeline() == definition(document)
    assert source.document == {"source_name": "s"}


def test_text_of_several_lines_is_exported_as_a_block() -> None:
    written = export([Entry(EntryKind.PIPELINE, {"query": "SELECT 1\nFROM t\n"})])
    assert written == "pipeline:\n  query: |\n    SELECT 1\n    FROM t\n"


SCALARS = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(codec="utf-8"), max_size=8)
DOCUMENTS = st.dictionaries(
    st.text("abcdefon123-_.", min_size=1, max_size=6),
    SCALARS
    | st.lists(SCALARS, max_size=3)
    | st.sampled_from(["on", "no", "2026-01-01", "1e3", "0E0", "0x1F", "~", "", "1_000", "12:30"]),
    min_size=1,
    max_size=5,
)


@given(DOCUMENTS)
def test_every_document_survives_its_yaml(document: JsonObject) -> None:
    (found,) = read_text(export([Entry(EntryKind.SOURCE, document)]))
    assert found.document == document
