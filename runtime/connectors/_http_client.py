"""Asks an HTTP API: at its pace, again when it stumbles, within limits, and with errors that say what came back."""

import base64
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic
from urllib.parse import urljoin

import httpx
import orjson
import stamina

from models.errors import Retryable, Terminal
from models.fields import Json
from runtime.access.mask import mask_text
from runtime.connectors._http_addresses import GuardedTransport
from runtime.connectors._http_config import (
    ApiKeyAuthentication,
    BasicAuthentication,
    BearerAuthentication,
    HttpConfig,
    NoAuthentication,
)
from runtime.connectors._json_values import Exact, exact_loads
from runtime.connectors._pace import Pace

# httpx logs each address at INFO, and an address may hold an API key.
logging.getLogger("httpx").setLevel(logging.WARNING)

STUMBLES = frozenset({429, 502, 503, 504})
SHOWN_LETTERS = 200
MOST_REDIRECTS = 5


@dataclass(frozen=True, slots=True)
class Call:
    """One request: an endpoint's name, an absolute URL, and the parameters to add to its query."""

    endpoint: str
    url: str
    method: str = "GET"
    params: Mapping[str, str | list[str]] = field(default_factory=dict)
    body: Json = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back of a good request: the JSON document, the next pages named in headers, and the server's clock."""

    document: Exact
    links: Mapping[str, str]
    digest: int
    date: datetime | None


class _Stumble(Exception):
    """A failure that may pass: what to raise when it does not, and how many seconds the server asked to wait."""

    def __init__(self, failure: Retryable) -> None:
        super().__init__(failure.message)
        self.failure = failure


class HttpClient:
    """The connections to one API; every request has a time limit, a size limit and a budget of retries."""

    def __init__(self, config: HttpConfig, pace: Callable[[], Pace]) -> None:
        self._config = config
        self._pace = pace
        self._secrets = _secrets(config)
        verify = _tls(config) if config.base_url.startswith("https") else False
        inner = httpx.HTTPTransport(verify=verify, trust_env=False)
        self._client = httpx.Client(
            transport=GuardedTransport(inner, allow_private=config.allow_private_addresses),
            timeout=httpx.Timeout(config.timeout_seconds, connect=config.connect_timeout_seconds),
            headers={"Accept": "application/json", "User-Agent": "wedsync-pipelines", **config.headers},
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections; safe to call twice."""
        self._client.close()

    def ask(self, call: Call) -> Answer:
        """The answer to one request.

        Raises `Retryable` when the API stumbled (429, 502, 503, 504, 500, no connection) for longer than the budget,
        and `Terminal` for an answer that will not change. Both name the endpoint, the status and what came back.
        """
        retry = self._config.retry
        try:
            for attempt in stamina.retry_context(
                on=self._again,
                attempts=retry.attempts,
                timeout=retry.budget_seconds,
                wait_initial=retry.wait_initial_seconds,
                wait_max=retry.wait_max_seconds,
                wait_jitter=retry.wait_initial_seconds,
            ):
                with attempt:
                    return self._once(call)
        except _Stumble as stumble:
            raise stumble.failure from stumble
        raise AssertionError("a retry loop ends with an answer or an error")

    def _again(self, error: Exception) -> bool | float:
        """Whether to try again, and after how many seconds where the server named them."""
        if not isinstance(error, _Stumble):
            return False
        asked = error.failure.retry_after
        if asked is None:
            return True
        return asked if asked <= self._config.retry.budget_seconds else False

    def _once(self, call: Call) -> Answer:
        try:
            with self._pace().turn():
                return self._followed(call)
        except httpx.TransportError as error:
            where = httpx.URL(call.url).netloc.decode()
            raise _Stumble(
                Retryable(
                    f"{call.endpoint} at {where}: {self._masked(f'{type(error).__name__} {error}')}",
                    hint="check base_url and that the API is up; it is tried again",
                    code="unreachable",
                )
            ) from error

    def _followed(self, call: Call) -> Answer:
        """Send the request and follow redirects; another server gets no credentials."""
        trusted = True
        for _ in range(MOST_REDIRECTS):
            request = self._request(call, with_credentials=trusted)
            response = self._client.send(request, stream=True)
            try:
                if not (response.is_redirect and response.has_redirect_location):
                    return self._answer(call, response)
            finally:
                response.close()
            target = httpx.URL(urljoin(str(request.url), response.headers["location"]))
            if request.url.scheme == "https" and target.scheme != "https":
                raise self._terminal(call, "redirects to an address without TLS", "correct base_url", "bad_redirect")
            if call.method != "GET":
                raise self._terminal(call, "redirects a POST", "correct base_url or path", "bad_redirect")
            trusted = trusted and origin(str(target)) == origin(self._config.base_url)
            call = replace(call, url=str(target), params={})
        raise self._terminal(call, f"redirects more than {MOST_REDIRECTS} times", "correct base_url", "bad_redirect")

    def _request(self, call: Call, *, with_credentials: bool) -> httpx.Request:
        headers, params = _credentials(self._config) if with_credentials else ({}, {})
        content = None if call.body is None else orjson.dumps(call.body)
        if content is not None:
            headers = {**headers, "Content-Type": "application/json"}
        url = httpx.URL(call.url).copy_merge_params({**call.params, **params})
        return self._client.build_request(call.method, url, headers=headers, content=content)

    def _answer(self, call: Call, response: httpx.Response) -> Answer:
        body = self._body(call, response)
        if response.status_code != 204 and not response.is_success:
            raise self._refused(call, response, body)
        try:
            document = None if response.status_code == 204 else exact_loads(body)
        except (ValueError, RecursionError):
            looks = "a web page" if body.lstrip()[:1] == b"<" else "something that is not JSON"
            raise self._terminal(
                call,
                f"answered {response.status_code} with {looks}: {self._shown(body)}",
                "check base_url and path: web pages, sign-in pages and wrong paths answer so",
                "not_json",
            ) from None
        links = {str(link.get("rel")): urljoin(call.url, str(link["url"])) for link in response.links.values()}
        return Answer(document, links, hash(body), _date(response.headers.get("date")))

    def _body(self, call: Call, response: httpx.Response) -> bytes:
        """The whole body, while it is neither larger nor slower than allowed."""
        until = monotonic() + self._config.timeout_seconds * 4
        body = bytearray()
        for piece in response.iter_bytes():
            body += piece
            if len(body) > self._config.max_page_bytes:
                raise self._terminal(
                    call,
                    f"sent more than {self._config.max_page_bytes} bytes in one answer",
                    "ask for smaller pages, or raise max_page_bytes",
                    "page_too_large",
                )
            if monotonic() > until:
                raise httpx.ReadTimeout("the answer trickles", request=response.request)
        return bytes(body)

    def _refused(self, call: Call, response: httpx.Response, body: bytes) -> Exception:
        status = response.status_code
        told = f"answered {status}: {self._shown(body)}"
        if status in STUMBLES:
            wait = retry_after(response.headers.get("retry-after"), datetime.now(UTC))
            message = f"{call.endpoint} {told}"
            return _Stumble(Retryable(message, hint="it is tried again", code="api_busy", retry_after=wait))
        if status >= 500:
            return Retryable(f"{call.endpoint} {told}", hint="ask the API's operator", code="api_error")
        hint, code = {
            401: ("check the source's authentication", "unauthenticated"),
            403: ("the credentials lack the right for this endpoint", "forbidden"),
            404: ("check the endpoint's path", "no_such_endpoint"),
        }.get(status, ("check the endpoint's method, params and body", "api_refused"))
        return self._terminal(call, told, hint, code)

    def _terminal(self, call: Call, told: str, hint: str, code: str) -> Terminal:
        return Terminal(f"{call.endpoint} {told}", hint=hint, code=code)

    def _shown(self, body: bytes) -> str:
        """The first letters of an answer, without secrets and personal data."""
        text = " ".join(body[: SHOWN_LETTERS * 8].decode("utf-8", "replace").split())
        return self._masked(text)[:SHOWN_LETTERS] or "nothing"

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[hidden]")
        return mask_text(text)


def origin(url: str) -> tuple[str, str, int | None]:
    """The scheme, host and port of an address."""
    parsed = httpx.URL(url)
    return parsed.scheme, parsed.host, parsed.port


def retry_after(header: str | None, now: datetime) -> float | None:
    """The seconds that a `Retry-After` header asks for, given as seconds or as a date (RFC 9110); None without one."""
    if header is None:
        return None
    try:
        return max(float(header), 0.0)
    except ValueError:
        moment = _date(header)
    return None if moment is None else max((moment - now).total_seconds(), 0.0)


def _date(header: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(header) if header else None
    except ValueError:
        return None
    return None if moment is None else moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)


def _credentials(config: HttpConfig) -> tuple[dict[str, str], dict[str, str]]:
    """The headers and the query parameters that say who asks."""
    match config.authentication:
        case BearerAuthentication(token=token):
            return {"Authorization": f"Bearer {token.get_secret_value()}"}, {}
        case BasicAuthentication(username=username, password=password):
            pair = f"{username}:{password.get_secret_value()}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}, {}
        case ApiKeyAuthentication(name=name, key=key, place="header"):
            return {name: key.get_secret_value()}, {}
        case ApiKeyAuthentication(name=name, key=key):
            return {}, {name: key.get_secret_value()}
        case NoAuthentication():
            return {}, {}


def _secrets(config: HttpConfig) -> list[str]:
    match config.authentication:
        case (
            BearerAuthentication(token=secret) | BasicAuthentication(password=secret) | ApiKeyAuthentication(key=secret)
        ):
            return [secret.get_secret_value()] if secret.get_secret_value() else []
        case NoAuthentication():
            return []


def _tls(config: HttpConfig) -> ssl.SSLContext | bool:
    if not config.verify_tls:
        return False
    return ssl.create_default_context(cadata=config.ca_certificates)
