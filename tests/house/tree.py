"""The project's own Python modules, parsed once."""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Final, TypeAlias

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("models", "runtime", "graphql_schema", "api")
OURS: Final = (*PACKAGES, "tests", "benchmarks")

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One module: its path from the project's root, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of its tree."""
        return tuple(ast.walk(self.tree))

    @property
    def lines(self) -> int:
        """How many lines it has."""
        return self.text.count("\n")

    @property
    def package(self) -> str:
        """The top-level package it belongs to."""
        return self.path.split("/", 1)[0]

    @property
    def dotted(self) -> str:
        """The name it is imported by."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def classes(self) -> Iterator[ast.ClassDef]:
        """Every class."""
        return (node for node in self.nodes if isinstance(node, ast.ClassDef))

    def functions(self) -> Iterator[Function]:
        """Every function and method."""
        return (node for node in self.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    def imports(self) -> Iterator[str]:
        """The dotted name of everything imported, anywhere in it."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def texts(self) -> Iterator[ast.Constant]:
        """Every string constant."""
        for node in self.nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node


@lru_cache
def modules(*packages: str) -> tuple[Module, ...]:
    """The modules of these packages, by default of all."""
    return tuple(_read(file) for package in packages or OURS for file in sorted((ROOT / package).rglob("*.py")))


@cache
def _read(file: Path) -> Module:
    return Module(file.relative_to(ROOT).as_posix(), file.read_text())


@lru_cache
def tracked() -> tuple[str, ...]:
    """Every file that git knows, or would add, by its path from the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return tuple(sorted(path for path in listed if (ROOT / path).is_file()))


def length(node: ast.stmt) -> int:
    """How many lines a definition has."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def place(module: Module, node: ast.stmt | ast.expr) -> str:
    """Where a node is, as editors read it."""
    return f"{module.path}:{node.lineno}"
