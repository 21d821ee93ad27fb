"""Answers given before, given again: to the same question, to one asked at the same time, to one that says the same.

See docs/design/cache.md. Everything here belongs to one tenant, one release and one way of asking, by construction of
the key; what is kept on disk is the store's business, what two texts have in common is ``guard``'s and the embedder's.
"""

from fairlead.gateway.cache.bands import Bands, Bound
from fairlead.gateway.cache.cache import Backing, Cache, News
from fairlead.gateway.cache.neighbours import Judge
from fairlead.gateway.cache.rules import Rules, Verified

__all__ = ["Backing", "Bands", "Bound", "Cache", "Judge", "News", "Rules", "Verified"]
