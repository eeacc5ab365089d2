"""Lengths are a ratchet: what is listed as too long here may only shrink."""

import ast
from collections.abc import Mapping
from statistics import median, quantiles
from typing import Final

import pytest

from api.cli.main import ENTRIES
from tests.house.tree import PACKAGES, Function, Module, length, modules, place

MODULE_LINES: Final = 400
TEST_MODULE_LINES: Final = 600
CLASS_LINES: Final = 200
CLASS_METHODS: Final = 12
FUNCTION_LINES: Final = 60
PARAMETERS: Final = 6

MANY_METHODS: Final[Mapping[str, int]] = {
    "api.client.client.Client": 20,
    "runtime.connectors._csv_rows.CsvRows": 13,
    "runtime.connectors._file_destination.FileDestination": 18,
    "runtime.connectors._files.FileSource": 19,
    "runtime.connectors._http_client.HttpClient": 13,
    "runtime.connectors.http.HttpSource": 16,
    "runtime.executions.supervisor.Supervisor": 15,
    "runtime.transforms._inference.Inference": 14,
}
"""Classes with more methods than a new one may have, and how many: the number may fall, never rise."""


def parameters(function: Function) -> int:
    """How many parameters a caller sees."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def methods(node: ast.ClassDef) -> int:
    """How many methods a class defines itself; properties and GraphQL fields are attributes."""
    found = [one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    return sum(not marks(one) & {"property", "cached_property", "computed", "field"} for one in found)


def marks(node: Function) -> set[str]:
    """The names of a function's decorators."""
    return {ast.unparse(one).split("(")[0].rpartition(".")[2] for one in node.decorator_list}


def limit(module: Module) -> int:
    """How long a module may be."""
    return MODULE_LINES if module.package in PACKAGES else TEST_MODULE_LINES


def test_no_module_is_too_long() -> None:
    assert [f"{one.path}: {one.lines}" for one in modules() if one.lines > limit(one)] == []


def test_no_class_is_too_long() -> None:
    long = [
        f"{place(module, node)} {node.name}: {length(node)}"
        for module in modules(*PACKAGES)
        for node in module.classes()
        if length(node) > CLASS_LINES
    ]
    assert long == []


def test_no_class_does_too_much() -> None:
    wide = {
        f"{module.dotted}.{node.name}": methods(node)
        for module in modules(*PACKAGES)
        for node in module.classes()
        if methods(node) > CLASS_METHODS
    }
    assert {name: count for name, count in wide.items() if count > MANY_METHODS.get(name, 0)} == {}


def test_the_ratchet_of_methods_holds_no_class_that_has_shrunk() -> None:
    sizes = {f"{module.dotted}.{node.name}": methods(node) for module in modules() for node in module.classes()}
    assert {name: sizes.get(name) for name, count in MANY_METHODS.items() if sizes.get(name) != count} == {}


def test_no_function_is_too_long() -> None:
    long = [
        f"{place(module, node)} {node.name}: {length(node)}"
        for module in modules()
        for node in module.functions()
        if length(node) > FUNCTION_LINES
    ]
    assert long == []


def test_no_function_takes_too_much() -> None:
    greedy = [
        f"{place(module, node)} {node.name}: {parameters(node)}"
        for module in modules()
        for node in module.functions()
        if parameters(node) > PARAMETERS and not is_resolver_or_command(module, node)
    ]
    assert greedy == []


def is_resolver_or_command(module: Module, node: Function) -> bool:
    """Whether its parameters are a field's arguments or a command's options: their number is the interface's."""
    is_command = (module.dotted, node.name) in {(f"api.cli.{one.module}", one.function) for one in ENTRIES}
    return is_command or bool(
        marks(node) & {"query", "mutation", "subscription", "computed", "field", "told", "command"}
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_made_of_short_pieces(package: str) -> None:
    functions = [length(node) for module in modules(package) for node in module.functions()]
    assert median(one.lines for one in modules(package)) <= 150
    assert median(functions) <= 11
    assert quantiles(functions, n=10)[-1] <= 35
