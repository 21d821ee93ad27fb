"""What ``fairlead engines`` says where its options are wrong: plain words, and nothing that may be a secret."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from fairlead.cli import application

PLANTED = "planted-4711"


class _Page(BaseHTTPRequestHandler):
    """A server that shows a page whatever is asked, or JSON that is something else."""

    def do_GET(self) -> None:  # the name is http.server's
        body = b"[1]" if self.path.startswith("/list") else b"<!doctype html><title>Console</title>"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing: the test reads what the command says."""


@pytest.fixture(name="page")
def page_fixture() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def told(*arguments: str) -> str:
    ran = CliRunner().invoke(application("engines"), ["engines", *arguments])
    assert ran.exit_code != 0
    said = " ".join((ran.output + str(ran.exception)).split())
    assert PLANTED not in said
    return said


def test_a_key_or_a_password_is_never_shown(page: str) -> None:
    for key in (f"fl-{PLANTED}", PLANTED, f"sk_{PLANTED}"):
        assert "NAME of a variable" in told("list", "--key", key, "--url", page)
    assert "user or a password" in told("list", "--url", page.replace("//", f"//admin:{PLANTED}@"))
    for url in (f"ftp://a:{PLANTED}@host", f"{PLANTED}@host", f"http://[{PLANTED}", f"http://host:{PLANTED}"):
        assert "--url is no address" in told("list", "--url", url)


def test_what_is_not_the_administration_is_told_so(page: str) -> None:
    for url in (f"{page}/console", f"{page}/list"):
        for arguments in (("list",), ("swap", "tiny")):
            assert "is not Fairlead's administration" in told(*arguments, "--url", url)


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", ".", "/", ""])
def test_a_name_that_is_none_is_never_sent(page: str, name: str) -> None:
    assert "There is no engine" in told("swap", name, "--url", page)
