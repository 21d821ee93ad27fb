"""Quantities with units and the bounds made of them: ``">= 60 %"``, ``"<= 1.5 s"``, ``"<= 0.20 USD"``.

Every quantity is kept in the base unit of its dimension (shares and scores as bare numbers, time in seconds, money in
USD), so two ways of writing the same value are the same value. Knows nothing of metrics.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from fairlead.spec.problems import listed, nearest

Unit = Literal["", "s", "USD", "tokens", "turns", "count"]
Direction = Literal["max", "min"]
Operator = Literal[">=", "<="]

# Written unit -> (base unit, factor). Decimal keeps 300 ms and 0.3 s the same float.
UNITS: dict[str, tuple[Unit, Decimal]] = {
    "": ("", Decimal(1)),
    "%": ("", Decimal("0.01")),
    "us": ("s", Decimal("1e-6")),
    "ms": ("s", Decimal("1e-3")),
    "s": ("s", Decimal(1)),
    "min": ("s", Decimal(60)),
    "h": ("s", Decimal(3600)),
    "USD": ("USD", Decimal(1)),
    "tokens": ("tokens", Decimal(1)),
    "turns": ("turns", Decimal(1)),
    "count": ("count", Decimal(1)),
}
UNIT_WORDS: dict[Unit, str] = {
    "": "no unit or %",
    "s": "a time (us, ms, s, min or h)",
    "USD": "an amount of USD",
    "tokens": "a number of tokens",
    "turns": "a number of turns",
    "count": "a count",
}
_OPERATORS: dict[str, Operator] = {">=": ">=", "<=": "<=", "≥": ">=", "≤": "<="}
_NEAREST_OPERATOR = {">": ">=", "<": "<=", "=>": ">=", "=<": "<=", "=": ">= or <=", "==": ">= or <="}
_NEAREST_UNIT = {"µs": "us", "μs": "us", "sec": "s", "secs": "s", "second": "s", "seconds": "s", "msec": "ms",
                 "m": "min", "minutes": "min", "hours": "h", "hour": "h", "percent": "%", "pct": "%", "$": "USD",
                 "dollar": "USD", "dollars": "USD", "token": "tokens", "turn": "turns"}  # fmt: skip
_LONG_UNITS = {"d": 24, "day": 24, "days": 24, "w": 168, "week": 168, "weeks": 168}
"""Hours in units that no quantity has."""
_NUMBER = re.compile(r"(-?[0-9]{1,15}(?:\.[0-9]{1,18})?)[ \t]{0,4}([^\s0-9.,+-][^\s]{0,19})?")


class QuantityError(ValueError):
    """What was expected of a quantity, and the nearest thing that would do."""

    def __init__(self, expected: str, near: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.near = near


def _decimal(value: float) -> str:
    """The shortest decimal that reads back as ``value``, without an exponent."""
    return format(Decimal(repr(value)).normalize() + 0, "f")


class _Written(BaseModel):
    """A frozen value that the file writes as text and the canonical form as an object."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Quantity(_Written):
    """A number in the base unit of its dimension: ``Quantity(value=0.3, unit="s")`` is 300 ms."""

    value: float
    unit: Unit = ""

    @classmethod
    def read(cls, text: str) -> Quantity:
        """``"300 ms"`` → 0.3 s. Raises QuantityError for another form, an unknown unit or too many digits."""
        match = _NUMBER.fullmatch(text.strip())
        if match is None:
            raise QuantityError("a number and, where needed, a unit, as in 0.60, 60 %, 1.5 s, 300 ms or 0.20 USD")
        number, unit = match.group(1), match.group(2) or ""
        if unit not in UNITS:
            near = _NEAREST_UNIT.get(unit.lower()) or nearest(unit, [name for name in UNITS if name])
            if hours := _LONG_UNITS.get(unit.lower()):
                near = f"{_decimal(float(number) * hours)} h"
            raise QuantityError(f"a unit that is {listed([name for name in UNITS if name])}", near)
        base, factor = UNITS[unit]
        return cls(value=float(Decimal(number) * factor) + 0.0, unit=base)

    def __str__(self) -> str:
        return f"{_decimal(self.value)} {self.unit}".rstrip()


class Bound(_Written):
    """What an objective's value must hold: ``value >= bound`` or ``value <= bound``."""

    op: Operator
    value: float
    unit: Unit = ""

    @classmethod
    def read(cls, text: str) -> Bound:
        """``"<= 300 ms"`` → ``Bound(op="<=", value=0.3, unit="s")``. Raises QuantityError."""
        text = text.strip()
        sign = re.match(r"[<>=≤≥!]{1,3}", text)
        if sign is None:
            raise QuantityError('a bound that begins with >= or <=, as in ">= 0.60"', f">= {text[:20]}")
        if sign.group() not in _OPERATORS:
            near = _NEAREST_OPERATOR.get(sign.group(), ">= or <=")
            raise QuantityError("a bound that begins with >= or <=", near)
        quantity = Quantity.read(text[sign.end() :])
        return cls(op=_OPERATORS[sign.group()], value=quantity.value, unit=quantity.unit)

    def holds(self, value: float) -> bool:
        """Whether ``value``, in the base unit, is on the good side."""
        return value >= self.value if self.op == ">=" else value <= self.value

    def __str__(self) -> str:
        return f"{self.op} {_decimal(self.value)} {self.unit}".rstrip()


class _FromText:
    """Lets a field take the text form, and shows the text form in the JSON Schema."""

    def __init__(self, kind: type[Quantity | Bound], schema: dict[str, Any]) -> None:
        self.kind = kind
        self.schema = schema

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            self._read, handler(source), serialization=core_schema.to_string_ser_schema()
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        return dict(self.schema)

    def _read(self, value: Any) -> Any:
        if isinstance(value, self.kind):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool) and self.kind is Quantity:
            return {"value": float(value), "unit": ""}
        if not isinstance(value, str):
            example = '">= 0.60"' if self.kind is Bound else "0.05 or 100 ms"
            raise PydanticCustomError("quantity", "{expected}", {"expected": f"a text such as {example}", "near": ""})
        try:
            return self.kind.read(value).model_dump()
        except QuantityError as error:
            raise PydanticCustomError(
                "quantity", "{expected}", {"expected": error.expected, "near": error.near}
            ) from error


BoundText = Annotated[
    Bound,
    _FromText(
        Bound,
        {
            "type": "string",
            "pattern": r"^\s*(>=|<=|≥|≤)\s*-?[0-9]+(\.[0-9]+)?\s*(%|us|ms|s|min|h|USD|tokens|turns|count)?\s*$",
            "examples": [">= 0.60", "<= 1.5 s", "<= 300 ms", "<= 0.20 USD", ">= 60 %"],
        },
    ),
]
QuantityText = Annotated[
    Quantity,
    _FromText(
        Quantity,
        {
            "anyOf": [
                {"type": "number"},
                {
                    "type": "string",
                    "pattern": r"^\s*-?[0-9]+(\.[0-9]+)?\s*(%|us|ms|s|min|h|USD|tokens|turns|count)?\s*$",
                },
            ],
            "examples": [0.01, "100 ms", "5 %"],
        },
    ),
]
