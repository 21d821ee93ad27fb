"""Other protocols spoken to clients: each translates to a chat request and back, the gateway's own path serves it."""

from fairlead.gateway.surfaces.asgi import Dialect, Surface
from fairlead.gateway.surfaces.messages import Messages
from fairlead.gateway.surfaces.responses import Responses

DIALECTS: dict[str, type[Dialect]] = {"/v1/responses": Responses, "/v1/messages": Messages}
"""Path to the dialect that is spoken there."""

__all__ = ["DIALECTS", "Dialect", "Surface"]
