"""HTTP APIs as a source: pages of JSON records, read at the API's pace and typed without losing digits."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from time import monotonic

import pyarrow as pa
import structlog

from models.errors import Invalid, Retryable, Terminal, Unauthenticated, Unavailable
from models.sources import SourceType
from runtime.batches.types import arrow_type
from runtime.connectors._contract import SOURCES, Health, ReadRequest, Source, Split, with_primary_key
from runtime.connectors._files import OnBadRow, declared_schema
from runtime.connectors._http_client import Answer, Call, HttpClient
from runtime.connectors._http_config import Endpoint, HttpConfig
from runtime.connectors._http_pages import Page, first_call, next_call, records_of
from runtime.connectors._http_requests import call_of, endpoint_of, without_pushed
from runtime.connectors._json_schema import infer_schema
from runtime.connectors._json_values import BadRecord, batch_of, shown
from runtime.connectors._pace import OwnPace
from runtime.connectors._selection import after, before_all, greatest, select

logger = structlog.get_logger(__name__)


class HttpSource(Source[HttpConfig]):
    """Reads the endpoints of an HTTP API.

    Undeclared columns are those that a sample of pages shows; a later record of another type is a bad row, and a
    field that the sample did not show is left out and logged. The next page is fetched while one is worked on.
    """

    kind = "http"
    source_type = SourceType.API
    Config = HttpConfig
    incremental = True

    def __init__(self, config: HttpConfig) -> None:
        super().__init__(config)
        self.pace = OwnPace(config.rate_limit_config)
        self._client = HttpClient(config, lambda: self.pace)
        self._schemas: dict[str, pa.Schema] = {}
        self._left_out: dict[str, set[str]] = {}

    def check(self) -> Health:
        """Ask the first endpoint for its first page."""
        began = monotonic()
        name = next(iter(self.config.endpoints))
        try:
            page = next(self._pages(name, ReadRequest(dataset=name), ahead=False))
        except Retryable as error:
            raise Unavailable(error.message, hint=error.hint, code=error.specific_code) from error
        except Terminal as error:
            if error.specific_code in ("unauthenticated", "forbidden"):
                raise Unauthenticated(error.message, hint=error.hint, path="authentication") from error
            path = error.path or f"endpoints.{name}"
            raise Invalid(error.message, hint=error.hint, path=path, code=error.specific_code) from error
        return Health(True, f"{name} answered {len(page.records)} records", (monotonic() - began) * 1000)

    def discover(self) -> dict[str, pa.Schema]:
        """The columns of each endpoint, declared or shown by a sample; not of those whose path needs a run's values."""
        found: dict[str, pa.Schema] = {}
        for name, endpoint in self.config.endpoints.items():
            try:
                schema = self.schema(ReadRequest(dataset=name))
            except Invalid as error:
                if not (error.path or "").startswith(f"endpoints.{name}."):
                    raise
                logger.warning("endpoint_not_discovered", endpoint=name, path=endpoint.path, reason=error.message)
                continue
            unknown = [key for key in endpoint.primary_key if key not in schema.names]
            if unknown:
                raise Invalid(
                    f"names {', '.join(unknown)}, which the endpoint does not have",
                    hint=f"columns: {', '.join(schema.names)}",
                    path=f"endpoints.{name}.primary_key",
                )
            found[name] = with_primary_key(schema, endpoint.primary_key)
        return found

    def schema(self, request: ReadRequest) -> pa.Schema:
        """The endpoint's columns: declared, or told by its first pages."""
        name = self._name(request)
        if name not in self._schemas:
            self._schemas[name] = self._declared(name) or self._inferred(name, request)
        return self._schemas[name]

    def watermark(self, request: ReadRequest, cursor_column: str | None) -> str:
        """The API's own clock, where it can be asked for what changed since or the column holds moments; otherwise
        just past the column's greatest value, for which everything is read.
        """
        name, schema = self._name(request), self.schema(request)
        if cursor_column is not None and cursor_column not in schema.names:
            raise Invalid(
                f"there is no column {cursor_column!r}", hint=f"columns: {', '.join(schema.names)}", path="cursor"
            )
        kind = None if cursor_column is None else schema.field(cursor_column).type
        if cursor_column is None or pa.types.is_temporal(kind) or self._takes_moments(name, kind):
            return self._clock(name, request).isoformat()
        everything = ReadRequest(dataset=name, parameters=request.parameters)
        with closing(type(self)(self.config)) as scout:
            scout.pace = self.pace
            most = greatest(scout.read(everything, Split(0)), cursor_column)
        return before_all(kind) if most is None else after(most)

    def read(self, request: ReadRequest, split: Split) -> pa.RecordBatchReader:
        """Stream the endpoint's records, page by page."""
        name, schema = self._name(request), self.schema(request)
        wanted = without_pushed(endpoint_of(self.config, name), request, schema.names)
        batches = (self._batch(page, schema) for page in self._pages(name, request, ahead=request.limit is None))
        return select(batches, schema, wanted)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _name(self, request: ReadRequest) -> str:
        if request.query is not None:
            raise Invalid("an API has no SQL", hint="name an endpoint, and add a `sql` step after it", path="query")
        if request.dataset is None and len(self.config.endpoints) == 1:
            return next(iter(self.config.endpoints))
        return request.dataset or ""

    def _declared(self, name: str) -> pa.Schema | None:
        endpoint, definition = endpoint_of(self.config, name), self.config.schema_config.datasets.get(name)
        if endpoint.columns:
            return pa.schema([(column, arrow_type(kind)) for column, kind in endpoint.columns.items()])
        return None if definition is None else declared_schema(definition)

    def _inferred(self, name: str, request: ReadRequest) -> pa.Schema:
        asked = ReadRequest(dataset=name, parameters={k: v for k, v in request.parameters.items() if k != "last_run"})
        pages = islice(self._pages(name, asked, ahead=False), self.config.sample_pages)
        schema = infer_schema(
            (_place(page, index), record) for page in pages for index, record in enumerate(page.records)
        )
        if not schema.names:
            raise Terminal(
                f"{name} has no records that show its columns",
                hint=f"declare them in endpoints.{name}.columns",
                code="no_columns",
            )
        return schema

    def _takes_moments(self, name: str, kind: pa.DataType) -> bool:
        return endpoint_of(self.config, name).updated_since is not None and pa.types.is_string(kind)

    def _clock(self, name: str, request: ReadRequest) -> datetime:
        """The server's time in whole seconds; ours, less a minute, where it does not tell."""
        page = next(self._pages(name, request, ahead=False))
        return page.answer.date or datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)

    def _pages(self, name: str, request: ReadRequest, *, ahead: bool) -> Iterator[Page]:
        """The pages of an endpoint in order; `ahead` fetches one while its predecessor is worked on."""
        endpoint = endpoint_of(self.config, name)
        pagination = endpoint.pagination or self.config.pagination
        call, previous, before = first_call(pagination, call_of(self.config, name, request)), None, 0
        with ThreadPoolExecutor(max_workers=1) as fetching:
            waiting = fetching.submit(self._client.ask, call)
            for number in range(1, self.config.max_pages + 1):
                page = self._page(number, endpoint, call, waiting.result(), before)
                following = next_call(pagination, page, previous)
                if following is not None and ahead:
                    waiting = fetching.submit(self._client.ask, following)
                yield page
                if following is None:
                    return
                if not ahead:
                    waiting = fetching.submit(self._client.ask, following)
                call, previous, before = following, page, before + len(page.records)
        raise Terminal(
            f"{name} has more than {self.config.max_pages} pages",
            hint="raise max_pages, or the size of a page",
            code="too_many_pages",
        )

    def _page(self, number: int, endpoint: Endpoint, call: Call, answer: Answer, before: int) -> Page:
        return Page(number, call, answer, records_of(call, answer, endpoint.records_path), before)

    def _batch(self, page: Page, schema: pa.Schema) -> pa.RecordBatch:
        """A page's records in the endpoint's columns, less those that do not fit."""
        batch, unfit = batch_of(page.records, schema)
        for bad in unfit:
            self._reject(page, bad)
        known = self._left_out.setdefault(page.call.endpoint, set())
        extra = {name for record in page.records for name in record} - set(schema.names) - known
        if extra:
            known |= extra
            logger.warning("fields_left_out", endpoint=page.call.endpoint, page=page.number, fields=sorted(extra))
        return batch

    def _reject(self, page: Page, bad: BadRecord) -> None:
        place = _place(page, bad.position)
        if self.config.on_bad_row is OnBadRow.FAIL:
            raise Terminal(
                f"{place}, field {bad.field}: {bad.reason}",
                hint=f"declare the type in endpoints.{page.call.endpoint}.columns, or set on_bad_row to quarantine",
                code="bad_row",
            )
        keep = self.config.on_bad_row is OnBadRow.QUARANTINE
        text = shown(page.records[bad.position], self.rejections.LONGEST)
        self.rejections.add(place, f"{bad.field}: {bad.reason}", text, keep=keep)


def _place(page: Page, index: int) -> str:
    return f"{page.call.endpoint}, page {page.number}, record {index + 1}"


SOURCES.register(HttpSource)
