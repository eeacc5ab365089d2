"""The commands of a server's keeper."""

import asyncio
from collections.abc import Iterator

import pytest

from api.cli.main import ENTRIES
from models.access import Role
from models.migrations.run import HEAD_REVISION, REVISIONS, current_revision
from runtime.access.tokens import Expected, Verifier
from tests.kit.database import Postgres
from tests.kit.graphql import SECRET
from tests.kit.platform import Command


@pytest.mark.parametrize("role", Role)
def test_a_token_signs_its_bearer_in_with_the_role(role: Role, wedsync: Command) -> None:
    said = wedsync("token", "--role", role.value)
    assert said.status == 0
    verifier = Verifier(secret=SECRET, keys=None, expected=Expected())
    principal = asyncio.run(verifier.sign_in(said.out.strip())).principal
    assert principal.role is role


def test_tokens_of_one_role_are_one_person(wedsync: Command) -> None:
    verifier = Verifier(secret=SECRET, keys=None, expected=Expected())
    tokens = [wedsync("token", "--role", "data_analyst", "--json").json for _ in range(2)]
    signed_in = [asyncio.run(verifier.sign_in(str(token["token"]))) for token in tokens if isinstance(token, dict)]
    assert signed_in[0].principal == signed_in[1].principal


def test_production_without_a_secret_signs_no_token(wedsync: Command) -> None:
    production = {"WEDSYNC_ENV": "production", "WEDSYNC_JWT_SECRET": "", "WEDSYNC_JWKS_URL": "https://id.example/jwks"}
    said = wedsync("token", "--role", "data_analyst", DATABASE_URL="postgresql://x/y", **production)
    assert said.status == 1
    assert "WEDSYNC_JWT_SECRET: this home signs no tokens" in said.err


@pytest.fixture
def empty(postgres: Postgres) -> Iterator[str]:
    """The owner's URL of a database that was never migrated."""
    name = asyncio.run(postgres.create())
    yield postgres.server.owner_url(name)
    asyncio.run(postgres.drop(name))


def test_migrate_brings_a_database_to_the_newest_revision_once(empty: str, wedsync: Command) -> None:
    first = wedsync("migrate", "--json", WEDSYNC_OWNER_URL=empty)
    assert (first.status, first.json) == (0, {"applied": REVISIONS, "revision": HEAD_REVISION})
    assert asyncio.run(current_revision(empty)) == HEAD_REVISION
    assert wedsync("migrate", WEDSYNC_OWNER_URL=empty).out == f"up to date at {HEAD_REVISION}\n"


def test_migrate_says_when_the_database_is_away(wedsync: Command) -> None:
    said = wedsync("migrate", WEDSYNC_OWNER_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert said.status == 1
    assert "PostgreSQL cannot be reached" in said.err


def test_the_schema_is_printed(wedsync: Command) -> None:
    said = wedsync("schema")
    assert said.status == 0
    assert "type Mutation {" in said.out
    assert len(ENTRIES) == len({entry.name for entry in ENTRIES})
