"""What a cursor into a stream is; that positions settle is shown with events, in `executions/test_events.py`."""

import pytest

from models.errors import Invalid
from runtime.positions import LATEST, cursor_of


@pytest.mark.parametrize("given", ["", "-1", "1.5", "x", "²", "9" * 40])
def test_what_is_no_cursor_is_refused(given: str) -> None:
    with pytest.raises(Invalid) as refused:
        cursor_of(given, 0)
    assert refused.value.path == "after"


def test_a_cursor_is_the_number_that_it_says_and_none_is_the_beginning() -> None:
    assert (cursor_of("12", 0), cursor_of(str(LATEST), 0), cursor_of(None, 7)) == (12, LATEST, 7)
