"""The settings, read from the environment once, at the edge of each process, and passed on from there."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from models.errors import Invalid

PREFIX: Final = "WEDSYNC_"


class Environment(StrEnum):
    """Where this runs: `production` refuses defaults that are only fit for development."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class Settings(BaseSettings):
    """Everything that can be set. A name in the environment is the field's in capitals, most of them after WEDSYNC_."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True
    )

    home: Path = Field(default=Path(".wedsync"), description="The folder of data, secrets, logs and artifacts")
    environment: Environment = Field(
        default=Environment.DEVELOPMENT,
        validation_alias="WEDSYNC_ENV",
        description="`development`, or `production`, which starts with no default secret",
    )
    database_url: str | None = Field(
        default=None,
        validation_alias="DATABASE_URL",
        description="The login of the API and the runtime, `postgresql+asyncpg://…`; None: the embedded PostgreSQL",
    )
    owner_url: str | None = Field(
        default=None, description="The login that owns the tables and migrates them; None: the embedded one's"
    )
    redis_url: str | None = Field(
        default=None, validation_alias="REDIS_URL", description="Redis or Valkey; None: the embedded Valkey"
    )
    ray_address: str | None = Field(
        default=None, validation_alias="RAY_ADDRESS", description="A Ray cluster; None: a local one"
    )
    url: str | None = Field(default=None, description="The server that commands speak to; None: the home's own")
    token: SecretStr | None = Field(default=None, description="The token that commands send; None: one of the home")
    host: str = Field(default="127.0.0.1", description="The address the API listens on")
    port: int = Field(default=8000, ge=0, le=65_535, description="The port the API listens on; 0: a free one")
    cors_origins: tuple[str, ...] = Field(default=(), description="Web origins that may call the API, as a JSON list")

    jwt_secret: SecretStr | None = Field(default=None, description="The HS256 secret; None: made in the home")
    jwks_url: str | None = Field(default=None, description="Where an identity provider publishes its keys")
    jwt_algorithms: tuple[str, ...] = Field(default=("HS256",), description="Accepted algorithms, as a JSON list")
    jwt_audience: str | None = Field(default=None, description="The audience a token must name; None: any")
    jwt_issuer: str | None = Field(default=None, description="The issuer a token must name; None: any")
    sealing_key: SecretStr | None = Field(
        default=None, description="Keys as id:base64, comma-separated, the first seals; None: made in the home"
    )
    allow_private_addresses: bool = Field(
        default_factory=lambda known: known.get("environment") is not Environment.PRODUCTION,
        description="Whether connectors may reach private addresses; unset: in development only",
    )
    file_roots: tuple[Path, ...] | None = Field(
        default_factory=lambda known: () if known.get("environment") is Environment.PRODUCTION else None,
        description="Folders below which files may be read and written, as a JSON list; unset: in development all",
    )

    lease_seconds: float = Field(default=15.0, gt=0, description="How long a silent holder keeps what it claimed")
    stalled_minutes: float = Field(
        default=15.0, gt=0, description="How long nothing may happen in a running execution until it is told to stall"
    )
    supervisors_min: int = Field(default=4, ge=1, description="Execution supervisors kept warm")
    supervisors_max: int = Field(default=16, ge=1, description="Execution supervisors at most")
    worker_slots: int | None = Field(default=None, ge=1, description="Step tasks at once; None: twice the cores")
    fork_workers: bool = Field(
        default=True,
        description="Whether Ray's workers are forked from a loaded process; Python needs the same path on all nodes",
    )
    object_store_mb: int = Field(default=512, ge=80, description="Ray's object store on a local node, in MiB")
    ray_dashboard: bool = Field(default=True, description="Whether a local Ray serves its dashboard on loopback")
    engine_memory_mb: int = Field(default=1024, ge=64, description="What one step's DuckDB may use before it spills")
    engine_threads: int = Field(default=2, ge=1, description="Threads of one step's DuckDB")
    block_rows: int = Field(default=122_880, ge=1024, description="Rows in a block that travels between steps")
    statement_timeout_seconds: float = Field(default=30.0, gt=0, description="The longest SQL statement of ours")
    pool_size: int = Field(
        default=10, ge=1, description="Connections that one API process keeps; twice as many at most"
    )

    graphql_max_depth: int = Field(default=12, ge=1, description="Nesting of a GraphQL operation")
    graphql_max_aliases: int = Field(default=30, ge=0, description="Aliases in a GraphQL operation")
    graphql_max_tokens: int = Field(default=5_000, ge=1, description="Tokens in a GraphQL document")
    graphql_max_directives: int = Field(default=50, ge=0, description="Directives in a GraphQL document")
    graphql_max_cost: int = Field(default=5_000, ge=1, description="Objects a GraphQL operation may ask for")
    graphql_timeout_seconds: float = Field(default=30.0, gt=0, description="The longest GraphQL query or mutation")
    body_limit_bytes: int = Field(default=2 * 1024 * 1024, ge=1024, description="The largest request body")
    work_timeout_seconds: float = Field(
        default=60.0, gt=0, description="How long a request waits for the runtime's answer"
    )
    event_retention_days: int = Field(default=30, ge=1, description="How long the events of executions are kept")
    log_retention_days: int = Field(default=30, ge=1, description="How long the logs of executions are kept")
    checkpoint_retention_days: int = Field(
        default=7, ge=1, description="How long outputs of steps are kept for retries, once their execution has ended"
    )
    work_retention_days: int = Field(
        default=7, ge=1, description="How long work that has ended is kept, with its result, such as a preview's rows"
    )
    log_level: str = Field(
        default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR"
    )

    @field_validator("database_url", "owner_url")
    @classmethod
    def _for_asyncpg(cls, url: str | None) -> str | None:
        """Take the URLs that other tools of PostgreSQL take, too."""
        return None if url is None else asyncpg_url(url)

    @property
    def is_production(self) -> bool:
        """Whether defaults for development are refused."""
        return self.environment is Environment.PRODUCTION

    @property
    def artifacts(self) -> Path:
        """The artifact store's folder: logs of executions, checkpoints, reports."""
        return self.home / "artifacts"

    @classmethod
    def load(cls) -> "Settings":
        """Read the environment; raises `Invalid` that names each bad variable, or what production still needs."""
        try:
            settings = cls()
        except (ValidationError, ValueError) as error:
            raise _explained(error) from None
        if settings.is_production:
            settings.require_production()
        return settings

    def require_database_url(self) -> str:
        """The login of the API and the runtime; raises `Invalid` where none is named."""
        if self.database_url is None:
            hint = "set DATABASE_URL, or start everything with `wedsync up`"
            raise Invalid("this process needs a database", hint=hint, path="DATABASE_URL")
        return self.database_url

    def require_production(self) -> None:
        """Raise `Invalid` that lists the secrets and addresses which production needs and which are not set."""
        needed: Mapping[str, object | None] = {
            "DATABASE_URL": self.database_url,
            "WEDSYNC_SEALING_KEY": self.sealing_key,
            "WEDSYNC_JWT_SECRET or WEDSYNC_JWKS_URL": self.jwt_secret or self.jwks_url,
        }
        missing = [name for name, value in needed.items() if not value]
        if missing:
            raise Invalid(f"production needs {', '.join(missing)}", hint="set them in the environment", path=missing[0])

    def variables(self) -> dict[str, str]:
        """The environment that gives a child process these settings; holds secrets, so it is never logged."""
        return {
            variable_of(name): _written(getattr(self, name))
            for name in type(self).model_fields
            if getattr(self, name) is not None
        }


def asyncpg_url(url: str) -> str:
    """A PostgreSQL URL, also `postgres://…?sslmode=require`, as SQLAlchemy's asyncpg dialect reads it.

    Raises ValueError for what is no such URL.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ValueError("is not a URL: expected postgresql://user:password@host:5432/database") from None
    if parsed.drivername not in ("postgres", "postgresql", "postgresql+asyncpg"):
        raise ValueError("is not a PostgreSQL URL: expected postgresql://user:password@host:5432/database")
    query = dict(parsed.query)
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    return parsed.set(drivername="postgresql+asyncpg", query=query).render_as_string(hide_password=False)


def variable_of(field: str) -> str:
    """The environment variable that sets a field."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else f"{PREFIX}{field.upper()}"


def _written(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{item}"' for item in value) + "]"
    return str(value)


def _explained(error: ValidationError | ValueError) -> Invalid:
    """What is wrong with which variables, without their values: they may be secrets."""
    if not isinstance(error, ValidationError):
        return Invalid(f"the settings cannot be read: {error}", hint="lists are written as JSON", path="environment")
    wrong = {str(detail["loc"][0]): detail["msg"].removeprefix("Value error, ") for detail in error.errors()}
    named = {variable_of(field) if field in Settings.model_fields else field: said for field, said in wrong.items()}
    message = "; ".join(f"{name}: {said[0].lower()}{said[1:]}" for name, said in named.items())
    return Invalid(f"the settings are wrong: {message}", hint="mend them in the environment", path=next(iter(named)))
