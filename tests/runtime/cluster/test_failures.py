"""What Ray's failures mean for a task."""

import pytest
from ray.exceptions import (
    ObjectLostError,
    OutOfDiskError,
    RayError,
    TaskCancelledError,
    WorkerCrashedError,
)

from runtime.cluster.executor import typed


@pytest.mark.parametrize(
    ("failure", "kind", "code"),
    [
        (WorkerCrashedError(), "WorkerLost", None),
        (ObjectLostError("1f", None, ""), "Retryable", "lost_input"),
        (OutOfDiskError("full"), "Terminal", "disk_full"),
        (TaskCancelledError(), "Cancelled", "cancelled"),
    ],
)
def test_a_failure_of_ray_becomes_a_typed_one(failure: RayError, kind: str, code: str | None) -> None:
    meant = typed(failure)
    assert type(meant).__name__ == kind
    assert getattr(meant, "specific_code", None) == code


def test_what_is_unknown_stays_as_it_is() -> None:
    unknown = RayError("something else")
    assert typed(unknown) is unknown
