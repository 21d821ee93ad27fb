"""``fairlead serve`` with https and an address of its own for administration, as a process."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.providers.test_wire import certificate

SHOP = Path(__file__).parents[2] / "examples" / "shop"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_https_and_administration_apart(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(SHOP, shop, ignore=shutil.ignore_patterns(".fairlead"))
    pem = certificate(tmp_path, name="127.0.0.1")
    port, inside = free_port(), free_port()
    command = [sys.executable, "-m", "fairlead", "serve", "--project", str(shop), "--port", str(port),
               "--admin-port", str(inside), "--tls-certificate", str(pem)]  # fmt: skip
    trusted = ssl.create_default_context(cafile=str(pem))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            with httpx.Client(verify=trusted, timeout=10) as client:
                until = time.monotonic() + 120
                while True:
                    try:
                        assert client.get(f"https://127.0.0.1:{port}/healthz").status_code == 200
                        break
                    except httpx.TransportError:
                        assert process.poll() is None, process.stderr and process.stderr.read().decode()
                        assert time.monotonic() < until
                        time.sleep(0.1)
                assert client.get(f"https://127.0.0.1:{port}/chat").status_code == 200
                assert client.get(f"https://127.0.0.1:{port}/console/login").status_code == 404
                assert client.get(f"https://127.0.0.1:{port}/metrics").status_code == 404
                assert client.get(f"https://127.0.0.1:{inside}/console/login").status_code == 200
                assert client.get(f"https://127.0.0.1:{inside}/metrics").status_code == 401
                assert client.post(f"https://127.0.0.1:{inside}/v1/chat/completions", json={}).status_code == 404
                assert client.post(f"https://127.0.0.1:{port}/v1/chat/completions", json={}).status_code == 401
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.check_hostname = False
            old.verify_mode = ssl.CERT_NONE
            old.minimum_version, old.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_1
            old.set_ciphers("ALL:@SECLEVEL=0")
            with socket.create_connection(("127.0.0.1", port), 5) as sock, pytest.raises(OSError):
                old.wrap_socket(sock)
        finally:
            process.terminate()
            assert process.wait(30) == 0


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
