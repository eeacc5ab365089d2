"""What PostgreSQL and its drivers say of a failure, in our terms: what to do next, where it was, how to mend it."""

import re
from dataclasses import dataclass

import adbc_driver_manager
import asyncpg

from models.errors import DomainError, Invalid, Retryable, RunError, Terminal, Unauthenticated, Unavailable

AUTHENTICATION = "unauthenticated"
CONNECTION = "connection"
SHOWN = 60


@dataclass(frozen=True, slots=True)
class Report:
    """The fields of a server's error; `state` is empty where the connection failed before the server could answer."""

    state: str
    message: str
    detail: str | None = None
    hint: str | None = None
    position: int | None = None
    column: str | None = None
    constraint: str | None = None


_RETRY = {
    "40001": "serialization",
    "40P01": "deadlock",
    "55P03": "locked",
    "57P01": CONNECTION,
    "57P02": CONNECTION,
    "57P03": CONNECTION,
    "25P03": CONNECTION,
    "53000": "exhausted",
    "53200": "exhausted",
    "53300": "exhausted",
}
_STOP: dict[str, tuple[str, str]] = {
    "57014": ("timeout", "raise statement_timeout_seconds, or read less"),
    "53100": ("disk_full", "make room on the server"),
    "25006": ("read_only", "a source only reads; a destination must be the primary server"),
    "42501": ("denied", "grant the user what is missing"),
    "3D000": ("missing_database", "check the name of the database"),
    "3F000": ("missing_schema", "check `schema`, or create it"),
    "42P01": ("missing_table", "check the table's name and schema"),
    "42703": ("missing_column", "check the column's name against the discovered schema"),
    "42601": ("bad_sql", "mend the query; parameters are written :name"),
    "42883": ("bad_sql", "cast the arguments, for instance :day::date"),
    "42P18": ("bad_sql", "say the parameter's type with a cast, for instance :day::date"),
    "42P08": ("bad_sql", "give the parameter one type with a cast, for instance :day::date"),
    "42804": ("type_mismatch", "cast the value to the column's type"),
    "42846": ("type_mismatch", "cast the value in a step before"),
    "22001": ("overflow", "make the column wider, or shorten the value in a step before"),
    "22003": ("overflow", "make the column wider, or cast the value in a step before"),
    "22008": ("overflow", "filter such moments out, or correct them in a step before"),
    "22007": ("bad_value", "correct the value in a step before"),
    "22P02": ("bad_value", "correct the value in a step before, for instance with a cast step and `on_error: null`"),
    "22021": ("bad_text", "remove NUL characters in a step before, for instance replace(column, chr(0), '')"),
    "22P05": ("bad_text", "remove NUL characters in a step before"),
    "23502": ("null_value", "fill the nulls, filter them out, or let the column take nulls"),
    "23503": ("foreign_key", "load the referenced rows first"),
    "23505": ("duplicate_key", "deduplicate by the keys in a step before, or load with write_mode upsert"),
    "23514": ("check_failed", "correct the values, or change the constraint"),
    "21000": ("duplicate_key", "deduplicate by the keys in a step before"),
    "54000": ("limit", "divide the load"),
}
_CREATED_TWICE = ("pg_type_typname_nsp_index", "pg_class_relname_nsp_index", "pg_namespace_nspname_index")
_FATAL = re.compile(r"FATAL:\s+(.*)", re.DOTALL)
_CONTEXT_COLUMN = re.compile(r"COPY .*?, column ([^:]+)")


def of_asyncpg(error: BaseException) -> Report:
    """What asyncpg raised: the server's error, or the connection's."""
    if not isinstance(error, asyncpg.PostgresError):
        return Report("", _one_line(str(error)) or type(error).__name__)
    fields = error.as_dict()
    context = _CONTEXT_COLUMN.search(fields.get("context") or "")
    position = fields.get("position")
    return Report(
        state=fields.get("sqlstate") or "",
        message=_one_line(fields.get("message") or str(error)),
        detail=fields.get("detail"),
        hint=fields.get("hint"),
        position=int(position) if position else None,
        column=fields.get("column_name") or (context.group(1).strip('"') if context else None),
        constraint=fields.get("constraint_name"),
    )


def of_adbc(error: adbc_driver_manager.Error) -> Report:
    """What ADBC raised; its details hold the server's fields."""
    fields = {_text(name): _text(value) for name, value in error.details or []}
    position = fields.get("PG_DIAG_STATEMENT_POSITION")
    state = str(error.sqlstate or "")
    return Report(
        state="" if state == "00000" else state,
        message=_one_line(fields.get("PG_DIAG_MESSAGE_PRIMARY") or _plain(str(error))),
        detail=fields.get("PG_DIAG_MESSAGE_DETAIL"),
        hint=fields.get("PG_DIAG_MESSAGE_HINT"),
        position=int(position) if position else None,
        column=fields.get("PG_DIAG_COLUMN_NAME"),
        constraint=fields.get("PG_DIAG_CONSTRAINT_NAME"),
    )


def translated(report: Report, place: str, sql: str | None = None) -> RunError:
    """The typed error of a report; `place` is the database or the table, `sql` what a position points into."""
    message = f"{place}: {report.message}"
    if report.column and report.column not in report.message:
        message = f"{place}, column {report.column}: {report.message}"
    if report.position and sql:
        message += f", at: {_shown(sql[report.position - 1 :])}"
    if report.state.startswith("28") or "password authentication failed" in report.message:
        return Terminal(message, hint="check the user, the password and pg_hba.conf", code=AUTHENTICATION)
    if report.state.startswith("08") or report.state in _RETRY or report.constraint in _CREATED_TWICE:
        hint = "it is tried again; see that the server is up and can be reached"
        return Retryable(message, hint=hint, code=_RETRY.get(report.state, CONNECTION))
    if report.detail:
        message += f"; {_shown(report.detail, 200)}"
    code, hint = _STOP.get(report.state, ("postgres", "see the message of the server"))
    return Terminal(message, hint=f"{report.hint}; {hint}" if report.hint else hint, code=code)


def unreachable(report: Report, place: str) -> RunError:
    """The typed error of a connection that was not made or was lost."""
    text = report.message
    if 'role "' in text and "does not exist" in text:
        return Terminal(f"{place}: {text}", hint="check the user", code=AUTHENTICATION)
    if 'database "' in text and "does not exist" in text:
        return translated(Report("3D000", text), place)
    if report.state or "authentication failed" in text or "no password supplied" in text:
        state = report.state or "28000"
        return translated(Report(state, text, report.detail, report.hint), place)
    return Retryable(
        f"{place} cannot be reached: {text}",
        hint="see that the server is up, and that host, port and firewall let this machine reach it",
        code=CONNECTION,
    )


def checked(error: RunError) -> DomainError:
    """The same failure as a check raises it: `Unavailable`, `Unauthenticated` or `Invalid`."""
    kind: type[DomainError] = Invalid
    if isinstance(error, Retryable):
        kind = Unavailable
    elif error.specific_code == AUTHENTICATION:
        kind = Unauthenticated
    path = "database" if error.specific_code == "missing_database" else None
    return kind(error.message, hint=error.hint, path=path)


def is_lost(report: Report) -> bool:
    """Whether the connection itself is gone."""
    return not report.state or report.state.startswith("08") or report.state in ("57P01", "57P02", "57P03", "25P03")


def _plain(text: str) -> str:
    """The part of a libpq message that a person needs."""
    fatal = _FATAL.search(text)
    if fatal:
        return fatal.group(1)
    return text.partition("[libpq] ")[2].removeprefix("Failed to connect: ") or text


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _shown(text: str, length: int = SHOWN) -> str:
    line = _one_line(text)
    return line if len(line) <= length else f"{line[:length]}…"


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
