"""The log of the commands that stay: on standard error, without secrets and without what would disturb a terminal."""

from __future__ import annotations

import logging

from fairlead.secret import HidingFormatter


def start_logging(level: str) -> None:
    """Let what is at least as grave as ``level`` be written."""
    handler = logging.StreamHandler()
    handler.setFormatter(HidingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
