"""The door of the pages: what is behind it is loaded when somebody first comes. An API alone never needs it.

Templates, charts and statistics took an eighth of a server's start and 9 MB.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

if TYPE_CHECKING:
    from fairlead.app import Fairlead
    from fairlead.console.site import Site


class Door:
    """The pages over one ``Fairlead`` as an ASGI application."""

    def __init__(self, fairlead: Fairlead) -> None:
        self._fairlead = fairlead
        self._site: Site | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        site = self._site or await self._open()
        await site(scope, receive, send)

    async def _open(self) -> Site:
        # In a thread, so that requests under way go on meanwhile.
        module = await asyncio.to_thread(importlib.import_module, "fairlead.console.site")
        if self._site is None:
            self._site = module.create_site(self._fairlead)
        return self._site

    async def aclose(self) -> None:
        """Cancel answers that still run; call it when the server stops."""
        if self._site is not None:
            await self._site.aclose()


def create_app(fairlead: Fairlead) -> Door:
    """The pages over one ``Fairlead``."""
    return Door(fairlead)
