"""The rows of pipelines: each save is an immutable version whose document is the truth; the rest projects it."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from models.errors import Conflict, Invalid, NotFound
from models.fields import JsonObject
from models.parsing import as_uuid
from models.pipelines import DataPipeline, PipelineStep, PipelineVersion
from runtime.access.principal import Principal
from runtime.connectors.discoveries import catalog
from runtime.pipelines.compile import compile_definition
from runtime.pipelines.definition import PipelineDefinition, parse_definition
from runtime.pipelines.difference import Change, difference
from runtime.pipelines.expand import references
from runtime.pipelines.plan import Plan
from runtime.pipelines.projection import merged, project, step_columns

NAME = "pipeline_name"


class Action(StrEnum):
    """What applying a document did, or would do."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Compiled:
    """A document that holds: parsed, and compiled against the sources and destinations there are."""

    document: JsonObject
    definition: PipelineDefinition
    plan: Plan


@dataclass(frozen=True, slots=True)
class Edit:
    """What to change of a pipeline; None leaves it.

    `document` replaces the newest version's; `changes` are merged into it, key by top-level key. With
    `expected_version`, nothing is changed once somebody saved a newer one. `message` is kept with the version.
    """

    document: JsonObject | None = None
    changes: JsonObject | None = None
    is_active: bool | None = None
    is_paused: bool | None = None
    expected_version: int | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying a document did: the changes it made, its plan, and the pipeline, unless it was a dry run."""

    action: Action
    changes: Sequence[Change]
    plan: Plan
    pipeline: DataPipeline | None


async def compiled(session: AsyncSession, document: JsonObject) -> Compiled:
    """Parse and compile a document; raises `Invalid` with the path of the bad key."""
    written = merged({}, document)
    definition = parse_definition(written)
    _check_name(definition.pipeline_name)
    # The first use imports all plugins, and inferring SQL takes tens of milliseconds: beside the event loop both.
    known = await catalog(session, await asyncio.to_thread(references, definition))
    try:
        plan = await asyncio.to_thread(compile_definition, definition, known)
    except Invalid:
        # Only the whole catalog knows which name was meant.
        everything = await catalog(session)
        plan = await asyncio.to_thread(compile_definition, definition, everything)
    return Compiled(written, definition, plan)


async def create(
    session: AsyncSession, document: JsonObject, by: Principal, message: str | None = None
) -> DataPipeline:
    """Add a pipeline at version 1; raises `Invalid` with the path of the bad key, `Conflict` for a name taken."""
    ready = await compiled(session, document)
    await _refuse_taken(session, ready.definition.pipeline_name)
    row = DataPipeline(
        pipeline_name=ready.definition.pipeline_name,
        pipeline_type=ready.definition.pipeline_type,
        source_config={},
        destination_config={},
        created_by=by.user_id,
    )
    project(ready.definition, row)
    session.add(row)
    await session.flush()
    await _add_version(session, row, ready, by, [], message)
    return row


async def update(session: AsyncSession, pipeline_id: UUID, edit: Edit, by: Principal) -> DataPipeline:
    """Change a pipeline. A document that says the same, and compiles to the same plan, makes no new version.

    Raises `NotFound`, `Invalid` with the path of the bad key, and `Conflict` when it changed since
    `expected_version` or its new name is taken.
    """
    row = await _locked(session, pipeline_id)
    _check_version(row, edit.expected_version)
    if edit.document is not None or edit.changes is not None:
        await _save(session, row, edit, by)
    if edit.is_active is not None:
        row.is_active = edit.is_active
    if edit.is_paused is not None:
        row.is_paused = edit.is_paused
    await session.flush()
    return row


async def rollback(
    session: AsyncSession, pipeline_id: UUID, version: int, by: Principal, expected_version: int | None = None
) -> DataPipeline:
    """Save an earlier version's document as the newest; raises `NotFound` for a version that there never was."""
    found = await version_of(session, pipeline_id, version)
    message = f"back to version {version}"
    edit = Edit(document=found.document, expected_version=expected_version, message=message)
    return await update(session, pipeline_id, edit, by)


async def archive(session: AsyncSession, pipeline_id: UUID) -> DataPipeline:
    """Take a pipeline out of use and free its name; its history stays, and what runs goes on to its end."""
    row = await _locked(session, pipeline_id)
    row.pipeline_name = f"{row.pipeline_name}~archived~{secrets.token_hex(4)}"
    row.archived_at, row.is_active = datetime.now(UTC), False
    await session.flush()
    return row


async def apply(session: AsyncSession, document: JsonObject, by: Principal, *, dry_run: bool = False) -> Applied:
    """Make the pipeline of the document's name be as the document says, adding it where there is none."""
    ready = await compiled(session, document)
    row = await session.scalar(_listed().where(col(DataPipeline.pipeline_name) == ready.definition.pipeline_name))
    if row is None:
        made = None if dry_run else await create(session, document, by)
        return Applied(Action.CREATED, difference({}, ready.document), ready.plan, made)
    newest = await version_of(session, row.id, row.version)
    changes = difference(newest.document, ready.document)
    action = Action.UPDATED if changes else Action.UNCHANGED
    if dry_run:
        return Applied(action, changes, ready.plan, None)
    saved = await update(session, row.id, Edit(document=document, expected_version=row.version), by)
    return Applied(action, changes, ready.plan, saved)


async def find(session: AsyncSession, reference: str | UUID) -> DataPipeline:
    """The pipeline of an id or a name, unless it is archived; raises `NotFound`."""
    identity = as_uuid(reference)
    column = col(DataPipeline.pipeline_name) == reference if identity is None else col(DataPipeline.id) == identity
    found = await session.scalar(_listed().where(column))
    if found is None:
        raise NotFound(f"there is no pipeline {str(reference)!r}", hint="see the pipelines there are, by id or name")
    return found


async def by_ids(session: AsyncSession, ids: Sequence[UUID]) -> list[DataPipeline | None]:
    """The rows of ids, in their order; None where there is none. Archived ones too, for history."""
    rows = (await session.scalars(select(DataPipeline).where(col(DataPipeline.id).in_(ids)))).all()
    known = {row.id: row for row in rows}
    return [known.get(identity) for identity in ids]


async def version_of(session: AsyncSession, pipeline_id: UUID, version: int) -> PipelineVersion:
    """One version, with its document and plan; raises `NotFound`."""
    wanted = select(PipelineVersion).filter_by(pipeline_id=pipeline_id, version=version)
    found = await session.scalar(wanted)
    if found is None:
        hint = "see the pipeline's `versions`"
        raise NotFound(f"the pipeline has no version {version}", hint=hint, path="version")
    return found


async def _save(session: AsyncSession, row: DataPipeline, edit: Edit, by: Principal) -> None:
    newest = await version_of(session, row.id, row.version)
    document = newest.document if edit.document is None else edit.document
    ready = await compiled(session, document if edit.changes is None else merged(document, edit.changes))
    if ready.definition.pipeline_name != row.pipeline_name:
        await _refuse_taken(session, ready.definition.pipeline_name)
    changes = difference(newest.document, ready.document)
    if not changes and ready.plan.fingerprint == newest.fingerprint:
        return
    project(ready.definition, row)
    await _add_version(session, row, ready, by, changes, edit.message)


async def _add_version(
    session: AsyncSession,
    row: DataPipeline,
    ready: Compiled,
    by: Principal,
    changes: Sequence[Change],
    message: str | None,
) -> None:
    row.version += 1
    version = PipelineVersion(
        pipeline_id=row.id,
        version=row.version,
        document=ready.document,
        fingerprint=ready.plan.fingerprint,
        plan=ready.plan.model_dump(mode="json"),
        difference=[change.model_dump(mode="json") for change in changes],
        message=message,
        created_by=by.user_id,
    )
    session.add(version)
    await _project_steps(session, row.id, ready)
    await session.flush()


async def _project_steps(session: AsyncSession, pipeline_id: UUID, ready: Compiled) -> None:
    known = await session.scalars(select(PipelineStep).where(col(PipelineStep.pipeline_id) == pipeline_id))
    left = {row.step_name: row for row in known}
    for columns in step_columns(ready.definition, ready.plan):
        row = left.pop(columns.step_name, None)
        if row is None:
            values = {name: getattr(columns, name) for name in columns.__slots__}
            session.add(PipelineStep(pipeline_id=pipeline_id, **values))
        else:
            columns.onto(row)
    for removed in left.values():
        removed.is_enabled = False


async def _locked(session: AsyncSession, pipeline_id: UUID) -> DataPipeline:
    found = await session.get(DataPipeline, pipeline_id, with_for_update=True, populate_existing=True)
    if found is None or found.archived_at is not None:
        raise NotFound(f"there is no pipeline {pipeline_id}", hint="see the pipelines there are", path="id")
    return found


async def _refuse_taken(session: AsyncSession, name: str) -> None:
    if await session.scalar(select(col(DataPipeline.id)).where(col(DataPipeline.pipeline_name) == name)) is not None:
        hint = "choose another name, or change the pipeline that has it"
        raise Conflict(f"there is a pipeline named {name!r} already", hint=hint, path=NAME)


def _check_version(row: DataPipeline, expected: int | None) -> None:
    if expected is not None and expected != row.version:
        raise Conflict(
            f"the pipeline is at version {row.version}, not {expected}: somebody saved it meanwhile",
            hint="read it again, and make your change to what it is now",
            path="expected_version",
            code="version_mismatch",
        )


def _check_name(name: str) -> None:
    if name != name.strip() or not name.isprintable():
        raise Invalid("cannot be a name", hint="only printable letters, no blanks at the ends", path=NAME)
    if as_uuid(name) is not None:
        raise Invalid("cannot be a UUID", hint="references take a UUID for an id", path=NAME)


def _listed() -> Select[DataPipeline]:
    return select(DataPipeline).where(col(DataPipeline.archived_at).is_(None))
