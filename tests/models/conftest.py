"""Databases for the tests of tables and migrations, reached as the owner or as a person acting over the app's login."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import pytest

from models.migrations.run import LOGIN_ROLE
from tests.kit.database import Postgres
from tests.models.people import Person
from tests.models.rows import SEED


@dataclass(frozen=True)
class Migrated:
    """A migrated database."""

    postgres: Postgres
    name: str

    @asynccontextmanager
    async def as_owner(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the superuser that owns all."""
        async with self.postgres.connect(self.name) as connection:
            yield connection

    @asynccontextmanager
    async def acting(self, person: Person) -> AsyncIterator[asyncpg.Connection]:
        """A transaction of the app's login in which `person` acts; commits at the end."""
        async with self.postgres.connect(self.name, LOGIN_ROLE) as connection, connection.transaction():
            await person.act(connection)
            yield connection


@pytest.fixture
def migrated(postgres: Postgres, database_name: str) -> Migrated:
    """A migrated database of the test's own, in which the people of the kit are known as users."""
    return Migrated(postgres, database_name)


@pytest.fixture(scope="session")
async def shared(postgres: Postgres, migrated_template: str) -> Migrated:
    """A migrated database with a row in every table, for tests that roll back."""
    database = Migrated(postgres, await postgres.create(migrated_template))
    async with database.as_owner() as connection:
        await connection.execute(SEED)
    return database
