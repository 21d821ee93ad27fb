"""What holds for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The time an example takes says nothing on a busy machine.
settings.register_profile("fairlead", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fairlead")
