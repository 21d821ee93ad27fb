"""What holds for every test."""

from __future__ import annotations

import os

import httpx._config
from hypothesis import HealthCheck, settings

# The time an example takes says nothing on a busy machine.
settings.register_profile("fairlead", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fairlead")
os.environ["SHOP_TODAY"] = "2026-11-20"  # the example shop dates its orders from today; tests name their dates
# Nor does httpx's own limit of five seconds: a first answer may take longer there, and no test means that limit.
for _step in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, _step, 60.0)
