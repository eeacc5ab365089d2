"""What does not stand in the tests: sleep, pretended parts of ours, tests that are left out."""

import ast
from typing import Final

from tests.house.tree import modules, place

WAITS: Final = "tests/kit/eventually.py"
FAKES: Final = ("_api.py", "_server.py")
"""Servers that tests talk to: their slowness is part of what they play."""

PRETENDING: Final = ("unittest.mock", "pytest_mock", "mock")
PATCHES: Final = {f"monkeypatch.{verb}" for verb in ("setattr", "delattr", "setitem", "delitem", "context")}
"""Not the environment and the working folder, which belong to the process."""

LEFT_OUT: Final = {"skip", "xfail", "importorskip"}
"""`skipif` may name another operating system than Linux, where CI runs."""


def test_no_test_sleeps() -> None:
    sleeping = [
        place(module, node)
        for module in modules("tests")
        if module.path != WAITS and not module.path.rpartition("/")[2].endswith(FAKES)
        for node in module.nodes
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("sleep", "time.sleep", "asyncio.sleep")
        and ast.unparse(node.args[0]) != "0"
    ]
    assert sleeping == [], "wait with tests.kit.eventually"


def test_nothing_of_ours_is_pretended() -> None:
    pretending = [
        f"{module.path} imports {name}"
        for module in modules("tests", "benchmarks")
        for name in module.imports()
        if name.startswith(PRETENDING)
    ]
    patching = [
        f"{place(module, node)} {ast.unparse(node)}"
        for module in modules("tests", "benchmarks")
        for node in module.nodes
        if isinstance(node, ast.Attribute) and ast.unparse(node) in PATCHES
    ]
    assert pretending + patching == []


def test_no_test_is_left_out() -> None:
    left_out = [
        place(module, node)
        for module in modules("tests")
        for node in module.nodes
        if isinstance(node, ast.Attribute)
        and node.attr in LEFT_OUT
        and ast.unparse(node.value) in ("pytest", "pytest.mark")
    ]
    conditional = [
        f"{place(module, node)} {ast.unparse(node.args[0])}"
        for module in modules("tests")
        for node in module.nodes
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "pytest.mark.skipif"
        and ast.unparse(node.args[0]) != "sys.platform != 'linux'"
    ]
    assert left_out + conditional == []


def test_no_test_is_empty() -> None:
    empty = [
        f"{place(module, node)} {node.name}"
        for module in modules("tests")
        for node in module.functions()
        if node.name.startswith("test_")
        and not any(isinstance(one, ast.Assert | ast.Call) for line in node.body for one in ast.walk(line))
    ]
    assert empty == []
