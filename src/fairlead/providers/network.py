"""Network: how servers of models are reached: deadlines, a proxy, and which addresses may be called at all.

A name that looks public must lead to a public address, each time it is resolved: else a changed DNS entry could turn
the gateway's requests, with their keys, to a service inside (server-side request forgery). Knows of HTTP only CONNECT.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import urllib.request
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


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
        """The proxy to ask, if any. Raises ValueError for a proxy that is none."""
        url = self.proxy
        if url == "env":
            url = urllib.request.getproxies().get(scheme, "none")
            if urllib.request.proxy_bypass(f"{host}:{port}"):
                url = "none"
        if url == "none":
            return None
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError("a proxy is given as http://host:port")
        headers = {}
        if parts.username:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            headers["proxy-authorization"] = "Basic " + base64.b64encode(login).decode("ascii")
        return Proxy(host=parts.hostname, port=parts.port or 8080, headers=headers)


NETWORK: Final = Network()


class AddressRefused(OSError):
    """A name leads to an address that may not be called."""


async def allowed_addresses(loop: asyncio.AbstractEventLoop, host: str, port: int, *, private: bool) -> list[str]:
    """The addresses of ``host`` that may be called, in the resolver's order. Raises OSError, AddressRefused.

    Link-local ones (where clouds keep their metadata), multicast and unspecified ones are never called. Any
    other address written out is its own declaration; a name leads to private or loopback ones only where ``private``
    says so.
    """
    try:
        written = str(ipaddress.ip_address(host))
    except ValueError:
        pass
    else:
        if not may_call(written, private=True):
            raise AddressRefused(
                f"{host} is no address of a model server; clouds keep their metadata at such addresses"
            )
        return [written]
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    allowed = [address for address in addresses if may_call(address, private=private)]
    if not allowed:
        raise AddressRefused(
            f"{host} leads to {', '.join(addresses)}, which is no public address; if it is meant to, name the host in "
            "the setting private_hosts"
        )
    return allowed


def may_call(address: str, *, private: bool) -> bool:
    """Whether a name may lead to ``address``."""
    ip = _within(ipaddress.ip_address(address.partition("%")[0]))
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return False
    if ip.is_loopback or ip.is_private:
        return private
    return ip.is_global


def _within(ip: Address) -> Address:
    """The IPv4 address an IPv6 one stands for, where it does."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        teredo = ip.teredo
        return ip.ipv4_mapped or ip.sixtofour or (teredo[1] if teredo else None) or ip
    return ip
