"""The HTTP client against hostile and broken servers, over real sockets: an answer or an error, and in time."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gc
import gzip
import ipaddress
import random
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fairlead.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from fairlead.providers import wire
from fairlead.providers.deadline import TICK_S
from fairlead.providers.http import HttpClient, Response
from fairlead.providers.network import Network
from fairlead.providers.wire import HIGH, MAX_HEAD_BYTES, Connection
from tests.gateway.gateway_harness import pass_time, until

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
Answer = bytes | Sequence[bytes]


@contextlib.asynccontextmanager
async def speaking(
    answer: Callable[[int], Answer], *, close: bool = False, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that writes ``answer(number of the request)``, each part by itself."""
    requests: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                requests.append(head + await reader.readexactly(length))
                parts = answer(len(requests))
                for part in [parts] if isinstance(parts, bytes) else parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
                if close:
                    break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    scheme = "https" if context is not None else "http"
    try:
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", requests
    finally:
        server.close()
        await asyncio.sleep(0.05)  # a connection accepted in this moment gets its writer
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def client(url: str, **headers: str) -> AsyncIterator[HttpClient]:
    made = HttpClient("server", url, headers=headers)
    try:
        yield made
    finally:
        await made.aclose()


async def ask(http: HttpClient, timeout_s: float = 20.0, body: bytes = b"{}") -> tuple[int, bytes]:
    response = await http.post("/chat", body, deadline=soon(timeout_s))
    return response.status, await response.read()


def into(taken: list[bytes]) -> Callable[[bytes], bool]:
    def take(data: bytes) -> bool:
        taken.append(data)
        return True

    return take


def soon(seconds: float = 30.0) -> float:
    return asyncio.get_running_loop().time() + seconds


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK, b"hello"),
        (CHUNKED + b"3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\n\r\n", b"hello"),
        (CHUNKED + b"5\r\nhello\r\n0\r\ncontent-type: z\r\nx-trailer: y\r\n\r\n", b"hello"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b""),
    ],
)
async def test_whole_answers_cut_anywhere_keep_the_connection(answer: bytes, body: bytes, step: int) -> None:
    parts = [answer[place : place + step] for place in range(0, len(answer), step)]
    async with speaking(lambda _: parts) as (url, requests), client(url) as http:
        for _ in range(3):
            assert (await ask(http))[1] == body
        assert len(requests) == 3
        assert len(http._open) == 1


async def test_a_body_until_the_end_of_the_connection() -> None:
    async with speaking(lambda _: b"HTTP/1.0 200 OK\r\n\r\nhello", close=True) as (url, _), client(url) as http:
        assert await ask(http) == (200, b"hello")
        assert await ask(http) == (200, b"hello")


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
async def test_packed_bodies_are_unpacked(packing: str) -> None:
    body = gzip.compress(b"hello") if packing == "gzip" else zlib.compress(b"hello")
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: %b\r\ncontent-length: %d\r\n\r\n" % (packing.encode(), len(body))
    async with speaking(lambda _: [head, body[:4], body[4:]]) as (url, _), client(url) as http:
        assert await ask(http) == (200, b"hello")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", "within the answer"),
        (CHUNKED + b"5\r\nhello\r\n", "within the answer"),
        (CHUNKED + b"5\r\nhel", "within the answer"),
        (CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n", "no valid HTTP"),
        (CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", "no valid HTTP"),
        (CHUNKED + b"fffffffffffffffff\r\nhello", "no valid HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello", "cannot be unpacked"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 20\r\n\r\n"
            + gzip.compress(b"hello" * 9, mtime=0)[:20],
            "cut short",
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 1\r\n\r\nx", "not asked for"),
    ],
)
async def test_a_body_that_goes_wrong_is_never_a_whole_one(answer: bytes, said: str) -> None:
    async with speaking(lambda _: answer, close=True) as (url, _), client(url) as http:
        with pytest.raises((UpstreamBroken, UpstreamUnreachable), match=said):
            await ask(http)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length : 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-type: a\r\ncontent-type: b\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\nbroken\n\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * (MAX_HEAD_BYTES + 10_000),
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"h%d: v\r\n" % number for number in range(20_000)),
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"",
    ],
)
async def test_a_head_that_is_none_is_refused(answer: bytes) -> None:
    async with speaking(lambda _: answer, close=True) as (url, _), client(url) as http:
        with pytest.raises((UpstreamUnreachable, UpstreamBroken)):
            await ask(http)


async def test_a_second_answer_nobody_asked_for_closes_the_connection() -> None:
    forged = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"
    async with speaking(lambda number: OK + forged if number == 1 else OK) as (url, requests), client(url) as http:
        for _ in range(4):
            assert await ask(http) == (200, b"hello"), "the forged answer was taken for the next one"
        assert len(requests) == 4


async def test_an_answer_that_comes_while_the_connection_rests_is_not_taken_for_the_next() -> None:
    async with speaking(lambda number: [OK, b"", b"", OK] if number == 1 else OK) as (url, _), client(url) as http:
        assert await ask(http) == (200, b"hello")
        await asyncio.sleep(0.05)
        assert await ask(http) == (200, b"hello")
        assert http._open


async def test_a_packed_bomb_does_not_unpack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_BODY_BYTES", 1_000_000)
    bomb = gzip.compress(bytes(300_000_000 // 10))
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)
    async with speaking(lambda _: [head, bomb]) as (url, _), client(url) as http:
        with pytest.raises(UpstreamBroken, match="more than"):
            await ask(http)


async def test_a_body_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_BODY_BYTES", 1_000_000)
    parts = [CHUNKED, *([b"10000\r\n" + bytes(0x10000) + b"\r\n"] * 40)]
    async with speaking(lambda _: parts) as (url, _), client(url) as http:
        with pytest.raises(UpstreamBroken, match="more than"):
            await ask(http)


async def test_who_reads_slowly_slows_the_server_down() -> None:
    sent = 0

    def parts() -> Sequence[bytes]:
        class Counting(list[bytes]):
            def __iter__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204
                nonlocal sent
                yield CHUNKED
                for _ in range(400):
                    sent += 0x10000
                    yield b"10000\r\n" + bytes(0x10000) + b"\r\n"
                yield b"0\r\n\r\n"

        return Counting()

    async with speaking(lambda _: parts()) as (url, _), client(url) as http:
        response = await http.post("/chat", b"{}", deadline=soon())
        await asyncio.sleep(0.5)
        assert sent < 16_000_000, "the server was read from although nobody reads"
        (connection,) = http._open
        assert connection.unread <= HIGH + 512 * 1024
        assert len(await response.read()) == 400 * 0x10000


async def test_a_slow_trickle_ends_at_the_deadline() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                for byte in b"HTTP/1.1 200 OK\r\n" * 100:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.02)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1") as http:
        with pytest.raises(UpstreamTimeout):
            await ask(http, timeout_s=0.3)
        assert not http._open, "the server goes on working for nobody"
    server.close()
    await asyncio.sleep(0.05)


async def test_a_stream_out_of_time_says_so_and_closes() -> None:
    async with speaking(lambda _: [CHUNKED, b"2\r\nhi\r\n"]) as (url, _), client(url) as http:
        pass_time()
        response = await http.post("/chat", b"{}", deadline=soon(90))
        assert await anext(response) == b"hi"
        pass_time(100)
        with pytest.raises(UpstreamTimeout):
            await anext(response)
        await response.aclose()
        assert not http._idle


async def test_a_pumped_stream_out_of_time_says_so_and_closes() -> None:
    async with speaking(lambda _: [CHUNKED, b"2\r\nhi\r\n"]) as (url, _), client(url) as http:
        pass_time()
        response = await http.post("/chat", b"{}", deadline=soon(90))
        taken: list[bytes] = []

        def take(data: bytes) -> bool:
            pass_time(100)
            return into(taken)(data)

        with pytest.raises(UpstreamTimeout):
            await response.pump(take)
        assert taken == [b"hi"]
        assert not http._idle
        await response.aclose()


@pytest.mark.parametrize("step", [1, 5, 1000])
async def test_what_is_pumped_is_what_is_read_and_the_connection_is_kept(step: int) -> None:
    answer = CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\nx-trailer: y\r\n\r\n"
    parts = [answer[place : place + step] for place in range(0, len(answer), step)]
    async with speaking(lambda _: parts) as (url, requests), client(url) as http:
        for _ in range(3):
            response = await http.post("/chat", b"{}", deadline=soon())
            taken: list[bytes] = []
            await response.pump(into(taken))
            assert b"".join(taken) == b"hello"
        assert (len(requests), len(http._open), len(http._idle)) == (3, 1, 1)


@pytest.mark.parametrize(
    "cut", [CHUNKED + b"3\r\nhel\r\n", CHUNKED + b"3\r\nhel\r\n5\r\nlo", CHUNKED + b"3\r\nhel\r\nzz\r\n"]
)
async def test_a_pumped_body_cut_short_is_never_a_whole_one(cut: bytes) -> None:
    async with speaking(lambda _: cut, close=True) as (url, _), client(url) as http:
        response = await http.post("/chat", b"{}", deadline=soon())
        with pytest.raises(UpstreamBroken):
            await response.pump(lambda _: True)
        assert not http._idle


async def test_what_the_taker_raises_ends_the_stream() -> None:
    def take(data: bytes) -> bool:
        raise KeyError("mine")

    async with speaking(lambda _: [CHUNKED, b"2\r\nhi\r\n"]) as (url, _), client(url) as http:
        response = await http.post("/chat", b"{}", deadline=soon())
        with pytest.raises(KeyError, match="mine"):
            await response.pump(take)
        response.close()
        assert not http._idle


async def test_a_taker_that_is_full_stops_the_server_until_it_resumes() -> None:
    pieces = [b"10000\r\n" + bytes(0x10000) + b"\r\n"] * 400
    async with speaking(lambda _: [CHUNKED, *pieces, b"0\r\n\r\n"]) as (url, _), client(url) as http:
        response = await http.post("/chat", b"{}", deadline=soon(60))
        size, calls = 0, 0

        def take(data: bytes) -> bool:
            nonlocal size, calls
            size, calls = size + len(data), calls + 1
            asyncio.get_running_loop().call_later(0.002, response.resume)
            return False

        await response.pump(take)
        assert size == 400 * 0x10000
        assert calls > 50  # a pause after each, none lost


async def test_a_stream_that_does_not_begin_ends_at_its_own_deadline() -> None:
    async with speaking(lambda _: b"HTTP/1.1 100 Continue\r\n\r\n") as (url, _):
        http = HttpClient("server", url, headers={}, network=Network(first_byte_s=0.2))
        with pytest.raises(UpstreamTimeout, match=r"0\.2 s"):
            await http.post("/chat", b"{}", deadline=soon(30), stream=True)
        with pytest.raises(UpstreamTimeout, match=r"1\.\d* s"):  # a whole answer may take its time
            await http.post("/chat", b"{}", deadline=soon(1.5))
        await http.aclose()


async def test_silence_within_an_answer_ends_at_its_own_deadline_and_a_trickle_does_not() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(CHUNKED)
            for number in range(6):
                writer.write(b"1\r\nx\r\n")
                await until(lambda: len(b"".join(taken)) > number, "it is heard")  # noqa: B023
                pass_time(60)
                await asyncio.sleep(2 * TICK_S)
            pass_time(40)
            await reader.read()  # until the client has had enough
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    http = HttpClient("server", url, headers={}, network=Network(idle_s=90))
    pass_time()
    taken: list[bytes] = []
    response = await http.post("/chat", b"{}", deadline=soon(10_000))
    with pytest.raises(UpstreamTimeout, match=r" 90 s"):
        await response.pump(into(taken))
    assert b"".join(taken) == b"x" * 6
    await http.aclose()
    server.close()
    await asyncio.sleep(0.05)


async def test_the_server_is_told_how_long_is_left() -> None:
    async with speaking(lambda _: OK) as (url, requests), client(url) as http:
        await ask(http, timeout_s=20)
    told = requests[0].split(b"x-request-timeout: ")[1].split(b"\r\n")[0]
    assert 5.0 < float(told) <= 20


async def test_a_late_close_of_an_old_answer_leaves_the_next_one_alone() -> None:
    async with speaking(lambda _: OK) as (url, _), client(url) as http:
        old: Response = await http.post("/chat", b"{}", deadline=soon())
        assert await old.read() == b"hello"
        new = await http.post("/chat", b"{}", deadline=soon())
        old.close()
        assert await old.chunk() == b""
        assert await new.read() == b"hello"


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # asyncio drops a connection it accepts while closing
async def test_hundreds_of_answers_damaged_at_random_never_hang_and_never_poison_the_next() -> None:
    rng = random.Random(11)
    whole = [OK, CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"HTTP/1.1 404 No\r\ncontent-length: 2\r\n\r\nno"]

    def damaged(_: int) -> Answer:
        if requests[-1].endswith(b"whole"):
            return OK
        data = bytearray(rng.choice(whole))
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(data))
            action = rng.random()
            if action < 0.4:
                data[place] = rng.randrange(256)
            elif action < 0.7:
                del data[place : place + rng.randint(1, 6)]
            else:
                data[place:place] = rng.choice([b"\r\n", b"\0", b": ", b"0\r\n\r\n", rng.randbytes(5)])
            if not data:
                break
        return bytes(data)

    outcomes = {"answered": 0, "refused": 0, "late": 0}
    async with speaking(damaged) as (url, requests), client(url) as http:
        for turn in range(600):
            odd = turn % 2 == 0
            try:
                answer = await ask(http, timeout_s=0.3 if odd else 30.0, body=b"odd" if odd else b"whole")
            except (UpstreamBroken, UpstreamUnreachable):
                assert odd
                outcomes["refused"] += 1
            except UpstreamTimeout:  # an answer that announces more than it sends is waited for
                assert odd
                outcomes["late"] += 1
            else:
                outcomes["answered"] += 1
                assert odd or answer == (200, b"hello")
    gc.collect()  # while the warning of such a connection is not an error
    assert min(outcomes.values()) > 0, outcomes


def test_a_header_cannot_carry_a_second_one() -> None:
    with pytest.raises(ValueError, match="line break"):
        HttpClient("server", "http://127.0.0.1:1/v1", headers={"a": "b\r\nc: d"})


async def test_connections_that_rested_too_long_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.providers.http.IDLE_S", 0.0)
    async with speaking(lambda _: OK) as (url, _), client(url) as http:
        seen: set[Connection] = set()
        for _ in range(3):
            await ask(http)
            seen |= http._open
            await asyncio.sleep(0.01)
        assert len(seen) == 3
        assert len(http._open) == 1


def certificate(folder: Path, *, name: str) -> Path:
    """A certificate that signs itself, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address(name))
    made = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def test_tls_with_a_known_authority_and_never_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, trusted in (("127.0.0.1", True), ("127.0.0.1", False), ("127.0.0.2", True)):
        path = certificate(tmp_path, name=name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        monkeypatch.setenv("SSL_CERT_FILE", str(path) if trusted else "/dev/null")
        async with speaking(lambda _: OK, context=context) as (url, requests), client(url) as http:
            if trusted and name == "127.0.0.1":
                assert await ask(http) == (200, b"hello")
                assert await ask(http) == (200, b"hello")
                continue
            with pytest.raises(UpstreamUnreachable, match="certificate"):
                await ask(http)
            assert requests == [], "the request went to a server that proved nothing"
