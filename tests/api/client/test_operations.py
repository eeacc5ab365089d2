"""The client's operations are operations of this schema."""

import pytest
from graphql import build_schema, parse, validate

from api.client import operations
from graphql_schema.export import sdl

OPERATIONS = {name: text for name, text in vars(operations).items() if name.isupper() and "(" in text}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_one_of_the_schema(name: str) -> None:
    assert [error.message for error in validate(build_schema(sdl()), parse(OPERATIONS[name]))] == []
