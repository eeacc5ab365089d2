"""Tests of ordering and wiring steps."""

import pytest

from models.fields import JsonObject
from runtime.pipelines.expand import placed_steps
from runtime.pipelines.graph import Wired, wire
from tests.runtime.pipelines.platform import definition, explicit, extract, load, refused, transform

ALL: JsonObject = {"condition": "true"}
ON: JsonObject = {"using": ["id"]}


def wired(*steps: JsonObject) -> dict[str, Wired]:
    """The wired steps by name, in order."""
    return {one.placed.name: one for one in wire(placed_steps(definition(explicit(*steps))))}


def test_dependencies_order_steps_and_ties_go_by_where_they_were_written() -> None:
    steps = [load("l", "f", "c"), transform("f", "filter", ALL, "b"), extract("c"), extract("b"), extract("a")]
    assert list(wired(*steps)) == ["c", "b", "f", "l", "a"]


def test_equal_names_are_refused_even_if_they_differ_in_case() -> None:
    error = refused(explicit(extract("a"), extract("A")))
    assert error.path == "steps[1].name"
    assert "steps[0] and steps[1]" in error.message


def test_a_missing_dependency_is_refused_with_a_near_miss() -> None:
    error = refused(explicit(extract("bookings"), load("l", "bookngs")))
    assert error.path == "steps[1].depends_on[0]"
    assert "did you mean `bookings`?" in str(error.hint)


def test_a_dependency_named_twice_is_refused() -> None:
    assert refused(explicit(extract("a"), load("l", "a", "a"))).path == "steps[1].depends_on[1]"


def test_a_circle_is_refused_and_its_steps_named_in_order() -> None:
    steps = [
        extract("e"),
        transform("a", "union", {}, "e", "c"),
        transform("b", "filter", ALL, "a"),
        transform("c", "filter", ALL, "b"),
    ]
    error = refused(explicit(*steps))
    assert error.path == "steps[1].depends_on"
    assert "a -> c -> b -> a" in error.message


def test_a_step_cannot_depend_on_itself() -> None:
    assert "f -> f" in refused(explicit(extract("e"), transform("f", "union", {}, "e", "f"))).message


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([extract("a"), transform("j", "join", ON, "a")], "takes 2 inputs, not 1"),
        ([extract("a"), extract("b"), transform("f", "filter", ALL, "a", "b")], "takes 1 input, not 2"),
        ([transform("f", "filter", ALL)], "takes 1 input, not 0"),
        ([load("l")], "takes at least 1 input"),
        ([extract("a"), load("l", "a"), transform("f", "filter", ALL, "l")], "takes 1 input, not 0"),
    ],
)
def test_too_many_or_too_few_inputs_are_refused(steps: list[JsonObject], said: str) -> None:
    error = refused(explicit(*steps))
    assert error.path == f"steps[{len(steps) - 1}].depends_on"
    assert said in error.message


def test_a_disabled_transform_passes_its_first_input_through() -> None:
    steps = [extract("a"), transform("f", "filter", ALL, "a", is_enabled=False), load("l", "f")]
    found = wired(*steps)
    assert not found["f"].enabled
    assert found["l"].inputs == ("a",)


def test_a_chain_of_disabled_transforms_passes_through() -> None:
    chain = [transform(f"f{i}", "filter", ALL, f"f{i - 1}" if i else "a", is_enabled=False) for i in range(3)]
    assert wired(extract("a"), *chain, load("l", "f2"))["l"].inputs == ("a",)


def test_a_disabled_extract_takes_away_what_it_alone_feeds() -> None:
    steps = [
        extract("a", is_enabled=False),
        extract("b"),
        transform("f", "filter", ALL, "a"),
        transform("u", "union", {}, "f", "b"),
        load("only_a", "f"),
        load("both", "u"),
    ]
    found = wired(*steps)
    assert [name for name, one in found.items() if not one.enabled] == ["a", "f", "only_a"]
    assert found["u"].inputs == ("b",)
    assert found["only_a"].because == "f is off"


def test_a_join_that_loses_a_side_is_refused() -> None:
    steps = [extract("a", is_enabled=False), extract("b"), transform("j", "join", ON, "a", "b"), load("l", "j")]
    error = refused(explicit(*steps))
    assert error.path == "steps[2].depends_on"
    assert "without a, which is off" in error.message


def test_a_union_that_would_read_the_same_rows_twice_is_refused() -> None:
    steps = [extract("a"), transform("f", "filter", ALL, "a", is_enabled=False), transform("u", "union", {}, "a", "f")]
    assert "twice" in refused(explicit(*steps)).message


def test_a_disabled_load_gives_nothing_and_stops_nobody() -> None:
    steps = [extract("a"), load("l", "a", is_enabled=False), load("m", "a", "l")]
    found = wired(*steps)
    assert found["m"].inputs == ("a",)
    assert found["m"].after == ()


def test_a_dependency_on_a_load_orders_without_giving_rows() -> None:
    steps = [
        extract("a"),
        load("first", "a"),
        extract("b", depends_on=["first"]),
        transform("f", "filter", ALL, "b"),
        load("second", "f", "first"),
    ]
    found = wired(*steps)
    assert found["b"].inputs == ()
    assert found["b"].after == ("first",)
    assert found["second"].inputs == ("f",)
    assert found["second"].after == ("first",)


def test_order_goes_through_a_disabled_step() -> None:
    steps = [
        extract("a"),
        load("first", "a"),
        extract("gone", depends_on=["first"], is_enabled=False),
        extract("b", depends_on=["gone"]),
    ]
    assert wired(*steps)["b"].after == ("first",)


def test_a_pipeline_needs_a_step_that_runs() -> None:
    assert refused(explicit()).path == "steps"
    assert "every step is disabled" in refused(explicit(extract("a", is_enabled=False))).message
