"""The money of one run: what a call may cost is set aside before it is made, so that the limit cannot be passed.

Amounts are whole nano-dollars. What is set aside is a guess from above (the longest answer allowed, and the dearest one
seen), because the real cost is known only when it is too late. Knows no model and no price.
"""

from __future__ import annotations

import asyncio

import msgspec

NANOS = 1_000_000_000
BYTES_PER_TOKEN = 3
"""Of text that is read; English has about 4, other languages fewer, so this guesses from above."""
CAUTION = 1.25
"""How much dearer than the dearest call so far the next one may be."""
WAIT_S = 0.01

Price = tuple[float, float]
"""(input, output) in nano-dollars a token."""
FREE: Price = (0.0, 0.0)


class Purse:
    """``limit`` is what may be spent, None without a limit.

    ``spent`` is what was, ``unpriced`` counts calls whose price nobody knows.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.spent = 0
        self.reserved = 0
        self.unpriced = 0

    def reserve(self, amount: int | None) -> bool:
        """Set aside what a call may cost; False when it is not there. What costs nothing can always be afforded, what
        has no price never where there is a limit.
        """
        if amount == 0 or self.limit is None:
            self.reserved += amount or 0
            return True
        if amount is None or self.spent + self.reserved + amount > self.limit:
            return False
        self.reserved += amount
        return True

    async def wait_for(self, amount: int | None) -> bool:
        """``reserve``, and where it is not there wait for what calls under way will give back."""
        while not self.reserve(amount):
            if amount is None or not self.reserved:
                return False
            await asyncio.sleep(WAIT_S)
        return True

    def settle(self, amount: int | None, paid: int | None) -> None:
        """The call is over: give back what was set aside and book what it cost; ``paid`` None is unknown."""
        self.reserved -= amount or 0
        self.spent += paid or 0
        self.unpriced += paid is None

    @property
    def left(self) -> int | None:
        """What may still be spent; None without a limit."""
        return None if self.limit is None else max(0, self.limit - self.spent - self.reserved)


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's calls may cost: its price (None is unknown), the bytes that go with every call, the longest answer
    in tokens, and how often it is called for one sample.
    """

    price: Price | None
    prompt: int
    longest: int
    calls: int = 1


class Expectation:
    """What the next call of one candidate may cost, from above."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        self._dearest = 0

    def of(self, text: str, calls: int | None = None) -> int | None:
        """Nano-dollars for all calls about ``text``; None when the price is unknown."""
        price, calls = self._costs.price, calls or self._costs.calls
        if price is None:
            return None
        if price == FREE:
            return 0
        read = (self._costs.prompt + len(text.encode("utf-8", "replace"))) / BYTES_PER_TOKEN + 1
        # Of a conversation each call reads what was said in those before it.
        again = self._costs.longest * (calls - 1) / 2
        guess = calls * ((read + again) * price[0] + self._costs.longest * price[1])
        return max(1, round(guess), round(self._dearest * CAUTION))

    def learn(self, paid: int | None) -> None:
        """It cost this much, all calls together."""
        self._dearest = max(self._dearest, paid or 0)


def cost_of(price: Price | None, tokens: tuple[int | None, int | None]) -> int | None:
    """What (input, output) tokens cost in nano-dollars; None where price or tokens are unknown, unless it is free."""
    if price is None:
        return None
    if price == FREE:
        return 0
    if tokens[0] is None or tokens[1] is None:
        return None
    return round(tokens[0] * price[0] + tokens[1] * price[1])
