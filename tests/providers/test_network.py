"""How servers are reached: which addresses may be called, and proxies over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.addresses import may_call
from fairlead.errors import UpstreamUnreachable, UsageError
from fairlead.providers.http import HttpClient
from fairlead.providers.network import AddressRefused, Network, allowed_addresses
from tests.providers.test_wire import OK, certificate, soon, speaking


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "::ffff:169.254.169.254",
     "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200"],
)  # fmt: skip
def test_no_name_may_lead_to_metadata_or_to_nobody(address: str) -> None:
    assert not may_call(address, private=True)
    assert not may_call(address, private=False)


@pytest.mark.parametrize(
    "address",
    ["10.0.0.5", "172.16.3.4", "192.168.1.1", "127.0.0.1", "127.8.8.8", "::1", "fd00::1", "100.64.0.1",
     "::ffff:10.0.0.5", "64:ff9b::a00:5", "2002:a00:5::1", "192.0.2.1", "240.0.0.1"],
)  # fmt: skip
def test_only_a_declared_name_may_lead_inside(address: str) -> None:
    assert not may_call(address, private=False)


@given(st.ip_addresses())
def test_a_public_name_leads_to_public_addresses_only(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if may_call(str(ip), private=False):
        reached = (ip.version == 6 and ip.sixtofour) or ip  # newer Pythons call every 6to4 address private
        assert reached.is_global
        assert not any(
            (reached.is_private, reached.is_loopback, ip.is_link_local, reached.is_multicast, reached.is_unspecified)
        )
        assert may_call(str(ip), private=True)


async def test_a_name_that_leads_inside_is_refused_where_it_is_resolved() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(AddressRefused, match="private_hosts"):
        await allowed_addresses(loop, "localhost", 80, private=False)
    assert await allowed_addresses(loop, "localhost", 80, private=True)
    assert await allowed_addresses(loop, "10.0.0.5", 80, private=False) == ["10.0.0.5"], "as it is written"


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "64:ff9b::a9fe:a9fe"]
)
async def test_an_address_where_no_model_can_be_is_refused_though_it_is_written_out(host: str) -> None:
    with pytest.raises(AddressRefused):
        await allowed_addresses(asyncio.get_running_loop(), host, 80, private=True)


@pytest.mark.parametrize("host", ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.16689662", "169.254.43518"])
async def test_other_ways_to_write_the_address_of_metadata_lead_nowhere(host: str) -> None:
    """Resolvers take them for 169.254.169.254, so that what is compared is what was resolved."""
    with pytest.raises(OSError, match=r".+"):
        await allowed_addresses(asyncio.get_running_loop(), host, 80, private=True)


async def test_the_client_calls_no_undeclared_private_address() -> None:
    async with speaking(lambda _: OK) as (url, requests):
        http = HttpClient("server", url.replace("127.0.0.1", "localhost"), headers={}, network=Network(private=False))
        with pytest.raises(UpstreamUnreachable, match="no public address"):
            await http.post("/chat", b"{}", deadline=soon())
        assert not requests
        declared = HttpClient("server", url.replace("127.0.0.1", "localhost"), headers={})
        assert (await declared.post("/chat", b"{}", deadline=soon())).status == 200
        await declared.aclose()


# --- proxies ----------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def proxy(*, refuse: bool = False) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A proxy that tunnels (CONNECT) or passes on one request; the heads it was sent are collected."""
    heads: list[bytes] = []
    tasks: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head)
        target = head.split(b" ")[1]
        if refuse:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
            writer.close()
            return
        connect = head.startswith(b"CONNECT ")
        place = target if connect else target.removeprefix(b"http://").split(b"/")[0]
        to_server, from_client = await asyncio.open_connection("127.0.0.1", int(place.rpartition(b":")[2]))
        if connect:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            from_client.write(head)
        for work in (copy(reader, from_client), copy(to_server, writer)):
            task = asyncio.create_task(work)
            tasks.add(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_tls_through_a_tunnel_verifies_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path, name="127.0.0.1"))
    async with speaking(lambda _: OK, context=context) as (url, _), proxy() as (place, heads):
        network = Network(proxy=f"http://me:se%20cret@{place}", private=False)  # the proxy resolves, not this process
        http = HttpClient("server", url, headers={"authorization": "Bearer own"}, network=network)
        with pytest.raises(UpstreamUnreachable, match="certificate"):
            await http.post("/chat", b"{}", deadline=soon())
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "127.0.0.1.pem"))
        trusting = HttpClient("server", url, headers={"authorization": "Bearer own"}, network=network)
        for _ in range(2):
            response = await trusting.post("/chat", b"{}", deadline=soon())
            assert (response.status, await response.read()) == (200, b"hello")
        await trusting.aclose()
    assert len(heads) == 2, "the tunnel is kept for the next request"
    assert b"proxy-authorization: Basic bWU6c2UgY3JldA==" in heads[1]
    assert b"Bearer own" not in b"".join(heads)


async def test_plain_http_through_a_proxy_and_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with speaking(lambda _: OK) as (url, requests), proxy() as (place, heads):
        monkeypatch.setenv("http_proxy", f"http://{place}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        through = HttpClient("server", url, headers={}, network=Network(proxy="env"))
        assert await (await through.post("/chat", b"{}", deadline=soon())).read() == b"hello"
        assert heads[0].startswith(f"POST {url}/chat HTTP/1.1\r\n".encode())
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        around = HttpClient("server", url, headers={}, network=Network(proxy="env"))
        assert await (await around.post("/chat", b"{}", deadline=soon())).read() == b"hello"
        assert (len(heads), len(requests)) == (1, 2)
        await through.aclose()
        await around.aclose()


async def test_a_proxy_that_refuses_is_named() -> None:
    async with proxy(refuse=True) as (place, _):
        http = HttpClient("server", "https://api.example.com/v1", headers={}, network=Network(proxy=place))
        with pytest.raises(UpstreamUnreachable, match="proxy refused with status 407"):
            await http.post("/chat", b"{}", deadline=soon())
        await http.aclose()


def test_a_proxy_that_is_none() -> None:
    for url in ("socks5://127.0.0.1:1", "http://", "ftp://x", "http://me:planted@x:99999"):
        with pytest.raises(UsageError, match="http://host:port") as caught:
            Network(proxy=url).proxy_for("https", "api.example.com", 443)
        assert "planted" not in str(caught.value)


def test_a_proxy_that_is_none_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(UsageError, match="variable HTTPS_PROXY"):
        Network(proxy="env").proxy_for("https", "api.example.com", 443)


async def test_an_address_of_an_overlay_network_is_its_own_declaration() -> None:
    loop = asyncio.get_running_loop()
    assert await allowed_addresses(loop, "100.101.102.103", 80, private=False) == ["100.101.102.103"]
