"""The only SQL and the only files: entities in SQLite, traces in journal and Parquet, objects, counters.

``Store.open(directory)`` is the way in. The store knows record types, and nothing of HTTP, models or use cases.
"""

from fairlead.store.objects import Objects
from fairlead.store.releases import StoredUseCase
from fairlead.store.store import Store

__all__ = ["Objects", "Store", "StoredUseCase"]
