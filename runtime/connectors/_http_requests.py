"""What to ask an endpoint for a read: its address and parameters, with the run's values, filters and cursor."""

import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

from models.errors import Invalid
from models.fields import Json
from runtime.connectors._contract import ReadRequest
from runtime.connectors._http_client import Call
from runtime.connectors._http_config import Endpoint, HttpConfig

LAST_RUN = "last_run"


def call_of(config: HttpConfig, name: str, request: ReadRequest) -> Call:
    """The call of an endpoint, without its pagination.

    Raises `Invalid` for an endpoint that is not configured, and for a parameter that the run does not give.
    """
    endpoint = endpoint_of(config, name)
    values: dict[str, Json] = dict(request.parameters)
    if request.cursor is not None:
        values.setdefault(LAST_RUN, request.cursor.lower)
    params: dict[str, str | list[str]] = {}
    for param, value in endpoint.params.items():
        known = _bound(value, values, f"endpoints.{name}.params.{param}")
        if known is not None:
            params[param] = known
    params.update(_range(endpoint, request, values))
    params.update(_filters(endpoint, request))
    return Call(name, f"{config.base_url}/{_path(name, endpoint, values)}", endpoint.method, params, endpoint.body)


def endpoint_of(config: HttpConfig, name: str) -> Endpoint:
    """The endpoint of that name; raises `Invalid` that lists those there are."""
    try:
        return config.endpoints[name]
    except KeyError:
        known = ", ".join(sorted(config.endpoints))
        raise Invalid(f"there is no endpoint {name!r}", hint=f"endpoints: {known}", path="dataset") from None


def without_pushed(endpoint: Endpoint, request: ReadRequest, columns: list[str]) -> ReadRequest:
    """The request with only those filters that are to be met here: the API meets the others on columns we lack."""
    kept = {
        name: value
        for name, value in request.filters.items()
        if not _is_pushed(endpoint, name, value) or name in columns
    }
    return replace(request, filters=kept)


def _range(endpoint: Endpoint, request: ReadRequest, values: Mapping[str, Json]) -> dict[str, str]:
    ends: dict[str, str] = {}
    lower = values.get(LAST_RUN)
    if endpoint.updated_since and lower is not None:
        ends[endpoint.updated_since] = _text(lower)
    if endpoint.updated_before and request.cursor is not None:
        ends[endpoint.updated_before] = request.cursor.upper
    return ends


def _filters(endpoint: Endpoint, request: ReadRequest) -> dict[str, str | list[str]]:
    pushed = {name: value for name, value in request.filters.items() if _is_pushed(endpoint, name, value)}
    return {
        endpoint.filter_params[name]: [_text(one) for one in value] if isinstance(value, list) else _text(value)
        for name, value in pushed.items()
    }


def _is_pushed(endpoint: Endpoint, name: str, value: Json) -> bool:
    return name in endpoint.filter_params and value is not None and not isinstance(value, dict)


def _path(name: str, endpoint: Endpoint, values: Mapping[str, Json]) -> str:
    def filled(match: re.Match[str]) -> str:
        return quote(_text(_given(match[1], values, f"endpoints.{name}.path")), safe="")

    return re.sub(r"\{(\w+)\}", filled, endpoint.path.lstrip("/"))


def _bound(value: str | float | bool, values: Mapping[str, Json], path: str) -> str | None:
    """A parameter's text; None for a run value that is null, such as `:last_run` of the first run."""
    if isinstance(value, str) and re.fullmatch(r":\w+", value):
        if value[1:] == LAST_RUN and LAST_RUN not in values:
            return None
        known = _given(value[1:], values, path)
        return None if known is None else _text(known)
    return _text(value)


def _given(name: str, values: Mapping[str, Json], path: str) -> Json:
    if name not in values:
        known = ", ".join(sorted(values)) or "none"
        raise Invalid(f"the run gives no parameter {name!r}", hint=f"given: {known}", path=path)
    return values[name]


def _text(value: Json) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
