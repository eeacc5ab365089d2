"""A plugin."""

from typing import ClassVar

from tests.runtime.instruments._contract import INSTRUMENTS


@INSTRUMENTS.register
class Viola:
    """The viola."""

    kind: ClassVar[str] = "viola"
