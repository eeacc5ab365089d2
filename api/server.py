"""Runs the API with uvicorn, from the settings."""

import sys

import structlog
import uvicorn

from api.app import create_app
from models.errors import DomainError, Invalid
from runtime import collector
from runtime.bus import Bus
from runtime.database import Database
from runtime.settings import Settings

LARGEST_MESSAGE = 1024 * 1024
PING_SECONDS = 20.0
DRAIN_SECONDS = 10


def configuration(settings: Settings) -> uvicorn.Config:
    """How uvicorn serves the application; raises `Invalid` when no database is named."""
    if settings.database_url is None:
        hint = "set DATABASE_URL, or start everything with `wedsync up`"
        raise Invalid("the API needs a database", hint=hint, path="DATABASE_URL")
    database = Database(
        settings.database_url,
        pool_size=settings.pool_size,
        statement_timeout=settings.statement_timeout_seconds,
        name="wedsync-api",
    )
    return uvicorn.Config(
        create_app(settings, database, Bus(settings.redis_url)),
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level.lower(),
        access_log=False,
        server_header=False,
        ws_max_size=LARGEST_MESSAGE,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )


def configure_log() -> None:
    """Log JSON lines whose tracebacks hold no local variables: those may be secrets or configurations."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )


def run(settings: Settings) -> None:
    """Serve until a signal comes."""
    configure_log()
    server = uvicorn.Server(configuration(settings))
    collector.settle()
    server.run()


def main() -> int:
    """The command `python -m api`; a failure that a person can mend is told in one line."""
    try:
        run(Settings.load())
    except DomainError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0
