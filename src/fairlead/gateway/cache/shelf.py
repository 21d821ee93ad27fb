"""The shelf: kept answers in memory, bounded in bytes, the least recently used go first. Used by one event loop."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

from fairlead.gateway.cache.entry import Entry


class Shelf:
    """Answers by key. ``gone`` is told of every entry that leaves."""

    def __init__(self, limit: int, gone: Callable[[Entry], None] = lambda entry: None) -> None:
        self._limit = limit
        self._gone = gone
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def get(self, key: bytes, now: int) -> Entry | None:
        """The entry of this key unless its time is over (``now``: microseconds since the epoch)."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.answer.expires <= now:
            self.drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, entry: Entry) -> None:
        """Keep an entry in place of an older one of its key. One that is larger than the shelf is not kept."""
        self.drop(entry.answer.key)
        if entry.size > self._limit:
            return
        self._entries[entry.answer.key] = entry
        self.size += entry.size
        while self.size > self._limit:
            self.drop(next(iter(self._entries)))

    def drop(self, key: bytes) -> None:
        """Forget a key; nothing happens where it is not there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= entry.size
            self._gone(entry)

    def clear(self) -> None:
        """Forget everything."""
        for key in list(self._entries):
            self.drop(key)
