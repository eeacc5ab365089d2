"""The project's own files: what is pinned, what is not recorded, what the README promises."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Final, cast
from xml.etree import ElementTree
from zipfile import ZipFile

from runtime.demo.definitions import PIPELINES
from tests.house.tree import PACKAGES, ROOT, tracked

LOCK: Final = (ROOT / "deploy" / "requirements.lock").read_text()
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())
README: Final = (ROOT / "README.md").read_text()
SET_UP: Final = (
    "python3 -m venv .venv && .venv/bin/pip install -q uv"
    " && .venv/bin/uv pip install -q -r deploy/requirements.lock -e . && .venv/bin/"
)
PIN: Final = re.compile(r"^(?P<name>[a-z0-9-]+)(\[[a-z0-9,-]+\])?==(?P<version>[^ ;]+)", re.MULTILINE)
NAME: Final = re.compile(r"^[A-Za-z0-9._-]+")
PICTURE_BYTES: Final = 60_000
HEAVY: Final = ("ray", "duckdb", "adbc_driver_postgresql", "polars", "pandas")


def wanted() -> Iterator[str]:
    """The normalised name of every dependency that pyproject.toml names."""
    for requirement in (*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]):
        named = NAME.match(requirement)
        assert named
        yield re.sub(r"[-_.]+", "-", named[0]).lower()


def test_every_dependency_is_pinned_with_hashes() -> None:
    pinned = {found["name"] for found in PIN.finditer(LOCK)}
    assert set(wanted()) - pinned == set()
    entries = re.split(r"\n(?=[a-z0-9])", LOCK.strip())
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_lock_holds_names_versions_and_hashes_but_no_address() -> None:
    known = re.compile(r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==\S+( ; [^\\]+?)?( \\)?|    --hash=sha256:[0-9a-f]{64}( \\)?")
    assert [line for line in LOCK.splitlines() if not known.fullmatch(line)] == []
    assert "://" not in LOCK


def test_the_lock_that_records_addresses_is_not_kept() -> None:
    assert "uv.lock" not in tracked()
    assert "uv.lock" in (ROOT / ".gitignore").read_text().splitlines()


def test_no_file_names_a_machine_or_a_registry() -> None:
    private = re.compile(r"/opt/(pypi|wheels)|/(root|home/\w+)/\.|files\.pythonhosted\.org|registry\.npmjs\.org")
    own = "tests/house/test_project.py"
    found = []
    for path in tracked():
        content = (ROOT / path).read_bytes()
        if path != own and b"\0" not in content and private.search(content.decode(errors="replace")):
            found.append(path)
    assert found == []


def test_the_licence_that_is_named_lies_beside_it() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert PROJECT["project"]["license-files"] == ["LICENSE"]
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_bytecode_is_compiled_on_install() -> None:
    uv = PROJECT["tool"]["uv"]
    assert uv["compile-bytecode"] is True
    assert uv["pip"]["compile-bytecode"] is True


def test_sqlglot_is_pinned_exactly() -> None:
    assert [one for one in PROJECT["project"]["dependencies"] if one.startswith("sqlglot==")]


def test_the_readme_gives_the_two_commands_whole() -> None:
    lines = README.splitlines()
    assert SET_UP + "wedsync demo" in lines
    assert SET_UP + "pytest" in lines


def test_the_readme_names_the_pythons_that_are_accepted() -> None:
    named = re.search(r"Python 3\.(\d+) to 3\.(\d+)", README)
    assert named
    assert PROJECT["project"]["requires-python"] == f">=3.{named[1]},<3.{int(named[2]) + 1}"


def test_the_readme_shows_a_small_picture_of_the_demo() -> None:
    pictured = re.search(r"!\[[^]]+\]\(([^)]+\.svg)\)", README)
    assert pictured
    picture = (ROOT / pictured[1]).read_bytes()
    assert len(picture) < PICTURE_BYTES
    shown = "".join(ElementTree.fromstring(picture).itertext()).replace("\N{NO-BREAK SPACE}", " ")
    assert [name for name in (*PIPELINES, "wedsync demo", "set aside", "rows moved") if name not in shown] == []
    assert b"http" not in picture.replace(b"http://www.w3.org/2000/svg", b"")


def test_ci_runs_the_readmes_test_command() -> None:
    assert SET_UP + "pytest" in (ROOT / ".ci" / "run").read_text()


def test_the_process_that_listens_loads_nothing_that_computes() -> None:
    code = f"import json, sys, api.server; print(json.dumps([one for one in {HEAVY!r} if one in sys.modules]))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert cast(list[str], json.loads(ran.stdout)) == []


def test_the_wheel_holds_the_packages_with_what_in_them_is_not_code(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as opened:
        held = {name for name in opened.namelist() if ".dist-info/" not in name}
    assert {path for path in tracked() if path.partition("/")[0] in PACKAGES} - held == set()
    assert {name.partition("/")[0] for name in held} == set(PACKAGES)
    for pattern in ("models/migrations/sql/*.sql", "runtime/demo/pipelines/*.yaml", "graphql_schema/schema.graphql"):
        assert [name for name in held if fnmatch(name, pattern)], pattern
