"""The GraphiQL page of development: the stock page, signed in by the token behind the `#` of its address."""

from typing import Final

_READ: Final = """
      const TOKEN_KEY = "wedsync-token";
      const given = new URLSearchParams(window.location.hash.slice(1)).get("token");
      if (given) {
        sessionStorage.setItem(TOKEN_KEY, given);
        history.replaceState(null, "", window.location.pathname + window.location.search);
      }
      const token = sessionStorage.getItem(TOKEN_KEY);
"""
_HEADERS: Final = "const defaultHeaders = {};"
_SIGNED_HEADERS: Final = "const defaultHeaders = token ? { authorization: `Bearer ${token}` } : {};"
_SOCKET: Final = "        subscriptionUrl,\n"
_SIGNED_SOCKET: Final = "        subscriptionUrl,\n        wsConnectionParams: defaultHeaders,\n"
_LOADING: Final = ">Loading...<"
_LOADING_FROM: Final = (
    ">GraphiQL is loaded from unpkg.com. Where that cannot be reached, point any GraphQL client at this address, with"
    " the header <code>authorization: Bearer $(wedsync token --role data_engineer)</code>.<"
)
_BEGIN: Final = "<script>\n      const EXAMPLE_QUERY"


def signing_in(page: str) -> str:
    """The page with the sign-in; the token is kept for the tab and taken out of the address, so links do not leak it.

    What the page of another version lacks is left out: people then write the header themselves.
    """
    if _BEGIN not in page:
        return page
    page = page.replace(_BEGIN, _BEGIN.replace("<script>\n", f"<script>{_READ}\n"), 1)
    page = page.replace(_LOADING, _LOADING_FROM, 1)
    return page.replace(_HEADERS, _SIGNED_HEADERS, 1).replace(_SOCKET, _SIGNED_SOCKET, 1)
