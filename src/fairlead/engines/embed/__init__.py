"""A small embedder of our own: numpy only, deterministic, tens of microseconds a message."""

from fairlead.engines.embed.embedder import Embedder
from fairlead.engines.embed.engine import Embed

__all__ = ["Embed", "Embedder"]
