"""A child that follows the lifeline and misbehaves as its configuration says. Run as a script by the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from fairlead.engines import lifeline


class Handler(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def prepare(config: dict[str, Any]) -> int:
    """What is done before listening; the exit status, or 0 to go on."""
    sys.stdout.write(config.get("say", "") + "\n")
    if config.get("die_at_start"):
        return 3
    if config.get("never_ready"):
        Handler.status = 503
    if "grandchild" in config:
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(config["grandchild"]).write_text(str(process.pid))
    if "starts" in config:
        path = Path(config["starts"])
        starts = int(path.read_text()) + 1 if path.exists() else 1
        path.write_text(str(starts))
        if starts > config.get("good_starts", 10**6):
            return 4
    return 0


def main() -> int:
    if os.environ.get("TEST_WITHOUT_DEATH_SIGNAL"):
        lifeline.die_with_parent = lambda: None
    line = lifeline.Lifeline()
    config = line.receive()
    if config.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    status = prepare(config)
    sys.stdout.flush()
    if status:
        return status
    server = HTTPServer(("127.0.0.1", 0), Handler)
    line.report(listening=f"http://127.0.0.1:{server.server_port}")
    for number in range(config.get("flood", 0)):
        sys.stdout.write(f"line {number} " + "x" * 90 + "\n")
    sys.stdout.flush()
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
