"""Writes the audit log: who did what to which thing, in the transaction that did it."""

from dataclasses import dataclass, field
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from models.access import RUNTIME_ACTOR
from models.fields import JsonObject
from runtime.access.mask import mask_row
from runtime.access.principal import Principal
from runtime.database import Session

_INSERT = text("""
    INSERT INTO audit_log (actor, actor_role, action, entity_type, entity_id, detail)
    VALUES (:actor, :actor_role, :action, :entity_type, :entity_id, CAST(:detail AS jsonb))
""")


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done: `action` on the thing `entity_id` of the kind `entity_type`; `detail` passes the PII mask."""

    action: str
    entity_type: str
    entity_id: UUID | str | None = None
    detail: JsonObject = field(default_factory=dict)


async def record(session: Session, principal: Principal, *deeds: Deed) -> None:
    """Add deeds of the transaction's principal to the log, as the transaction's last act.

    PostgreSQL holds the end of the chain from here to the commit, so everyone else who records waits.
    """
    if not deeds:
        return
    actor = None if principal.role is None else principal.user_id
    role = RUNTIME_ACTOR if principal.role is None else principal.role.value
    if isinstance(session, AsyncSession):
        await session.flush()
    for deed in deeds:
        entry: dict[str, object] = {
            "actor": actor,
            "actor_role": role,
            "action": deed.action,
            "entity_type": deed.entity_type,
            "entity_id": None if deed.entity_id is None else str(deed.entity_id),
            "detail": orjson.dumps(mask_row(deed.detail, deed.entity_type), default=str).decode(),
        }
        await session.execute(_INSERT, entry)
