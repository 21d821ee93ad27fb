"""Network: how servers of models are reached: deadlines, a proxy, and which addresses may be called at all.

A name that looks public must lead to a public address, each time it is resolved: else a changed DNS entry could turn
the gateway's requests, with their keys, to a service inside (server-side request forgery). Knows of HTTP only CONNECT.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import urllib.request
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from fairlead.addresses import address_of, may_call
from fairlead.errors import UsageError


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP proxy. ``headers`` prove who asks it."""

    host: str
    port: int
    headers: dict[str, str]

    def connect(self, host: str, port: int) -> bytes:
        """The request for a tunnel."""
        to = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = "".join(f"{key}: {value}\r\n" for key, value in self.headers.items())
        return f"CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n{lines}\r\n".encode("latin-1")


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds; 0 means as long as the request itself may take.

    ``first_byte_s``: until a stream begins. ``idle_s``: between two pieces of an answer. ``proxy``: a URL, ``none``, or
    ``env`` for what HTTP_PROXY, HTTPS_PROXY and NO_PROXY say. ``private``: the server may have a private address.
    """

    connect_s: float = 5.0
    first_byte_s: float = 0.0
    idle_s: float = 0.0
    proxy: str = "none"
    private: bool = True

    def proxy_for(self, scheme: str, host: str, port: int) -> Proxy | None:
        """The proxy to ask, if any. Raises UsageError for a proxy that is none."""
        url, source = self.proxy, "setting proxy"
        if url == "env":
            url, source = urllib.request.getproxies().get(scheme, "none"), f"variable {scheme.upper()}_PROXY"
            if urllib.request.proxy_bypass(f"{host}:{port}"):
                url = "none"
        if url == "none":
            return None
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            name, place = parts.hostname if parts.scheme == "http" else None, parts.port or 8080
        except ValueError:
            name = None
        if name is None:
            raise UsageError(
                detail=f"The {source} names no proxy that can be used; expected http://host:port, or --proxy none."
            )
        headers = {}
        if parts.username:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            headers["proxy-authorization"] = "Basic " + base64.b64encode(login).decode("ascii")
        return Proxy(host=name, port=place, headers=headers)


NETWORK: Final = Network()


class AddressRefused(OSError):
    """A name leads to an address that may not be called."""


async def allowed_addresses(loop: asyncio.AbstractEventLoop, host: str, port: int, *, private: bool) -> list[str]:
    """The addresses of ``host`` that may be called, in the resolver's order. Raises OSError, AddressRefused.

    Link-local ones (where clouds keep their metadata), multicast and unspecified ones are never called. Any
    other address written out is its own declaration; a name leads to private or loopback ones only where ``private``
    says so.
    """
    if (written := address_of(host)) is not None:
        if not may_call(str(written), private=True):
            raise AddressRefused(
                f"{host} is no address of a model server; clouds keep their metadata at such addresses"
            )
        return [str(written)]
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    allowed = [address for address in addresses if may_call(address, private=private)]
    if not allowed:
        raise AddressRefused(
            f"{host} leads to {', '.join(addresses)}, which is no public address; if it is meant to, name the host in "
            "the setting private_hosts"
        )
    return allowed
