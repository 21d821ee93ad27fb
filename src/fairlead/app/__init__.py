"""The composition root: what a use case comes to, and everything wired."""

from fairlead.app.parts import (
    credential,
    credentials,
    doubts,
    faults,
    makes_of,
    operations_of,
    packaged_weights,
    price_of,
    router_of,
)
from fairlead.app.wiring import Fairlead, build, explain_kept

__all__ = [
    "Fairlead",
    "build",
    "credential",
    "credentials",
    "doubts",
    "explain_kept",
    "faults",
    "makes_of",
    "operations_of",
    "packaged_weights",
    "price_of",
    "router_of",
]
