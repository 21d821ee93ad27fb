"""The money of one run: what a call may cost is set aside before it is made, so that the limit cannot be passed.

Amounts are whole nano-dollars. What is set aside is a guess from above (the longest answer allowed, and the dearest one
seen), because the real cost is known only when it is too late. Knows no model and no price.
"""

from __future__ import annotations

import asyncio

NANOS = 1_000_000_000
BYTES_PER_TOKEN = 3
"""Of text that is read; English has about 4, other languages fewer, so this guesses from above."""
CAUTION = 1.25
"""How much dearer than the dearest call so far the next one may be."""
WAIT_S = 0.01

Price = tuple[float, float]
"""(input, output) in nano-dollars a token."""


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


class Expectation:
    """What the next call of one candidate may cost, from above."""

    def __init__(self, price: Price | None, *, prompt: int, longest: int) -> None:
        """``prompt`` are the bytes that go with every sample, ``longest`` the tokens an answer may have."""
        self._price = price
        self._prompt = prompt
        self._longest = longest
        self._dearest = 0

    def of(self, text: str) -> int | None:
        """Nano-dollars for a call about ``text``; None when the price is unknown."""
        if self._price is None:
            return None
        if self._price == (0.0, 0.0):
            return 0
        read = (self._prompt + len(text.encode("utf-8", "replace"))) / BYTES_PER_TOKEN + 1
        guess = read * self._price[0] + self._longest * self._price[1]
        return max(1, round(guess), round(self._dearest * CAUTION))

    def learn(self, paid: int | None) -> None:
        """A call cost this much."""
        self._dearest = max(self._dearest, paid or 0)


def cost_of(price: Price | None, tokens: tuple[int | None, int | None]) -> int | None:
    """What (input, output) tokens cost in nano-dollars; None where price or tokens are unknown, unless it is free."""
    if price is None:
        return None
    if price == (0.0, 0.0):
        return 0
    if tokens[0] is None or tokens[1] is None:
        return None
    return round(tokens[0] * price[0] + tokens[1] * price[1])
