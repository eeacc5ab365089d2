"""Prints the headlines of `--benchmark-json` files as a table in Markdown: `python -m benchmarks.table FILE…`."""

import sys
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict

COLUMNS = ("question", "value", "against", "target")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Extra(_Record):
    """What a benchmark's `extra_info` holds of its headline."""

    value: float | str
    unit: str
    against: str
    target: str


class Benchmark(_Record):
    """One benchmark of a file."""

    name: str
    extra_info: Extra


class Results(_Record):
    """What `--benchmark-json` writes."""

    benchmarks: tuple[Benchmark, ...]


def rows(results: Results) -> list[tuple[str, ...]]:
    """A row for each benchmark, in the file's order."""
    return [
        (_question(one.name), f"{one.extra_info.value} {one.extra_info.unit}", one.extra_info.against, _wanted(one))
        for one in results.benchmarks
    ]


def _question(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ").replace("[", " [")


def _wanted(one: Benchmark) -> str:
    return one.extra_info.target.replace("<=", "≤").replace(">=", "≥")


def table(found: list[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *found]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def main(paths: list[str]) -> int:
    """Print one table of all files; 2 without any."""
    if not paths:
        sys.stderr.write("usage: python -m benchmarks.table RESULTS.json…\n")
        return 2
    files = [Results.model_validate(orjson.loads(Path(path).read_bytes())) for path in paths]
    sys.stdout.write(table([row for results in files for row in rows(results)]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
