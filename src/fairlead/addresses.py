"""Addresses: which ones a model server may have, written out or as what a name leads to. Pure; resolves nothing."""

from __future__ import annotations

import ipaddress
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_SHARED: Final = ipaddress.ip_network("100.64.0.0/10")
"""Neither public nor private to Python; carriers' and overlay networks (RFC 6598)."""
_METADATA: Final = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200")))
"""Where AWS, Google and Alibaba keep a machine's credentials outside the link-local range."""


def address_of(host: str) -> Address | None:
    """The address that ``host`` is, without brackets or a zone; None for a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def may_call(address: str, *, private: bool) -> bool:
    """Whether a model server may be at ``address``; ``private`` where it may be inside.

    Link-local ones (where clouds keep their metadata), multicast and unspecified ones are never called.
    """
    ip = _within(ipaddress.ip_address(address.partition("%")[0]))
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip in _METADATA:
        return False
    if ip.is_loopback or ip.is_private or (ip.version == 4 and ip in _SHARED):
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
