"""How a PostgreSQL server is reached: as fields or as one URL, given on to libpq and to asyncpg."""

from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, SecretStr, model_validator

from models.base import StrictModel

SCHEMES = ("postgresql", "postgres")

# A server looks after its client only while it writes to it, unless told to: the query of a worker that was killed
# would go on for hours. Before PostgreSQL 14 there is no such setting, and not every system can tell.
NOTICING_LOSS: Final = """
CASE WHEN version() LIKE '%linux%' AND current_setting('client_connection_check_interval', true) IS NOT NULL
    THEN set_config('client_connection_check_interval', '1s', true) END
"""


class SslMode(StrEnum):
    """libpq's words for how a connection is encrypted and whose certificate is asked for."""

    DISABLE = "disable"
    ALLOW = "allow"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


class SpecialValues(StrEnum):
    """What becomes of values that Arrow has no place for: NaN in a numeric, infinite dates, years before 1."""

    REFUSE = "refuse"
    NULL = "null"


class PostgresConfig(StrictModel):
    """Where the server is, who signs in, and how long things may take.

    `host` is a name, an address, or the folder of a Unix socket. With `url` the parts are left out, but `user` and
    `password` may be given beside it, and go before its own. `schema` is where tables are looked for and made.
    """

    url: SecretStr | None = Field(default=None, description="postgresql://user:password@host:port/database")
    host: str | None = Field(default=None, description="A name, an address or the folder of a Unix socket")
    port: int | None = Field(default=None, ge=1, le=65_535, description="5432 unless told")
    database: str | None = None
    user: str | None = None
    password: SecretStr | None = None
    sslmode: SslMode | None = None
    sslrootcert: str | None = Field(default=None, description="The file of trusted certificates, on the worker")
    schema_name: str = Field(default="public", alias="schema", min_length=1, max_length=63)
    connect_timeout_seconds: int = Field(default=10, ge=1, le=300)
    statement_timeout_seconds: float | None = Field(default=None, gt=0, description="None: as the server has it")
    lock_timeout_seconds: float = Field(default=60.0, gt=0, description="How long a load waits for a table")
    options: dict[str, str] = Field(default_factory=dict, description="Server settings of every transaction")
    idle_connections: int = Field(default=2, ge=0, le=50, description="Kept open by each process")
    connection_age_seconds: int = Field(default=300, ge=0, description="After which a kept connection is closed")
    special_values: SpecialValues = SpecialValues.REFUSE

    @model_validator(mode="after")
    def _says_where_once(self) -> "PostgresConfig":
        if self.url is None:
            if self.host is None or self.database is None:
                raise ValueError("give `url`, or `host` and `database`")
            return self
        beside = [name for name in ("host", "port", "database") if getattr(self, name) is not None]
        if beside:
            raise ValueError(f"`url` says it all; leave out {', '.join(beside)}")
        _parts_of(self.url.get_secret_value())
        return self

    @property
    def parts(self) -> dict[str, str]:
        """The connection's parameters by libpq's keywords."""
        parts = _parts_of(self.url.get_secret_value()) if self.url is not None else {}
        given = {
            "host": self.host,
            "port": str(self.port) if self.port else None,
            "dbname": self.database,
            "user": self.user,
            "password": self.password.get_secret_value() if self.password else None,
            "sslmode": self.sslmode.value if self.sslmode else None,
            "sslrootcert": self.sslrootcert,
        }
        return {"port": "5432", **parts, **{name: value for name, value in given.items() if value}}

    @property
    def place(self) -> str:
        """Where it leads, without secrets, for messages."""
        parts = self.parts
        return f"database {parts.get('dbname', '')!r} at {parts['host']}:{parts['port']}"

    @property
    def conninfo(self) -> str:
        """The connection string for libpq."""
        timeout = str(self.connect_timeout_seconds)
        parts = {"application_name": "wedsync", "connect_timeout": timeout, "keepalives_idle": "30", **self.parts}
        return " ".join(f"{name}={_quoted(value)}" for name, value in parts.items())

    @property
    def settings(self) -> dict[str, str]:
        """The server settings of every transaction; UTC always, so that text and moments mean one thing."""
        settings = {"search_path": f'"{self.schema_name}", public', "timezone": "UTC", **self.options}
        if self.statement_timeout_seconds is not None:
            settings["statement_timeout"] = f"{int(self.statement_timeout_seconds * 1000)}ms"
        return settings


def _parts_of(url: str) -> dict[str, str]:
    """The keywords of a URL; ValueError says what is wrong with it without repeating it."""
    split = urlsplit(url)
    if split.scheme.partition("+")[0] not in SCHEMES:
        raise ValueError("`url` begins with postgresql://")
    try:
        port = split.port
    except ValueError:
        raise ValueError("the port of `url` is not a number") from None
    parts = dict(parse_qsl(split.query))
    found = {
        "host": unquote(split.hostname or ""),
        "port": str(port) if port else "",
        "user": unquote(split.username or ""),
        "password": unquote(split.password or ""),
        "dbname": unquote(split.path.lstrip("/")),
    }
    whole = {**parts, **{name: value for name, value in found.items() if value}}
    if not whole.get("host") or not whole.get("dbname"):
        raise ValueError("`url` names no host or no database")
    return whole


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
