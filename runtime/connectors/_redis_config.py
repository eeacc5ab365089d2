"""How a Redis or Valkey server is reached, and what its streams hold."""

from enum import StrEnum
from typing import Final
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr, field_validator

from models.base import StrictModel
from models.schemas import SchemaConfig
from runtime.connectors._files import DeclaredColumns, OnBadRow

_SCHEMES: Final = ("redis", "rediss", "unix")
_QUERY: Final = frozenset({"db", "ssl_ca_certs", "ssl_cert_reqs"})


class OnTrimmed(StrEnum):
    """What messages do that were removed before a read came to them: end the step, or be passed over."""

    FAIL = "fail"
    CONTINUE = "continue"


class StreamDataset(StrictModel):
    """One stream as a dataset: its `key` (unless told, the dataset's name), and what an entry of it is as a row.

    The fields of an entry are the columns; or those of the JSON object that its field `json_field` holds. `columns`
    are DuckDB types by name; without them the first entries tell, and the fields of an entry are text.
    """

    key: str | None = Field(default=None, min_length=1)
    json_field: str | None = Field(default=None, min_length=1)
    columns: DeclaredColumns = Field(default_factory=dict)


class RedisConfig(StrictModel):
    """A server with its streams by the names of their datasets.

    `entry_columns` puts `_id`, the entry's id, and `_at`, its moment, before the columns of each row; incremental
    reads go by `_id`, with or without it. `username` and `password` go before those of `url`.
    """

    url: SecretStr = Field(description="redis://user:password@host:6379/0, rediss:// with TLS, or unix:///path")
    username: str | None = None
    password: SecretStr | None = None
    streams: dict[str, StreamDataset] = Field(min_length=1)
    schema_config: SchemaConfig = Field(default_factory=SchemaConfig)
    entry_columns: bool = True
    on_bad_row: OnBadRow = OnBadRow.FAIL
    on_trimmed: OnTrimmed = OnTrimmed.FAIL
    sample_entries: int = Field(default=1_000, ge=1, le=100_000)
    page_entries: int = Field(default=5_000, ge=1, le=100_000)
    connect_timeout_seconds: float = Field(default=10.0, gt=0, le=300)
    timeout_seconds: float = Field(default=30.0, gt=0, le=600)

    @field_validator("url")
    @classmethod
    def _leads_somewhere(cls, url: SecretStr) -> SecretStr:
        split = urlsplit(url.get_secret_value())
        try:
            port = split.port
        except ValueError:
            raise ValueError("the port is not a number") from None
        if split.scheme not in _SCHEMES or not (split.path if split.scheme == "unix" else split.hostname):
            raise ValueError("should be redis://host:6379/0, rediss://host:6379/0 or unix:///path?db=0")
        if split.scheme == "unix" and port is not None:
            raise ValueError("a socket has no port")
        database = parse_qs(split.query).get("db", [split.path.strip("/") if split.scheme != "unix" else ""])[0]
        if database and not (database.isascii() and database.isdigit()):
            raise ValueError("the database is a number")
        if other := sorted(parse_qs(split.query).keys() - _QUERY):
            raise ValueError(f"does not take {', '.join(other)}; after the ? may stand {', '.join(sorted(_QUERY))}")
        return url

    @property
    def place(self) -> str:
        """Where it leads, without secrets, for messages."""
        split = urlsplit(self.url.get_secret_value())
        return split.path if split.scheme == "unix" else f"{split.hostname}:{split.port or 6379}"
