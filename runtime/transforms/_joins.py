"""What `join` and `enrichment` share: conditions and columns over two relations."""

from collections.abc import Mapping, Sequence

from sqlglot import exp

from models.errors import Invalid
from runtime.batches.types import Column, Columns
from runtime.transforms._columns import at_path, has, known_name
from runtime.transforms._contract import Relation
from runtime.transforms._inference import Inference
from runtime.transforms._sql import aliased, column, parse_scalar, same, table

LEFT_WORDS, RIGHT_WORDS = ("left", "l"), ("right", "r")


def equalities(left: Relation, right: Relation, pairs: Mapping[str, str], path: str) -> exp.Expr:
    """`left.a = right.b AND …`; raises `Invalid` for a column that its side does not have."""
    tests = [
        exp.EQ(
            this=qualified(at_path(left, one, f"{path}.{one}"), left.name),
            expression=qualified(at_path(right, other, f"{path}.{one}"), right.name),
        )
        for one, other in pairs.items()
    ]
    return exp.and_(*tests)


def condition(left: Relation, right: Relation, sql: str, path: str) -> exp.Expr:
    """A join condition written as SQL, in which `left` and `right` (or `l` and `r`) stand for the two inputs."""
    tree = parse_scalar(sql, path)
    for node in list(tree.find_all(exp.Column)):
        side = _side(left, right, node.parts[0].name) if len(node.parts) > 1 else None
        if side is not None:
            node.parts[0].replace(exp.to_identifier(side.name, quoted=True))
    probe = exp.Select(expressions=[exp.Literal.number(1).as_("x")]).from_(table(left.name))
    Inference([left, right], path).columns(probe.join(table(right.name), on=tree.copy(), copy=False))
    return tree


def _side(left: Relation, right: Relation, word: str) -> Relation | None:
    if same(word, left.name) or same(word, right.name):
        return left if same(word, left.name) else right
    return left if word.lower() in LEFT_WORDS else right if word.lower() in RIGHT_WORDS else None


def qualified(tree: exp.Expr, relation: str) -> exp.Expr:
    """The expression with its unqualified columns read from that relation."""
    columns = [tree] if isinstance(tree, exp.Column) else list(tree.find_all(exp.Column))
    for node in columns:
        node.set("table", exp.to_identifier(relation, quoted=True))
    return tree


def chosen(left: Relation, right: Relation, columns: Sequence[str] | Mapping[str, str], path: str) -> list[exp.Expr]:
    """The output columns that a configuration lists: `column`, `step.column`, or name to one of these."""
    if isinstance(columns, Mapping):
        return [aliased(_one(left, right, text, f"{path}.{name}"), name) for name, text in columns.items()]
    items = [(_one(left, right, text, f"{path}[{i}]"), text) for i, text in enumerate(columns)]
    return [aliased(tree, _last(tree, text)) for tree, text in items]


def _last(tree: exp.Expr, text: str) -> str:
    return tree.name if isinstance(tree, exp.Column) else text.rsplit(".", 1)[-1]


def _one(left: Relation, right: Relation, text: str, path: str) -> exp.Expr:
    word, _, rest = text.partition(".")
    side = _side(left, right, word) if rest else None
    if side is not None:
        return qualified(at_path(side, rest, path), side.name)
    holders = [one for one in (left, right) if one.columns is None or has(one.columns, word) or has(one.columns, text)]
    if len(holders) > 1:
        raise Invalid(
            f"{text!r} may come from {left.name} or from {right.name}",
            hint=f"write `{left.name}.{text}` or `{right.name}.{text}`",
            path=path,
        )
    owner = holders[0] if holders else Relation(f"{left.name} and {right.name}", _both(left, right))
    return qualified(at_path(owner, text, path), owner.name)


def _both(left: Relation, right: Relation) -> Columns:
    return (*(left.columns or ()), *(right.columns or ()))


def all_of(relation: Relation, without: Sequence[str] = ()) -> list[exp.Expr]:
    """Every column of a known relation but those left out."""
    return [column(one.name, relation.name) for one in relation.columns or () if not _among(one, without)]


def _among(one: Column, names: Sequence[str]) -> bool:
    return any(same(one.name, name) for name in names)


def shared_names(left: Relation, right: Relation, names: Sequence[str], path: str) -> list[str]:
    """Names that both sides must have."""
    for index, name in enumerate(names):
        known_name(right, name, f"{path}[{index}]")
    return [known_name(left, name, f"{path}[{index}]") for index, name in enumerate(names)]


def renumbered(query: exp.Select) -> exp.Select:
    """The same rows with equal column names numbered apart by DuckDB (`id`, `id_1`)."""
    return exp.Select(expressions=[exp.Star()]).from_(query.subquery("joined", copy=False), copy=False)
