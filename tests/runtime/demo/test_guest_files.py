"""Guest files: what was written is read back, with its commas, quotes and line breaks."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from models.fields import parse
from runtime.connectors._contract import ReadRequest, Split
from runtime.connectors.csv_files import CsvConfig, CsvSource
from runtime.demo.definitions import Connections, demo_sources
from runtime.demo.guest_files import write_guest_files
from runtime.demo.world import World


def read(file: Path, schema: pa.Schema) -> pa.Table:
    """One file by Arrow's own reader."""
    return pcsv.read_csv(
        file,
        parse_options=pcsv.ParseOptions(newlines_in_values=True),
        convert_options=pcsv.ConvertOptions(
            column_types=schema, strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )


def test_all_rows_come_back_as_they_were(world: World, tmp_path: Path) -> None:
    files = write_guest_files(tmp_path, world.guests)
    given = world.guests.delivered
    rows = pa.concat_tables([read(file, given.schema) for file in files])
    order = [(name, "ascending") for name in ("guest_id", "invited_on", "responded_on")]
    assert rows.sort_by(order).combine_chunks().equals(given.sort_by(order).combine_chunks())


def test_files_are_named_by_month_and_hold_only_that_month(world: World, tmp_path: Path) -> None:
    files = write_guest_files(tmp_path, world.guests)
    assert len(files) > 6
    assert files == sorted(tmp_path.glob("guests-????-??.csv"))
    for file in files:
        answered = read(file, world.guests.delivered.schema)["responded_on"].drop_null()
        assert set(pc.utf8_slice_codeunits(answered, 0, 7).to_pylist()) <= {file.stem.removeprefix("guests-")}


def test_notes_hold_commas_quotes_and_line_breaks(world: World, tmp_path: Path) -> None:
    text = "".join(file.read_text() for file in write_guest_files(tmp_path, world.guests))
    assert '""Dancing Queen""' in text
    assert "5;\nneed" in text
    assert '"nut allergy, severe"' in text


def test_files_of_an_earlier_writing_are_gone(world: World, tmp_path: Path) -> None:
    stale = tmp_path / "guests-1999-01.csv"
    stale.write_text("guest_id\n1\n")
    other = tmp_path / "notes.txt"
    other.write_text("kept")
    write_guest_files(tmp_path, world.guests)
    assert not stale.exists()
    assert other.exists()


def test_the_demo_source_reads_every_row_of_the_files(world: World, tmp_path: Path) -> None:
    write_guest_files(tmp_path, world.guests)
    places = Connections("postgresql://app", "postgresql://warehouse", "http://vendors", tmp_path)
    document = next(one.document for one in demo_sources(places) if one.document["source_name"] == "guest-files")
    source = CsvSource(parse(CsvConfig, document["connection_config"]))
    assert list(source.discover()) == ["responses"]
    rows = source.read(ReadRequest(dataset="responses"), Split(0)).read_all()
    assert source.rejections.count == 0
    assert rows.num_rows == world.guests.rows
    assert rows.schema.field("plus_one").type == pa.bool_()
