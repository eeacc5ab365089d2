"""Parsing: strict as JSON is, with errors that name the place, what is wrong and what would be right."""

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

import pytest
from pydantic import Field, model_validator

from models.errors import Invalid
from models.fields import Json, StrictModel, parse


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Mapping(StrictModel):
    type: Literal["mapping"]
    mappings: dict[str, str]
    mapping: str | None = None


class Filter(StrictModel):
    type: Literal["filter"]
    limit: int = Field(default=1, ge=1)
    colour: Colour = Colour.RED


class Document(StrictModel):
    name: str
    steps: list[Annotated[Mapping | Filter, Field(discriminator="type")]] = Field(default_factory=list)
    owner: UUID | None = None
    at: datetime | None = None
    extra: dict[str, Json] = Field(default_factory=dict)
    limit: int | str | None = None

    @model_validator(mode="after")
    def _has_a_good_name(self) -> "Document":
        if self.name == "bad":
            raise ValueError("the name is bad")
        return self


def refused(data: object, root: str = "") -> Invalid:
    with pytest.raises(Invalid) as caught:
        parse(Document, data, root)
    return caught.value


def test_text_becomes_identifiers_moments_and_members_of_closed_sets() -> None:
    owner = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    document = parse(
        Document,
        {"name": "a", "owner": owner, "at": "2024-01-01T00:00:00Z", "steps": [{"type": "filter", "colour": "blue"}]},
    )
    assert document.owner == UUID(owner)
    assert document.at == datetime(2024, 1, 1, tzinfo=UTC)
    assert document.steps == [Filter(type="filter", colour=Colour.BLUE)]


def test_dates_that_yaml_made_are_taken_as_their_text() -> None:
    assert parse(Document, {"name": "a", "extra": {"day": date(2024, 1, 1)}}).extra == {"day": "2024-01-01"}


@pytest.mark.parametrize(
    ("data", "path", "message"),
    [
        ({}, "name", "is required"),
        ({"name": 1}, "name", "should be a valid string, not a number"),
        ({"name": "a", "steps": {}}, "steps", "should be a valid array, not an object"),
        ({"name": "a", "steps": [{"type": "filter", "limit": "1"}]}, "steps[0].limit", "valid integer, not text"),
        ({"name": "a", "steps": [{"type": "filter", "limit": 0}]}, "steps[0].limit", "equal to 1$"),
        ({"name": "a", "steps": [{"type": "mapping"}]}, "steps[0].mappings", "is required"),
        (
            {"name": "a", "steps": [{"type": "filter"}, {"type": "mapping", "mappings": {"price": 1}}]},
            "steps[1].mappings.price",
            "should be a valid string, not a number",
        ),
        ({"name": "a", "steps": [{"type": "mapping", "mappings": {}, "mapping": 1}]}, "steps[0].mapping", "string"),
        ({"name": "a", "limit": 1.5}, "limit", "valid integer, .*, or should be a valid string"),
        ({"name": "bad"}, None, "the name is bad"),
        ([], None, "object"),
        ({"name": "a", "extra": {"deep": [0, {"x": float("nan")}]}}, "extra.deep[1].x", "not a finite number"),
        ({"name": "a\x00"}, "name", "cannot be stored"),
        ({"name": "a", "extra": {1: "x"}}, "extra", "not text"),
        ({"name": "a", "extra": {"x": object()}}, None, "cannot"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(data: object, path: str | None, message: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        parse(Document, data)
    assert caught.value.path == path


def test_an_unknown_key_is_refused_with_those_allowed_and_the_nearest() -> None:
    error = refused({"name": "a", "steps": [{"type": "filter", "color": "red"}]}, "definition")
    assert error.path == "definition.steps[0].color"
    assert error.message == "is not a known key"
    assert error.hint == "did you mean `colour`? allowed: colour, limit, type"


def test_a_wrong_member_of_a_closed_set_is_told_with_the_right_ones() -> None:
    error = refused({"name": "a", "steps": [{"type": "filter", "colour": "green"}]})
    assert (error.path, error.message) == ("steps[0].colour", "is not known: 'green'")
    assert error.hint == "allowed: 'red' or 'blue'"


def test_a_wrong_or_missing_tag_is_told_with_the_right_ones() -> None:
    wrong = refused({"name": "a", "steps": [{"type": "filtre"}]})
    assert (wrong.path, wrong.message) == ("steps[0].type", "is not known: 'filtre'")
    assert wrong.hint == "allowed: 'mapping', 'filter'"
    missing = refused({"name": "a", "steps": [{}]})
    assert (missing.path, missing.message) == ("steps[0].type", "is required")
    assert missing.hint == "allowed: filter, mapping"


def test_several_problems_are_told_at_once() -> None:
    error = refused({"nam": "a", "steps": [{"type": "filter", "limit": 0}]})
    assert (error.path, str(error.hint).split("?")[0]) == ("nam", "did you mean `name`")
    assert error.message.startswith("is not a known key; also `name` is required")
    assert "`steps[0].limit` should be greater than or equal to 1" in error.message


class Bounded(StrictModel):
    """Values with bounds."""

    word: str = Field(default="abc", max_length=3, pattern="^[a-c]+$")
    words: tuple[str, ...] = Field(default=("a",), min_length=1)
    share: float = Field(default=0.5, ge=0, le=1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"word": "abca"}, "string should have at most 3 characters"),
        ({"word": "x"}, "should match the pattern ^[a-c]+$"),
        ({"words": []}, "tuple should have at least 1 item after validation, not 0"),
        ({"share": 1.5}, "should be less than or equal to 1"),
        ({"share": "1"}, "should be a valid number, not text"),
    ],
)
def test_a_value_out_of_bounds_is_told_the_bounds_and_not_its_type(data: object, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(Bounded, data)
    assert caught.value.message == message


def test_a_value_is_never_repeated_as_it_may_be_a_secret() -> None:
    error = refused({"name": {"password": "hunter2"}, "limit": ["hunter2"]})
    assert "hunter2" not in str(error)


def test_endless_nesting_is_refused() -> None:
    nested: dict[str, object] = {}
    for _ in range(5000):
        nested = {"x": nested}
    error = refused({"name": "a", "extra": nested})
    assert "levels deep" in error.message
