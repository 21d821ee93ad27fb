"""A small embedder of our own: numpy only, deterministic, tens of microseconds a message."""

from fairlead.engines.embed.embedder import Embedder

__all__ = ["Embedder"]
