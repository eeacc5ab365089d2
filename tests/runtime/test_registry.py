"""The registry: classes by kind, from the modules of a package."""

import pytest

from models.errors import Invalid
from runtime.transforms._contract import TRANSFORMS
from tests.runtime.instruments._contract import INSTRUMENTS


def test_a_package_is_scanned_for_its_plugins() -> None:
    assert sorted(INSTRUMENTS.all()) == ["viola", "violin"]


def test_a_class_is_found_by_its_kind() -> None:
    assert INSTRUMENTS.get("violin").__name__ == "Violin"
    assert TRANSFORMS.get("filter").__module__ == "runtime.transforms.filter"


def test_registering_the_same_class_again_is_nothing() -> None:
    viola = INSTRUMENTS.get("viola")
    assert INSTRUMENTS.register(viola) is viola


def test_a_kind_is_taken_once() -> None:
    INSTRUMENTS.all()
    with pytest.raises(ValueError, match="'viola'"):
        INSTRUMENTS.register(type("Impostor", (), {"kind": "viola"}))


def test_what_has_no_kind_is_no_plugin() -> None:
    with pytest.raises(TypeError, match="no kind"):
        INSTRUMENTS.register(int)


def test_an_unknown_kind_is_told_with_what_is_known_and_what_was_meant() -> None:
    with pytest.raises(Invalid) as caught:
        INSTRUMENTS.get("voila", "steps[1].kind")
    assert caught.value.path == "steps[1].kind"
    assert caught.value.message == "no instrument of kind 'voila'"
    assert caught.value.hint == "did you mean 'viola'? known: viola, violin"
