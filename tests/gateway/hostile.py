"""A model server that sends what a test tells it to, byte by byte, over a real socket."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

Part = bytes | threading.Event
"""Bytes to send as one piece, or something to wait for."""
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunked(*pieces: bytes) -> list[Part]:
    """The head of a stream and its pieces, each a chunk; not its end."""
    return [STREAM, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)]


def whole(body: bytes, status: bytes = b"200 OK", kind: bytes = b"application/json") -> list[Part]:
    """A complete answer."""
    return [b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (status, kind, len(body), body)]


class Hostile:
    """Answers every request with ``answer(number of the request)``. ``requests`` are what it was sent."""

    def __init__(self, answer: Callable[[int], Iterable[Part]]) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError, IndexError), connection:
            while True:
                received = b""
                while b"\r\n\r\n" not in received:
                    received += self._more(connection)
                head, _, body = received.partition(b"\r\n\r\n")
                _, found, rest = head.lower().partition(b"content-length: ")
                length = int(rest.split(b"\r\n")[0]) if found else 0
                while len(body) < length:
                    body += self._more(connection)
                self.requests.append(head + b"\r\n\r\n" + body)
                for part in self.answer(len(self.requests)):
                    if isinstance(part, threading.Event):
                        part.wait(60)
                    elif part:
                        connection.sendall(part)
                    else:
                        return

    @staticmethod
    def _more(connection: socket.socket) -> bytes:
        data = connection.recv(65536)
        if not data:
            raise ValueError("it left")
        return data

    def stop(self) -> None:
        """Close every connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)


@contextlib.contextmanager
def hostile(answer: Callable[[int], Iterable[Part]] | Sequence[Part]) -> Iterator[Hostile]:
    """A server that answers so; an empty part closes the connection."""
    server = Hostile(answer if callable(answer) else lambda _: answer)
    try:
        yield server
    finally:
        server.stop()
