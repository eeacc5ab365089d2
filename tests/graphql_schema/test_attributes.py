"""Attributes are answered at once, and never otherwise than GraphQL itself would answer them."""

from collections.abc import Sequence
from dataclasses import field
from enum import StrEnum
from types import SimpleNamespace
from typing import Any

import pytest
import strawberry
from strawberry.extensions import SchemaExtension
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types import ExecutionResult

from graphql_schema.attributes import AttributesFirst
from graphql_schema.fields import computed


@strawberry.enum
class Colour(StrEnum):
    """A closed set."""

    RED = "red"
    BLUE = "blue"


@strawberry.interface
class Named:
    """Something with a name."""

    name: str


@strawberry.type
class Ribbon(Named):
    """A thing whose fields are of every sort."""

    colour: Colour
    length: int
    colours: list[Colour] = field(default_factory=list)
    note: str | None = None
    twin: Named | None = None
    beforehand: strawberry.Private[float | None] = None

    @computed("Read beforehand, or worked out.", known_by="beforehand")
    def weight(self) -> float:
        return 2.5

    @computed("Worked out later.")
    async def price(self) -> int:
        return 7

    @computed("Cannot be worked out.")
    async def broken(self) -> int | None:
        raise ValueError("no price")


RIBBONS: list[Any] = [
    Ribbon(name="first", colour=Colour.RED, length=1, note="long", colours=[Colour.BLUE], beforehand=1.5),
    Ribbon(name="second", colour=Colour.BLUE, length=2, twin=Ribbon(name="third", colour=Colour.RED, length=3)),
]
WRONG: dict[str, Any] = {
    "null": {"name": None},
    "no whole number": {"length": "many"},
    "no member": {"colour": "green"},
    "absent": {"length": SimpleNamespace()},
}


@strawberry.type
class Query:
    """Ribbons, and one with a wrong value."""

    @strawberry.field
    def ribbons(self) -> list[Ribbon]:
        return RIBBONS

    @strawberry.field
    def wrong(self, what: str) -> Ribbon | None:
        made = Ribbon(name="wrong", colour=Colour.RED, length=1)
        vars(made).update(WRONG[what])
        return made


class Shouting(SchemaExtension):
    """Changes what resolvers answer."""

    def resolve(self, _next: Any, root: Any, info: Any, *given: Any, **named: Any) -> Any:
        answer = _next(root, info, *given, **named)
        return answer.upper() if isinstance(answer, str) else answer


async def asked(
    document: str, executing: type[StrawberryGraphQLCoreExecutionContext], extensions: Sequence[type] = ()
) -> ExecutionResult:
    schema = strawberry.Schema(Query, execution_context_class=executing, extensions=list(extensions))
    return await schema.execute(document)


def told(result: ExecutionResult) -> Any:
    return result.data, [(error.message, error.path, error.locations) for error in result.errors or []]


@pytest.mark.parametrize(
    "document",
    [
        "{ ribbons { name colour length note } }",
        "{ ribbons { price note weight colours shade: colour __typename twin { name ... on Ribbon { length } } } }",
        "{ ribbons { name note @skip(if: true) ...more } } fragment more on Named { name called: name }",
        "{ ribbons { name broken length } }",
        *(f'{{ wrong(what: "{what}") {{ price name length colour broken }} }}' for what in WRONG),
    ],
)
async def test_answers_and_errors_are_those_of_graphql(document: str) -> None:
    ours = await asked(document, AttributesFirst)
    theirs = await asked(document, StrawberryGraphQLCoreExecutionContext)
    assert ours.data is None or list(ours.data) == list(theirs.data or {})
    for one, other in zip((ours.data or {}).get("ribbons", []), (theirs.data or {}).get("ribbons", []), strict=True):
        assert list(one) == list(other)
    if "weight" not in document:
        assert told(ours) == told(theirs)
    assert len(ours.errors or []) == len(theirs.errors or [])


async def test_what_was_read_beforehand_is_taken_and_the_rest_worked_out() -> None:
    result = await asked("{ ribbons { weight } }", AttributesFirst)
    assert result.data == {"ribbons": [{"weight": 1.5}, {"weight": 2.5}]}


async def test_an_extension_that_wraps_resolvers_is_heard() -> None:
    result = await asked("{ ribbons { name } }", AttributesFirst, [Shouting])
    assert result.data == {"ribbons": [{"name": "FIRST"}, {"name": "SECOND"}]}
