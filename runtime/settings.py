"""The settings, read from the environment once, at the edge of each process, and passed on from there."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.errors import Invalid


class Environment(StrEnum):
    """Where this runs: `production` refuses defaults that are only fit for development."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class Settings(BaseSettings):
    """Everything that can be set. Names in the environment are the field's in capitals, most of them after WEDSYNC_."""

    model_config = SettingsConfigDict(env_prefix="WEDSYNC_", frozen=True, extra="ignore", populate_by_name=True)

    home: Path = Field(default=Path(".wedsync"), description="The folder of data, secrets, logs and artifacts")
    environment: Environment = Field(default=Environment.DEVELOPMENT, validation_alias="WEDSYNC_ENV")
    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL", description="None: embedded")
    owner_url: str | None = Field(default=None, description="The owner's login, for migrations; None: database_url")
    redis_url: str | None = Field(default=None, validation_alias="REDIS_URL", description="None: embedded Valkey")
    ray_address: str | None = Field(default=None, validation_alias="RAY_ADDRESS", description="None: local Ray")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    cors_origins: tuple[str, ...] = ()

    jwt_secret: SecretStr | None = Field(default=None, description="The HS256 secret; None: made in the home")
    jwks_url: str | None = None
    jwt_algorithms: tuple[str, ...] = ("HS256",)
    jwt_audience: str | None = None
    jwt_issuer: str | None = None
    sealing_key: SecretStr | None = Field(
        default=None, description="Keys as id:base64, comma-separated, the first seals; None: made in the home"
    )
    allow_private_addresses: bool = Field(default=True, description="Whether connectors may reach private addresses")

    lease_seconds: float = Field(default=15.0, gt=0, description="How long a silent holder keeps what it claimed")
    supervisors_min: int = Field(default=4, ge=1, description="Warm execution supervisors")
    supervisors_max: int = Field(default=16, ge=1)
    worker_slots: int | None = Field(default=None, ge=1, description="Step tasks at once; None: twice the cores")
    object_store_mb: int = Field(default=512, ge=80)
    ray_dashboard: bool = True
    engine_memory_mb: int = Field(default=1024, ge=64, description="What one step's DuckDB may use before it spills")
    engine_threads: int = Field(default=2, ge=1)
    block_rows: int = Field(default=122_880, ge=1024, description="Rows in a block that travels between steps")
    statement_timeout_seconds: float = Field(default=30.0, gt=0)
    pool_size: int = Field(default=10, ge=1, description="Connections of one API process")

    graphql_max_depth: int = 12
    graphql_max_aliases: int = 30
    graphql_max_tokens: int = 5_000
    graphql_max_directives: int = 50
    graphql_max_cost: int = 5_000
    graphql_timeout_seconds: float = 30.0
    body_limit_bytes: int = 2 * 1024 * 1024
    work_timeout_seconds: float = Field(default=60.0, description="How long a request waits for the runtime's answer")
    event_retention_days: int = Field(default=30, ge=1)
    log_level: str = "INFO"

    @property
    def is_production(self) -> bool:
        """Whether defaults for development are refused."""
        return self.environment is Environment.PRODUCTION

    @property
    def artifacts(self) -> Path:
        """The artifact store's folder: logs of executions, checkpoints, reports."""
        return self.home / "artifacts"

    def require_database_url(self) -> str:
        """The metadata database's URL; raises `Invalid` where only `wedsync up` would have started one."""
        if self.database_url is None:
            hint = "set DATABASE_URL, or start everything with `wedsync up`"
            raise Invalid("no database is named", hint=hint, path="DATABASE_URL")
        return self.database_url

    @classmethod
    def load(cls) -> "Settings":
        """Read the environment; raises `Invalid` that lists what production still needs."""
        settings = cls()
        if settings.is_production:
            settings.require_production()
        return settings

    def require_production(self) -> None:
        """Raise `Invalid` when a secret or an address that production needs is not set."""
        missing = [
            name
            for name, value in (
                ("DATABASE_URL", self.database_url),
                ("WEDSYNC_SEALING_KEY", self.sealing_key),
                ("WEDSYNC_JWT_SECRET or WEDSYNC_JWKS_URL", self.jwt_secret or self.jwks_url),
            )
            if value is None
        ]
        if missing:
            raise Invalid(f"production needs {', '.join(missing)}", hint="set them in the environment", path="settings")
