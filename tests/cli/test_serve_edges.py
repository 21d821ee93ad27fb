"""``fairlead serve`` with https and an address of its own for administration, as a process."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.processes import await_address
from tests.providers.test_wire import certificate

SHOP = Path(__file__).parents[2] / "examples" / "shop"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_https_and_administration_apart(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(SHOP, shop, ignore=shutil.ignore_patterns(".fairlead"))
    pem = certificate(tmp_path, name="127.0.0.1")
    command = [sys.executable, "-m", "fairlead", "serve", "--project", str(shop), "--port", "0",
               "--tls-certificate", str(pem), "--admin-port"]  # fmt: skip
    trusted = ssl.create_default_context(cafile=str(pem))
    with started(command, tmp_path / "serve.log") as (process, url, inside):
        with httpx.Client(verify=trusted, timeout=60) as client:
            assert client.get(f"{url}/healthz").status_code == 200
            assert client.get(f"{url}/chat").status_code == 200
            assert client.get(f"{url}/console/login").status_code == 404
            assert client.get(f"{url}/metrics").status_code == 404
            assert client.get(f"https://127.0.0.1:{inside}/console/login").status_code == 200
            assert client.get(f"https://127.0.0.1:{inside}/metrics").status_code == 401
            assert client.post(f"https://127.0.0.1:{inside}/v1/chat/completions", json={}).status_code == 404
            assert client.post(f"{url}/v1/chat/completions", json={}).status_code == 401
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname = False
        old.verify_mode = ssl.CERT_NONE
        old.minimum_version, old.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with socket.create_connection(address, 60) as sock, pytest.raises(OSError):
            old.wrap_socket(sock)
        process.terminate()
        assert process.wait(60) == 0


@contextlib.contextmanager
def started(command: list[str], log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, int]]:
    """A server with an address of its own for administration, which no server chooses by itself: (it, URL, port)."""
    while True:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            inside = int(sock.getsockname()[1])
        with log.open("wb") as said, subprocess.Popen([*command, str(inside)], stdout=said, stderr=said) as process:
            try:
                url = await_address(log, process)
            except AssertionError:
                if "already in use" in log.read_text():  # somebody took it first
                    continue
                raise
            else:
                yield process, url, inside
                return
            finally:
                process.kill()


def test_a_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate", encoding="utf-8")
    for path in (broken, tmp_path / "gone.pem"):
        command = [sys.executable, "-m", "fairlead", "serve", "--project", str(SHOP), "--port", "0",
                   "--tls-certificate", str(path)]  # fmt: skip
        shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert shown.returncode == 2, shown.stderr
        assert "--tls-certificate" in shown.stderr
        assert "Traceback" not in shown.stderr


@pytest.mark.parametrize(("flag", "other"), [("--port", "--admin-port"), ("--admin-port", "--port")])
def test_a_port_that_is_taken_is_named_by_its_flag(flag: str, other: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "fairlead", "serve", "--project", str(SHOP), flag, port]
        command += ["--port", "0"] if other == "--port" else []
        shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert shown.returncode != 0
    assert f"Choose another with {flag}," in shown.stderr
