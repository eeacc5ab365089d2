"""Those who act in the tests of row-level security: a database role and the claims that policies read."""

import json
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from models.access import DatabaseRole, Role
from tests.kit import identities

NO_ONE = UUID(int=0)


@dataclass(frozen=True)
class Person:
    """Who a transaction acts as; without claims nothing is set."""

    name: str
    user_id: UUID = NO_ONE
    role: str | None = None
    database_role: str = DatabaseRole.AUTHENTICATED
    has_claims: bool = True

    async def act(self, connection: asyncpg.Connection) -> None:
        """Take on the role and the claims for the rest of the transaction."""
        await connection.execute("SELECT set_config('role', $1, true)", self.database_role)
        if self.has_claims:
            claims = {"sub": str(self.user_id), **({"role": self.role} if self.role else {})}
            await connection.execute("SELECT set_config('request.jwt.claims', $1, true)", json.dumps(claims))


ADMIN = Person("admin", identities.ADMIN.user_id, Role.SYSTEM_ADMIN)
ENGINEER = Person("engineer", identities.ENGINEER.user_id, Role.DATA_ENGINEER)
ANALYST = Person("analyst", identities.ANALYST.user_id, Role.DATA_ANALYST)
RUNTIME = Person("runtime", identities.RUNTIME.user_id, None, DatabaseRole.RUNTIME)
STRANGER = Person("stranger", UUID(int=5), "wedding_guest")
NOBODY = Person("nobody", has_claims=False)
