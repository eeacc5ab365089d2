"""Who acts: the identity that a transaction carries into PostgreSQL, where row-level security decides."""

from dataclasses import dataclass
from uuid import UUID

from models.access import Role

RUNTIME_USER = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Principal:
    """A signed-in person, or the runtime itself, with the one role that policies read."""

    user_id: UUID
    role: Role | None
    email: str | None = None
    database_role: str = "authenticated"

    @classmethod
    def runtime(cls) -> "Principal":
        """The runtime's own identity: its PostgreSQL role has explicit policies and reads no claim."""
        return cls(user_id=RUNTIME_USER, role=None, database_role="wedsync_runtime")

    @property
    def claims(self) -> dict[str, str]:
        """The JWT claims as `auth.jwt()` shows them, the role normalised into the top-level `role`."""
        claims = {"sub": str(self.user_id)}
        if self.role is not None:
            claims["role"] = self.role.value
        if self.email is not None:
            claims["email"] = self.email
        return claims
