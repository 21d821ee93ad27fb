"""``/admin/engines``: the engines of a running server, and another in the place of one. For who may administer it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import orjson

from fairlead.engines.base import Engine
from fairlead.errors import ContentTypeWrong, FairleadError, MethodWrong, PathUnknown, ServiceError, SwapFailed
from fairlead.gateway import ADMIN, Gateway
from fairlead.gateway.body import check_content_type
from fairlead.gateway.http import Head, Receive, Scope, Send, read_body, respond

PATH: Final = "/admin/engines"
LONGEST_BODY: Final = 4096
log = logging.getLogger(__name__)


class EnginesSurface:
    """GET lists the engines, POST to ``/admin/engines/NAME/swap`` calls ``swap`` with the name; both tell ``doubts``.

    A key with the scope ``admin`` opens both. POST wants JSON, even an empty object: a web page cannot send that to
    another address without being allowed to.
    """

    def __init__(
        self,
        gateway: Gateway,
        engines: Callable[[], list[Engine]],
        swap: Callable[[str], Awaitable[None]],
        doubts: Callable[[], list[str]],
    ) -> None:
        self._gateway = gateway
        self._engines = engines
        self._swap = swap
        self._doubts = doubts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises ServiceError."""
        head = Head(scope)
        path, method = scope["path"].rstrip("/"), scope["method"]
        self._gateway.demand(head, ADMIN)
        name = path.removeprefix(PATH + "/").removesuffix("/swap") if path.endswith("/swap") else ""
        if path != PATH and (not name or "/" in name):
            raise PathUnknown(method=method, path=path[:200])
        allowed = "POST" if name else "GET"
        if method != allowed:
            raise MethodWrong(path=path[:200], method=method, allowed=allowed)
        if name:
            if not head.content_type:
                raise ContentTypeWrong(found="nothing")
            check_content_type(head.content_type, head.content_encoding)
            await read_body(receive, head, LONGEST_BODY)
            await self._swapped(name)
        shown = {"engines": [show(engine) for engine in self._engines()], "doubts": self._doubts()}
        await respond(send, 200, orjson.dumps(shown), head.request)

    async def _swapped(self, name: str) -> None:
        log.info("the engine %s is replaced", name[:80])
        try:
            await self._swap(name)
        except ServiceError:
            raise
        except (FairleadError, OSError) as error:  # OSError: a file of its variants that has gone
            detail = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
            log.warning("%s", detail)
            raise SwapFailed(name=name[:80], detail=detail) from error


def show(engine: Engine) -> dict[str, Any]:
    """An engine as JSON data."""
    health = engine.health()
    return {
        "name": engine.name,
        **msgspec.structs.asdict(health),
        "load": health.load and msgspec.structs.asdict(health.load),
    }
