"""Every registered kind passes the shared suite of its registry."""

from collections.abc import Iterator
from importlib import import_module

from runtime.connectors._contract import DESTINATIONS, SOURCES
from runtime.transforms._contract import TRANSFORMS
from tests.house.tree import modules
from tests.kit.contracts.connectors import DestinationHarness, SourceHarness
from tests.kit.contracts.transforms import TransformContract


def load_tests_of(room: str) -> None:
    """Import the test modules of a room, so that what they define is known."""
    for module in modules("tests"):
        if module.path.startswith(f"tests/runtime/{room}/test_"):
            import_module(module.dotted)


def kinds_of(base: type) -> set[str]:
    """The kinds that the subclasses of a contract's base name."""
    return {str(vars(one)["kind"]) for one in descendants(base) if "kind" in vars(one)}


def descendants(base: type) -> Iterator[type]:
    """Every subclass, at any depth."""
    subclasses: list[type] = base.__subclasses__()
    for one in subclasses:
        yield one
        yield from descendants(one)


def test_every_source_passes_the_suite_of_sources() -> None:
    load_tests_of("connectors")
    assert set(SOURCES.all()) - kinds_of(SourceHarness) == set()


def test_every_destination_passes_the_suite_of_destinations() -> None:
    load_tests_of("connectors")
    assert set(DESTINATIONS.all()) - kinds_of(DestinationHarness) == set()


def test_every_transform_passes_the_suite_of_transforms() -> None:
    load_tests_of("transforms")
    assert set(TRANSFORMS.all()) - kinds_of(TransformContract) == set()
