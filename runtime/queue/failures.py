"""Typed errors as JSON and back, for work whose asker waits in another process."""

from models import errors
from models.errors import DomainError, Terminal
from models.fields import JsonObject


def failure_to(error: DomainError) -> JsonObject:
    """An error as a JSON object: its class, code, message, hint and path."""
    return {
        "class": type(error).__name__,
        "code": error.specific_code,
        "message": error.message,
        "hint": error.hint,
        "path": error.path,
    }


def failure_from(data: JsonObject) -> DomainError:
    """The error that `failure_to` wrote; of an unknown class it comes back as `Terminal`."""
    kind = getattr(errors, str(data.get("class")), Terminal)
    known = isinstance(kind, type) and issubclass(kind, DomainError)
    error: type[DomainError] = kind if known else Terminal
    return error(str(data["message"]), hint=_text(data, "hint"), path=_text(data, "path"), code=_text(data, "code"))


def _text(data: JsonObject, key: str) -> str | None:
    value = data.get(key)
    return None if value is None else str(value)
