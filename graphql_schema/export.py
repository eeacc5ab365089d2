"""Writes the schema as SDL beside this module, or with `--check` fails when the file there differs."""

import argparse
import difflib
import sys
from pathlib import Path
from typing import Final

from graphql_schema.schema import build_schema

FILE: Final = Path(__file__).with_name("schema.graphql")


def sdl() -> str:
    """The schema in GraphQL's schema definition language."""
    return build_schema().as_str() + "\n"


def difference(file: Path = FILE) -> str:
    """What would change in the file, as a unified diff; empty when it is up to date."""
    before = file.read_text().splitlines(keepends=True) if file.exists() else []
    after = sdl().splitlines(keepends=True)
    return "".join(difflib.unified_diff(before, after, file.name, "the code"))


def main() -> int:
    """Write or check; the exit status is 1 when the check fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when the file is out of date")
    if not parser.parse_args().check:
        FILE.write_text(sdl())
        return 0
    changed = difference()
    if changed:
        sys.stderr.write(f"{changed}\nreview the change, then run `python -m graphql_schema.export`\n")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
