"""Keeps outgoing requests off private networks: a name is resolved once, and what passed is connected to."""

import ipaddress
import socket

import httpx

from models.errors import Terminal

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class GuardedTransport(httpx.BaseTransport):
    """Connects to the resolved addresses themselves, so that a second answer of the name server cannot redirect us.

    The `Host` header and the name that TLS verifies stay the original ones. Raises `Terminal` with the code
    `private_address` where any address of the host is not public, unless `allow_private`.
    """

    def __init__(self, inner: httpx.BaseTransport, *, allow_private: bool) -> None:
        self._inner = inner
        self._allow_private = allow_private

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request to the first address that takes the connection."""
        host = request.url.host
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        *others, last = self._resolve(request, host, port)
        for address in others:
            try:
                return self._inner.handle_request(_addressed(request, host, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return self._inner.handle_request(_addressed(request, host, last))

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()

    def _resolve(self, request: httpx.Request, host: str, port: int) -> list[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise httpx.ConnectError(f"the name {host} cannot be resolved: {error}", request=request) from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        private = [address for address in addresses if not is_public(address)]
        if private and not self._allow_private:
            raise Terminal(
                f"{host} is the address {private[0]}, which is not public",
                hint="use a public address, or have the administrator set allow_private_addresses",
                code="private_address",
                path="base_url",
            )
        return addresses


def is_public(text: str) -> bool:
    """Whether an IP address is one of the public internet; an address that wraps an IPv4 one is judged by that."""
    address: Address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = address.ipv4_mapped or address.sixtofour
        if wrapped is None and address in NAT64:
            wrapped = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if wrapped is not None:
            address = wrapped
    return address.is_global and not address.is_multicast


def _addressed(request: httpx.Request, host: str, address: str) -> httpx.Request:
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )
