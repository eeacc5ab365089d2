"""Checks what a YAML file says as far as that can be told without a server."""

from api.client import places
from models.errors import Invalid
from models.fields import Json, JsonObject
from runtime.connectors.configs import DESTINATION, SOURCE, Parts, plugin_of, whole
from runtime.pipelines.expand import placed_steps
from runtime.pipelines.files import Entry, EntryKind
from runtime.pipelines.graph import wire


def check_entry(entry: Entry) -> None:
    """Raise `Invalid` with file, line and path for what is wrong with a definition."""
    if entry.kind is EntryKind.PIPELINE:
        wire(placed_steps(entry.pipeline()))
        return
    places.check(entry.kind, entry.document)
    entity = SOURCE if entry.kind is EntryKind.SOURCE else DESTINATION
    kind = entry.document.get("kind")
    if not isinstance(kind, str):
        raise Invalid("is required", hint="name the connector", path="kind")
    documents = {key: value for key, value in entry.document.items() if key.endswith("_config")}
    connection = _object(documents.pop("connection_config", None), "connection_config")
    authentication = _object(documents.pop("authentication_config", {}), "authentication_config")
    whole(plugin_of(entity, kind), Parts(connection, authentication, documents))


def _object(value: Json, path: str) -> JsonObject:
    if not isinstance(value, dict):
        raise Invalid("is required, with keys of its own", hint="see the connector's configuration", path=path)
    return value
