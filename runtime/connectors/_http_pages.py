"""Which page comes next: pure rules for each kind of pagination, and the records inside an answer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from models.errors import Terminal
from runtime.connectors._http_client import Answer, Call, origin
from runtime.connectors._http_config import (
    CursorPagination,
    LinkHeaderPagination,
    NoPagination,
    OffsetPagination,
    PageNumberPagination,
    Pagination,
)
from runtime.connectors._json_values import Exact, Record


@dataclass(frozen=True, slots=True)
class Page:
    """One page that was read: its number from 1, how it was asked for, the answer and its records."""

    number: int
    call: Call
    answer: Answer
    records: list[Record]
    records_before: int = 0


def first_call(pagination: Pagination, call: Call) -> Call:
    """The call for the first page."""
    match pagination:
        case NoPagination():
            return call
        case PageNumberPagination(page_param=name, first_page=first):
            return _with(call, {name: str(first)}, pagination.size_param, pagination.page_size)
        case OffsetPagination(offset_param=name):
            return _with(call, {name: "0"}, pagination.limit_param, pagination.page_size)
        case CursorPagination() | LinkHeaderPagination():
            return _with(call, {}, pagination.size_param, pagination.page_size)


def next_call(pagination: Pagination, page: Page, previous: Page | None) -> Call | None:
    """The call for the page after this one; None after the last.

    A page that is shorter than asked is no end: servers cap sizes. Raises `Terminal` where the server gives the same
    page again, or leads to another server.
    """
    call = None if _is_last(pagination, page) else _following(pagination, page)
    if call is None:
        return None
    is_same = previous is not None and page.records and page.answer.digest == previous.answer.digest
    if is_same or (call.url, call.params) == (page.call.url, page.call.params):
        raise Terminal(
            f"{call.endpoint} gives the same page again (page {page.number})",
            hint="check the names of the pagination's parameters",
            code="pagination_loop",
        )
    return call


def _is_last(pagination: Pagination, page: Page) -> bool:
    match pagination:
        case NoPagination():
            return True
        case PageNumberPagination(total_pages_path=str(path)):
            return page.number >= _count(page, path)
        case OffsetPagination(total_path=str(path)):
            return not page.records or page.records_before + len(page.records) >= _count(page, path)
        case PageNumberPagination() | OffsetPagination():
            return not page.records
        case CursorPagination() | LinkHeaderPagination():
            return False


def _following(pagination: Pagination, page: Page) -> Call | None:
    match pagination:
        case NoPagination():
            return None
        case PageNumberPagination(page_param=name, first_page=first):
            return _with(page.call, {name: str(first + page.number)})
        case OffsetPagination(offset_param=name):
            return _with(page.call, {name: str(page.records_before + len(page.records))})
        case CursorPagination(cursor_param=name, cursor_path=path):
            token = at_path(page.answer.document, path)
            if isinstance(token, dict | list):
                raise _misshapen(page.call, f"{path} is no text or number", "correct cursor_path")
            return None if token in (None, "", False) else _with(page.call, {name: str(token)})
        case LinkHeaderPagination(relation=relation):
            return _linked(page, relation)


def _linked(page: Page, relation: str) -> Call | None:
    url = page.answer.links.get(relation)
    if url is None:
        return None
    if origin(url) != origin(page.call.url):
        raise Terminal(
            f"{page.call.endpoint} leads to a page on another server, {origin(url)[1]}",
            hint="make it a source of its own; credentials stay with base_url",
            code="foreign_link",
        )
    return replace(page.call, url=url, params={})


def _with(call: Call, params: Mapping[str, str], size_param: str | None = None, size: int = 0) -> Call:
    sized = {size_param: str(size)} if size_param else {}
    return replace(call, params={**call.params, **sized, **params})


def _count(page: Page, path: str) -> int:
    value = at_path(page.answer.document, path)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _misshapen(page.call, f"{path} is no number", "correct the path in `pagination`")
    return value


def records_of(call: Call, answer: Answer, path: str) -> list[Record]:
    """The objects of an answer; raises `Terminal` where the answer has another shape, and says which."""
    found = at_path(answer.document, path)
    if found is None and answer.document is None:
        return []
    if not isinstance(found, list):
        has = f"its keys are {', '.join(list(answer.document)[:10])}" if isinstance(answer.document, dict) else ""
        place = f"{path} holds" if path else "it answered with"
        raise _misshapen(
            call, f"{place} {_named(found)}, not a list of records", f"correct records_path; {has}".rstrip("; ")
        )
    strange = next((index for index, record in enumerate(found) if not isinstance(record, dict)), None)
    if strange is not None:
        raise _misshapen(
            call, f"record {strange + 1} is {_named(found[strange])}, not an object", "correct records_path"
        )
    return cast(list[Record], found)


def at_path(document: Exact, path: str) -> Exact:
    """What a dot path (`data.items`) or a JSON pointer (`/data/items`, RFC 6901) leads to; None for nothing."""
    if path.startswith("/"):
        steps = [step.replace("~1", "/").replace("~0", "~") for step in path[1:].split("/")]
    else:
        steps = [step for step in path.split(".") if step]
    for step in steps:
        if isinstance(document, dict):
            document = document.get(step)
        elif isinstance(document, list) and step.isdecimal() and int(step) < len(document):
            document = document[int(step)]
        else:
            return None
    return document


def _named(value: Exact) -> str:
    match value:
        case None:
            return "nothing"
        case dict():
            return "an object"
        case list():
            return "a list"
        case str():
            return "text"
        case bool():
            return "a boolean"
        case _:
            return "a number"


def _misshapen(call: Call, told: str, hint: str) -> Terminal:
    return Terminal(f"{call.endpoint}: {told}", hint=hint, code="bad_shape")
