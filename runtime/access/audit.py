"""Writes the audit log: who did what to which thing, in the transaction that did it."""

from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import insert

from models.access import RUNTIME_ACTOR
from models.audit import AuditEntry
from models.fields import JsonObject
from runtime.access.mask import mask_row
from runtime.access.principal import Principal


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done: `action` on the thing `entity_id` of the kind `entity_type`; `detail` passes the PII mask."""

    action: str
    entity_type: str
    entity_id: UUID | str | None = None
    detail: JsonObject = field(default_factory=dict)


async def record(session: AsyncSession, principal: Principal, *deeds: Deed) -> None:
    """Add deeds of the transaction's principal to the log, as the transaction's last act.

    PostgreSQL holds the end of the chain from here to the commit, so everyone else who records waits.
    """
    if not deeds:
        return
    actor = None if principal.role is None else principal.user_id
    role = RUNTIME_ACTOR if principal.role is None else principal.role.value
    await session.flush()
    for deed in deeds:
        entry = {
            "actor": actor,
            "actor_role": role,
            "action": deed.action,
            "entity_type": deed.entity_type,
            "entity_id": None if deed.entity_id is None else str(deed.entity_id),
            "detail": mask_row(deed.detail),
        }
        await session.execute(insert(AuditEntry).inline().values(entry))
