"""Runs an SQL script of many statements inside the migration's transaction."""

from pathlib import Path
from typing import Any, cast

from alembic import op
from asyncpg import Connection

SCRIPTS = Path(__file__).parent / "sql"


def run_script(name: str) -> None:
    """Run `sql/<name>`; through asyncpg itself, as prepared statements hold only one statement each."""
    script = (SCRIPTS / name).read_text(encoding="utf-8")
    adapted = op.get_bind().connection.dbapi_connection

    async def execute(connection: "Connection[Any]") -> None:
        await connection.execute(script)

    cast(Any, adapted).run_async(execute)
