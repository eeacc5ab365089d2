"""The people of the tests: one for each role, and a second analyst whose things the first must not see."""

from uuid import UUID

from models.access import Role
from runtime.access.principal import Principal

ADMIN = Principal(UUID(int=1), Role.SYSTEM_ADMIN, "admin@example.org")
ENGINEER = Principal(UUID(int=2), Role.DATA_ENGINEER, "engineer@example.org")
ANALYST = Principal(UUID(int=3), Role.DATA_ANALYST, "analyst@example.org")
OTHER_ANALYST = Principal(UUID(int=4), Role.DATA_ANALYST, "other@example.org")
RUNTIME = Principal.runtime()
PEOPLE = (ADMIN, ENGINEER, ANALYST, OTHER_ANALYST)
