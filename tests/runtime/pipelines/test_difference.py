"""Tests of telling what changed between two documents."""

from hypothesis import given
from hypothesis import strategies as st

from models.fields import JsonObject
from runtime.pipelines.difference import Change, ChangeKind, difference
from tests.runtime.pipelines.platform import entry, explicit, extract, load, simple, transform


def told(old: JsonObject, new: JsonObject) -> list[str]:
    """The changes as text."""
    return [str(change) for change in difference(old, new)]


def test_equal_documents_have_no_difference() -> None:
    assert difference(simple(), simple()) == []


def test_an_absent_key_and_null_are_the_same() -> None:
    assert difference({"a": 1, "b": None}, {"a": 1}) == []


def test_a_changed_value_is_told_with_its_path() -> None:
    old, new = simple(entry("filter", condition="a > 1")), simple(entry("filter", condition="a > 2"))
    (change,) = difference(old, new)
    assert change == Change(
        kind=ChangeKind.CHANGED,
        path="transformation_config.transformations[0].config.condition",
        old="a > 1",
        new="a > 2",
    )


def test_added_and_removed_keys_are_told() -> None:
    assert told({"tags": ["a"]}, {"description": "x"}) == ["- tags: ['a']", "+ description: x"]


def test_items_of_a_list_are_compared_by_position() -> None:
    assert told({"tags": ["a", "b"]}, {"tags": ["a", "c", "d"]}) == ["~ tags[1]: b -> c", "+ tags[2]: d"]


def test_steps_are_matched_by_name() -> None:
    old = explicit(extract("e"), transform("f", "filter", {"condition": "a"}, "e"), load("l", "f"))
    new = explicit(extract("e"), extract("g"), transform("f", "filter", {"condition": "b"}, "e"), load("l", "f"))
    changes = difference(old, new)
    assert [change.path for change in changes] == ["steps[f].config.config.condition", "steps[g]"]


def test_a_step_that_moved_is_told_as_an_order() -> None:
    old, new = explicit(extract("a"), extract("b")), explicit(extract("b"), extract("a"))
    assert told(old, new) == ["~ steps: ['a', 'b'] -> ['b', 'a']"]


def test_true_and_one_are_not_the_same() -> None:
    assert told({"a": True}, {"a": 1}) == ["~ a: True -> 1"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=2), JSON, max_size=4))
def test_a_document_never_differs_from_itself(document: JsonObject) -> None:
    assert difference(document, document) == []
