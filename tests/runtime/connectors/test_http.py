"""HTTP APIs: pagination, credentials, errors, retries, columns and what is kept off private networks."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from time import monotonic
from uuid import uuid4

import httpx
import pyarrow as pa
import pytest
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from models.errors import DomainError, Invalid, Retryable, Terminal, Unauthenticated, Unavailable
from models.fields import Json, JsonObject, parse
from runtime.batches.types import sql_type
from runtime.connectors._contract import CursorRange, ReadRequest, Split, primary_key_of
from runtime.connectors._http_addresses import GuardedTransport, is_public
from runtime.connectors._http_client import retry_after
from runtime.connectors._http_config import HttpConfig
from runtime.connectors.http import HttpSource
from runtime.connectors.paces import Paces
from tests.kit.contracts.connector_rows import SCHEMA, rows
from tests.kit.contracts.connectors import DATASET, NestedSourceContract, SourceHarness
from tests.runtime.connectors.vendor_api import VendorApi, served

PAGES: JsonObject = {"type": "page_number", "size_param": "per_page", "page_size": 50}
QUICK: JsonObject = {"attempts": 4, "wait_initial_seconds": 0.005, "wait_max_seconds": 0.01, "budget_seconds": 5.0}


@pytest.fixture
def api() -> Iterator[VendorApi]:
    with served(VendorApi()) as running:
        yield running


def source(api: VendorApi, endpoint: JsonObject, **config: Json) -> HttpSource:
    whole: JsonObject = {
        "base_url": api.url,
        "endpoints": {DATASET: {"records_path": "data.items", **endpoint}},
        "allow_private_addresses": True,
        "retry": QUICK,
        **config,
    }
    return HttpSource(parse(HttpConfig, whole))


def ids(found: HttpSource, request: ReadRequest | None = None) -> list[int]:
    try:
        listed: list[int] = found.read(request or ReadRequest(DATASET), Split(0)).read_all().column("id").to_pylist()
        return listed
    finally:
        found.close()


def fails(found: HttpSource, kind: type[DomainError]) -> DomainError:
    with pytest.raises(kind) as raised:
        ids(found)
    assert raised.value.hint
    return raised.value


class HttpHarness(SourceHarness):
    """Pages of declared columns."""

    kind = "http"

    def __init__(self, api: VendorApi, folder: Path) -> None:
        self.api = api
        self.folder = folder
        self.rows = rows(0)
        self.schema = SCHEMA

    def config(self) -> JsonObject:
        columns: JsonObject = {field.name: sql_type(field.type) for field in self.schema}
        endpoint: JsonObject = {"path": "/pages/guests", "records_path": "/data/items", "columns": columns}
        return {
            "base_url": self.api.url,
            "endpoints": {DATASET: endpoint},
            "pagination": PAGES,
            "allow_private_addresses": True,
        }

    def put(self, rows: pa.Table) -> None:
        self.schema, self.rows = rows.schema, rows
        self.api.put(rows, self.folder)

    def add(self, rows: pa.Table) -> None:
        self.put(pa.concat_tables([self.rows, rows]))

    def bad_configs(self) -> Mapping[str, JsonObject]:
        good = self.config()
        return {
            "base_url": {**good, "allow_private_addresses": False},
            "pagination.type": {**good, "pagination": {"type": "telepathy"}},
            "endpoints": {**good, "endpoints": {}},
            "authentication.token": {**good, "authentication": {"type": "bearer"}},
            "endpoints.guests.columns": {**good, "endpoints": {DATASET: {"path": "/", "columns": {"id": "BIGG INT"}}}},
        }


class TestHttpSource(NestedSourceContract):
    @pytest.fixture
    def harness(self, api: VendorApi, tmp_path: Path) -> HttpHarness:
        return HttpHarness(api, tmp_path)


@pytest.mark.parametrize(
    ("path", "pagination"),
    [
        ("/pages/guests", PAGES),
        ("/pages/guests", {**PAGES, "total_pages_path": "meta.pages", "page_size": 7}),
        ("/offsets/guests", {"type": "offset", "page_size": 50}),
        ("/offsets/guests", {"type": "offset", "page_size": 5, "total_path": "/meta/total"}),
        ("/cursors/guests", {"type": "cursor", "cursor_param": "after", "cursor_path": "meta.next"}),
        ("/links/guests", {"type": "link_header"}),
    ],
)
@pytest.mark.parametrize("count", [1, 7, 30])
def test_every_kind_of_pagination_reads_each_record_once(
    api: VendorApi, tmp_path: Path, path: str, pagination: JsonObject, count: int
) -> None:
    api.put(rows(count), tmp_path)
    assert ids(source(api, {"path": path, "pagination": pagination})) == list(range(count))


def test_a_page_that_comes_again_and_again_is_told_from_an_end(api: VendorApi, tmp_path: Path) -> None:
    api.put(rows(5), tmp_path)
    error = fails(source(api, {"path": "/stuck/guests"}, pagination=PAGES), Terminal)
    assert error.specific_code == "pagination_loop"


def test_a_read_ends_with_an_error_at_the_page_limit(api: VendorApi, tmp_path: Path) -> None:
    api.put(rows(30), tmp_path)
    error = fails(source(api, {"path": "/pages/guests"}, pagination=PAGES, max_pages=2), Terminal)
    assert error.specific_code == "too_many_pages"


def test_a_limited_read_fetches_no_page_too_many(api: VendorApi, tmp_path: Path) -> None:
    api.put(rows(70), tmp_path)
    columns: JsonObject = {"id": "BIGINT"}
    found = source(api, {"path": "/pages/guests", "columns": columns}, pagination=PAGES)
    assert ids(found, ReadRequest(DATASET, limit=3)) == [0, 1, 2]
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("authentication", "header", "param"),
    [
        ({"type": "bearer", "token": "s3cret-token"}, ("authorization", "Bearer s3cret-token"), None),
        ({"type": "basic", "username": "ann", "password": "pw"}, ("authorization", "Basic YW5uOnB3"), None),
        ({"type": "api_key", "key": "k1"}, ("x-api-key", "k1"), None),
        ({"type": "api_key", "key": "k2", "name": "apikey", "place": "query"}, None, ("apikey", "k2")),
    ],
)
def test_credentials_go_with_every_request(
    api: VendorApi,
    tmp_path: Path,
    authentication: JsonObject,
    header: tuple[str, str] | None,
    param: tuple[str, str] | None,
) -> None:
    api.put(rows(20), tmp_path)
    assert (
        len(
            ids(
                source(
                    api, {"path": "/links/guests", "pagination": {"type": "link_header"}}, authentication=authentication
                )
            )
        )
        == 20
    )
    assert len(api.requests) >= 3
    for request in api.requests:
        assert header is None or request.headers[header[0]] == header[1]
        assert param is None or request.query_params[param[0]] == param[1]


def test_credentials_do_not_follow_a_redirect_to_another_server(api: VendorApi, tmp_path: Path) -> None:
    with served(VendorApi()) as other:
        other.put(rows(2), tmp_path)
        endpoint: JsonObject = {"path": "/away", "params": {"to": f"{other.url}/plain/guests"}, "records_path": ""}
        found = source(api, endpoint, authentication={"type": "api_key", "key": "k1"})
        assert ids(found) == [0, 1]
        assert "x-api-key" in api.requests[0].headers
        assert "x-api-key" not in other.requests[0].headers


def test_a_link_to_another_server_is_not_followed(api: VendorApi, tmp_path: Path) -> None:
    api.answer = JSONResponse([{"id": 1}], headers={"Link": '<http://192.0.2.1/next>; rel="next"'})
    endpoint: JsonObject = {"path": "/custom", "records_path": "", "pagination": {"type": "link_header"}}
    assert fails(source(api, endpoint), Terminal).specific_code == "foreign_link"


@pytest.mark.parametrize(
    ("answer", "kind", "code", "told"),
    [
        (HTMLResponse("<html>Please sign in, ann@example.org</html>"), Terminal, "not_json", "a web page"),
        (PlainTextResponse("id,name"), Terminal, "not_json", "not JSON"),
        (PlainTextResponse("{}", 500), Retryable, "api_error", "500"),
        (PlainTextResponse("who?", 401), Terminal, "unauthenticated", "401"),
        (PlainTextResponse("no", 403), Terminal, "forbidden", "403"),
        (PlainTextResponse("lost", 404), Terminal, "no_such_endpoint", "404"),
        (PlainTextResponse("bad page", 422), Terminal, "api_refused", "bad page"),
        (JSONResponse({"guests": [{"id": 1}]}), Terminal, "bad_shape", "guests"),
        (JSONResponse({"data": {"items": [1, 2]}}), Terminal, "bad_shape", "record 1 is a number"),
        (JSONResponse({"data": {"items": {"id": 1}}}), Terminal, "bad_shape", "an object"),
        (PlainTextResponse("NaN"), Terminal, "not_json", "NaN"),
        (PlainTextResponse("[" * 100_000), Terminal, "not_json", "not JSON"),
        (PlainTextResponse("x" * 3000), Terminal, "page_too_large", "2000 bytes"),
    ],
)
def test_a_strange_answer_is_a_typed_error_that_shows_it(
    api: VendorApi, answer: Response, kind: type[DomainError], code: str, told: str
) -> None:
    api.answer = answer
    size = 200_000 if bytes(answer.body).startswith(b"[[") else 2000
    error = fails(source(api, {"path": "/custom"}, max_page_bytes=size), kind)
    assert error.specific_code == code
    assert DATASET in error.message
    assert told in str(error)
    assert "ann@example.org" not in str(error)
    assert len(error.message) < 400


def test_an_error_never_shows_the_credentials(api: VendorApi) -> None:
    api.answer = PlainTextResponse("no such key: k1-very-secret", 401)
    found = source(api, {"path": "/custom"}, authentication={"type": "api_key", "key": "k1-very-secret"})
    with pytest.raises(Unauthenticated) as raised:
        found.check()
    found.close()
    assert "k1-very-secret" not in str(raised.value)
    assert raised.value.path == "authentication"
    assert "k1-very-secret" not in repr(found.config)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_stumbling_api_is_asked_again(api: VendorApi, tmp_path: Path, status: int) -> None:
    api.put(rows(3), tmp_path)
    api.failures = [PlainTextResponse("busy", status, headers={"Retry-After": "0"}) for _ in range(3)]
    assert ids(source(api, {"path": "/pages/guests"}, pagination=PAGES)) == [0, 1, 2]
    assert not api.failures


def test_an_api_that_stays_down_is_retried_by_the_step_when_it_asked(api: VendorApi) -> None:
    api.failures = [PlainTextResponse("busy", 429, headers={"Retry-After": "120"})]
    error = fails(source(api, {"path": "/custom"}), Retryable)
    assert isinstance(error, Retryable)
    assert error.retry_after == 120
    assert len(api.requests) == 1


def test_an_api_that_is_not_there_is_unavailable() -> None:
    gone = VendorApi()
    with served(gone):
        pass
    error = fails(source(gone, {"path": "/pages/guests"}), Retryable)
    assert error.specific_code == "unreachable"
    with pytest.raises(Unavailable):
        source(gone, {"path": "/pages/guests"}).check()


def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    now = datetime(2026, 7, 4, 12, 0, 0, tzinfo=UTC)
    assert retry_after("7", now) == 7
    assert retry_after("Sat, 04 Jul 2026 12:00:30 GMT", now) == 30
    assert retry_after("Sat, 04 Jul 2026 11:00:00 GMT", now) == 0
    assert retry_after("soon", now) is None
    assert retry_after(None, now) is None


def test_three_readers_of_one_source_keep_to_its_pace_together(api: VendorApi, redis_url: str, tmp_path: Path) -> None:
    api.put(rows(50), tmp_path)
    identity, began = uuid4(), monotonic()
    paces = [Paces(redis_url) for _ in range(3)]

    def read(number: int) -> int:
        found = source(api, {"path": "/pages/guests"}, pagination=PAGES, rate_limit_config={"requests_per_second": 20})
        paces[number].set(found, identity)
        return len(ids(found))

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(read, range(3))) == [50] * 3
    for one in paces:
        one.close()
    assert monotonic() - began >= (len(api.requests) - 1) / 20


def test_undeclared_columns_are_told_by_a_sample(api: VendorApi) -> None:
    venue = {"name": "Barn", "capacity": 80}
    api.answer = JSONResponse(
        [{"id": 1, "price": "12.50", "rate": 1.5, "venue": venue, "tags": ["a"]}, {"id": 2, "venue": None, "vip": True}]
    )
    found = source(api, {"path": "/custom", "records_path": ""})
    schema = found.discover()[DATASET]
    found.close()
    assert {field.name: sql_type(field.type) for field in schema} == {
        "id": "BIGINT",
        "price": "VARCHAR",
        "rate": "DOUBLE",
        "venue": 'STRUCT("name" VARCHAR, "capacity" BIGINT)',
        "tags": "VARCHAR[]",
        "vip": "BOOLEAN",
    }


def test_discovery_tells_the_key_and_refuses_one_that_is_no_column(api: VendorApi) -> None:
    endpoint: JsonObject = {"path": "/", "columns": {"id": "BIGINT"}, "primary_key": ["id"]}
    assert primary_key_of(source(api, endpoint).discover()[DATASET]) == ("id",)
    with pytest.raises(Invalid) as raised:
        source(api, {**endpoint, "primary_key": ["uid"]}).discover()
    assert raised.value.path == "endpoints.guests.primary_key"


def test_declared_decimals_keep_every_digit(api: VendorApi) -> None:
    api.answer = Response(b'[{"id": 90071992547409931, "price": 1234567890123456.10}]', media_type="application/json")
    columns: JsonObject = {"id": "BIGINT", "price": "DECIMAL(20, 2)"}
    found = source(api, {"path": "/custom", "records_path": "", "columns": columns})
    read = found.read(ReadRequest(DATASET), Split(0)).read_all()
    found.close()
    assert read.to_pylist() == [{"id": 90071992547409931, "price": Decimal("1234567890123456.10")}]


def later_conflict(api: VendorApi, on_bad_row: str) -> HttpSource:
    api.records = [b'{"id": %d}' % at for at in range(20)] + [b'{"id": "x"}', b'{"id": 21, "new": 1}']
    endpoint: JsonObject = {"path": "/cursors/guests"}
    pagination: JsonObject = {"type": "cursor", "cursor_param": "after", "cursor_path": "meta.next"}
    return source(api, endpoint, pagination=pagination, on_bad_row=on_bad_row)


def test_a_later_record_of_another_type_is_named_by_page_and_field(api: VendorApi) -> None:
    error = fails(later_conflict(api, "fail"), Terminal)
    assert "page 3, record 7, field id" in error.message
    assert error.specific_code == "bad_row"


def test_a_later_record_of_another_type_can_be_set_aside(api: VendorApi) -> None:
    found = later_conflict(api, "quarantine")
    assert ids(found) == [*range(20), 21]
    assert found.rejections.count == 1
    assert found.rejections.rows[0].place == "guests, page 3, record 7"
    assert found.rejections.rows[0].text == '{"id": "x"}'


def test_no_records_and_no_declared_columns_say_what_to_do(api: VendorApi) -> None:
    api.answer = JSONResponse([])
    error = fails(source(api, {"path": "/custom", "records_path": ""}), Terminal)
    assert error.specific_code == "no_columns"


def test_the_run_fills_parameters_the_path_filters_and_the_range(api: VendorApi, tmp_path: Path) -> None:
    api.put(rows(3), tmp_path)
    endpoint: JsonObject = {
        "path": "/venues/{venue}/guests",
        "records_path": "",
        "params": {"fixed": True, "since": ":last_run", "wanted": ":kind"},
        "columns": {"id": "BIGINT", "name": "VARCHAR"},
        "updated_since": "updated_since",
        "updated_before": "updated_before",
        "filter_params": {"id": "ids", "city": "city"},
    }
    request = ReadRequest(
        DATASET,
        filters={"id": [1, 2], "city": "Bath"},
        parameters={"venue": "b ä?", "kind": "vip"},
        cursor=CursorRange("0", "99", "id"),
    )
    assert ids(source(api, endpoint), request) == [1, 2]
    (asked,) = api.requests
    assert asked.path_params["venue"] == "b ä?"
    assert asked.query_params.multi_items() == [
        ("fixed", "true"),
        ("since", "0"),
        ("wanted", "vip"),
        ("updated_since", "0"),
        ("updated_before", "99"),
        ("ids", "1"),
        ("ids", "2"),
        ("city", "Bath"),
    ]


def test_a_parameter_that_the_run_does_not_give_is_named(api: VendorApi) -> None:
    endpoint: JsonObject = {"path": "/venues/{venue}/guests", "columns": {"id": "BIGINT"}}
    error = fails(source(api, endpoint), Invalid)
    assert error.path == "endpoints.guests.path"


def test_the_first_run_sends_no_range(api: VendorApi, tmp_path: Path) -> None:
    api.put(rows(2), tmp_path)
    endpoint: JsonObject = {
        "path": "/plain/guests",
        "records_path": "",
        "updated_since": "since",
        "columns": {"id": "BIGINT"},
    }
    assert ids(source(api, endpoint)) == [0, 1]
    assert "since" not in api.requests[0].query_params


def test_the_watermark_of_moments_is_the_servers_clock(tmp_path: Path) -> None:
    with served(VendorApi(date="Sat, 04 Jul 2026 12:00:30 GMT")) as api:
        api.put(rows(2), tmp_path)
        found = source(api, {"path": "/pages/guests", "columns": {"seen": "TIMESTAMPTZ"}}, pagination=PAGES)
        assert found.watermark(ReadRequest(DATASET), "seen") == "2026-07-04T12:00:30+00:00"
        found.close()


PRIVATE = ["127.0.0.1", "10.0.0.1", "172.16.5.5", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1"]
PRIVATE_WRAPPED = ["::1", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::"]


@pytest.mark.parametrize("address", [*PRIVATE, *PRIVATE_WRAPPED, "224.0.0.1"])
def test_private_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.1", "2130706433"])
def test_a_private_address_is_refused_however_it_is_written(api: VendorApi, tmp_path: Path, host: str) -> None:
    api.put(rows(1), tmp_path)
    hidden = VendorApi(url=api.url.replace("127.0.0.1", host))
    error = fails(source(hidden, {"path": "/plain/guests"}, allow_private_addresses=False), Terminal)
    assert error.specific_code == "private_address"
    assert not api.requests


def test_a_redirect_to_a_private_address_is_refused() -> None:
    elsewhere = httpx.Response(302, headers={"location": "http://169.254.169.254/latest/meta-data"})
    guard = GuardedTransport(httpx.MockTransport(lambda request: elsewhere), allow_private=False)
    with httpx.Client(transport=guard, follow_redirects=True) as client, pytest.raises(Terminal) as raised:
        client.get("http://8.8.8.8/")
    assert raised.value.specific_code == "private_address"
