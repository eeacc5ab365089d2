"""What the queue carries."""

from enum import StrEnum


class WorkKind(StrEnum):
    """Who does it: a supervisor an execution, any worker the rest."""

    EXECUTION = "execution"
    CHECK = "check"
    DISCOVER = "discover"
    PREVIEW = "preview"
    VERSIONS = "versions"
    RESTORE = "restore"
    WATCH = "watch"
