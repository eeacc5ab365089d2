"""Every field declares who may ask for it, and nobody else gets it."""

import pytest
from strawberry.types.base import StrawberryObjectDefinition

from graphql_schema.permissions import KEY, Permission, declared
from graphql_schema.schema import OperationSchema, build_schema
from runtime.access.principal import Principal
from tests.kit.graphql import Api
from tests.kit.identities import ADMIN, ANALYST, ENGINEER

SCHEMA = build_schema()


def object_types(schema: OperationSchema) -> list[StrawberryObjectDefinition]:
    definitions = (known.definition for known in schema.schema_converter.type_map.values())
    objects = [one for one in definitions if isinstance(one, StrawberryObjectDefinition) and not one.is_input]
    return sorted(objects, key=lambda one: one.name)


def names_of(definition: StrawberryObjectDefinition) -> tuple[str, list[str]]:
    converter = SCHEMA.config.name_converter
    return converter.from_type(definition), [converter.get_graphql_name(field) for field in definition.fields]


def test_every_field_of_every_type_declares_its_permission() -> None:
    undeclared = [
        f"{type_name}.{field}"
        for type_name, fields in map(names_of, object_types(SCHEMA))
        for field in fields
        if declared(SCHEMA, type_name, field) is None
    ]
    assert not undeclared, f"say @permitted on the type or a permission on the field: {undeclared}"


def test_every_root_field_declares_its_own_permission() -> None:
    for definition in object_types(SCHEMA):
        if names_of(definition)[0] in ("Query", "Mutation", "Subscription"):
            for field in definition.fields:
                assert isinstance(field.metadata.get(KEY), Permission), field.python_name


def test_everything_is_described() -> None:
    bare = [
        f"{known.name}.{name}" if name else known.name
        for known in SCHEMA._schema.type_map.values()
        if not known.name.startswith("__") and known.name not in ("Boolean", "Float", "Int", "String", "ID")
        for name, described in [
            ("", known.description),
            *((name, field.description) for name, field in getattr(known, "fields", {}).items()),
        ]
        if not described
    ]
    assert not bare, f"describe {bare}"


@pytest.mark.parametrize("field", ["sources{nodes{id}}", 'node(id: "x"){id}', "connectorKinds{kind}"])
async def test_a_stranger_is_told_to_sign_in(api: Api, field: str) -> None:
    error = await api.refusal(f"{{{field}}}", by=None)
    assert error["extensions"]["code"] == "unauthenticated"
    assert "wedsync token" in error["extensions"]["hint"]


async def test_a_stranger_may_ask_what_the_api_is(api: Api) -> None:
    assert await api.ask("{__typename}", by=None) == "Query"


async def test_a_strangers_mutation_is_an_error_and_no_result(api: Api) -> None:
    error = await api.refusal('mutation{archiveSource(id: "x"){__typename}}', by=None)
    assert error["extensions"]["code"] == "unauthenticated"


@pytest.mark.parametrize(
    ("by", "expected"), [(ANALYST, "DeniedError"), (ENGINEER, "NotFoundError"), (ADMIN, "NotFoundError")]
)
async def test_a_forbidden_verb_is_a_member_of_the_mutations_result(api: Api, by: Principal, expected: str) -> None:
    document = "mutation($id: ID!){archiveSource(id: $id){__typename ...on Error{code message hint}}}"
    result = await api.ask(document, {"id": "6f1c1b0e-7a39-4c56-9a6e-0d2f3c1b2a19"}, by=by)
    assert result["__typename"] == expected
    if expected == "DeniedError":
        assert result["hint"] == "it takes data_engineer or system_admin"
