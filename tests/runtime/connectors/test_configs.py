"""A configuration is put together for its plugin from the parts that people give and rows keep."""

from typing import ClassVar
from uuid import UUID

import pytest

from models.errors import Invalid
from models.fields import JsonObject, StrictModel
from models.schemas import SchemaConfig
from runtime.access.sealing import Sealer
from runtime.connectors.configs import Parts, Plugin, open_inline, placed, plugin_of, seal, seal_inline, unseal, whole
from runtime.connectors.csv_files import CsvSource
from tests.kit.graphql import SEALING_KEY

SEALER = Sealer.parse(SEALING_KEY)


class Login(StrictModel):
    """Credentials."""

    user: str
    password: str


class Nested(StrictModel):
    """Credentials in a field of their own."""

    host: str
    authentication: Login | None = None
    schema_config: SchemaConfig | None = None


class Flat(StrictModel):
    """Credentials among the other keys."""

    host: str
    user: str
    password: str


class NestedSource(CsvSource):
    """A plugin whose credentials are a field."""

    kind = "nested for tests"
    Config: ClassVar[type[StrictModel]] = Nested  # type: ignore[assignment]


class FlatSource(CsvSource):
    """A plugin whose credentials are keys."""

    kind = "flat for tests"
    Config: ClassVar[type[StrictModel]] = Flat  # type: ignore[assignment]


LOGIN: JsonObject = {"user": "app", "password": "hunter2"}


@pytest.mark.parametrize(
    ("plugin", "path", "expected"),
    [
        (NestedSource, "host", "connection_config.host"),
        (NestedSource, "authentication", "authentication_config"),
        (NestedSource, "authentication.user", "authentication_config.user"),
        (NestedSource, "schema_config.datasets", "schema_config.datasets"),
        (FlatSource, "user", "connection_config.user"),
        (CsvSource, "datasets[0].columns", "connection_config.datasets[0].columns"),
        (CsvSource, "parameters.day", "parameters.day"),
    ],
)
def test_a_key_of_the_whole_is_placed_where_it_is_given(plugin: Plugin, path: str, expected: str) -> None:
    assert placed(plugin, path) == expected


def test_credentials_go_into_the_field_that_a_plugin_has_for_them() -> None:
    assert whole(NestedSource, Parts({"host": "db"}, LOGIN)).model_dump(exclude_none=True) == {
        "host": "db",
        "authentication": LOGIN,
    }


def test_credentials_are_keys_like_others_where_a_plugin_has_no_field_for_them() -> None:
    assert whole(FlatSource, Parts({"host": "db"}, LOGIN)).model_dump() == {"host": "db", **LOGIN}


def test_documents_of_the_row_reach_the_plugins_that_ask_for_them() -> None:
    documents: JsonObject = {"schema_config": {"datasets": {}, "compatibility_mode": "full"}, "other": {"x": 1}}
    config = whole(NestedSource, Parts({"host": "db"}, documents=documents))
    assert config.model_dump(mode="json")["schema_config"]["compatibility_mode"] == "full"
    assert whole(FlatSource, Parts({"host": "db", **LOGIN}, documents=documents))


@pytest.mark.parametrize(
    ("plugin", "parts", "path"),
    [
        (NestedSource, Parts({"host": 1}), "connection_config.host"),
        (NestedSource, Parts({}, LOGIN), "connection_config.host"),
        (NestedSource, Parts({"host": "db"}, {"user": "app"}), "authentication_config.password"),
        (FlatSource, Parts({"host": "db"}, {"user": "app", "password": 7}), "authentication_config.password"),
        (FlatSource, Parts({"host": "db", "port": 1}, LOGIN), "connection_config.port"),
    ],
)
def test_a_bad_key_is_named_where_it_was_given(plugin: type[CsvSource], parts: Parts, path: str) -> None:
    with pytest.raises(Invalid) as refused:
        whole(plugin, parts)
    assert refused.value.path == path
    assert "hunter2" not in str(refused.value)


def test_a_row_without_credentials_has_no_envelope_for_them() -> None:
    connection, authentication = seal(SEALER, UUID(int=3), Parts({"host": "db"}))
    assert authentication is None
    assert unseal(SEALER, UUID(int=3), "authentication_config", None) == {}
    assert unseal(SEALER, UUID(int=3), "connection_config", connection) == {"host": "db"}


def test_what_is_tested_unsaved_travels_sealed() -> None:
    payload = seal_inline(SEALER, "source", "csv", Parts({"root": "/somewhere/secret"}))
    assert "somewhere" not in str(payload)
    entity, kind, config = open_inline(SEALER, payload)
    assert (entity, kind) == ("source", "csv")
    assert config.model_dump()["root"] == "/somewhere/secret"


def test_an_unknown_kind_is_told_with_those_there_are() -> None:
    with pytest.raises(Invalid, match="csw") as refused:
        plugin_of("source", "csw")
    assert "csv" in (refused.value.hint or "")
