"""Tools: what a model may look up or ask to change. Import this in a file of tools; it loads next to nothing.

A file of tools is plain Python: each public function is a tool, ``reads`` and ``writes`` say what it does. Such a file
is also an MCP server: ``python -m fairlead.tools tools.py``. What is done with a tool's results is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

__all__ = ["Cap", "Context", "Customer", "Rule", "reads", "writes"]

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Customer:
    """Who is being helped, established in code: a tool that takes one is only called when it is known.

    ``id`` is the name the shop itself uses for the customer.
    """

    id: str
    email: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What goes with a call besides its arguments. No model sees or chooses any of it.

    ``key`` is the same whenever the same action is tried: a tool that changes something does it once for each.
    """

    key: str = ""
    customer: Customer | None = None
    conversation: str = ""


@dataclass(frozen=True, slots=True)
class Cap:
    """The most ``argument`` may come to for one customer within ``hours``; what is more goes to a person."""

    argument: str
    max: float
    hours: float = 24.0


@dataclass(frozen=True, slots=True)
class Rule:
    """What a tool does and what must come before it. Nobody having said anything, a tool changes something.

    ``ask``: the question to the customer, with arguments in braces; ``check``: the tool that is called before the
    question; ``identifies``: its result may say who the customer is; ``customer``: it is only for a known customer;
    ``hidden``: not offered to models; ``bind``: arguments taken from the customer (``id``, ``email``, ``name``)
    instead of from a model.
    """

    effect: Literal["reads", "writes"] = "writes"
    ask: str = ""
    check: str = ""
    cap: Cap | None = None
    identifies: bool = False
    customer: bool = False
    hidden: bool = False
    bind: tuple[tuple[str, str], ...] = ()


@overload
def reads(function: Function) -> Function: ...
@overload
def reads(*, identifies: bool = False, hidden: bool = False) -> Callable[[Function], Function]: ...
def reads(function: Any = None, *, identifies: bool = False, hidden: bool = False) -> Any:
    """Declare that a tool changes nothing, so that it may be called unasked.

    ``identifies``: when its result holds ``customer`` (``id`` and, if you like, ``email`` and ``name``), the person in
    this conversation has proved to be that customer. ``hidden``: only for ``check``.
    """
    return _declare(function, Rule(effect="reads", identifies=identifies, hidden=hidden))


@overload
def writes(function: Function) -> Function: ...
@overload
def writes(*, ask: str = "", check: str = "", cap: Cap | None = None) -> Callable[[Function], Function]: ...
def writes(function: Any = None, *, ask: str = "", check: str = "", cap: Cap | None = None) -> Any:
    """Declare that a tool changes something: it runs only after the customer's own yes.

    ``ask`` is the question, as in ``"Shall I cancel order {order_id}?"``. ``check`` names a reading tool of the same
    file with the same arguments (or fewer) that says beforehand whether it can be done at all.
    """
    return _declare(function, Rule(effect="writes", ask=ask, check=check, cap=cap))


def _declare(function: Any, rule: Rule) -> Any:
    def mark(found: Any) -> Any:
        found.__fairlead__ = rule
        return found

    return mark if function is None else mark(function)
