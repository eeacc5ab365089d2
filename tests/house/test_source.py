"""What does not stand in the source: untyped documents, unfinished work, the environment, lasting session settings."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from typing import Final

from tests.house.tree import PACKAGES, Module, modules, place

READERS_OF_THE_ENVIRONMENT: Final = (
    "runtime/settings.py",
    "runtime/cluster/__init__.py",
    "runtime/cluster/forkserver.py",
    "runtime/cluster/launcher.py",
    "runtime/embedded/",
)
"""Settings are read once; the others hand the environment on to processes, and Ray's token is an affair of Ray's."""

WHERE_LIBRARIES_HAND_DOCUMENTS: Final = {
    "api/shapes.py",
    "graphql_schema/schema.py",
    "runtime/access/tokens.py",
}
"""GraphQL's answers and variables, and PyJWT's claims: read on the spot, they travel no further."""

UNFINISHED: Final = re.compile(r"\b(TODO|FIXME|XXX|HACK|TBD)\b")
SESSION_WIDE: Final = re.compile(
    r"\bSET\s+(SESSION|ROLE)\b|\bRESET\s+\w|set_config\([^)]*,\s*false\s*\)", re.IGNORECASE
)
ANY_DOCUMENT: Final = re.compile(r"(dict|Dict|Mapping|MutableMapping)\[str, Any\]")
COMMENT_SHARE: Final = 0.04


def test_documents_that_travel_have_types() -> None:
    loose = [
        f"{place(module, node)} {ast.unparse(node)}"
        for module in modules(*PACKAGES)
        if module.path not in WHERE_LIBRARIES_HAND_DOCUMENTS
        for annotation in public_annotations(module)
        for node in ast.walk(annotation)
        if isinstance(node, ast.Subscript) and ANY_DOCUMENT.fullmatch(ast.unparse(node))
    ]
    assert loose == []


def public_annotations(module: Module) -> Iterator[ast.expr]:
    """The types of what others see: parameters and results of public functions, attributes, aliases."""
    for function in module.functions():
        if not function.name.startswith("_"):
            given = function.args
            found = (one.annotation for one in (*given.posonlyargs, *given.args, *given.kwonlyargs))
            yield from (one for one in (*found, function.returns) if one is not None)
    for body in (module.tree.body, *(one.body for one in module.classes())):
        for line in body:
            if isinstance(line, ast.AnnAssign) and not ast.unparse(line.target).startswith("_"):
                yield line.annotation
            elif isinstance(line, ast.Assign):
                yield line.value


def test_nothing_is_marked_as_unfinished() -> None:
    marks = "TO" + "DO"
    found = [
        f"{module.path}:{number}"
        for module in modules()
        if module.path != "tests/house/test_source.py"
        for number, line in enumerate(module.text.splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert found == [], f"finish it, or open an issue instead of a {marks}"


def test_the_environment_is_read_at_the_edge() -> None:
    readers = {
        module.path
        for module in modules(*PACKAGES)
        for node in module.nodes
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv", "os.putenv")
    }
    assert [path for path in sorted(readers) if not path.startswith(READERS_OF_THE_ENVIRONMENT)] == []


def test_nothing_is_set_on_a_connection_for_longer_than_a_transaction() -> None:
    lasting = [
        f"{place(module, node)}: {node.value!r:.80}"
        for module in modules("runtime", "graphql_schema", "api")
        for node in module.texts()
        if isinstance(node.value, str) and SESSION_WIDE.search(node.value)
    ]
    assert lasting == []


def test_models_keep_their_annotations() -> None:
    postponed = [one.path for one in modules("models") if "__future__.annotations" in one.imports()]
    assert postponed == [], "relationships on list fields break under postponed annotations"


def test_comments_give_reasons_only_and_so_are_few() -> None:
    comments = sum(comment_lines(module) for module in modules(*PACKAGES))
    lines = sum(module.lines for module in modules(*PACKAGES))
    assert comments / lines <= COMMENT_SHARE


def comment_lines(module: Module) -> int:
    """How many lines of a module carry a comment, those for tools aside."""
    tokens = tokenize.generate_tokens(io.StringIO(module.text).readline)
    return sum(one.type == tokenize.COMMENT and not is_for_a_tool(one.string) for one in tokens)


def is_for_a_tool(comment: str) -> bool:
    """Whether a comment speaks to a linter."""
    return comment.lstrip("# ").startswith(("type:", "noqa", "fmt:", "pragma"))


def test_plugins_do_not_know_each_other() -> None:
    for package in ("runtime/connectors", "runtime/transforms"):
        inside = [one for one in modules("runtime") if one.path.startswith(f"{package}/")]
        plugins = {one.dotted for one in inside if registers(one)}
        assert plugins
        crossing = [
            f"{one.path} imports {name}"
            for one in inside
            if registers(one) or one.path.rpartition("/")[2].startswith("_")
            for name in one.imports()
            if name in plugins - {one.dotted}
        ]
        assert crossing == []


def registers(module: Module) -> bool:
    """Whether a module registers a plugin."""
    return any(
        isinstance(node, ast.Attribute) and node.attr == "register" and ast.unparse(node.value).isupper()
        for node in module.nodes
    )
