"""Tests of events that are sent together: nothing is lost, held back, or read faster than it is taken."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from api.streams import MOST_WAITING, gathered
from tests.kit.eventually import eventually


async def numbers(count: int, made: list[int], *, closed: list[bool] | None = None) -> AsyncGenerator[str, None]:
    try:
        for number in range(count):
            made.append(number)
            yield f"{number};"
    finally:
        if closed is not None:
            closed.append(True)


async def test_what_is_ready_together_is_one_piece() -> None:
    assert [piece async for piece in gathered(numbers(5, []))] == ["0;1;2;3;4;"]


async def test_what_comes_later_is_not_waited_for() -> None:
    gate = asyncio.Event()

    async def slow() -> AsyncGenerator[str, None]:
        yield "first;"
        await gate.wait()
        yield "second;"

    pieces = gathered(slow())
    assert await anext(pieces) == "first;"
    gate.set()
    assert [piece async for piece in pieces] == ["second;"]


async def test_an_error_comes_after_what_came_before_it() -> None:
    async def broken() -> AsyncGenerator[str, None]:
        yield "first;"
        raise ValueError("broken")

    pieces = gathered(broken())
    assert await anext(pieces) == "first;"
    with pytest.raises(ValueError, match="broken"):
        await anext(pieces)


async def test_no_more_is_read_than_a_slow_reader_leaves_room_for() -> None:
    made: list[int] = []
    pieces = gathered(numbers(1000, made))
    text = await anext(pieces)

    async def waits() -> bool:
        return len(made) >= 2 * MOST_WAITING

    await eventually(waits, because="the next piece is filled while nobody reads")
    assert len(made) == 2 * MOST_WAITING
    async for piece in pieces:
        text += piece
    assert text == "".join(f"{number};" for number in range(1000))


async def test_a_reader_who_leaves_closes_the_stream() -> None:
    closed: list[bool] = []
    pieces = gathered(numbers(1000, [], closed=closed))
    await anext(pieces)
    await pieces.aclose()
    assert closed == [True]
