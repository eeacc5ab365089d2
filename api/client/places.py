"""Saves sources and destinations by name: adds what is not there, changes what is."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from pydantic.alias_generators import to_camel

from api.client import operations
from api.client.transport import Transport
from api.client.values import Place
from models.base import StrictModel
from models.destinations import BackupConfig, IndexingConfig, PartitionConfig
from models.errors import Invalid, NotFound, Unavailable
from models.fields import Json, JsonObject
from models.parsing import parse
from models.schemas import SchemaConfig
from models.sources import MonitoringConfig, RateLimitConfig
from runtime.pipelines.difference import Change, difference
from runtime.pipelines.files import EntryKind

_SEALED: Final = ("connection_config", "authentication_config")
_ENUMS: Final = ("source_type", "destination_type", "write_mode")
_FIXED: Final = ("kind", "source_type", "destination_type")
"""What a change cannot name: it stays as it was made."""


@dataclass(frozen=True, slots=True)
class Noun:
    """How sources or destinations are spoken of: the key of the name, all keys, the operations, and its documents."""

    name_key: str
    keys: tuple[str, ...]
    find: str
    create: str
    update: str
    documents: Mapping[str, type[StrictModel]]


NOUNS: Final[Mapping[EntryKind, Noun]] = {
    EntryKind.SOURCE: Noun(
        "source_name",
        (
            *("source_name", "source_type", "kind", "connection_config", "authentication_config", "is_active"),
            *("schema_config", "monitoring_config", "rate_limit_config"),
        ),
        operations.SOURCE,
        operations.CREATE_SOURCE,
        operations.UPDATE_SOURCE,
        {
            "schema_config": SchemaConfig,
            "monitoring_config": MonitoringConfig,
            "rate_limit_config": RateLimitConfig,
        },
    ),
    EntryKind.DESTINATION: Noun(
        "destination_name",
        (
            *("destination_name", "destination_type", "kind", "connection_config", "is_active", "schema_config"),
            *("write_mode", "partition_config", "indexing_config", "backup_config"),
        ),
        operations.DESTINATION,
        operations.CREATE_DESTINATION,
        operations.UPDATE_DESTINATION,
        {
            "schema_config": SchemaConfig,
            "partition_config": PartitionConfig,
            "indexing_config": IndexingConfig,
            "backup_config": BackupConfig,
        },
    ),
}


async def find(transport: Transport, kind: EntryKind, name: str) -> Place | None:
    """The place of that name, or None."""
    noun = NOUNS[kind]
    try:
        found = await transport.ask(noun.find, name=name)
    except NotFound:
        return None
    if not isinstance(found, dict):
        raise Unavailable("the server's answer has no place", hint="are server and client of the same version?")
    documents = {key: _lowered(key, found.get(to_camel(key))) for key in noun.keys if to_camel(key) in found}
    return Place.model_validate({**found, "documents": documents})


async def save(transport: Transport, kind: EntryKind, document: JsonObject) -> bool:
    """Add or change the place that a document describes; True when it was added."""
    noun, name = NOUNS[kind], check(kind, document)
    known = await find(transport, kind, name)
    if known is None:
        await transport.ask(noun.create, input=_input(document))
        return True
    if document.get("kind", known.kind) != known.kind:
        hint = "archive it first, or give the new one another name"
        raise Invalid(f"{name} is of kind {known.kind}, which cannot change", hint=hint, path="kind")
    changes = {key: value for key, value in document.items() if key not in _FIXED}
    await transport.ask(noun.update, id=str(known.id), input=_input(changes))
    return False


async def changes(transport: Transport, kind: EntryKind, document: JsonObject) -> list[Change] | None:
    """What saving would change, apart from sealed parts, which cannot be read back; None when it would add it."""
    known = await find(transport, kind, check(kind, document))
    if known is None:
        return None
    told = {
        key: _completed(NOUNS[kind], key, value)
        for key, value in document.items()
        if key in known.documents or key == "kind"
    }
    there = {**{key: known.documents.get(key) for key in told}, **({"kind": known.kind} if "kind" in told else {})}
    return difference(there, told)


def _completed(noun: Noun, key: str, value: Json) -> Json:
    """A document as the server keeps it: with the defaults that a file leaves out."""
    if key not in noun.documents or value is None:
        return value
    completed: JsonObject = parse(noun.documents[key], value, key).model_dump(mode="json", exclude_none=True)
    return completed


def missing(kind: EntryKind, name: str) -> NotFound:
    """The error that there is no such place."""
    return NotFound(f"there is no {kind.value} {name!r}", hint="see `wedsync apply`, which adds what a file describes")


def check(kind: EntryKind, document: JsonObject) -> str:
    """The name in a document; raises `Invalid` for one without, and for keys that there are not."""
    noun = NOUNS[kind]
    for key in document:
        if key not in noun.keys:
            near = get_close_matches(key, noun.keys, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(noun.keys)}"
            raise Invalid(f"there is no such key in a {kind.value}", hint=hint, path=key)
    name = document.get(noun.name_key)
    if not isinstance(name, str) or not name:
        raise Invalid(f"the {kind.value} has no name", hint=f"add `{noun.name_key}`", path=noun.name_key)
    return name


def seals(document: JsonObject) -> bool:
    """Whether a document has parts that are sealed, so that nobody can tell whether they differ."""
    return any(key in document for key in _SEALED)


def _input(document: JsonObject) -> JsonObject:
    """A document as GraphQL takes it: keys in camelCase, members of enums in capitals; documents inside as they are."""
    return {
        to_camel(key): value.upper() if key in _ENUMS and isinstance(value, str) else value
        for key, value in document.items()
    }


def _lowered(key: str, value: Json) -> Json:
    return value.lower() if key in _ENUMS and isinstance(value, str) else value
