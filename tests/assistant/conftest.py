"""Fixtures of the assistant's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.assistant.assistant_harness import Shop

MakeShop = Callable[..., Shop]


@pytest.fixture
def make_shop(tmp_path: Path) -> Iterator[MakeShop]:
    """Makes shops that are closed afterwards."""
    shops: list[Shop] = []

    def make(**options: Any) -> Shop:
        shop = Shop(tmp_path / f"store-{len(shops)}", **options)
        shops.append(shop)
        return shop

    yield make
    for shop in shops:
        shop.close()


@pytest.fixture
def shop(make_shop: MakeShop) -> Shop:
    """The reference shop."""
    return make_shop()
