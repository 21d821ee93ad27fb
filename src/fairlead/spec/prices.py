"""Prices of hosted models as data: a table with its source and date, in a file that can be replaced.

The table that comes with Fairlead is ``prices.json`` beside this module; a project's own ``prices.json`` beside its
``fairlead.yaml`` takes its place, and a variant's ``price:`` goes before both. What stands in none of them is unknown,
never 0. A name that ends with * stands for all that begin so; the longest that fits counts.
"""

from __future__ import annotations

import csv
import datetime
import functools
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from fairlead.errors import PricesInvalid
from fairlead.spec.target import HOSTED, Target

FILE_NAME = "prices.json"
BUILT_IN = Path(__file__).with_name(FILE_NAME)
OLD_DAYS = 180
MOST_BYTES = 20_000_000
DEAREST = 100_000.0
"""USD for a million tokens above which a price is a mistake, such as one told per token or in other money."""

SCHEMES: Mapping[str, str] = MappingProxyType(
    {name: name for name in ("openai", "anthropic", "gemini", "mistral", "groq", "together", "deepseek")}
    | {"google": "gemini", "together_ai": "together"}
)
"""What tables of others call a provider, and what a ``model:`` line calls it."""

Pair = tuple[float, float]
"""USD for a million tokens, (read, written)."""


class Priced(msgspec.Struct, frozen=True, kw_only=True):
    """What the table says of a model. ``name`` is the row that fits it."""

    name: str
    input_usd_per_million: float
    output_usd_per_million: float


class PriceTable(msgspec.Struct, frozen=True, kw_only=True):
    """Prices by name, such as ``openai:gpt-4.1-mini``. ``date`` is the day they were true (ISO 8601)."""

    source: str
    date: str
    prices: dict[str, Pair]

    def find(self, target: Target) -> Priced | None:
        """The price of a hosted model; None when it is not in the table, or not a hosted one."""
        host = HOSTED.get(target.provider)
        if host is None or not host.base_url or target.base_url != host.base_url:
            return None  # the same model at another address is somebody else's, at another price
        name = f"{target.provider}:{target.name}"
        if name in self.prices:
            return _priced(name, self.prices[name])
        fitting = [key for key in self.prices if key.endswith("*") and name.startswith(key[:-1])]
        return _priced(key, self.prices[key]) if (key := max(fitting, key=len, default="")) else None

    def age_days(self, today: datetime.date) -> int:
        """Days since the prices were true."""
        return (today - datetime.date.fromisoformat(self.date)).days


def _priced(name: str, pair: Pair) -> Priced:
    return Priced(name=name, input_usd_per_million=pair[0], output_usd_per_million=pair[1])


def table_for(folder: Path) -> PriceTable:
    """The table in force for the project in ``folder``. Raises PricesInvalid."""
    path = folder / FILE_NAME
    return load_table(path) if path.is_file() else built_in()


@functools.cache
def built_in() -> PriceTable:
    """The table that comes with Fairlead."""
    return load_table(BUILT_IN)


def load_table(path: Path) -> PriceTable:
    """Read a table in our own form. Raises PricesInvalid."""
    try:
        table = msgspec.json.decode(_bytes(path), type=PriceTable)
        datetime.date.fromisoformat(table.date)
    except (msgspec.DecodeError, ValueError) as error:
        raise PricesInvalid(path=path, detail=f"{error}; expected source, date (YYYY-MM-DD) and prices") from error
    _check(path, table.prices)
    return table


def read_prices(path: Path, *, source: str, today: datetime.date) -> PriceTable:
    """Prices from a file of others: our own form, a JSON object of models with a price a token, a list of providers
    with a price a million tokens (of which the prices in force ``today`` are taken), or a CSV with the columns model,
    input and output in USD a million tokens. Raises PricesInvalid.
    """
    data = _bytes(path)
    if path.suffix.lower() == ".csv":
        prices = dict(_from_csv(path, data))
    else:
        try:
            found = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            detail = (
                "it is no JSON; expected a JSON table of models, or a .csv with the columns model, input and output"
            )
            raise PricesInvalid(path=path, detail=detail) from error
        if isinstance(found, dict) and {"prices", "date", "source"} <= found.keys():
            return load_table(path)
        prices = {}
        if isinstance(found, dict):
            prices = dict(_from_tokens(found))
        elif isinstance(found, list):
            prices = dict(_from_providers(found, today))
    if not prices:
        raise PricesInvalid(
            path=path, detail=f"it holds no price of a model of {', '.join(SCHEMES)}; expected a price table"
        )
    _check(path, prices)
    return PriceTable(source=source or path.name, date=today.isoformat(), prices=dict(sorted(prices.items())))


def encode(table: PriceTable) -> bytes:
    """The table as the file that ``load_table`` reads."""
    return msgspec.json.format(msgspec.json.encode(table), indent=1) + b"\n"


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PricesInvalid(path=path, detail=f"it cannot be read ({error.strerror})") from error
    if len(data) > MOST_BYTES:
        raise PricesInvalid(path=path, detail=f"it has {len(data):,} bytes, more than {MOST_BYTES:,}")
    return data


def _check(path: Path, prices: Mapping[str, Pair]) -> None:
    for name, pair in prices.items():
        if not all(math.isfinite(value) and 0 <= value <= DEAREST for value in pair):
            detail = (
                f"{name} has the prices {pair[0]:g} and {pair[1]:g}; expected 0 to {DEAREST:,.0f} USD a million tokens"
            )
            raise PricesInvalid(path=path, detail=detail)


def _from_csv(path: Path, data: bytes) -> Iterator[tuple[str, Pair]]:
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise PricesInvalid(path=path, detail=f"it is no CSV in UTF-8 ({error})") from error
    for number, row in enumerate(rows, start=2):
        try:
            yield str(row["model"]).strip(), (float(row["input"]), float(row["output"]))
        except (KeyError, TypeError, ValueError) as error:
            raise PricesInvalid(path=path, detail=f"line {number} lacks model, input or output ({error})") from error


def _from_tokens(found: dict[str, Any]) -> Iterator[tuple[str, Pair]]:
    for name, entry in found.items():
        provider = SCHEMES.get(str(entry.get("litellm_provider"))) if isinstance(entry, dict) else None
        if provider and entry.get("mode") in ("chat", "responses"):
            pair = entry.get("input_cost_per_token"), entry.get("output_cost_per_token")
            if all(isinstance(value, int | float) for value in pair):
                plain = name.removeprefix(f"{entry['litellm_provider']}/")
                yield f"{provider}:{plain}", (_million(pair[0]), _million(pair[1]))


def _million(usd_per_token: float) -> float:
    return round(usd_per_token * 1e6, 9)


def _from_providers(found: list[Any], today: datetime.date) -> Iterator[tuple[str, Pair]]:
    for provider in found:
        scheme = SCHEMES.get(str(provider.get("id"))) if isinstance(provider, dict) else None
        if scheme:
            for model in provider.get("models", ()):
                prices = _in_force(model.get("prices"), today)
                pair = [_base(prices.get(name)) for name in ("input_mtok", "output_mtok")]
                if pair[0] is not None and pair[1] is not None:
                    for name in {str(model.get("id")), *_names(model.get("match"))}:
                        yield f"{scheme}:{name}", (pair[0], pair[1])


def _in_force(prices: Any, today: datetime.date) -> Mapping[str, Any]:
    """The last of several prices whose first day has come."""
    chosen: Mapping[str, Any] = {}
    for entry in prices if isinstance(prices, list) else [{"prices": prices}]:
        start = (entry.get("constraint") or {}).get("start_date")
        if start is None or datetime.date.fromisoformat(start) <= today:
            chosen = entry.get("prices") or {}
    return chosen


def _base(price: Any) -> float | None:
    """The price of a short request, where longer ones cost more."""
    value = price.get("base") if isinstance(price, dict) else price
    return float(value) if isinstance(value, int | float) else None


def _names(match: Any) -> Iterable[str]:
    if not isinstance(match, dict):
        return []
    for rule, value in match.items():
        if rule == "or":
            return [name for each in value for name in _names(each)]
        if rule == "equals":
            return [str(value)]
        if rule == "starts_with":
            return [f"{value}*"]
    return []
