"""A small pipeline over files, saved in the session's program, for commands to act on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit.platform import Platform, Said

DEFINITIONS = """
source:
  source_name: {name}-in
  kind: csv
  connection_config: {{root: {folder}/in, datasets: {{guests: guests.csv}}}}
---
destination:
  destination_name: {name}-out
  kind: csv
  connection_config: {{root: {folder}/out}}
  write_mode: overwrite
  backup_config: {{enabled: true}}
---
pipeline:
  pipeline_name: {name}
  pipeline_type: etl
  description: Guests who come.
  steps:
    - {{name: read, type: extract, config: {{source_id: {name}-in, dataset: guests}}}}
    - name: coming
      type: transform
      depends_on: [read]
      config: {{type: filter, config: {{condition: "comes = 'yes'"}}}}
    - {{name: keep, type: load, depends_on: [coming], config: {{destination_id: {name}-out, table_name: coming}}}}
"""


@dataclass(frozen=True, slots=True)
class Guests:
    """A pipeline's name, its files, and commands in the session's home."""

    name: str
    folder: Path
    run: Callable[..., Said]

    @property
    def file(self) -> Path:
        """Its YAML file."""
        return self.folder / "guests.yaml"

    def written(self) -> list[str]:
        """The lines of what was loaded, of all files, in order and without quotes."""
        files = (self.folder / "out").rglob("*.csv")
        return sorted({line.replace('"', "") for file in files for line in file.read_text().splitlines()})


@pytest.fixture
def guests(platform: Platform, tmp_path: Path) -> Guests:
    """Definitions in a file, and the guests they read: two who come and one who does not."""
    made = Guests(platform.name("guests"), tmp_path, platform.run)
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "guests.csv").write_text("guest,comes\nAda,yes\nBen,no\nCleo,yes\n")
    made.file.write_text(DEFINITIONS.format(name=made.name, folder=tmp_path))
    return made


@pytest.fixture
def saved(guests: Guests) -> Guests:
    """The same, saved and with its source discovered."""
    said = guests.run("apply", guests.file, "--discover")
    assert said.status == 0, said.err
    return guests
