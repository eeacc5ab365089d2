"""The demo's sources, destinations and pipelines: YAML beside this module, with connection values filled in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import cast

from models.errors import Invalid
from models.fields import Json, JsonObject
from runtime.demo.vendor_api import API_KEY
from runtime.pipelines.files import Entry, EntryKind, read_text

FOLDER = "pipelines"
PLACES = "places.yaml"
# In the order in which a first run has something to look up and join.
PIPELINES = ("vendor-standardisation", "bookings-fact", "guest-responses", "daily-revenue")
_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Connections:
    """Where the demo's parts can be reached: libpq URIs, a base URL and its key, a folder."""

    app_database_uri: str
    warehouse_uri: str
    vendor_api_url: str
    guest_folder: Path
    vendor_api_key: str = API_KEY

    @property
    def values(self) -> Mapping[str, str]:
        """What each placeholder stands for."""
        return {
            "app_database_uri": self.app_database_uri,
            "warehouse_uri": self.warehouse_uri,
            "vendor_api_url": self.vendor_api_url,
            "vendor_api_key": self.vendor_api_key,
            "guest_folder": str(self.guest_folder.resolve()),
        }


def demo_sources(connections: Connections) -> list[Entry]:
    """`wedding-app-db`, `vendor-api` and `guest-files`, ready to be saved."""
    return [entry for entry in _places(connections) if entry.kind is EntryKind.SOURCE]


def demo_destinations(connections: Connections) -> list[Entry]:
    """`analytics-warehouse`, ready to be saved."""
    return [entry for entry in _places(connections) if entry.kind is EntryKind.DESTINATION]


def demo_pipelines() -> list[Entry]:
    """The four pipelines, in the order in which to run them."""
    return [entry for name in PIPELINES for entry in _read(f"{name}.yaml")]


def _places(connections: Connections) -> list[Entry]:
    values = connections.values
    return [replace(entry, document=cast(JsonObject, _filled(entry.document, values))) for entry in _read(PLACES)]


def _read(file: str) -> list[Entry]:
    place = resources.files("runtime.demo").joinpath(FOLDER, file)
    return read_text(place.read_text(encoding="utf-8"), file)


def _filled(value: Json, values: Mapping[str, str]) -> Json:
    """The document with each `${name}` in its texts replaced, after parsing: no value is read as YAML."""
    if isinstance(value, dict):
        return {key: _filled(one, values) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, values) for one in value]
    if not isinstance(value, str):
        return value
    missing = set(_PLACEHOLDER.findall(value)) - values.keys()
    if missing:
        raise Invalid(f"nothing is known for {sorted(missing)[0]}", hint=f"one of {', '.join(values)}", path=value)
    return _PLACEHOLDER.sub(lambda found: values[found[1]], value)
