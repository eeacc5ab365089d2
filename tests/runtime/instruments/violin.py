"""A plugin."""

from typing import ClassVar

from tests.runtime.instruments._contract import INSTRUMENTS


@INSTRUMENTS.register
class Violin:
    """The violin."""

    kind: ClassVar[str] = "violin"
