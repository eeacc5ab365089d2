"""Those who act in the tests of row-level security: a database role and the claims that policies read."""

import json
from dataclasses import dataclass
from uuid import UUID

import asyncpg

NO_ONE = UUID(int=0)


@dataclass(frozen=True)
class Person:
    """Who a transaction acts as; without claims nothing is set."""

    name: str
    user_id: UUID = NO_ONE
    role: str | None = None
    database_role: str = "authenticated"
    has_claims: bool = True

    async def act(self, connection: asyncpg.Connection) -> None:
        """Take on the role and the claims for the rest of the transaction."""
        await connection.execute("SELECT set_config('role', $1, true)", self.database_role)
        if self.has_claims:
            claims = {"sub": str(self.user_id), **({"role": self.role} if self.role else {})}
            await connection.execute("SELECT set_config('request.jwt.claims', $1, true)", json.dumps(claims))


ADMIN = Person("admin", UUID(int=1), "system_admin")
ENGINEER = Person("engineer", UUID(int=2), "data_engineer")
ANALYST = Person("analyst", UUID(int=3), "data_analyst")
RUNTIME = Person("runtime", NO_ONE, None, "wedsync_runtime")
STRANGER = Person("stranger", UUID(int=4), "wedding_guest")
NOBODY = Person("nobody", has_claims=False)
