"""An earlier version of a table is listed and brought back."""

from tests.api.cli.conftest import Guests


def test_a_replaced_table_is_listed_and_brought_back(saved: Guests) -> None:
    assert saved.run("run", saved.name, "--watch").status == 0
    (saved.folder / "in" / "guests.csv").write_text("guest,comes\nDora,yes\n")
    assert saved.run("run", saved.name, "--watch").status == 0
    destination = f"{saved.name}-out"
    kept = saved.run("restore", destination, "coming", "--json").json
    assert isinstance(kept, list)
    assert [(one["version"], one["rows"]) for one in kept if isinstance(one, dict)] == [("1", 2)]
    listed = saved.run("restore", destination, "coming")
    assert "kept until (UTC)" in listed.out
    assert saved.run("restore", destination, "coming", "1").out == "coming has the 2 rows of version 1 again\n"
    current = [file.read_text().replace('"', "") for file in (saved.folder / "out" / "coming").glob("*.csv")]
    assert sorted(line for content in current for line in content.split()[1:]) == ["Ada,yes", "Cleo,yes"]


def test_a_version_or_a_destination_that_is_not_there_is_refused(saved: Guests) -> None:
    gone = saved.run("restore", f"{saved.name}-out", "coming", "7")
    assert gone.status == 1
    assert "no earlier version '7'" in gone.err
    missing = saved.run("restore", "nowhere", "coming")
    assert missing.status == 1
    assert "there is no destination 'nowhere'" in missing.err
