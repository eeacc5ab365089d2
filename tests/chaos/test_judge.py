"""How long things took is judged by what belongs together."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from tests.chaos.judge import JOURNALED, Happening, History, Loss, paired

NOON = datetime(2026, 6, 6, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def happened(
    run: int, seconds: float, kind: str, step: str | None = None, *, lost: bool = False, worked: float = 0.0
) -> Happening:
    return Happening(UUID(int=run), at(seconds), kind, step, lost, timedelta(seconds=worked))


def test_a_take_over_is_counted_from_a_kill_after_which_the_run_was_silent() -> None:
    history = History(
        [
            happened(1, 0, "execution_queued"),
            happened(1, 5, "execution_taken_over"),
            happened(1, 9, "step_completed", "read"),
            happened(1, 12, "execution_taken_over"),
            happened(2, 0, "execution_queued"),
            happened(2, 1, "execution_started"),
            happened(2, 4, "execution_started"),
        ]
    )
    assert history.silences() == [(at(1), at(4)), (at(0), at(5)), (at(9), at(12))]
    kills = paired([at(2), at(3), at(8), at(10)], history.silences(), lambda silence: silence)
    assert [cause for cause, _ in kills] == [at(3), at(2), at(10)]


def test_a_lost_worker_is_counted_from_the_start_of_its_step() -> None:
    history = History(
        [
            happened(1, 1, "step_started", "read"),
            happened(1, 4, "step_retrying", "read", lost=True),
            happened(1, 5, "step_started", "other"),
            happened(1, 6, "step_started", "read"),
            happened(1, 7, "step_retrying", "read", lost=True),
            happened(1, 8, "step_started", "read"),
            happened(1, 11, "step_completed", "read", worked=2),
        ]
    )
    assert history.lost_workers() == [
        Loss("read", at(1) - JOURNALED, at(4), at(6)),
        Loss("read", at(6) - JOURNALED, at(7), at(8), at(9)),
    ]
