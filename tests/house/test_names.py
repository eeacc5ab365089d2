"""Names: of modules, of tests, and the sentence that says what a module is for."""

import ast
import re
from pathlib import PurePosixPath
from typing import Final

from tests.house.tree import PACKAGES, ROOT, modules, place, tracked

TOP_LEVEL: Final = {
    "pyproject.toml", "api", "runtime", "models", "graphql_schema", "tests", "benchmarks", "deploy", "README.md",
    "LICENSE",
}  # fmt: skip
EMPTY_NAMES: Final = {"utils", "util", "helpers", "helper", "common", "misc", "core", "manager", "handler", "service"}
EMPTY_SUFFIXES: Final = ("Manager", "Handler", "Helper", "Service", "Impl", "Util", "Utils")
TEST_NAME: Final = re.compile(r"test(_[a-z0-9]+){3,}")


def test_the_top_level_is_fixed() -> None:
    found = {path.split("/", 1)[0] for path in tracked()}
    assert {name for name in found if not name.startswith(".")} - TOP_LEVEL == set()


def test_no_module_has_a_name_that_says_nothing() -> None:
    said = {one.path: set(PurePosixPath(one.path).with_suffix("").parts) for one in modules()}
    assert [path for path, parts in said.items() if {part.strip("_") for part in parts} & EMPTY_NAMES] == []


def test_no_class_is_named_after_a_pattern() -> None:
    named = [
        f"{place(module, node)} {node.name}"
        for module in modules()
        for node in module.classes()
        if node.name.endswith(EMPTY_SUFFIXES) and not any("Handler" in ast.unparse(base) for base in node.bases)
    ]
    assert named == []


def test_each_module_opens_with_a_sentence_that_says_what_it_is_for() -> None:
    silent = [
        one.path
        for one in modules()
        if one.text.strip() and not first_line(one.tree.body and one.text).endswith((".", ":", "?"))
    ]
    assert silent == []


def first_line(text: object) -> str:
    """The first line of the docstring that a module's text opens with; empty where it opens with none."""
    opening = re.match(r'(?:#.*\n)*"""(.*)', str(text))
    return opening[1].removesuffix('"""').strip() if opening else ""


def test_a_test_is_named_by_a_sentence() -> None:
    short = [
        f"{place(module, node)} {node.name}"
        for module in modules("tests")
        for node in module.functions()
        if node.name.startswith("test_") and not TEST_NAME.fullmatch(node.name)
    ]
    assert short == []


def test_tests_mirror_the_source() -> None:
    rooms = {one.path.rpartition("/")[0] for one in modules(*PACKAGES)}
    mirrored = {
        one.path.removeprefix("tests/").rpartition("/")[0]
        for one in modules("tests")
        if one.path.rpartition("/")[2].startswith("test_") and one.path.split("/")[1] in PACKAGES
    }
    assert mirrored - rooms == set()


def test_each_package_has_a_map() -> None:
    assert [package for package in PACKAGES if not (ROOT / package / "README.md").is_file()] == []
