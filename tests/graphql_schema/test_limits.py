"""Operations that ask for too much are refused before they are validated or run."""

import pytest
from graphql import get_introspection_query, parse

from graphql_schema.limits import Limits, excess, weigh
from tests.kit.graphql import Api


@pytest.mark.parametrize(
    ("document", "cost"),
    [
        ("{a}", 0),
        ("{a{b c d}}", 1),
        ("{list(first: 50){nodes{id name}}}", 100),
        ("{list(first: 10){nodes{inner(first: 5){nodes{id}}}}}", 10 * (1 + 1 + 5 * 2)),
        ("query($n: Int){list(first: $n){nodes{id}}}", 14),
        ("query($x: Int){list(first: $x){nodes{id}}}", 40),
    ],
)
def test_the_cost_is_the_objects_that_may_be_read(document: str, cost: int) -> None:
    assert weigh(parse(document), {"n": 7}).cost == cost


def test_depth_counts_through_fragments() -> None:
    assert weigh(parse("{a{...F}} fragment F on A{b{c}}"), {}).depth == 3


def test_fragments_that_double_at_each_step_are_weighed_in_no_time() -> None:
    chain = "".join(f"fragment F{n} on A{{x{n}:a{{...F{n + 1}}} y{n}:a{{...F{n + 1}}}}}" for n in range(200))
    weight = weigh(parse("{a{...F0}}" + chain + "fragment F200 on A{id}"), {})
    assert weight.cost > 2**200
    assert excess(weight, Limits()) is not None


def test_fragments_that_spread_themselves_end() -> None:
    assert weigh(parse("{...F} fragment F on Query{a{...F}}"), {}).depth >= 1


def test_the_introspection_of_tools_is_not_too_deep() -> None:
    assert excess(weigh(parse(get_introspection_query(descriptions=True)), {}), Limits()) is None


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("{" + "a{" * 20 + "b" + "}" * 20 + "}", "depth_limit"),
        ("{" + " ".join(f"x{n}:__typename" for n in range(60)) + "}", "aliases_limit"),
        ("{__typename " + "@include(if: true)" * 60 + "}", "directives_limit"),
        ("{sources(first: 100){nodes{a(first: 100){b}}}}", "cost_limit"),
    ],
)
async def test_an_operation_over_a_limit_is_told_which(api: Api, document: str, code: str) -> None:
    error = await api.refusal(document)
    assert error["extensions"]["code"] == code
    assert "allowed" in error["message"]


async def test_a_document_of_too_many_words_is_not_parsed_to_its_end(api: Api) -> None:
    error = await api.refusal("{" + "a " * 20_000 + "}")
    assert "5000 tokens" in error["message"]


async def test_a_page_is_at_most_a_hundred(api: Api) -> None:
    error = await api.refusal("{sources(first: 101){nodes{id}}}")
    assert error["extensions"] == {"code": "invalid", "path": "first"}
