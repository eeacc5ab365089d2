"""Named leases: who holds a name until when; a new holder raises the generation, which fences the old one off."""

from sqlalchemy import text

from runtime.database import Session

_HOLD = text("""
    INSERT INTO leases AS lease (name, holder, generation, acquired_at, expires_at)
    VALUES (:name, :holder, 1, now(), now() + make_interval(secs => :seconds))
    ON CONFLICT (name) DO UPDATE SET
        holder = excluded.holder, expires_at = excluded.expires_at,
        generation = lease.generation + CASE WHEN lease.holder = excluded.holder THEN 0 ELSE 1 END,
        acquired_at = CASE WHEN lease.holder = excluded.holder THEN lease.acquired_at ELSE now() END
    WHERE lease.holder = excluded.holder OR lease.expires_at < now()
    RETURNING generation
""")

_DROP = text("DELETE FROM leases WHERE name = :name AND holder = :holder")


async def hold(session: Session, name: str, holder: str, seconds: float) -> int | None:
    """Take or renew a lease for `seconds`; its generation, or None while another holds it."""
    row = (await session.execute(_HOLD, {"name": name, "holder": holder, "seconds": seconds})).first()
    return None if row is None else int(row.generation)


async def drop(session: Session, name: str, holder: str) -> None:
    """Give a lease up."""
    await session.execute(_DROP, {"name": name, "holder": holder})
