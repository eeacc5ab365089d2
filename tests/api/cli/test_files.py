"""Definitions go from files to a server and back."""

from tests.api.cli.conftest import Guests
from tests.kit.platform import Platform


def test_apply_adds_then_changes_then_leaves(guests: Guests) -> None:
    name = guests.name
    first = guests.run("apply", guests.file)
    assert first.status == 0, first.err
    assert first.out.splitlines() == [
        f"+ source {name}-in: created",
        f"+ destination {name}-out: created",
        f"+ pipeline {name}: created",
        "    The columns of 'read' are not known: what uses them is checked at the run.",
    ]
    guests.file.write_text(guests.file.read_text().replace("Guests who come.", "Who comes."))
    second = guests.run("apply", guests.file)
    assert f"~ pipeline {name}: updated" in second.out
    assert "    ~ description: Guests who come. -> Who comes." in second.out
    assert f"= pipeline {name}: unchanged" in guests.run("apply", guests.file).out


def test_diff_has_status_1_until_applied(guests: Guests) -> None:
    said = guests.run("diff", guests.file)
    assert (said.status, said.err) == (1, "")
    assert said.out.splitlines() == [
        f"+ source {guests.name}-in: created",
        f"+ destination {guests.name}-out: created",
        f"+ pipeline {guests.name}: created",
    ]
    guests.run("apply", guests.file)
    same = guests.run("diff", guests.file)
    assert same.status == 0, same.out
    assert "its connection is sealed, so it cannot be compared" in same.out
    guests.file.write_text(guests.file.read_text().replace("comes = 'yes'", "comes = 'no'"))
    changed = guests.run("diff", guests.file, "--json")
    assert changed.status == 1
    assert isinstance(changed.json, list)
    (pipeline,) = [one for one in changed.json if isinstance(one, dict) and one["action"] == "updated"]
    assert pipeline["changes"] == [
        {
            "kind": "changed",
            "path": "steps[coming].config.config.condition",
            "old": "comes = 'yes'",
            "new": "comes = 'no'",
        }
    ]


def test_what_is_exported_is_what_was_applied(saved: Guests) -> None:
    exported = saved.run("export", saved.name)
    assert exported.status == 0, exported.err
    saved.file.write_text(exported.out)
    assert saved.run("diff", saved.file).status == 0
    everything = saved.run("export", "--json").json
    assert isinstance(everything, list)
    assert saved.name in {
        definition["pipeline_name"]
        for one in everything
        if isinstance(one, dict) and isinstance(definition := one["pipeline"], dict)
    }


def test_a_column_that_the_source_has_not_is_refused_with_its_line(saved: Guests) -> None:
    saved.file.write_text(saved.file.read_text().replace("comes = 'yes'", "coems = 'yes'"))
    for command in ("apply", "plan"):
        said = saved.run(command, saved.file)
        assert said.status == 1
        assert "guests.yaml:23: steps[1].config.config.condition" in said.err
        assert "coems" in said.err


def test_the_plan_of_a_name_is_the_plan_of_its_file(saved: Guests) -> None:
    named, filed = saved.run("plan", saved.name), saved.run("plan", saved.file)
    assert named.status == 0, named.err
    assert named.out == filed.out
    assert "2. coming: filter of read" in named.out
    assert isinstance(saved.run("plan", saved.name, "--json").json, list)


def test_a_pipeline_that_there_is_not_is_told(platform: Platform) -> None:
    for command in ("plan", "export", "run"):
        said = platform.run(command, "nothing-of-that-name")
        assert said.status == 1
        assert "there is no pipeline 'nothing-of-that-name'" in said.err
