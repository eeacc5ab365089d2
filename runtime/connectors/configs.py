"""The configuration of a source or destination: in parts as people give and rows keep it, whole as plugins have it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from uuid import UUID, uuid4

from models.base import StrictModel
from models.destinations import IndexingConfig
from models.errors import Invalid
from models.fields import Envelope, Json, JsonObject, parse
from models.sources import RateLimitConfig
from runtime.access.sealing import Sealer
from runtime.connectors._contract import DESTINATIONS, SOURCES, Destination, Source

Plugin: TypeAlias = type[Source[StrictModel]] | type[Destination[StrictModel]]

CONNECTION: Final = "connection_config"
AUTHENTICATION: Final = "authentication_config"
RATE_LIMIT: Final = "rate_limit_config"
DOCUMENTS: Final = ("schema_config", RATE_LIMIT)
INLINE: Final = "inline"
SOURCE: Final = "source"
DESTINATION: Final = "destination"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a configuration is made of: the two secret parts, and the row's documents that a plugin may want."""

    connection: JsonObject
    authentication: JsonObject = field(default_factory=dict)
    documents: Mapping[str, Json] = field(default_factory=dict)


def plugin_of(entity: str, kind: str, path: str = "kind") -> Plugin:
    """The plugin of a kind of source or destination; raises `Invalid` for an unknown one."""
    return SOURCES.get(kind, path) if entity == SOURCE else DESTINATIONS.get(kind, path)


def refuse_indexes(plugin: Plugin, indexing: IndexingConfig | None) -> None:
    """Raise `Invalid` for indexes that a destination cannot have."""
    if indexing is not None and indexing.indexes and not (issubclass(plugin, Destination) and plugin.has_indexes):
        path = "indexing_config.indexes"
        raise Invalid(f"a {plugin.kind} destination has no indexes", hint="leave them out", path=path)


def refuse_limits(plugin: Plugin, limits: RateLimitConfig | None) -> None:
    """Raise `Invalid` for limits on requests to a source that is not asked by requests."""
    if limits is not None and RATE_LIMIT not in plugin.Config.model_fields and (said := dumped(limits)):
        hint = "leave it out: only sources that are asked by requests, such as `http`, have a pace"
        raise Invalid(f"a {plugin.kind} source has no {', '.join(said)}", hint=hint, path=RATE_LIMIT)


def whole(plugin: Plugin, parts: Parts) -> StrictModel:
    """The plugin's configuration.

    A plugin with a field `authentication_config` or `authentication` gets that part there, another one among its
    other keys; of the row's documents it gets those it has a field for, unless the connection part sets them.
    Raises `Invalid` with the path of the bad key, from `connection_config` or `authentication_config` on.
    """
    fields = plugin.Config.model_fields
    nested = next((name for name in (AUTHENTICATION, "authentication") if name in fields), None)
    data: JsonObject = {name: value for name, value in parts.documents.items() if name in fields and value}
    data.update(parts.connection)
    if parts.authentication and nested is not None:
        data[nested] = parts.authentication
    elif parts.authentication:
        data.update(parts.authentication)
    try:
        return parse(plugin.Config, data)
    except Invalid as error:
        place = _place(error.path, nested, parts)
        raise Invalid(error.message, hint=error.hint, path=place, code=error.specific_code) from None


def _place(path: str | None, nested: str | None, parts: Parts) -> str:
    """Where a key of the whole was given."""
    if path is None:
        return CONNECTION
    head = path.partition(".")[0].partition("[")[0]
    if nested is not None and head == nested:
        return AUTHENTICATION + path[len(nested) :]
    if head in parts.connection or (head not in parts.authentication and head not in parts.documents):
        return f"{CONNECTION}.{path}"
    return f"{AUTHENTICATION}.{path}" if head in parts.authentication else path


def placed(plugin: Plugin, path: str) -> str:
    """Where a key of a whole configuration is given, for one that is not known to be given elsewhere."""
    fields = plugin.Config.model_fields
    nested = next((name for name in (AUTHENTICATION, "authentication") if name in fields), None)
    head = path.partition(".")[0].partition("[")[0]
    if head not in fields or head in DOCUMENTS:
        return path
    return _place(path, nested, Parts({head: None}))


def seal(sealer: Sealer, row: UUID, parts: Parts) -> tuple[Envelope, Envelope | None]:
    """The envelopes of the two secret parts of a row."""
    authentication = sealer.seal(parts.authentication, row, AUTHENTICATION) if parts.authentication else None
    return sealer.seal(parts.connection, row, CONNECTION), authentication


def unseal(sealer: Sealer, row: UUID, column: str, envelope: Envelope | None) -> JsonObject:
    """One secret part of a row; empty where there is none."""
    if envelope is None:
        return {}
    return parse(JsonObject, sealer.open(envelope, row, column), column)


def seal_inline(sealer: Sealer, entity: str, kind: str, parts: Parts) -> JsonObject:
    """The payload of a test of what is not saved: its configuration, checked, sealed under an id of its own."""
    plugin = plugin_of(entity, kind)
    whole(plugin, parts)
    identity = uuid4()
    content: JsonObject = {"connection": parts.connection, "authentication": parts.authentication}
    sealed = sealer.seal({**content, "documents": dict(parts.documents)}, identity, INLINE)
    return {"entity": entity, "kind": kind, "inline_id": str(identity), "sealed": sealed.model_dump(mode="json")}


class _Inline(StrictModel):
    connection: JsonObject
    authentication: JsonObject
    documents: JsonObject


class _InlinePayload(StrictModel):
    entity: str
    kind: str
    inline_id: UUID
    sealed: Envelope


def open_inline(sealer: Sealer, payload: JsonObject) -> tuple[str, str, StrictModel]:
    """What `seal_inline` sealed: the entity, the kind and the plugin's configuration."""
    given = parse(_InlinePayload, payload)
    content = parse(_Inline, sealer.open(given.sealed, given.inline_id, INLINE))
    parts = Parts(content.connection, content.authentication, content.documents)
    return given.entity, given.kind, whole(plugin_of(given.entity, given.kind), parts)


def documents(**found: StrictModel | None) -> Mapping[str, Json]:
    """The row's documents that say something, as JSON."""
    return {name: said for name, document in found.items() if (said := dumped(document))}


def dumped(document: StrictModel | None) -> JsonObject:
    """What a document says beyond its defaults."""
    return {} if document is None else document.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
