"""How an HTTP API is asked: its endpoints, how it pages, how it knows us, and how patient we are."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from models.base import StrictModel
from models.fields import Json
from models.schemas import SchemaConfig
from models.sources import RateLimitConfig
from runtime.connectors._files import DeclaredColumns, OnBadRow


class NoPagination(StrictModel):
    """One answer holds everything."""

    type: Literal["none"] = "none"


class PageNumberPagination(StrictModel):
    """Pages are numbered; an empty page, or the last of `total_pages_path`, ends the read."""

    type: Literal["page_number"]
    page_param: str = "page"
    first_page: int = Field(default=1, ge=0)
    size_param: str | None = None
    page_size: int = Field(default=100, ge=1, le=100_000)
    total_pages_path: str | None = None


class OffsetPagination(StrictModel):
    """Each page begins after the records that came before; an empty page, or `total_path` records, end the read."""

    type: Literal["offset"]
    offset_param: str = "offset"
    limit_param: str | None = "limit"
    page_size: int = Field(default=100, ge=1, le=100_000)
    total_path: str | None = None


class CursorPagination(StrictModel):
    """Each answer holds, at `cursor_path`, what to ask the next page with; none or an empty one ends the read."""

    type: Literal["cursor"]
    cursor_param: str = "cursor"
    cursor_path: str = "next_cursor"
    size_param: str | None = None
    page_size: int = Field(default=100, ge=1, le=100_000)


class LinkHeaderPagination(StrictModel):
    """Each answer names the next page in its `Link` header (RFC 8288), on the same server."""

    type: Literal["link_header"]
    relation: str = "next"
    size_param: str | None = None
    page_size: int = Field(default=100, ge=1, le=100_000)


Pagination = Annotated[
    NoPagination | PageNumberPagination | OffsetPagination | CursorPagination | LinkHeaderPagination,
    Field(discriminator="type"),
]


class NoAuthentication(StrictModel):
    """Anybody may ask."""

    type: Literal["none"] = "none"


class BearerAuthentication(StrictModel):
    """A token in the `Authorization` header (RFC 6750)."""

    type: Literal["bearer"]
    token: SecretStr


class BasicAuthentication(StrictModel):
    """A user name and a password (RFC 7617)."""

    type: Literal["basic"]
    username: str
    password: SecretStr


class ApiKeyAuthentication(StrictModel):
    """A key in a header or in the query."""

    type: Literal["api_key"]
    key: SecretStr
    name: str = "X-API-Key"
    place: Literal["header", "query"] = "header"


Authentication = Annotated[
    NoAuthentication | BearerAuthentication | BasicAuthentication | ApiKeyAuthentication, Field(discriminator="type")
]


class RetryConfig(StrictModel):
    """How often a request is tried, and for how many seconds in all, before the step itself backs off."""

    attempts: int = Field(default=5, ge=1, le=20)
    budget_seconds: float = Field(default=60.0, gt=0, le=600)
    wait_initial_seconds: float = Field(default=0.5, gt=0, le=60)
    wait_max_seconds: float = Field(default=10.0, gt=0, le=120)


class Endpoint(StrictModel):
    """One dataset of the API.

    A value of `params`, and a `{name}` in `path`, may be a parameter of the run (`":venue"`; `":last_run"` is where
    the last run ended). `records_path` leads to the list of objects, as `data.items` or as a JSON pointer;
    empty: the answer is the list. `updated_since` and `updated_before` name the parameters that take the ends of an
    incremental range, `filter_params` those that take filters on columns. `columns` are DuckDB types by name;
    without them a sample of pages tells.
    """

    path: str
    method: Literal["GET", "POST"] = "GET"
    params: dict[str, str | int | float | bool] = Field(default_factory=dict)
    body: Json = None
    records_path: str = ""
    primary_key: tuple[str, ...] = ()
    columns: DeclaredColumns = Field(default_factory=dict)
    pagination: Pagination | None = None
    updated_since: str | None = None
    updated_before: str | None = None
    filter_params: dict[str, str] = Field(default_factory=dict)


class HttpConfig(StrictModel):
    """An HTTP API. Prices keep their digits as text in JSON, or in a declared DECIMAL column; inferred numbers with a
    fraction are DOUBLE. `allow_private_addresses` is the runtime's to set, not the user's.
    """

    base_url: str
    endpoints: dict[str, Endpoint] = Field(min_length=1)
    authentication: Authentication = Field(default_factory=NoAuthentication)
    pagination: Pagination = Field(default_factory=NoPagination)
    headers: dict[str, str] = Field(default_factory=dict)
    rate_limit_config: RateLimitConfig = Field(default_factory=RateLimitConfig)
    retry: RetryConfig = Field(default_factory=RetryConfig)
    schema_config: SchemaConfig = Field(default_factory=SchemaConfig)
    on_bad_row: OnBadRow = OnBadRow.FAIL
    timeout_seconds: float = Field(default=30.0, gt=0, le=600)
    connect_timeout_seconds: float = Field(default=10.0, gt=0, le=120)
    max_pages: int = Field(default=100_000, ge=1)
    max_page_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    sample_pages: int = Field(default=2, ge=1, le=100)
    verify_tls: bool = True
    ca_certificates: str | None = None
    allow_private_addresses: bool = False

    @field_validator("base_url")
    @classmethod
    def _is_a_web_address(cls, base_url: str) -> str:
        address = urlsplit(base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError("must be an address such as https://api.example.org/v1")
        if address.username or address.password:
            raise ValueError("must not hold a user or password: give them as `authentication`")
        return base_url.rstrip("/")

    @model_validator(mode="after")
    def _declared_once(self) -> "HttpConfig":
        both = sorted(
            name for name in self.schema_config.datasets if name in self.endpoints and self.endpoints[name].columns
        )
        if both:
            raise ValueError(
                f"declare the columns of {', '.join(both)} in the endpoint or in schema_config, not in both"
            )
        return self
