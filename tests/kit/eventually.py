"""Waits for what must become true, instead of sleeping and hoping."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.02


async def eventually(predicate: Callable[[], Awaitable[T | None]], *, within: float = 10.0, because: str) -> T:
    """The predicate's first true answer; AssertionError saying what was awaited when none comes within the seconds."""
    end = monotonic() + within
    while True:
        answer = await predicate()
        if answer:
            return answer
        if monotonic() > end:
            raise AssertionError(f"not within {within:g} s: {because}")
        await asyncio.sleep(POLL_SECONDS)
