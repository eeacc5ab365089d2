"""Reads long lists page by page, over an index, from a cursor that says after which row to go on."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeAlias, TypeVar, cast
from uuid import UUID

from sqlalchemy import Select, TypeDecorator, Uuid, func, literal, select, true, tuple_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, Mapped, aliased
from sqlalchemy.sql.elements import ColumnElement, SQLCoreOperations

from models.base import Entity
from models.errors import Invalid

R = TypeVar("R")
E = TypeVar("E", bound=Entity)

LARGEST_PAGE = 100

Value: TypeAlias = str | int | UUID | datetime
KeyColumn: TypeAlias = Mapped[str] | Mapped[int] | Mapped[UUID] | Mapped[datetime]


@dataclass(frozen=True, slots=True)
class Window:
    """Which page is wanted: at most `first` rows (1-100) that come after the row of the cursor `after`."""

    first: int = LARGEST_PAGE
    after: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.first <= LARGEST_PAGE:
            raise Invalid(f"must be between 1 and {LARGEST_PAGE}, not {self.first}", path="first")


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """Some rows of a list in its order, a cursor for each, and whether more follow."""

    rows: Sequence[R]
    cursors: Sequence[str]
    has_next: bool
    has_previous: bool = False

    @property
    def next_cursor(self) -> str | None:
        """The cursor of the next page, or None on the last."""
        return self.cursors[-1] if self.has_next else None


@dataclass(frozen=True, slots=True)
class Order:
    """The order of a list: columns that are never null and together unique, all rising or all falling.

    One direction for all of them lets PostgreSQL answer `(a, b) < (x, y)` from one index on `(a, b)`.
    """

    columns: tuple[KeyColumn, ...]
    descending: bool = False

    def cursor(self, row: object) -> str:
        """The cursor of a row: its values in the order's columns, in base64."""
        values = [_encode(getattr(row, _key(column))) for column in self.columns]
        return base64.urlsafe_b64encode(json.dumps([self._name, *values]).encode()).decode().rstrip("=")

    def after(self, cursor: str) -> ColumnElement[bool]:
        """The condition of the rows after a cursor; raises `Invalid` for a text that is no cursor of this list."""
        values = self.values(cursor)
        here = tuple_(*self.columns)
        there = tuple_(*values, types=[_attribute(column).type for column in self.columns])
        return here < there if self.descending else here > there

    def terms(self) -> list[SQLCoreOperations[object]]:
        """What goes into ORDER BY."""
        return [column.desc() if self.descending else column.asc() for column in self.columns]

    def values(self, cursor: str) -> list[Value]:
        """A cursor's values in the order's columns; raises `Invalid` for a text that is no cursor of this list."""
        try:
            name, *texts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
            if name != self._name or len(texts) != len(self.columns):
                raise ValueError
            return [_decoder(column)(text) for column, text in zip(self.columns, texts, strict=True)]
        except (ValueError, TypeError, binascii.Error):
            hint = "give a cursor that this same list answered, as it was"
            raise Invalid("is not a cursor of this list", hint=hint, path="after") from None

    @property
    def _name(self) -> str:
        return ",".join(_key(column) for column in self.columns) + ("-" if self.descending else "+")


async def fetch(session: AsyncSession, statement: Select[R], order: Order, window: Window) -> Page[R]:
    """Read one page of a statement's rows with one SQL statement."""
    if window.after is not None:
        statement = statement.where(order.after(window.after))
    limited = statement.order_by(*order.terms()).limit(window.first + 1)
    return page_of((await session.scalars(limited)).all(), order, window)


def page_of(found: Sequence[R], order: Order, window: Window) -> Page[R]:
    """The page of the rows of a window, and the one that follows it if there is one."""
    rows = found[: window.first]
    return Page(
        rows=rows,
        cursors=[order.cursor(row) for row in rows],
        has_next=len(found) > window.first,
        has_previous=window.after is not None,
    )


async def fetch_each(
    session: AsyncSession, statement: Select[E], owner: Mapped[UUID], owners: Sequence[UUID], order: Order, first: int
) -> list[Page[E]]:
    """The first page of each owner's rows, in the order of the owners, with one SQL statement for all of them."""
    groups: dict[UUID, list[E]] = {identity: [] for identity in owners}
    for identity, found in await _of_each(session, statement.order_by(*order.terms()).limit(first + 1), owner, owners):
        groups[identity].append(found)
    return [
        Page(groups[one][:first], [order.cursor(row) for row in groups[one][:first]], len(groups[one]) > first)
        for one in owners
    ]


async def _of_each(
    session: AsyncSession, statement: Select[E], owner: Mapped[UUID], owners: Sequence[UUID]
) -> list[tuple[UUID, E]]:
    """What a statement answers for each owner."""
    kind = statement.column_descriptions[0]["entity"]
    wanted = func.unnest(literal(list(owners), ARRAY(Uuid))).table_valued("id").render_derived()
    row = aliased(kind, statement.where(owner == wanted.c.id).lateral())
    joined = select(wanted.c.id, row).select_from(wanted).join(row, true())
    return [(identity, found) for identity, found in (await session.execute(joined)).all()]


async def count(session: AsyncSession, statement: Select[R]) -> int:
    """How many rows a statement has in all."""
    counted = statement.order_by(None).with_only_columns(func.count(), maintain_column_froms=True)
    return (await session.scalar(counted)) or 0


def _attribute(column: KeyColumn) -> InstrumentedAttribute[Value]:
    return cast("InstrumentedAttribute[Value]", column)


def _key(column: KeyColumn) -> str:
    return _attribute(column).key


def _encode(value: Value) -> str | int:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


def _decoder(column: KeyColumn) -> Callable[[str], Value]:
    kind = _attribute(column).type
    # A decorator's own `python_type` is `object`: its implementation knows.
    python = (kind.impl_instance if isinstance(kind, TypeDecorator) else kind).python_type
    if issubclass(python, datetime):
        return datetime.fromisoformat
    if issubclass(python, UUID):
        return UUID
    return int if issubclass(python, int) else str
