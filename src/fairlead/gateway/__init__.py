"""The data plane: OpenAI-compatible HTTP, and the same request path in process (see docs/design/request-path.md)."""

from fairlead.gateway.edge import Shown
from fairlead.gateway.exchange import Exchange, Step
from fairlead.gateway.front import IDLE_S, fronting
from fairlead.gateway.gateway import Gateway
from fairlead.gateway.keyring import ADMIN, ANONYMOUS, INFERENCE, KeySource, Principal
from fairlead.gateway.memory import settle
from fairlead.gateway.path import SLOTS, Slot
from fairlead.gateway.route import Identity, Route

__all__ = [
    "ADMIN",
    "ANONYMOUS",
    "IDLE_S",
    "INFERENCE",
    "SLOTS",
    "Exchange",
    "Gateway",
    "Identity",
    "KeySource",
    "Principal",
    "Route",
    "Shown",
    "Slot",
    "Step",
    "fronting",
    "settle",
]
