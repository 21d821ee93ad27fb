"""Prices: a table with source and date, its own place for each project, and what is unknown stays unknown."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from fairlead.errors import PricesInvalid
from fairlead.spec import prices
from fairlead.spec.load import load
from fairlead.spec.plan import plan_costs
from fairlead.spec.target import read_target

MINIMAL = """\
fairlead: 1
name: shop-support
purpose: Answer customers' questions.
users: {who: customers}
risk: limited
traffic: {conversations_per_day: 100}
variants:
  - {id: extractive, model: extractive}
live: extractive
"""
TODAY = datetime.date(2026, 11, 29)


def _model(provider: str, read: float | None, written: float | None, mode: str = "chat") -> dict[str, Any]:
    entry = {"litellm_provider": provider, "mode": mode, "input_cost_per_token": read, "output_cost_per_token": written}
    return {key: value for key, value in entry.items() if value is not None}


PER_TOKEN = {
    "gpt-x": _model("openai", 4e-7, 1.6e-6),
    "anthropic/claude-x": _model("anthropic", 3e-6, 1.5e-5),
    "dall-e": _model("openai", 1, 1, "image_generation"),
    "half": _model("openai", 1e-6, None),
    "elsewhere": _model("bedrock", 1, 1),
}
TIERED = {"base": 3, "tiers": [{"start": 200_000, "price": 6}]}
PROVIDERS = [
    {
        "id": "anthropic",
        "models": [
            {
                "id": "claude-x",
                "match": {"or": [{"starts_with": "claude-x"}, {"equals": "x-claude"}, {"regex": "x$"}]},
                "prices": [
                    {"prices": {"input_mtok": 2, "output_mtok": 10}},
                    {"constraint": {"start_date": "2026-09-01"}, "prices": {"input_mtok": TIERED, "output_mtok": 15}},
                    {"constraint": {"start_date": "2027-01-01"}, "prices": {"input_mtok": 9, "output_mtok": 9}},
                ],
            },
            {"id": "embedder", "prices": {"input_mtok": 1}},
        ],
    },
    {"id": "elsewhere", "models": [{"id": "m", "prices": {"input_mtok": 1, "output_mtok": 1}}]},
]  # fmt: skip


def _file(folder: Path, content: Any, name: str = "p.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_the_table_that_comes_with_fairlead_says_where_it_is_from() -> None:
    table = prices.built_in()
    assert table.source
    assert table.age_days(TODAY) >= 0
    assert len(table.prices) > 100
    found = table.find(read_target("openai:gpt-4.1-mini"))
    assert found is not None
    assert (found.input_usd_per_million, found.output_usd_per_million) == (0.4, 1.6)


@pytest.mark.parametrize(
    "model", ["openai:no-such-model", "http://127.0.0.1:1/v1#gpt-4.1-mini", "ollama:gpt-4.1-mini", "mini", "./a.gguf"]
)
def test_what_is_not_in_the_table_is_unknown(model: str) -> None:
    assert prices.built_in().find(read_target(model)) is None


def test_the_longest_name_that_fits_counts() -> None:
    table = prices.PriceTable(
        source="s", date="2026-01-01",
        prices={"openai:a*": (1.0, 1.0), "openai:a-b*": (2.0, 2.0), "openai:a-b-c": (3.0, 3.0)},
    )  # fmt: skip
    rows = {name: table.find(read_target(f"openai:{name}")) for name in ("a", "a-b", "a-b-c", "a-b-cd", "x")}
    assert [row and row.input_usd_per_million for row in rows.values()] == [1.0, 2.0, 3.0, 2.0, None]


def test_prices_a_token_become_prices_a_million(tmp_path: Path) -> None:
    table = prices.read_prices(_file(tmp_path, PER_TOKEN), source="", today=TODAY)
    assert table.prices == {"anthropic:claude-x": (3.0, 15.0), "openai:gpt-x": (0.4, 1.6)}
    assert (table.source, table.date) == ("p.json", "2026-11-29")


def test_of_prices_with_a_first_day_the_one_in_force_is_taken(tmp_path: Path) -> None:
    table = prices.read_prices(_file(tmp_path, PROVIDERS), source="them", today=TODAY)
    assert table.prices == dict.fromkeys(
        ["anthropic:claude-x", "anthropic:claude-x*", "anthropic:x-claude"], (3.0, 15.0)
    )
    before = prices.read_prices(_file(tmp_path, PROVIDERS), source="them", today=datetime.date(2026, 8, 31))
    assert before.prices["anthropic:claude-x"] == (2.0, 10.0)


def test_a_table_written_and_read_is_the_same(tmp_path: Path) -> None:
    csv = _file(tmp_path, "\ufeffmodel,input,output\nopenai:a,1,2\nanthropic:b,0.5,2.5\n", "p.csv")
    table = prices.read_prices(csv, source="us", today=TODAY)
    assert table.prices == {"anthropic:b": (0.5, 2.5), "openai:a": (1.0, 2.0)}
    path = tmp_path / "own.json"
    path.write_bytes(prices.encode(table))
    assert prices.load_table(path) == table == prices.read_prices(path, source="", today=TODAY)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("p.json", "{", "no JSON"),
        ("p.json", {}, "no price"),
        ("p.json", [], "no price"),
        ("p.json", "3", "no price"),
        ("p.json", {"source": "s", "date": "yesterday", "prices": {}}, "YYYY-MM-DD"),
        ("p.json", {"source": "s", "date": "2026-01-01", "prices": {"a": 1}}, "expected"),
        ("p.json", {"source": "s", "date": "2026-01-01", "prices": {"openai:a": [-1, 1]}}, "0 to 100,000"),
        ("p.json", {"source": "s", "date": "2026-01-01", "prices": {"openai:a": [1e9, 1]}}, "0 to 100,000"),
        ("p.csv", "model,input,output\nopenai:a,1\n", "line 2"),
        ("p.csv", "model,price\nopenai:a,1\n", "line 2"),
        ("p.csv", "model,input,output\nopenai:a,nan,1\n", "nan"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str, content: Any, found: str) -> None:
    with pytest.raises(PricesInvalid, match=found):
        prices.read_prices(_file(tmp_path, content, name), source="", today=TODAY)


def test_a_variant_goes_before_the_project_and_the_project_before_fairlead(tmp_path: Path) -> None:
    hosted = '  - {id: known, model: "openai:gpt-4.1-mini"}\n  - {id: other, model: "openai:none"}\n'
    own = '  - {id: own, model: "openai:gpt-4.1-mini", price: {input_usd_per_million: 9, output_usd_per_million: 9}}\n'
    _file(tmp_path, MINIMAL.replace("live:", f"{hosted}{own}live:"), "fairlead.yaml")

    def inputs() -> dict[str, float | None]:
        usecase = load(tmp_path)
        found = {each.id: usecase.price_of(each) for each in usecase.variants}
        del found["extractive"]
        return {name: price.input_usd_per_million if price else None for name, price in found.items()}

    assert inputs() == {"known": 0.4, "other": None, "own": 9.0}
    costs = {each.variant: each for each in plan_costs(load(tmp_path), 10)}
    assert costs["other"].per_day_usd is None
    assert "no price" in costs["other"].note.replace("`price:`", "price")
    assert "2026" in costs["known"].note
    _file(tmp_path, {"source": "us", "date": "2026-10-01", "prices": {"openai:none": [1, 2]}}, "prices.json")
    assert inputs() == {"known": None, "other": 1.0, "own": 9.0}
