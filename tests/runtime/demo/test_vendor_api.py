"""The vendor API over HTTP: pages of every style, keys, limits, and the ways in which it can be told to misbehave."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime

import httpx
import pytest

from models.errors import Unavailable
from models.fields import Json
from runtime.demo.pages import vendor_pages
from runtime.demo.vendor_api import API_KEY, RateLimit, VendorApi
from runtime.demo.vendor_server import serve_vendor_api
from runtime.demo.world import World

Answer = Mapping[str, Json]


@pytest.fixture
def api(world: World) -> VendorApi:
    return VendorApi(vendor_pages(world), rate=RateLimit(1_000_000, 1_000_000))


@pytest.fixture
async def client(api: VendorApi) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"X-API-Key": API_KEY}
    async with serve_vendor_api(api) as url, httpx.AsyncClient(base_url=url, headers=headers, timeout=5) as made:
        yield made


async def rows_by(client: httpx.AsyncClient, dataset: str, style: str, size: int) -> list[Json]:
    """All rows of a dataset, page after page in one style."""
    found: list[Json] = []
    address = {
        "page": f"/v1/{dataset}?page=1&per_page={size}",
        "offset": f"/v1/{dataset}?offset=0&limit={size}",
        "cursor": f"/v1/{dataset}?limit={size}",
        "link": f"/v1/{dataset}?per_page={size}",
    }[style]
    for number in range(1, 1_000):
        response = await client.get(address)
        page = response.raise_for_status().json()
        found += page["data"]
        if page["next_cursor"] is None or len(found) >= page["total"]:
            return found
        match style:
            case "page":
                address = f"/v1/{dataset}?page={number + 1}&per_page={size}"
            case "offset":
                address = f"/v1/{dataset}?offset={number * size}&limit={size}"
            case "cursor":
                address = f"/v1/{dataset}?limit={size}&cursor={page['next_cursor']}"
            case _:
                address = response.links["next"]["url"]
    raise AssertionError("the pages do not end")


@pytest.mark.parametrize("style", ["page", "offset", "cursor", "link"])
@pytest.mark.parametrize("dataset", ["vendors", "prices", "availability"])
async def test_every_style_of_paging_gives_every_row_once(
    client: httpx.AsyncClient, world: World, dataset: str, style: str
) -> None:
    rows = await rows_by(client, dataset, style, 333)
    given = getattr(world, dataset).delivered
    assert len(rows) == given.num_rows
    if dataset == "prices":
        assert [(row["vendor_id"], row["price"], row["valid_from"]) for row in rows if isinstance(row, dict)] == list(
            zip(*(given[name].to_pylist() for name in ("vendor_id", "price", "valid_from")), strict=True)
        )


async def test_a_vendor_has_a_nested_contact_and_a_time_in_utc(client: httpx.AsyncClient, world: World) -> None:
    first = (await client.get("/v1/vendors", params={"limit": 1})).json()["data"][0]
    assert first["contact"] == {
        "email": world.vendors.delivered["email"][0].as_py(),
        "phone": world.vendors.delivered["phone"][0].as_py(),
    }
    assert datetime.fromisoformat(first["updated_at"]) == world.vendors.clean["updated_at"][0].as_py()


async def test_a_page_says_where_it_is(client: httpx.AsyncClient, world: World) -> None:
    page = (await client.get("/v1/prices", params={"page": 2, "per_page": 100})).json()
    assert page["page"] == 2
    assert page["total"] == world.prices.rows
    assert page["total_pages"] == -(-world.prices.rows // 100)


async def test_a_page_past_the_end_is_empty(client: httpx.AsyncClient) -> None:
    page = (await client.get("/v1/vendors", params={"page": 10_000})).json()
    assert page["data"] == []
    assert page["next_cursor"] is None


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=two",
        "per_page=5001",
        "limit=0",
        "offset=-1",
        "cursor=abc",
        "cursor=%F0%9F%98%80",
        "page=" + "9" * 30,
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(client: httpx.AsyncClient, query: str) -> None:
    response = await client.get(f"/v1/prices?{query}")
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert query.split("=", maxsplit=1)[0] in response.json()["detail"]


async def test_an_unknown_dataset_is_not_found(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/venues")
    assert response.status_code == 404
    assert "availability" in response.json()["detail"]


@pytest.mark.parametrize(
    ("header", "value"), [("Accept", "*/*"), ("X-API-Key", "no"), ("X-API-Key", "ké"), ("Authorization", "Bearer no")]
)
async def test_strangers_are_refused_and_do_not_use_up_the_limit(world: World, header: str, value: str) -> None:
    api = VendorApi(vendor_pages(world), rate=RateLimit(0.001, 1))
    async with serve_vendor_api(api) as url, httpx.AsyncClient(base_url=url) as client:
        for _ in range(3):
            refused = await client.get("/v1/vendors", headers=[(header.encode(), value.encode())])
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Bearer")
        assert (await client.get("/v1/vendors", headers={"X-API-Key": API_KEY})).status_code == 200


async def test_a_bearer_token_opens_as_the_key_does(api: VendorApi) -> None:
    async with serve_vendor_api(api) as url, httpx.AsyncClient(base_url=url) as client:
        response = await client.get("/v1/vendors", headers={"Authorization": f"bearer {API_KEY}"})
    assert response.status_code == 200


async def test_past_the_limit_it_answers_429_with_the_time_to_wait(world: World) -> None:
    api = VendorApi(vendor_pages(world), rate=RateLimit(per_second=0.25, burst=2))
    async with serve_vendor_api(api) as url, httpx.AsyncClient(base_url=url, headers={"X-API-Key": API_KEY}) as client:
        answers = [await client.get("/v1/vendors", params={"limit": 1}) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 4
    assert api.limited == 2


def test_the_bucket_refills_with_time_up_to_its_burst() -> None:
    bucket = RateLimit(per_second=2, burst=3)
    assert [bucket.wait(100.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert bucket.wait(100.5) == 0
    assert bucket.wait(100.5) == 0.5
    assert [bucket.wait(1_000.0) for _ in range(4)] == [0, 0, 0, 0.5]


async def test_it_fails_as_often_as_it_is_told_and_then_recovers(client: httpx.AsyncClient) -> None:
    for mode, status in (("failing", 500), ("busy", 503)):
        await client.put("/v1/behaviour", json={"mode": mode, "times": 2})
        codes = [(await client.get("/v1/vendors", params={"limit": 1})).status_code for _ in range(3)]
        assert codes == [status, status, 200]


async def test_it_answers_html_with_status_200_when_told(client: httpx.AsyncClient) -> None:
    await client.put("/v1/behaviour", json={"mode": "html", "times": 1})
    response = await client.get("/v1/vendors")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")


async def test_it_is_slow_when_told(client: httpx.AsyncClient) -> None:
    await client.put("/v1/behaviour", json={"mode": "slow", "seconds": 30})
    with pytest.raises(httpx.ReadTimeout):
        await client.get("/v1/vendors", timeout=0.2)
    await client.put("/v1/behaviour", json={"mode": "normal"})
    assert (await client.get("/v1/vendors")).status_code == 200


async def test_a_behaviour_it_does_not_have_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.put("/v1/behaviour", json={"mode": "sulking"})).status_code == 400
    assert (await client.put("/v1/behaviour", json={"mode": "slow"}, headers={"X-API-Key": "no"})).status_code == 401


async def test_a_port_that_is_taken_is_told(api: VendorApi) -> None:
    async with serve_vendor_api(api) as url:
        with pytest.raises(Unavailable, match="is taken"):
            async with serve_vendor_api(api, httpx.URL(url).port or 0):
                pass
