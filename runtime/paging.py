"""Reads long lists page by page, over an index, from a cursor that says after which row to go on."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeAlias, TypeVar
from uuid import UUID

from sqlalchemy import Select, func, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.elements import ColumnElement, SQLCoreOperations

from models.errors import Invalid

R = TypeVar("R")

LARGEST_PAGE = 100

Value: TypeAlias = str | int | UUID | datetime
KeyColumn: TypeAlias = (
    InstrumentedAttribute[str]
    | InstrumentedAttribute[int]
    | InstrumentedAttribute[UUID]
    | InstrumentedAttribute[datetime]
)


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
        values = [_encode(getattr(row, column.key)) for column in self.columns]
        return base64.urlsafe_b64encode(json.dumps([self._name, *values]).encode()).decode().rstrip("=")

    def after(self, cursor: str) -> ColumnElement[bool]:
        """The condition of the rows after a cursor; raises `Invalid` for a text that is no cursor of this list."""
        values = self._decode(cursor)
        here = tuple_(*self.columns)
        there = tuple_(*values, types=[column.type for column in self.columns])
        return here < there if self.descending else here > there

    def terms(self) -> list[SQLCoreOperations[object]]:
        """What goes into ORDER BY."""
        return [column.desc() if self.descending else column.asc() for column in self.columns]

    @property
    def _name(self) -> str:
        return ",".join(column.key for column in self.columns) + ("-" if self.descending else "+")

    def _decode(self, cursor: str) -> list[Value]:
        try:
            name, *texts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
            if name != self._name or len(texts) != len(self.columns):
                raise ValueError
            return [_decoder(column)(text) for column, text in zip(self.columns, texts, strict=True)]
        except (ValueError, TypeError, binascii.Error):
            hint = "give a cursor that this same list answered, as it was"
            raise Invalid("is not a cursor of this list", hint=hint, path="after") from None


async def fetch(session: AsyncSession, statement: Select[R], order: Order, window: Window) -> Page[R]:
    """Read one page of a statement's rows with one SQL statement."""
    if window.after is not None:
        statement = statement.where(order.after(window.after))
    limited = statement.order_by(*order.terms()).limit(window.first + 1)
    found = (await session.scalars(limited)).all()
    rows = found[: window.first]
    return Page(
        rows=rows,
        cursors=[order.cursor(row) for row in rows],
        has_next=len(found) > window.first,
        has_previous=window.after is not None,
    )


async def count(session: AsyncSession, statement: Select[R]) -> int:
    """How many rows a statement has in all."""
    counted = statement.order_by(None).with_only_columns(func.count(), maintain_column_froms=True)
    return (await session.scalar(counted)) or 0


def _encode(value: Value) -> str | int:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


def _decoder(column: KeyColumn) -> Callable[[str], Value]:
    python = column.type.python_type
    if issubclass(python, datetime):
        return datetime.fromisoformat
    if issubclass(python, UUID):
        return UUID
    return int if issubclass(python, int) else str
