"""The link that a server prints signs its reader in to GraphiQL."""

import httpx

from api.graphiql import signing_in


async def test_the_page_reads_the_token_of_its_address_and_sends_it(live: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://{live}") as client:
        page = (await client.get("/graphql", headers={"accept": "text/html"})).text
    read, headers = page.index('get("token")'), page.index("authorization: `Bearer ${token}`")
    assert read < headers < page.index("wsConnectionParams: defaultHeaders")
    assert "window.location.hash" in page
    assert "Loading..." not in page
    assert "unpkg.com. Where that cannot be reached" in page


def test_the_page_of_another_version_is_left_as_it_is() -> None:
    assert signing_in("<html></html>") == "<html></html>"
