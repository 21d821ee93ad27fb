"""``python -m fairlead.tools FILE`` serves a file of tools over MCP on standard input and output."""

from __future__ import annotations

import sys
from pathlib import Path

from fairlead.tools.server import serve

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m fairlead.tools FILE.py")
    sys.exit(serve(Path(sys.argv[1])))
