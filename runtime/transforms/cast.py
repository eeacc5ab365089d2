"""Turns columns into other types, and says what becomes of values that do not fit."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field
from sqlglot import exp

from models.base import StrictModel
from models.errors import Invalid
from runtime.batches.types import UNKNOWN, arrow_type
from runtime.transforms import _types as t
from runtime.transforms._columns import known_name, known_type
from runtime.transforms._contract import TRANSFORMS, Relation, Transform
from runtime.transforms._selecting import kept_columns, refuse_twins
from runtime.transforms._sql import aliased, column, literal, table

OnError = Literal["fail", "null", "reject"]
REASON = "why it is set aside"


class CastTarget(StrictModel):
    """A DuckDB type; `format` (as in `%d.%m.%Y`) reads text as a date or timestamp."""

    type: str
    format: str | None = Field(default=None, min_length=1)
    on_error: OnError | None = None


class CastConfig(StrictModel):
    """Column to type. A value that does not fit fails the run, becomes null, or has its row set aside (`reject`)."""

    columns: dict[str, str | CastTarget] = Field(min_length=1)
    on_error: OnError = "fail"


@TRANSFORMS.register
class Cast(Transform[CastConfig]):
    """The input with some columns in other types; the rows that are rejected are set aside."""

    kind = "cast"
    Config = CastConfig
    row_wise = True

    def expression(self, inputs: Sequence[Relation]) -> exp.Query:
        """A SELECT of all columns, the cast ones in their places."""
        (source,) = inputs
        casts = self._casts(source)
        changed = {name: self._cast(source, name, target) for name, target in casts.items()}
        if source.columns is None:
            items = [*kept_columns(source, list(changed)), *(aliased(tree, name) for name, tree in changed.items())]
        else:
            items = [aliased(changed.get(one.name, column(one.name)), one.name) for one in source.columns]
        query = exp.Select(expressions=items).from_(table(source.name))
        rejecting = self._rejecting(source, casts)
        return query.where(*rejecting.values(), copy=False) if rejecting else query

    def set_aside(self, inputs: Sequence[Relation]) -> exp.Query | None:
        """The rows with a value that does not fit, each with the columns and types that it does not fit."""
        (source,) = inputs
        casts = self._casts(source)
        rejecting = self._rejecting(source, casts)
        if not rejecting:
            return None
        told = [_told(name, casts[name], fits) for name, fits in rejecting.items()]
        reason = exp.Anonymous(this="concat_ws", expressions=[literal("; "), *told])
        query = exp.Select(expressions=[aliased(reason, REASON), exp.Star()]).from_(table(source.name))
        return query.where(exp.not_(exp.and_(*rejecting.values())), copy=False)

    def _casts(self, source: Relation) -> dict[str, CastTarget]:
        refuse_twins(self.config.columns, "columns")
        return {known_name(source, name, f"columns.{name}"): self._target(name) for name in self.config.columns}

    def _rejecting(self, source: Relation, casts: Mapping[str, CastTarget]) -> dict[str, exp.Expr]:
        """What a row must satisfy not to be set aside, by column."""
        strict = {name: target for name, target in casts.items() if target.on_error == "reject"}
        return {name: self._fits(name, self._cast(source, name, target)) for name, target in strict.items()}

    def _target(self, name: str) -> CastTarget:
        given = self.config.columns[name]
        target = given if isinstance(given, CastTarget) else CastTarget(type=given)
        path = f"columns.{name}" if isinstance(given, str) else f"columns.{name}.type"
        kind = t.canonical(target.type)
        if kind in (UNKNOWN, t.NULL):
            raise Invalid(
                f"{target.type!r} is not a column type",
                hint="use a DuckDB type such as BIGINT, VARCHAR, DATE, TIMESTAMPTZ or DECIMAL(12, 2)",
                path=path,
            )
        try:
            arrow_type(kind)
        except (Invalid, ValueError) as error:
            raise Invalid(f"no column can hold {target.type!r}", hint="choose another type", path=path) from error
        if target.format is not None and not t.is_moment(kind):
            raise Invalid("a format is for dates and timestamps", hint="remove it", path=f"columns.{name}.format")
        return CastTarget(type=kind, format=target.format, on_error=target.on_error or self.config.on_error)

    def _cast(self, source: Relation, name: str, target: CastTarget) -> exp.Expr:
        value: exp.Expr = column(name)
        strict = target.on_error == "fail"
        if target.format is not None and not t.is_moment(known_type(source, name)):
            parse = "strptime" if strict else "try_strptime"
            text = exp.cast(value, exp.DataType.Type.VARCHAR)
            value = exp.Anonymous(this=parse, expressions=[text, literal(target.format)])
        kind = exp.DataType.build(target.type, dialect="duckdb")
        return exp.Cast(this=value, to=kind) if strict else exp.TryCast(this=value, to=kind)

    def _fits(self, name: str, changed: exp.Expr) -> exp.Expr:
        """Null already, or not null after the cast."""
        absent = exp.Is(this=column(name), expression=exp.Null())
        return exp.Paren(this=exp.or_(absent, exp.Not(this=exp.Is(this=changed.copy(), expression=exp.Null()))))


def _told(name: str, target: CastTarget, fits: exp.Expr) -> exp.Expr:
    """What is said of a row whose value does not fit; null for one whose value does."""
    reading = f" by the format {target.format}" if target.format else ""
    return exp.Case(ifs=[exp.If(this=exp.not_(fits), true=literal(f"{name} is no {target.type}{reading}"))])
