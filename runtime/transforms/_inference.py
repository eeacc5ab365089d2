"""Tells the output columns of a query from its input columns, and refuses names that the inputs do not have."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from models.errors import Invalid
from runtime.batches.types import DIALECT, UNKNOWN, Column, Columns
from runtime.transforms import _types as t
from runtime.transforms._contract import Relation
from runtime.transforms._sql import same, unknown
from runtime.transforms._typing import UNSURE, Typed, Typer

_SYSTEM_COLUMNS = frozenset(("ctid", "rowid", "tableoid", "xmax", "xmin"))


@dataclass(frozen=True, slots=True)
class _Source:
    """A table, CTE or subquery in a FROM clause; `columns` is None where they are not known."""

    alias: str
    columns: Columns | None
    hidden: frozenset[str] = frozenset()
    visible: bool = True


@dataclass(frozen=True, slots=True)
class _Scope:
    """What the names inside one SELECT may mean."""

    sources: tuple[_Source, ...]
    aliases: Mapping[str, exp.Expr]
    outer: "_Scope | None" = None


class Inference:
    """Infers queries over named relations.

    `closed` says that no other table exists: an unknown one is refused, else it is a table of unknown columns.
    With `typed` false only names and the types of plain columns and casts are told (a dialect other than DuckDB's).
    """

    def __init__(self, relations: Sequence[Relation], path: str, *, closed: bool = True, typed: bool = True) -> None:
        self.tables = {relation.name.lower(): relation.columns for relation in relations}
        self.names = [relation.name for relation in relations]
        self.path = path
        self.closed = closed
        self.typed = typed

    def columns(self, query: exp.Query) -> Columns | None:
        """The output columns, or None where they are not known before the run.

        Raises `Invalid` for a table or a column that is not there, and for a name that means two columns.
        """
        return self._query(query, self.tables, None)

    def _query(self, query: exp.Expr, tables: Mapping[str, Columns | None], outer: _Scope | None) -> Columns | None:
        tables = self._with_ctes(query, tables, outer)
        if isinstance(query, exp.Subquery):
            return self._query(query.this, tables, outer)
        if isinstance(query, exp.SetOperation):
            left = self._query(query.this, tables, outer)
            right = self._query(query.expression, tables, outer)
            return united(left, right) if query.args.get("by_name") else _stacked(left, right)
        if isinstance(query, exp.Select):
            return self._select(query, tables, outer)
        return None

    def _with_ctes(
        self, query: exp.Expr, tables: Mapping[str, Columns | None], outer: _Scope | None
    ) -> Mapping[str, Columns | None]:
        clause = query.args.get("with_")
        if clause is None:
            return tables
        known = dict(tables)
        for cte in clause.expressions:
            if clause.args.get("recursive"):
                known[cte.alias.lower()] = None
            found = self._query(cte.this, known, outer)
            renamed = _renamed(found, cte.args.get("alias"))
            known[cte.alias.lower()] = None if clause.args.get("recursive") else renamed
        return known

    def _select(self, select: exp.Select, tables: Mapping[str, Columns | None], outer: _Scope | None) -> Columns | None:
        aliases = {item.alias.lower(): item.this for item in select.expressions if isinstance(item, exp.Alias)}
        scope = _Scope(tuple(self._sources(select, tables, outer)), aliases, outer)
        for column in _own_columns(select):
            self._resolve(column, scope)
        for inner in _inner_queries(select):
            self._query(inner, tables, scope)
        return self._projection(select, scope)

    def _sources(
        self, select: exp.Select, tables: Mapping[str, Columns | None], outer: _Scope | None
    ) -> Iterator[_Source]:
        start = select.args.get("from_")
        left: list[_Source] = []
        if start is not None:
            left.append(self._source(start.this, tables, outer))
        for join in select.args.get("joins") or []:
            right = self._source(join.this, tables, outer)
            using = frozenset(column.name.lower() for column in join.args.get("using") or [])
            if join.method == "NATURAL":
                using = _shared(left, right)
            if join.side in ("LEFT", "FULL"):
                right = _optional(right)
            if join.side in ("RIGHT", "FULL"):
                left = [_optional(source) for source in left]
            shown = join.kind not in ("SEMI", "ANTI")
            left.append(replace(right, hidden=using, visible=shown))
        left.extend(_Source(lateral.alias, None) for lateral in select.args.get("laterals") or [])
        yield from left

    def _source(self, node: exp.Expr, tables: Mapping[str, Columns | None], outer: _Scope | None) -> _Source:
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            columns = _renamed(self._table(node, tables), node.args.get("alias"))
            plain = not (node.args.get("joins") or node.args.get("pivots"))
            return _Source(node.alias_or_name, columns if plain else None)
        if isinstance(node, exp.Subquery):
            columns = _renamed(self._query(node.this, tables, outer), node.args.get("alias"))
            plain = not (node.args.get("joins") or node.args.get("pivots"))
            return _Source(node.alias, columns if plain else None)
        return _Source(node.alias_or_name, None)

    def _table(self, node: exp.Table, tables: Mapping[str, Columns | None]) -> Columns | None:
        full = ".".join(part.name for part in node.parts).lower()
        if full in tables:
            return tables[full]
        if self.closed:
            raise unknown(
                "table", ".".join(part.name for part in node.parts), self.names, self.path, " among the inputs"
            )
        return None

    def _resolve(self, column: exp.Column, scope: _Scope) -> Typed:
        """What a name means; `UNSURE` where an open source could hold it."""
        names = [part.name for part in column.parts]
        found = self._lookup(names, scope)
        if found is not None:
            return found
        known = [one.name for source in scope.sources for one in source.columns or ()]
        raise unknown("column", names[-1] if len(names) == 1 else ".".join(names), known, self.path, _position(column))

    def _lookup(self, names: list[str], scope: _Scope) -> Typed | None:
        if len(names) > 1:
            for source in scope.sources:
                if same(source.alias, names[0]):
                    found = _in_source(source, names[1])
                    return None if found is None else _descend(found, names[2:])
        matches = [(source, _in_source(source, names[0])) for source in scope.sources]
        sure = [found for source, found in matches if found is not None and source.columns is not None]
        unhidden = [
            source
            for source, found in matches
            if found is not None and source.columns is not None and names[0].lower() not in source.hidden
        ]
        if len(unhidden) > 1:
            tables = " and ".join(source.alias for source in unhidden)
            raise Invalid(
                f"the column {names[0]!r} is in {tables}", hint="write which one: `table.column`", path=self.path
            )
        if sure:
            return _descend(sure[0], names[1:])
        if names[0].lower() in scope.aliases or any(same(source.alias, names[0]) for source in scope.sources):
            return UNSURE
        if any(source.columns is None for source in scope.sources) or names[0].lower() in _SYSTEM_COLUMNS:
            return UNSURE
        return self._lookup(names, scope.outer) if scope.outer else None

    def _projection(self, select: exp.Select, scope: _Scope) -> Columns | None:
        columns: list[Column] = []
        typer = Typer(lambda column: self._typed(column, scope))
        for item in select.expressions:
            expanded = self._item(item, scope, typer)
            if expanded is None:
                return None
            columns.extend(expanded)
        return tuple(columns)

    def _typed(self, column: exp.Column, scope: _Scope, seen: frozenset[str] = frozenset()) -> Typed:
        """The type of a column, or of the expression that an alias of the same SELECT stands for."""
        found, lower = self._resolve(column, scope), column.name.lower()
        alias = scope.aliases.get(lower) if len(column.parts) == 1 else None
        if found is not UNSURE or alias is None or lower in seen or not self.typed:
            return found
        return Typer(lambda one: self._typed(one, scope, seen | {lower})).of(alias)

    def _item(self, item: exp.Expr, scope: _Scope, typer: Typer) -> list[Column] | None:
        type_of = _TypeOf(typer, self.typed)
        if isinstance(item, exp.Star):
            return self._star(item, [source for source in scope.sources if source.visible], type_of)
        if isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
            chosen = [replace(one, hidden=frozenset()) for one in scope.sources if same(one.alias, item.table)]
            return self._star(item.this, chosen[:1], type_of) if chosen else None
        if isinstance(item, exp.Alias):
            found = type_of(item.this)
            return [Column(item.alias, found.type, found.nullable)]
        if isinstance(item, exp.Column):
            found = typer.of(item)
            return [Column(_spelling(item, scope), found.type, found.nullable)]
        return None

    def _star(self, star: exp.Star, sources: Sequence[_Source], type_of: "_TypeOf") -> list[Column] | None:
        """`*` with its EXCLUDE, REPLACE and RENAME; None where a source is open."""
        if any(source.columns is None for source in sources):
            return None
        known = [column.name for source in sources for column in source.columns or ()]
        for name in _star_names(star):
            if not any(same(name, one) for one in known):
                raise unknown("column", name, known, self.path)
        return _starred(star, sources, type_of)


@dataclass(frozen=True, slots=True)
class _TypeOf:
    """Types an expression, in another dialect than DuckDB's only where it is a plain column or cast."""

    typer: Typer
    typed: bool

    def __call__(self, node: exp.Expr) -> Typed:
        if self.typed or isinstance(node, exp.Column):
            return self.typer.of(node)
        if isinstance(node, exp.Cast) and isinstance(node.to, exp.DataType):
            unbounded = node.to.is_type(exp.DType.DECIMAL) and not node.to.expressions
            return UNSURE if unbounded else Typed(t.canonical(node.to.sql(DIALECT)))
        return UNSURE


def _own_columns(select: exp.Select) -> Iterator[exp.Column]:
    """The columns that this SELECT itself names, those of its inner queries left out."""
    for node in select.walk(prune=lambda one: one is not select and isinstance(one, exp.Query | exp.With)):
        if isinstance(node, exp.Column) and not isinstance(node.this, exp.Star) and not _is_bound_elsewhere(node):
            yield node


def _is_bound_elsewhere(column: exp.Column) -> bool:
    """Whether it stands in EXCLUDE or RENAME, which `_star` checks, or in a lambda, whose parameters look alike."""
    return isinstance(column.parent, exp.Star) or column.find_ancestor(exp.Lambda) is not None


def _inner_queries(select: exp.Select) -> Iterator[exp.Query]:
    """The subqueries outside FROM and WITH."""
    skipped = {id(select.args.get("from_")), id(select.args.get("with_"))}
    skipped.update(id(join.this) for join in select.args.get("joins") or [])

    def prune(node: exp.Expr) -> bool:
        return id(node) in skipped or (node is not select and isinstance(node, exp.Query))

    for node in select.walk(prune=prune):
        if node is not select and isinstance(node, exp.Query) and id(node) not in skipped:
            yield node


def _renamed(columns: Columns | None, alias: exp.Expr | None) -> Columns | None:
    names = alias.args.get("columns") if isinstance(alias, exp.TableAlias) else None
    if not names or columns is None:
        return columns
    fresh = [name.name for name in names]
    return tuple(
        replace(column, name=fresh[index]) if index < len(fresh) else column for index, column in enumerate(columns)
    )


def _shared(left: Sequence[_Source], right: _Source) -> frozenset[str]:
    names = {column.name.lower() for source in left for column in source.columns or ()}
    return frozenset(names & {column.name.lower() for column in right.columns or ()})


def _optional(source: _Source) -> _Source:
    columns = source.columns
    return replace(source, columns=columns and tuple(replace(column, nullable=True) for column in columns))


def _in_source(source: _Source, name: str) -> Typed | None:
    """The column's type in a source; None where it is known not to be there."""
    if source.columns is None:
        return UNSURE
    for column in source.columns:
        if same(column.name, name):
            return Typed(t.canonical(column.type), column.nullable)
    return None


def _descend(found: Typed, fields: Sequence[str]) -> Typed:
    for field in fields:
        found = Typed(t.field(found.type, field))
    return found


def _spelling(column: exp.Column, scope: _Scope) -> str:
    """The name that DuckDB gives the column: as its table spells it."""
    if len(column.parts) <= 2:
        for source in scope.sources:
            if not column.table or same(column.table, source.alias):
                for one in source.columns or ():
                    if same(one.name, column.name):
                        return one.name
    return column.name


def _star_names(star: exp.Star) -> list[str]:
    """The columns that EXCLUDE, REPLACE and RENAME name."""
    dropped = [one.name for one in star.args.get("except_") or []]
    replaced = [one.alias for one in star.args.get("replace") or []]
    return [*dropped, *replaced, *(one.this.name for one in star.args.get("rename") or [])]


def _starred(star: exp.Star, sources: Sequence[_Source], type_of: _TypeOf) -> list[Column]:
    dropped = {one.name.lower() for one in star.args.get("except_") or []}
    replaced = {one.alias.lower(): one.this for one in star.args.get("replace") or []}
    renamed = {one.this.name.lower(): one.alias for one in star.args.get("rename") or []}
    columns: list[Column] = []
    for source in sources:
        for column in source.columns or ():
            lower = column.name.lower()
            if lower in dropped or lower in source.hidden:
                continue
            found = type_of(replaced[lower]) if lower in replaced else Typed(t.canonical(column.type), column.nullable)
            columns.append(Column(renamed.get(lower, column.name), found.type, found.nullable))
    return columns


def united(left: Columns | None, right: Columns | None) -> Columns | None:
    """The columns of a union by name: those of both sides, in order of appearance."""
    if left is None or right is None:
        return None
    others = {column.name.lower(): column for column in right}
    merged = [_merged(column, others.pop(column.name.lower(), None)) for column in left]
    return (*merged, *(replace(column, nullable=True) for column in others.values()))


def _stacked(left: Columns | None, right: Columns | None) -> Columns | None:
    if left is None:
        return None
    if right is None or len(left) != len(right):
        return tuple(Column(column.name) for column in left)
    return tuple(_merged(one, other) for one, other in zip(left, right, strict=True))


def _merged(one: Column, other: Column | None) -> Column:
    if other is None:
        return replace(one, nullable=True)
    kind = t.combined((t.canonical(one.type), t.canonical(other.type)))
    return Column(one.name, UNKNOWN if kind == UNKNOWN else kind, one.nullable or other.nullable)


def _position(column: exp.Column) -> str:
    last = column.parts[-1]
    if "line" not in last.meta:
        return ""
    return f" at line {last.meta['line']}, column {last.meta['col'] - len(last.name) + 1}"
