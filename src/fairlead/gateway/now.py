"""Now: the way of a request whose answer is in memory, taken in one go within the callback that read its last byte.

It takes the steps of ``path`` in the same order, by the same functions, and leaves the same record, but waits for
nothing, so it needs no task, no deadline and no turn of the event loop: half of what such a request costs. Whatever
would have to wait, may be refused or is not the very bytes answered before goes the whole way. A test sends the same
requests both ways.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fairlead.errors import ServiceError
from fairlead.gateway.exchange import Exchange
from fairlead.gateway.path import Path
from fairlead.gateway.route import Route

AdmitNow = Callable[[Exchange], bool]
"""Lets a request in at once; False, with nothing changed, where it would have to wait. May refuse, as a step may."""


class Memory(Protocol):
    """What remembers answers; ``Cache`` is one."""

    def may_know(self, authorization: bytes, operation: str, raw: bytes) -> bool:
        """Whether it is worth asking ``recognise``."""
        ...

    def recognise(self, x: Exchange) -> bool:
        """Whether these very bytes were answered before; then all that was read out of them is set."""
        ...

    def has_known(self, x: Exchange, route: Route) -> bool:
        """Whether that answer is still what would be given where ``route`` answers."""
        ...

    def give_known(self, x: Exchange) -> None:
        """Set it as the reply."""
        ...


class Now:
    """``admit_now`` stands for all steps of ``admit``; with steps of other kinds nothing goes this way."""

    def __init__(self, path: Path, memory: Memory, admit_now: AdmitNow | None) -> None:
        self._path = path
        self.memory = memory
        self._admit_now = admit_now
        steps = path.steps
        alone = not (steps["mask"] or steps["screen"] or steps["restore"])
        self.able = (
            alone
            and len(steps["admit"]) == (admit_now is not None)
            and len(steps["recall"]) == len(steps["check"]) == 1  # the memory's own
        )

    def take(self, x: Exchange) -> bool:
        """Take ``x`` (its ``raw`` is there) to its answer. False: it is for the whole way, and nothing has happened.

        Raises ServiceError where it was refused; either way, ``over`` follows.
        """
        path, memory = self._path, self.memory
        if path.closing:
            return False
        try:
            path.authenticate(x)
            if not memory.recognise(x) or x.stream or x.principal is None:
                return False
            x.mark("read")
            x.principal.demand(x.body["model"], x.operation)
            route = path.pick(x)
        except ServiceError:
            return False  # told on the whole way
        if x.named is not None or not memory.has_known(x, route):  # a router tells in the record whom it chose
            return False
        if self._admit_now is not None:
            if not self._admit_now(x):
                return False
            x.mark("admit")
        x.route = route
        x.mark("choose")
        memory.give_known(x)
        x.mark("recall")
        return True

    def over(self, x: Exchange) -> None:
        """The answer has gone."""
        for told in x.afterwards:
            told(x)
        self._path.over(x)
