"""The column types of the tables: documents, closed sets, sealed envelopes, moments; and the JSON they hold."""

import re
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, Generic, TypeVar

import orjson
from pydantic import TypeAdapter
from sqlalchemy import JSON, CheckConstraint, DateTime, Dialect, Text, TypeDecorator, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeEngine
from typing_extensions import TypeForm

from models.parsing import Json, JsonObject, StrictModel, adapter_of, join_path, parse

__all__ = [
    "Choice",
    "Document",
    "Envelope",
    "Json",
    "JsonObject",
    "Moment",
    "OrderedDocument",
    "Sealed",
    "StrictModel",
    "join_path",
    "jsonb_text",
    "one_of",
    "parse",
    "server",
]

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def jsonb_text(value: object) -> str:
    """A value as JSON text for a JSONB column. What it cannot hold, a NUL inside a text, becomes U+FFFD."""
    text = orjson.dumps(value).decode()
    return _NUL.sub("\\1\N{REPLACEMENT CHARACTER}", text) if "\\u0000" in text else text


def server(sql: str) -> dict[str, object]:
    """The `sa_column_kwargs` of a column whose default PostgreSQL computes from `sql`."""
    return {"server_default": text(sql)}


def one_of(column: str, choices: type[StrEnum]) -> CheckConstraint:
    """The CHECK that keeps a TEXT column inside its closed set."""
    values = ", ".join(f"'{choice.value}'" for choice in choices)
    return CheckConstraint(f"{column} IN ({values})", name=f"{column}_is_known")


class Moment(TypeDecorator[datetime]):
    """A point in time: `timestamptz`, always aware, always UTC when read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a moment without a zone: PostgreSQL would take it for the session's."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone; give an aware datetime")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Bring what PostgreSQL answered to UTC."""
        return None if value is None else value.astimezone(UTC)

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> TypeEngine[Any]:
        """Let an interval be added to a moment, and a moment compared with one."""
        return self if isinstance(value, datetime) else self.impl_instance.coerce_compared_value(op, value)


class Choice(TypeDecorator[E], Generic[E]):
    """A member of a closed set, stored as TEXT; the table adds the CHECK with `one_of`."""

    impl = Text
    cache_ok = True

    def __init__(self, choices: type[E]) -> None:
        super().__init__()
        self.choices = choices

    def process_bind_param(self, value: E | str | None, dialect: Dialect) -> str | None:
        """Store the member's value; text that is no member raises ValueError."""
        return None if value is None else self.choices(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> E | None:
        """Read the member."""
        return None if value is None else self.choices(value)


class Document(TypeDecorator[T], Generic[T]):
    """A pydantic model, or a list or union of them, stored as JSONB.

    Written by alias and without nulls; read leniently (keys of older or newer versions are ignored), because rows
    outlive the code that wrote them. A document is replaced, never changed in place. `None` is SQL NULL;
    with `empty_is_none`, an empty object of the database reads as `None` and `None` is written as one.
    """

    impl = JSONB(none_as_null=True)
    cache_ok = True

    def __init__(self, model: TypeForm[T], *, empty_is_none: bool = False) -> None:
        super().__init__()
        self.model = model
        self.empty_is_none = empty_is_none

    @property
    def should_evaluate_none(self) -> bool:  # type: ignore[override]
        """Whether SQLAlchemy sends `None` through `process_bind_param` instead of leaving the column out."""
        return self.empty_is_none

    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        return adapter_of(self.model)

    def process_bind_param(self, value: T | None, dialect: Dialect) -> Any:
        """Dump the model to JSON."""
        if value is None:
            return {} if self.empty_is_none else None
        return self._adapter.dump_python(value, mode="json", by_alias=True, exclude_none=True)

    def process_result_value(self, value: Any, dialect: Dialect) -> T | None:
        """Read the model from JSON."""
        if value is None or (self.empty_is_none and value == {}):
            return None
        return self._adapter.validate_python(value, strict=False, extra="ignore")

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> TypeEngine[Any]:
        """Let JSON operators take keys and paths."""
        return self.impl_instance.coerce_compared_value(op, value)


class OrderedDocument(Document[T], Generic[T]):
    """A document stored as JSON, which keeps the order of its keys: the columns of a mapping have one."""

    impl = JSON(none_as_null=True)  # type: ignore[assignment]
    cache_ok = True


class Envelope(StrictModel):
    """What AES-GCM made of a secret: base64 texts and the id of the key; never shows more than that id."""

    version: int = 1
    key_id: str
    nonce: str
    ciphertext: str
    wrapped_key: str | None = None

    def __repr__(self) -> str:
        return f"Envelope(key_id={self.key_id!r}, sealed)"

    def __str__(self) -> str:
        return repr(self)


class Sealed(Document[Envelope]):
    """A column whose JSONB is an `Envelope`; no sealed value is written as an empty object and reads as `None`.

    Only the runtime's role may read such a column, so tables map it deferred: name it in a select to get it.
    """

    cache_ok = True

    def __init__(self) -> None:
        super().__init__(Envelope, empty_is_none=True)
