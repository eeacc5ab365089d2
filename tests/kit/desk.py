"""The running program as a person uses it: through GraphQL and REST, over files and databases of their own."""

import asyncio
import csv
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import httpx
import pytest

from api.client import Client
from api.client.values import Execution
from models.fields import Json, JsonObject
from runtime.access.principal import Principal
from runtime.embedded.stack import METADATA, Stack
from tests.kit.graphql import token
from tests.kit.identities import ENGINEER

ERROR: Final = "... on Error { code message hint path }"
ANSWER_SECONDS: Final = 60.0
END_SECONDS: Final = 120.0

CREATE_SOURCE: Final = f"""
mutation($input: CreateSourceInput!) {{ createSource(input: $input) {{ __typename ... on Source {{ id }} {ERROR} }} }}
"""
CREATE_DESTINATION: Final = f"""
mutation($input: CreateDestinationInput!) {{
    createDestination(input: $input) {{ __typename ... on Destination {{ id }} {ERROR} }}
}}
"""
DISCOVER_SOURCE: Final = f"""
mutation($id: ID!) {{ discoverSource(id: $id) {{ __typename ... on Source {{ datasets {{ name }} }} {ERROR} }} }}
"""
DISCOVER_DESTINATION: Final = f"""
mutation($id: ID!) {{
    discoverDestination(id: $id) {{ __typename ... on Destination {{ datasets {{ name }} }} {ERROR} }}
}}
"""
CREATE_PIPELINE: Final = f"""
mutation($definition: JSON!) {{
    createPipeline(input: {{definition: $definition}}) {{ __typename ... on Pipeline {{ id version }} {ERROR} }}
}}
"""
EXECUTE: Final = f"""
mutation($id: ID!, $input: ExecutePipelineInput) {{
    executePipeline(id: $id, input: $input) {{ __typename ... on Execution {{ id executionId status state }} {ERROR} }}
}}
"""
CANCEL: Final = f"""
mutation($id: ID!) {{ cancelExecution(id: $id) {{ __typename ... on Execution {{ state }} {ERROR} }} }}
"""


@dataclass
class Desk:
    """One test's place at the shared program. What is added is named after the test, so that nobody is in the way."""

    stack: Stack
    client: Client
    http: httpx.AsyncClient
    folder: Path
    mark: str
    databases: list[str] = field(default_factory=list)

    def name(self, word: str) -> str:
        """A name that is this test's own."""
        return f"{word}-{self.mark}"

    async def answer(self, document: str, variables: Mapping[str, Json] | None = None) -> dict[str, Any]:
        """The whole answer of a GraphQL operation."""
        answer = await self.http.post("/graphql", json={"query": document, "variables": dict(variables or {})})
        result: dict[str, Any] = answer.json()
        return result

    async def ask(self, document: str, **variables: Json) -> Any:
        """The value of a GraphQL operation's one field, a mutation's error too."""
        answer = await self.answer(document, variables)
        assert "errors" not in answer, answer["errors"]
        (value,) = answer["data"].values()
        return value

    async def done(self, document: str, **variables: Json) -> Any:
        """The value of a mutation that is not refused."""
        value = await self.ask(document, **variables)
        assert not value["__typename"].endswith("Error"), value
        return value

    async def source(self, word: str, kind: str, connection: JsonObject, *, discover: bool = True) -> str:
        """Add a source, and have the runtime discover it; its id."""
        given: JsonObject = {"sourceName": self.name(word), "kind": kind, "connectionConfig": connection}
        identity = str((await self.done(CREATE_SOURCE, input=given))["id"])
        if discover:
            await self.done(DISCOVER_SOURCE, id=identity)
        return identity

    async def destination(self, word: str, kind: str, connection: JsonObject) -> str:
        """Add a destination; its id."""
        given: JsonObject = {"destinationName": self.name(word), "kind": kind, "connectionConfig": connection}
        return str((await self.done(CREATE_DESTINATION, input=given))["id"])

    async def files(self, word: str, rows: Sequence[Mapping[str, object]], **config: Json) -> str:
        """Add a CSV source over a folder of the test that holds `rows.csv`; its id."""
        self.write(word, rows)
        return await self.source(word, "csv", {"root": str(self.folder / word), **config})

    async def shelf(self, word: str, kind: str = "csv") -> str:
        """Add a destination of files in a folder of the test; its id."""
        return await self.destination(word, kind, {"root": str(self.folder / word)})

    def write(self, word: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Write `rows.csv` in a folder of the test."""
        place = self.folder / word
        place.mkdir(parents=True, exist_ok=True)
        with (place / "rows.csv").open("w", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def rows(self, word: str, table: str) -> list[dict[str, str]]:
        """All rows of a table of CSV files, in no order; empty where there is none."""
        found: list[dict[str, str]] = []
        for file in sorted((self.folder / word / table).glob("*.csv")):
            with file.open(newline="") as opened:
                found.extend(csv.DictReader(opened))
        return found

    async def database(self, word: str) -> str:
        """Make an empty database on the program's server; its name."""
        name = f"{word}_{self.mark}".replace("-", "_")
        async with self.connect("postgres") as connection:
            await connection.execute(f"CREATE DATABASE {name}")
        self.databases.append(name)
        return name

    def reach(self, database: str) -> JsonObject:
        """The configuration that a connector reaches a database of the program's server with."""
        return {"host": str(self._server), "database": database, "user": "postgres"}

    def libpq_uri(self, database: str) -> str:
        """The URI of such a database for ADBC."""
        return f"postgresql://postgres@/{database}?host={self._server}"

    @property
    def _server(self) -> Path:
        assert self.stack.postgres is not None
        return self.stack.postgres.folder

    @asynccontextmanager
    async def connect(self, database: str = METADATA) -> AsyncIterator[asyncpg.Connection]:
        """A superuser's connection, to the program's own database unless told otherwise."""
        connection = await asyncpg.connect(host=str(self._server), user="postgres", database=database)
        try:
            yield connection
        finally:
            await connection.close()

    async def pipeline(self, definition: JsonObject) -> str:
        """Save a definition under a name of the test's own; the pipeline's id."""
        return str((await self.done(CREATE_PIPELINE, definition=self.own(definition)))["id"])

    def own(self, definition: JsonObject) -> JsonObject:
        """The definition under a name of the test's own."""
        return {**definition, "pipeline_name": self.name(str(definition["pipeline_name"]))}

    async def execute(self, pipeline: str, **how: Json) -> UUID:
        """Submit an execution; its id."""
        return UUID((await self.done(EXECUTE, id=pipeline, input=how))["id"])

    async def cancel(self, execution: UUID) -> None:
        """Ask an execution to stop."""
        await self.done(CANCEL, id=str(execution))

    async def finished(self, execution: UUID | str, within: float = END_SECONDS) -> Execution:
        """Wait for the end of an execution."""
        async with asyncio.timeout(within):
            return await self.client.finished(execution)

    async def run(self, definition: JsonObject, **how: Json) -> Execution:
        """Save a definition, execute it and wait for its end."""
        return await self.finished(await self.execute(await self.pipeline(definition), **how))

    async def close(self) -> None:
        """Close the connections and remove the databases."""
        await self.client.close()
        await self.http.aclose()
        async with self.connect("postgres") as connection:
            for name in self.databases:
                await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def desk_of(stack: Stack, folder: Path, mark: str, by: Principal = ENGINEER) -> Desk:
    """A desk at the running program for one person."""
    url, signed = stack.addresses.api_url, token(by)
    headers = {"authorization": f"Bearer {signed}"}
    http = httpx.AsyncClient(base_url=url, headers=headers, timeout=ANSWER_SECONDS, trust_env=False)
    return Desk(stack, Client(url, signed), http, folder, mark)


@pytest.fixture(scope="session")
def marks() -> Iterator[str]:
    """Marks that tell the tests of a session apart."""
    return (f"d{number}" for number in itertools.count())


@pytest.fixture
async def desk(stack: Stack, marks: Iterator[str], tmp_path: Path) -> AsyncIterator[Desk]:
    """The test's own place at the running program, as an engineer."""
    made = desk_of(stack, tmp_path, next(marks))
    yield made
    await made.close()
