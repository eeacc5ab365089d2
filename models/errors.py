"""The error tree: each class says what to do next, each instance says what was wrong, where and how to mend it.

DomainError                     expected, safe to show
├── Invalid                     mend the input; `path` names the bad key
├── Unauthenticated             sign in
├── Denied                      ask for the right
├── NotFound                    it is not there, or row-level security hides it
├── Conflict                    it changed or exists already; read again
├── Exhausted                   too much; wait or ask for less
├── Unavailable                 a part is away; try again
└── RunError                    raised inside a step
    ├── Retryable               back off and run the step again, not before `retry_after` seconds
    ├── Terminal                stop this step
    ├── Rejected                rows set aside, the step goes on
    └── Cancelled               asked to stop
"""

from typing import ClassVar


class DomainError(Exception):
    """An expected failure: its stable `code`, a `message`, a `hint` that says what to do, the `path` of the cause."""

    code: ClassVar[str] = "domain_error"

    def __init__(
        self, message: str, *, hint: str | None = None, path: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.path = path
        self.specific_code = code or type(self).code

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, {**self.__dict__})

    def __str__(self) -> str:
        place = f"{self.path}: " if self.path else ""
        remedy = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{remedy}"


def _rebuild(kind: type[DomainError], message: str, state: dict[str, object]) -> DomainError:
    """Rebuild an error that crossed a process; its constructor may take more than the message."""
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class Invalid(DomainError):
    """The input is wrong; `path` names the bad key, as in `transformations[2].config.mappings.price`."""

    code = "invalid"


class Unauthenticated(DomainError):
    """Nobody is signed in, or the token is not accepted."""

    code = "unauthenticated"


class Denied(DomainError):
    """The principal may see this, but not do that."""

    code = "denied"


class NotFound(DomainError):
    """There is no such thing, or row-level security hides it."""

    code = "not_found"


class Conflict(DomainError):
    """The thing exists already, or changed since it was read."""

    code = "conflict"


class Exhausted(DomainError):
    """A limit is reached: rate, size, depth, cost."""

    code = "exhausted"


class Unavailable(DomainError):
    """A part that this needs cannot be reached now."""

    code = "unavailable"


class RunError(DomainError):
    """A failure inside a running step; `error_type` is what `error_details` stores."""

    code = "run_error"

    @property
    def error_type(self) -> str:
        """The stable name under which WS-269's `error_details.error_type` stores this failure."""
        return self.specific_code


class Retryable(RunError):
    """The step may succeed when run again, after `retry_after` seconds where the source named a time."""

    code = "retryable"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        path: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, path=path, code=code)
        self.retry_after = retry_after


class Terminal(RunError):
    """The step will not succeed however often it runs."""

    code = "terminal"


class Rejected(RunError):
    """Rows could not be taken; they are set aside and the step goes on."""

    code = "rejected"


class Cancelled(RunError):
    """The execution was asked to stop."""

    code = "cancelled"
