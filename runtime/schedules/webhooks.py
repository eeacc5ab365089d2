"""Webhooks that start pipelines: a secret for each, and requests that are signed, timely, and taken once.

What a body, a JSON object, says under the names of its pipeline's `parameters` is given to the execution it starts.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import orjson
from sqlalchemy import text

from models.errors import Invalid, NotFound, Unauthenticated
from models.fields import Envelope, JsonObject, jsonb_text
from models.pipelines import DataPipeline
from models.schedules import EventKind
from runtime.access.sealing import Sealer
from runtime.database import Session

COLUMN: Final = "webhook_secret"
PREFIX: Final = "whsec_"
WINDOW: Final = timedelta(minutes=5)
"""How far a request's timestamp may be from the clock here; one that was taken is remembered for longer."""

MOST_BODY: Final = 64 * 1024
"""Bytes that a body may have where its pipeline takes parameters."""

TIMESTAMP_HEADER: Final = "x-wedsync-timestamp"
SIGNATURE_HEADER: Final = "x-wedsync-signature"

_OF_PIPELINE: Final = text("SELECT id, watches FROM schedules WHERE pipeline_id = :pipeline_id FOR UPDATE")
_KEEP: Final = text("UPDATE schedules SET webhook_secret = CAST(:secret AS jsonb) WHERE id = :id")
_OF_NAME: Final = text("""
    SELECT schedule.id, webhook_secret, version.plan -> 'parameters' AS declared
    FROM schedules AS schedule
    JOIN data_pipelines AS pipeline ON pipeline.id = schedule.pipeline_id
    LEFT JOIN pipeline_versions AS version
        ON version.pipeline_id = pipeline.id AND version.version = pipeline.version
    WHERE watches = :watches
""")
_ARRIVE: Final = text("""
    INSERT INTO schedule_arrivals (schedule_id, cause, parameters) VALUES (:id, :cause, CAST(:parameters AS jsonb))
    ON CONFLICT DO NOTHING RETURNING cause
""")


@dataclass(frozen=True, slots=True)
class Issued:
    """A new secret of a schedule, and the path that requests go to."""

    schedule: UUID
    path: str
    secret: str


async def issue(session: Session, sealer: Sealer, pipeline: DataPipeline) -> Issued:
    """Make a secret for a pipeline's webhook, in the place of the one before; raises `Invalid` where it has none."""
    row = (await session.execute(_OF_PIPELINE, {"pipeline_id": pipeline.id})).first()
    kind, _, name = (row.watches or "").partition(":") if row is not None else ("", "", "")
    if row is None or kind != EventKind.WEBHOOK:
        hint = "save it with the schedule_config {type: event, expression: 'webhook:NAME'} first"
        raise Invalid(f"no webhook starts pipeline {pipeline.pipeline_name!r}", hint=hint, path="id")
    secret = PREFIX + secrets.token_urlsafe(32)
    envelope = sealer.seal(secret, row.id, COLUMN)
    await session.execute(_KEEP, {"id": row.id, "secret": jsonb_text(envelope.model_dump(exclude_none=True))})
    return Issued(row.id, f"/api/webhooks/{name}", secret)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A request to a webhook as it came."""

    name: str
    timestamp: str | None
    signature: str | None
    body: bytes


async def arrive(session: Session, sealer: Sealer, delivery: Delivery, now: datetime) -> bool:
    """Take a delivery; False for one that was taken before. Only the runtime's role may.

    Raises `NotFound` for a name that starts nothing, `Unauthenticated` for one that is not signed with the newest
    secret or not of these minutes, and `Invalid` for a body that is to hold parameters and cannot.
    """
    row = (await session.execute(_OF_NAME, {"watches": f"{EventKind.WEBHOOK.value}:{delivery.name}"})).first()
    if row is None:
        hint = "save a pipeline with the schedule_config {type: event, expression: 'webhook:NAME'}"
        raise NotFound(f"there is no webhook {delivery.name!r}", hint=hint)
    if not row.webhook_secret:
        hint = "make one: wedsync schedule secret PIPELINE"
        raise Unauthenticated("this webhook has no secret yet", hint=hint, path=SIGNATURE_HEADER)
    secret = str(sealer.open(Envelope.model_validate(row.webhook_secret), row.id, COLUMN))
    _verify(secret, delivery, now)
    parameters = _parameters(delivery.body, row.declared or {})
    values = {"id": row.id, "cause": f"webhook:{delivery.signature}", "parameters": jsonb_text(parameters)}
    taken = (await session.execute(_ARRIVE, values)).first()
    return taken is not None


def signature_of(secret: str, timestamp: str, body: bytes) -> str:
    """`v1=` and the HMAC-SHA256, in hex, of the timestamp (seconds since 1970), a full stop and the body."""
    return "v1=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _parameters(body: bytes, declared: JsonObject) -> JsonObject:
    """What a body says of the declared parameters; of a pipeline that declares none, nothing is read of it."""
    if not declared or not body.strip():
        return {}
    names = ", ".join(sorted(declared))
    if len(body) > MOST_BODY:
        hint = f"send no more than {MOST_BODY:,}: the parameters are {names}; keep the rest where a source reads it"
        raise Invalid(f"the body has {len(body):,} bytes", hint=hint, path="body", code="body_too_large")
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = f"send an object with the parameters {names}, or no body"
        raise Invalid(f"the body is not JSON: {error}", hint=hint, path="body") from None
    if not isinstance(given, dict):
        raise Invalid("the body is no object", hint=f"send an object with the parameters {names}", path="body")
    return {name: given[name] for name in declared if name in given}


def _verify(secret: str, delivery: Delivery, now: datetime) -> None:
    stamp, signature = delivery.timestamp or "", delivery.signature or ""
    expected = signature_of(secret, stamp, delivery.body)
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        hint = f"sign `timestamp.body` with the secret, and send {TIMESTAMP_HEADER} and {SIGNATURE_HEADER}: v1=<hex>"
        raise Unauthenticated("the signature does not fit", hint=hint, path=SIGNATURE_HEADER)
    is_number = stamp.isascii() and stamp.isdigit() and len(stamp) <= 12
    if not is_number or abs(int(stamp) - now.timestamp()) > WINDOW.total_seconds():
        hint = f"send the time it is, in seconds since 1970, within {WINDOW.total_seconds() / 60:g} minutes"
        raise Unauthenticated("the timestamp is not of now", hint=hint, path=TIMESTAMP_HEADER)
