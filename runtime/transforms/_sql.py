"""Reads the SQL that people write in configurations, and refuses what does not parse or is not theirs to use."""

import difflib
from collections.abc import Iterable, Sequence
from itertools import pairwise

import sqlglot
from sqlglot import TokenType, exp
from sqlglot.errors import ParseError, SqlglotError

from models.errors import Invalid
from models.fields import Json
from runtime.batches.types import DIALECT

Scalar = str | int | float | bool | None

_FORBIDDEN = frozenset(("current_setting", "currval", "getenv", "getvariable", "nextval", "query", "query_table"))
_TABLE_FUNCTIONS = frozenset(("generate_series", "json_each", "json_tree", "range", "unnest"))
_REFUSED: tuple[type[exp.Expr], ...] = (
    exp.Alter,
    exp.Attach,
    exp.Command,
    exp.Copy,
    exp.Create,
    exp.DML,
    exp.Describe,
    exp.Detach,
    exp.Drop,
    exp.Into,
    exp.Merge,
    exp.Pragma,
    exp.Set,
    exp.Show,
    exp.Summarize,
    exp.Use,
)
_DIALECT_NAMES = {"duckdb": "DuckDB", "postgres": "PostgreSQL", "mysql": "MySQL", "sqlite": "SQLite"}
_PARAMETERS = (exp.Parameter, exp.Placeholder, exp.SessionParameter)


def parse_scalar(
    sql: str, path: str, *, aggregates: bool = False, windows: bool = False, alias: bool = False
) -> exp.Expr:
    """One SQL expression over the columns of a row, in the DuckDB dialect.

    Raises `Invalid` for what does not parse, for anything but an expression, for subqueries and parameters, and,
    unless allowed, for aggregate and window functions; with `alias`, `expression AS name` is accepted.
    """
    tree = _only_statement(sql, path, DIALECT)
    body = tree.this if alias and isinstance(tree, exp.Alias) else tree
    if isinstance(body, (exp.Alias, exp.Star, exp.Tuple, *_REFUSED)) or not sql.strip():
        raise Invalid("is not one SQL expression", hint="write an expression such as `price * quantity`", path=path)
    if body.find(exp.Query, exp.Table, exp.Exists):
        raise Invalid("holds a subquery", hint="use a `sql` or a `join` step to read other rows", path=path)
    if not windows and body.find(exp.Window):
        raise Invalid("holds a window function, which needs other rows", hint="use a `sql` step", path=path)
    if not aggregates and body.find(exp.AggFunc):
        raise Invalid("holds an aggregate function", hint="use an `aggregation` step", path=path)
    if body.find(exp.Explode, exp.Unnest, exp.Columns):
        raise Invalid("makes more than one value of a row", hint="use a `sql` step", path=path)
    _refuse(body, path)
    return tree


def parse_query(sql: str, path: str, *, dialect: str = DIALECT, parameters: bool = False) -> exp.Query:
    """One SELECT (with its CTEs and set operations), which reads and changes nothing.

    Raises `Invalid` for anything else, and for functions that reach outside the query's own tables.
    """
    tree = _only_statement(sql, path, dialect, parameters=parameters)
    refused = tree if not isinstance(tree, exp.Query) else tree.find(*_REFUSED)
    if refused is not None or not isinstance(tree, exp.Query):
        word = (refused or tree).key.upper()
        raise Invalid(f"only one SELECT is allowed here, not {word}", hint="write a SELECT or WITH query", path=path)
    if dialect == DIALECT:
        for pivot in tree.find_all(exp.Pivot):
            if isinstance(pivot.parent, exp.Subquery) or pivot.args.get("using"):
                raise Invalid("PIVOT is not allowed here", hint="use conditional aggregates", path=path)
        for table in tree.find_all(exp.Table):
            _refuse_table_function(table, path)
    _refuse(tree, path, parameters=parameters)
    return tree


def _only_statement(sql: str, path: str, dialect: str, *, parameters: bool = False) -> exp.Expr:
    try:
        statements = _statements(sql, dialect)
    except SqlglotError as error:
        try:
            plain = _with_plain_parameters(sql, dialect) if parameters else sql
            if plain == sql:
                raise
            statements = _statements(plain, dialect)
        except SqlglotError:
            raise _unparsable(error, path, dialect) from error
    if len(statements) != 1:
        what = "is empty" if not statements else f"holds {len(statements)} statements"
        raise Invalid(f"{what}; exactly one is wanted", hint="remove the semicolon and what follows it", path=path)
    return statements[0]


def _statements(sql: str, dialect: str) -> list[exp.Expr]:
    return [tree for tree in sqlglot.parse(sql, dialect=dialect) if tree is not None]


def _with_plain_parameters(sql: str, dialect: str) -> str:
    """The SQL for the parser, which takes a parameter that is named as a reserved word (`:from`) for that word."""
    tokens = sqlglot.tokenize(sql, dialect=dialect)
    for colon, word in reversed(list(pairwise(tokens))):
        is_parameter = colon.token_type is TokenType.COLON and word.start == colon.end + 1
        if is_parameter and word.token_type is not TokenType.VAR and word.text.isidentifier():
            sql = f"{sql[: word.end + 1]}_{sql[word.end + 1 :]}"
    return sql


def _unparsable(error: SqlglotError, path: str, dialect: str) -> Invalid:
    details = error.errors[0] if isinstance(error, ParseError) and error.errors else {}
    if "line" not in details:
        return Invalid("does not parse: a quote or comment is left open", hint="close it", path=path)
    near = f" near {details['highlight']!r}" if details.get("highlight") else ""
    where = f"line {details['line']}, column {details['col']}"
    hint = f"mend the SQL there; it is read as {_DIALECT_NAMES.get(dialect, dialect)} has it"
    return Invalid(f"does not parse at {where}{near}", hint=hint, path=path)


def _refuse(tree: exp.Expr, path: str, *, parameters: bool = False) -> None:
    for function in tree.find_all(exp.Func):
        name = function.name if isinstance(function, exp.Anonymous) else function.sql_name()
        if name.lower() in _FORBIDDEN:
            raise Invalid(f"the function {name.lower()} is not allowed here", hint="remove it", path=path)
    if not parameters and tree.find(*_PARAMETERS):
        raise Invalid("holds a parameter", hint="parameters belong in the query of an extract step", path=path)


def _refuse_table_function(table: exp.Table, path: str) -> None:
    source = table.this
    if not isinstance(source, exp.Func):
        return
    name = (source.name if isinstance(source, exp.Anonymous) else source.sql_name()).lower()
    if name not in _TABLE_FUNCTIONS:
        allowed = ", ".join(sorted(_TABLE_FUNCTIONS))
        raise Invalid(
            f"the table function {name} is not allowed here",
            hint=f"read files and databases with an extract step; allowed: {allowed}",
            path=path,
        )


def name(text: str) -> exp.Identifier:
    """A quoted identifier."""
    return exp.to_identifier(text, quoted=True)


def column(text: str, table: str | None = None) -> exp.Column:
    """A quoted column, of a quoted table if one is given."""
    return exp.column(name(text), table=None if table is None else name(table))


def table(text: str, alias: str | None = None) -> exp.Table:
    """A quoted table."""
    return exp.Table(this=name(text), alias=None if alias is None else exp.TableAlias(this=name(alias)))


def literal(value: Scalar) -> exp.Expr:
    """A value as SQL."""
    return exp.convert(value)


def aliased(expression: exp.Expr, alias: str) -> exp.Expr:
    """An expression under a quoted name; a column that has that very name stays as it is."""
    if isinstance(expression, exp.Column) and not expression.table and expression.name == alias:
        return expression
    return exp.Alias(this=expression, alias=name(alias))


def render(query: exp.Expr) -> str:
    """The SQL text of a query."""
    return query.sql(dialect=DIALECT, comments=False)


def near_miss(wrong: str, known: Iterable[str]) -> str | None:
    """The one of `known` that was probably meant."""
    by_lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(wrong.lower(), by_lower, n=1)
    return by_lower[close[0]] if close else None


def unknown(what: str, wrong: str, known: Sequence[str], path: str, where: str = "") -> Invalid:
    """The error for a name that is not there: it names the wrong one, those there are, and a near miss."""
    guess = near_miss(wrong, known)
    listed = f"there are: {', '.join(known)}" if known else "there are none"
    hint = f"did you mean `{guess}`? {listed}" if guess else listed
    return Invalid(f"there is no {what} {wrong!r}{where}", hint=hint, path=path)


def same(one: str, other: str) -> bool:
    """Whether DuckDB takes two identifiers for the same."""
    return one.lower() == other.lower()


def scalar(value: Json, path: str) -> Scalar:
    """A JSON value that has a SQL literal; raises `Invalid` for lists and objects."""
    if isinstance(value, list | dict):
        raise Invalid("is a list or an object", hint="give text, a number, true, false or null", path=path)
    return value
