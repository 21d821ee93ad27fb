"""Names to lazily imported factories: a provider, engine, scorer or renderer is one file plus one line in a table.

An outsider adds one without touching the core, through a packaging entry point in the registry's group. A registry
does not know what its factories build.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

from fairlead.errors import ChoiceUnknown

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps a name to ``"module:attribute"``, imported only when the name is used.

    ``kind`` is the noun the error message uses; ``group`` the entry-point group outsiders register under.
    """

    def __init__(self, kind: str, table: Mapping[str, str], *, group: str) -> None:
        self.kind = kind
        self.group = group
        self._table = dict(table)

    def names(self) -> list[str]:
        """Every name that can be used, ours first, then those of installed plug-ins."""
        return [*self._table, *sorted(point.name for point in entry_points(group=self.group))]

    def load(self, name: str) -> Callable[..., T]:
        """The factory called ``name``. Raises ChoiceUnknown, with the choices, when there is none."""
        if name in self._table:
            module, _, attribute = self._table[name].partition(":")
            return cast("Callable[..., T]", getattr(importlib.import_module(module), attribute))
        for point in entry_points(group=self.group, name=name):
            return cast("Callable[..., T]", point.load())
        raise ChoiceUnknown(kind=self.kind, name=name, choices=", ".join(self.names()))

    def build(self, name: str, *args: Any, **kwargs: Any) -> T:
        """Load the factory called ``name`` and call it."""
        return self.load(name)(*args, **kwargs)
