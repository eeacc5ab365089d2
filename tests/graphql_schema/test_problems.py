"""Errors leave with a code and a remedy; what nobody expected leaves masked, in streams too."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import strawberry
from structlog.testing import capture_logs

from graphql_schema.context import Context, Info, Services
from graphql_schema.fields import mutation, query, subscription
from graphql_schema.permissions import Permission
from graphql_schema.problems import MEMBERS, told
from graphql_schema.schema import OperationSchema, Options
from models import errors
from models.errors import DomainError, Invalid, NotFound
from runtime.access.sealing import Sealer
from runtime.bus import Bus
from runtime.database import Database
from runtime.settings import Settings
from tests.kit.graphql import SEALING_KEY
from tests.kit.identities import ENGINEER

RAW = "relation secret_table does not exist, mail ann@example.org"


@strawberry.type
class Failing:
    """Fails in each way."""

    @query(Permission.SIGNED_IN, "Fails as expected.")
    async def expected(self) -> int:
        raise NotFound("there is no booking of ann@example.org", hint="look again", path="bookings[0]")

    @query(Permission.SIGNED_IN, "Fails as nobody expected.")
    async def unexpected(self) -> int:
        raise RuntimeError(RAW)


@strawberry.type(name="Mutation")
class FailingMutation:
    """Fails in each way."""

    @mutation(Permission.ENGINEERS, "Fails as expected.")
    async def change(self) -> Failing:
        raise Invalid("is not a number", hint="write digits", path="steps[1].config.price")

    @mutation(Permission.ENGINEERS, "Fails as nobody expected.")
    async def crash(self) -> Failing:
        raise RuntimeError(RAW)


@strawberry.type(name="Subscription")
class FailingSubscription:
    """Fails in each way."""

    @subscription(Permission.SIGNED_IN, "Fails after its first event.")
    async def events(self, info: Info) -> AsyncIterator[int]:
        yield 1
        raise RuntimeError(RAW)


SCHEMA = OperationSchema(
    Options(), query=Failing, mutation=FailingMutation, subscription=FailingSubscription, types=MEMBERS
)


@pytest.fixture
def context(settings: Settings, database: Database) -> Context:
    return Context(Services(settings, database, Bus(None), Sealer.parse(SEALING_KEY)), ENGINEER)


async def test_an_expected_failure_of_a_query_has_its_code_hint_and_path_without_personal_data(
    context: Context,
) -> None:
    result = await SCHEMA.execute("{expected}", context_value=context)
    (error,) = result.errors or []
    assert error.message == "there is no booking of a***@e***.org"
    assert error.extensions == {"code": "not_found", "hint": "look again", "path": "bookings[0]"}


async def test_an_expected_failure_of_a_mutation_is_a_member_of_its_result(context: Context) -> None:
    document = "mutation{change{__typename ...on Error{code message hint path}}}"
    result = await SCHEMA.execute(document, context_value=context)
    assert result.errors is None
    assert result.data == {
        "change": {
            "__typename": "InvalidError",
            "code": "invalid",
            "message": "is not a number",
            "hint": "write digits",
            "path": "steps[1].config.price",
        }
    }


@pytest.mark.parametrize("document", ["{unexpected}", "mutation{crash{__typename}}"])
async def test_what_nobody_expected_is_masked_and_logged_under_the_id_that_is_told(
    context: Context, document: str
) -> None:
    with capture_logs() as logged:
        result = await SCHEMA.execute(document, context_value=context)
    (error,) = result.errors or []
    assert "secret_table" not in str(error.formatted)
    extensions: dict[str, Any] = dict(error.extensions or {})
    assert extensions["code"] == "internal"
    (entry,) = [one for one in logged if one["event"] == "unexpected_error"]
    assert entry["error_id"] == extensions["error_id"]
    assert RAW in str(entry["exc_info"])


async def test_what_nobody_expected_is_masked_in_a_stream_too(context: Context) -> None:
    with capture_logs() as logged:
        results = [one async for one in await SCHEMA.stream("subscription{events}", context_value=context)]
    assert [one.data for one in results] == [{"events": 1}, None]
    (error,) = results[-1].errors or []
    assert "secret_table" not in error.message
    assert (error.extensions or {})["code"] == "internal"
    assert [one["event"] for one in logged] == ["unexpected_error"]


@pytest.mark.parametrize("document", ["{", "{nothing}", "query($x: Int!){expected}", "mutation{nothing}"])
async def test_a_wrong_document_is_the_callers_to_mend_and_is_not_masked(context: Context, document: str) -> None:
    result = await SCHEMA.execute(document, context_value=context)
    assert (result.errors or [])[0].extensions == {"code": "invalid"}
    assert "logged as" not in (result.errors or [])[0].message


def expected_failures(kind: type[DomainError]) -> list[type[DomainError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in expected_failures(child))]


@pytest.mark.parametrize("kind", expected_failures(errors.DomainError)[1:])
def test_every_expected_failure_has_a_member_of_the_result_unions(kind: type[DomainError]) -> None:
    shown = told(kind("it failed"))
    assert isinstance(shown, MEMBERS)
    assert shown.code == kind.code
