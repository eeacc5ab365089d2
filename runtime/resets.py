"""The one error that uvloop tells otherwise than asyncio."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def resets_told() -> Iterator[None]:
    """Raise ConnectionResetError where uvloop raises RuntimeError: for a connection whose end it has yet to tell."""
    try:
        yield
    except RuntimeError as error:
        if "handler is closed" not in str(error):
            raise
        raise ConnectionResetError("the connection was reset") from error
