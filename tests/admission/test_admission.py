"""Admission through a real gateway: what is refused, what it says, and what is settled however a request ends."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.admission import Admission, Bank, Gated, Lane, LimitRules, standings
from fairlead.errors import (
    AnswerUnfit,
    BudgetSpent,
    ModelBusy,
    PriceUnknown,
    RateLimited,
    ServiceError,
    TooManyAtOnce,
    UpstreamBroken,
    UpstreamTimeout,
)
from fairlead.gateway import Principal, Route
from fairlead.gateway.keyring import principal_of
from fairlead.gateway.route import Split
from fairlead.providers.base import Call, CallContext, Reply
from fairlead.providers.facts import Facts
from fairlead.providers.scripted import Script, Scripted
from fairlead.providers.structured import Structured
from fairlead.records import Limits, now_us
from fairlead.spec import UseCase, parse
from fairlead.store import Store
from tests.gateway.gateway_harness import CHAT, Held, House, build, route, serving, until

SPEC = """
fairlead: 1
name: shop-support
purpose: Answer.
users: {{who: customers}}
risk: limited
variants:
  - {{id: support, model: extractive}}
  - {{id: spare, model: extractive}}
live: support
{more}
"""
PRICE = (400.0, 1600.0)
"""Nano-dollars a token. A scripted answer reports what it used."""


def usecase(more: str = "") -> UseCase:
    return parse(SPEC.format(more=more))


class World:
    """A gateway with admission over a real store."""

    def __init__(
        self, store: Store, more: str = "", script: Script | None = None, routes: dict[str, Route] | None = None
    ) -> None:
        self.store = store
        self.upstream = Scripted(script=script)
        self.routes = routes or {"support": route(self.upstream, price=PRICE, defaults={"max_tokens": 100})}
        self.refused: list[str] = []
        self.now = 10**15
        self.rules = LimitRules(usecase(more))
        self.admission = Admission(
            rules=self.rules, bank=Bank(store.ledger), routes=self.routes, count=self.refused.append, unsent=set(),
            key_of=store.keys.find,
            clock=lambda: self.now,
        )  # fmt: skip
        self.house: House = build(
            self.upstream, routes=self.routes, keys=store.keys, steps={"admit": (self.admission.admit,)}
        )

    async def ask(self, principal: Principal | None = None, context: CallContext | None = None, **body: Any) -> Any:
        gateway = self.house.gateway
        return await gateway.complete({**CHAT, **body}, principal=principal or Principal(), context=context)

    def paid(self, scope: str = "usecase") -> tuple[int, int]:
        """(paid, held) today, after everything was reported."""
        for found in self.store.ledger.balances("shop-support", (self.admission._periods.day,)):
            if found.account.scope == scope:
                return found.paid, found.held
        return 0, 0

    async def close(self) -> None:
        await self.house.gateway.aclose()
        await self.admission.aclose()
        assert self.store.ledger.reconcile("shop-support") == []
        for book in self.admission._books.values():
            assert book.open == 0, book.name


@contextlib.asynccontextmanager
async def world(
    tmp_path: Path, more: str = "", script: Script | None = None, routes: dict[str, Route] | None = None
) -> AsyncIterator[World]:
    with Store.open(tmp_path / "store") as store:
        made = World(store, more, script, routes)
        try:
            yield made
        finally:
            await made.close()


def cost_of(answer: dict[str, Any]) -> int:
    usage: dict[str, int] = answer["usage"]
    return round(usage["prompt_tokens"] * PRICE[0] + usage["completion_tokens"] * PRICE[1])


# --- rates ------------------------------------------------------------------------------------------------------------


async def test_requests_a_minute_per_tenant(tmp_path: Path) -> None:
    async with world(tmp_path, "limits: [{per: tenant, requests_per_minute: 3}]") as made:
        for _ in range(3):
            await made.ask(Principal(tenant="a"))
        with pytest.raises(RateLimited) as refused:
            await made.ask(Principal(tenant="a"))
        assert refused.value.details["retry_after"] == 20
        await made.ask(Principal(tenant="b"))
        made.now += 20_000_000_000
        await made.ask(Principal(tenant="a"))
        assert made.refused == ["rate_limit_exceeded"]


async def test_tokens_are_taken_by_estimate_and_settled_by_use(tmp_path: Path) -> None:
    async with world(tmp_path, "limits: [{per: tenant, tokens_per_minute: 1000}]") as made:
        answer = await made.ask()
        used = answer["usage"]["total_tokens"]
        (book,) = made.admission._books.values()
        assert book.tokens is not None
        assert book.tokens.left(made.now) == 1000 - used
        with pytest.raises(Exception, match="more than 1000 a minute") as refused:
            await made.ask(messages=[{"role": "user", "content": "x" * 8000}])
        assert refused.value.status == 413  # type: ignore[attr-defined]
        assert book.tokens.left(made.now) == 1000 - used


async def test_only_so_many_at_once(tmp_path: Path) -> None:
    held = Held(Script(delay_s=1))
    async with world(tmp_path, "limits: [{per: user, concurrent: 1}]", routes={"support": route(held)}) as made:
        first = asyncio.create_task(made.ask(Principal(subject="u1")))
        await until(lambda: held.calls, "the first asks")
        with pytest.raises(Exception, match="as many as may be") as refused:
            await made.ask(Principal(subject="u1"))
        assert refused.value.details["retry_after"] >= 1  # type: ignore[attr-defined]
        other = asyncio.create_task(made.ask(Principal(subject="u2")))
        await until(lambda: len(held.calls) == 2, "another user asks")
        held.go.set()
        await asyncio.gather(first, other)
        await made.ask(Principal(subject="u1"))


async def test_limits_of_a_model_hold_for_whoever_asks(tmp_path: Path) -> None:
    upstream = Scripted()
    routes = {name: route(upstream, name) for name in ("support", "spare")}
    more = "limits: [{per: model, only: [support], requests_per_minute: 1}]"
    async with world(tmp_path, more, routes=routes) as made:
        await made.ask(Principal(tenant="a"))
        with pytest.raises(RateLimited, match="the model support"):
            await made.ask(Principal(tenant="b"))
        await made.ask(model="spare")


async def test_a_rotated_key_and_its_successor_share_their_limits(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        key, _ = made.store.keys.create("app", ["inference"], limits=Limits(requests_per_minute=2))
        _, new, _ = made.store.keys.rotate(key.id, 3_600_000_000)
        await made.ask(principal_of(key))
        await made.ask(principal_of(new))
        with pytest.raises(RateLimited, match="this key"):
            await made.ask(principal_of(key))


async def test_what_the_assistant_asks_for_a_request_counts_once(tmp_path: Path) -> None:
    async with world(tmp_path, "limits: [{per: tenant, requests_per_minute: 1}]\nbudget: {per_day_usd: 1}") as made:
        context = CallContext(parent="outer", channel="api")
        for _ in range(3):
            await made.ask(context=context)
        await made.ask()
        with pytest.raises(RateLimited):
            await made.ask()
        await made.admission.aclose()
        assert made.paid()[0] > 0


async def test_headers_tell_what_is_left(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        made = World(store, "limits: [{per: key, requests_per_minute: 2, tokens_per_minute: 100000}]")
        _, secret = store.keys.create("app", ["inference"])
        with serving(made.house.gateway) as url:
            async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {secret}"}) as client:
                first = await client.post("/v1/chat/completions", json=CHAT)
                assert first.status_code == 200, first.text
                assert first.headers["x-ratelimit-limit-requests"] == "2"
                assert first.headers["x-ratelimit-remaining-requests"] == "1"
                assert first.headers["x-ratelimit-reset-requests"] == "30s"
                assert first.headers["x-ratelimit-limit-tokens"] == "100000"
                streamed = await client.post("/v1/chat/completions", json={**CHAT, "stream": True})
                assert streamed.headers["x-ratelimit-remaining-requests"] == "0"
                third = await client.post("/v1/chat/completions", json=CHAT)
        assert (third.status_code, third.headers["retry-after"]) == (429, "30")
        assert third.headers["x-ratelimit-remaining-requests"] == "0"
        assert third.json()["error"]["code"] == "rate_limit_exceeded"


# --- money ------------------------------------------------------------------------------------------------------------


async def test_what_a_request_used_is_what_is_paid(tmp_path: Path) -> None:
    async with world(tmp_path, "budget: {per_day_usd: 1, per_month_usd: 20}") as made:
        total = sum([cost_of(await made.ask()) for _ in range(3)])
        await made.admission.aclose()
        assert made.paid() == (total, 0)
        found = standings(made.rules, made.store.ledger, made.store.keys.list(), now_us())
        assert [(each.limit, each.paid) for each in found] == [(10**9, total), (20 * 10**9, total)]
        made.house.gateway.write_records()
        assert sum(each.cost or 0 for each in made.house.written(3)) == total


async def test_streams_are_paid_for_whole_cut_off_and_broken(tmp_path: Path) -> None:
    script = Script(text="one two three four five six seven eight", pace_s=0.02)
    async with world(tmp_path, "budget: {per_day_usd: 1}", script) as made:
        gateway = made.house.gateway
        async for _ in gateway.stream(dict(CHAT), principal=Principal()):
            pass
        async with aclosing(gateway.stream(dict(CHAT), principal=Principal())) as left:  # type: ignore[type-var]
            await anext(left)
            await anext(left)
        made.upstream.script = Script(text="one two three four", break_after=2)
        with pytest.raises(Exception, match="gave no whole answer"):
            async for _ in gateway.stream(dict(CHAT), principal=Principal()):
                pass
        await made.admission.aclose()
        gateway.write_records()
        costs = [record.cost or 0 for record in made.house.written(3)]
        assert all(costs), "a stream that was cut off has a price"
        assert made.paid() == (sum(costs), 0), "the ledger and the records say the same"
        assert [record.error for record in made.house.records] == ["", "client_disconnected", "upstream_broken"]


class Liar(Scripted):
    """Says of its tokens what it is told to say."""

    said: Any = None

    async def open(self, call: Call) -> Reply:
        reply = await super().open(call)
        answer = orjson.loads(reply.body or b"")
        return Reply(200, body=orjson.dumps({**answer, "usage": self.said}))


@pytest.mark.parametrize(
    "said",
    [{"prompt_tokens": -(10**6), "completion_tokens": -(10**6)}, {"prompt_tokens": 10**15, "completion_tokens": 10**15},
     {"prompt_tokens": "9", "completion_tokens": 1.5}, {"prompt_tokens": 0, "completion_tokens": 0}, None, [], "none"],
)  # fmt: skip
async def test_a_model_that_lies_about_its_tokens_never_credits_the_ledger(tmp_path: Path, said: Any) -> None:
    liar = Liar(script=Script(text="one two three"))
    liar.said = said
    routes = {"support": route(liar, price=PRICE, defaults={"max_tokens": 100})}
    async with world(tmp_path, "budget: {per_day_usd: 1}", routes=routes) as made:
        paid = 0
        for _ in range(3):
            await made.ask()
            await made.admission.bank.report()
            assert made.paid()[0] > paid, "it was free, or money came back"
            paid = made.paid()[0]
        await made.admission.aclose()
        made.house.gateway.write_records()
        assert sum(record.cost or 0 for record in made.house.written(3)) == made.paid()[0] < 10**7


SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}}}


async def test_two_answers_that_do_not_fit_are_paid_for_and_recorded(tmp_path: Path) -> None:
    checked = Structured(Scripted(script=Script(text="no number at all")), Facts())
    routes = {"support": route(checked, price=PRICE, defaults={"max_tokens": 100}, repairs=True)}
    async with world(tmp_path, "budget: {per_day_usd: 1}", routes=routes) as made:
        once = cost_of(await made.ask())
        with pytest.raises(AnswerUnfit):
            await made.ask(response_format=SCHEMA)
        await made.admission.aclose()
        made.house.gateway.write_records()
        whole, unfit = [record.cost or 0 for record in made.house.written(2)]
        assert (whole, made.paid()) == (once, (whole + unfit, 0))
        assert unfit > 2 * once, "the second question holds the first answer too"


@pytest.mark.parametrize("counted", [True, False])
async def test_two_answers_that_do_not_fit_and_count_nothing_are_estimated(tmp_path: Path, counted: bool) -> None:
    liar = Liar(script=Script(text="no number at all"))
    liar.said = {"prompt_tokens": 10, "completion_tokens": 4} if counted else None
    routes = {"support": route(Structured(liar, Facts()), price=PRICE, defaults={"max_tokens": 100}, repairs=True)}
    async with world(tmp_path, "budget: {per_day_usd: 1}", routes=routes) as made:
        with pytest.raises(AnswerUnfit):
            await made.ask(response_format=SCHEMA)
        await made.admission.aclose()
        made.house.gateway.write_records()
        (record,) = made.house.written(1)
        assert made.paid() == (record.cost, 0)
        assert record.cost
        assert record.cost > 0
        assert (record.cost == round(20 * PRICE[0] + 8 * PRICE[1])) is counted
        assert record.tags.get("usage") == (None if counted else "estimated")


class Late(Scripted):
    """Works until it is too late, or sends half of an answer."""

    error: ServiceError = UpstreamTimeout(name="late", seconds=1)

    async def open(self, call: Call) -> Reply:
        raise self.error


@pytest.mark.parametrize(
    "error", [UpstreamTimeout(name="late", seconds=1), UpstreamBroken(name="late", detail="it sent half of it")]
)
async def test_a_model_that_may_have_worked_is_paid_and_recorded_alike(tmp_path: Path, error: ServiceError) -> None:
    late = Late()
    late.error = error
    routes = {"support": route(late, price=PRICE, defaults={"max_tokens": 100})}
    async with world(tmp_path, "budget: {per_day_usd: 1}", routes=routes) as made:
        with pytest.raises(type(error)):
            await made.ask()
        await made.admission.aclose()
        made.house.gateway.write_records()
        (record,) = made.house.written(1)
        assert record.tags["usage"] == "estimated"
        assert made.paid() == (record.cost, 0)
        assert record.cost
        assert record.cost > 0


@pytest.mark.parametrize(("changes", "more"), [({"hedge": True}, {}), ({"repairs": True}, {"response_format": SCHEMA})])
async def test_what_may_be_asked_twice_is_set_aside_twice(
    tmp_path: Path, changes: dict[str, Any], more: dict[str, Any]
) -> None:
    held = []
    for kind in ({}, changes):
        upstream = Held(script=Script(text="1", delay_s=1))
        routes = {"support": route(upstream, price=PRICE, defaults={"max_tokens": 100}, **kind)}
        async with world(tmp_path / str(bool(kind)), "budget: {per_day_usd: 1}", routes=routes) as made:
            asked = asyncio.ensure_future(made.ask(**more))
            await until(upstream.calls.__len__, "it is asked")
            admission = made.admission
            assert admission._whole is not None
            (purse,) = admission._whole.purses(admission.bank, made.rules.usecase, admission._periods)
            held.append(purse.promised)
            upstream.go.set()
            await asked
    read = held[0] - 100 * PRICE[1]
    assert held[1] >= held[0] + read > held[0]


async def test_a_refusal_and_a_failure_cost_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, "budget: {per_day_usd: 1}", Script(status=400)) as made:
        with pytest.raises(Exception, match="scripted refusal"):
            await made.ask()
        with pytest.raises(Exception, match="no model"):
            await made.ask(model="nobody")
        await made.admission.aclose()
        assert made.paid() == (0, 0)


async def test_a_budget_ends_with_an_honest_answer(tmp_path: Path) -> None:
    async with world(tmp_path, "budget: {per_day_usd: 0.0005}") as made:
        spent, error = 0, None
        for _ in range(1000):
            try:
                spent += cost_of(await made.ask())
            except BudgetSpent as found:
                error = found
                break
        assert error is not None
        assert (error.status, error.code) == (429, "insufficient_quota")
        assert 0 < error.details["retry_after"] <= 86_400
        await made.admission.aclose()
        assert made.paid() == (spent, 0)
        dearest = 400 * 300 + 1600 * 100
        assert 500_000 - dearest < spent <= 500_000 + dearest


async def test_many_at_once_do_not_overspend(tmp_path: Path) -> None:
    script = Script(delay_s=0.01)
    async with world(tmp_path, "budget: {per_day_usd: 0.0005}", script) as made:
        answers = await asyncio.gather(*(made.ask() for _ in range(200)), return_exceptions=True)
        spent = sum(cost_of(answer) for answer in answers if isinstance(answer, dict))
        assert {type(each) for each in answers} == {dict, BudgetSpent}
        await made.admission.aclose()
        assert made.paid() == (spent, 0)
        assert spent <= 500_000 + 400 * 300 + 1600 * 100


async def test_a_key_pays_for_what_the_assistant_asks_on_its_behalf(tmp_path: Path) -> None:
    upstream = Scripted()
    routes = {"support": route(upstream, price=PRICE), "front": route(upstream, "front", price=(0.0, 0.0))}
    async with world(tmp_path, routes=routes) as made:
        key, _ = made.store.keys.create("app", ["inference"], limits=Limits(nanos_per_day=10**9))
        await made.ask(principal_of(key), model="front")
        inner = CallContext(parent="outer", channel="api", payer=key.origin)
        answer = await made.ask(Principal(tenant=key.tenant), inner)
        later = await made.ask(Principal(tenant=key.tenant), CallContext(channel="batch", payer=key.origin))
        await made.admission.aclose()
        assert made.paid("key") == (cost_of(answer) + cost_of(later), 0)


async def test_what_asks_on_behalf_of_a_key_is_paid_by_it_also_when_the_key_itself_was_not_seen(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as made:
        key, _ = made.store.keys.create("app", ["inference"], limits=Limits(nanos_per_day=10**9, concurrent=1))
        _, new, _ = made.store.keys.rotate(key.id, 1_000_000)
        answers = [await made.ask(context=CallContext(channel="batch", payer=name)) for name in (new.id, key.id, "x")]
        await made.admission.aclose()
        assert made.paid("key") == (sum(map(cost_of, answers[:2])), 0)


async def test_an_answer_of_no_stated_length_is_given_one_under_a_budget(tmp_path: Path) -> None:
    upstream = Scripted()
    routes = {"support": route(upstream, price=PRICE)}
    async with world(tmp_path, "budget: {per_day_usd: 100, answer_tokens: 77}", routes=routes) as made:
        await made.ask()
        assert upstream.calls[-1].body["max_completion_tokens"] == 77
        await made.ask(max_tokens=5)
        assert "max_completion_tokens" not in upstream.calls[-1].body


async def test_no_budget_no_length(tmp_path: Path) -> None:
    upstream = Scripted()
    async with world(tmp_path, routes={"support": route(upstream, price=PRICE)}) as made:
        await made.ask()
        assert "max_completion_tokens" not in upstream.calls[-1].body


async def test_a_model_without_a_price_is_refused_where_a_budget_holds(tmp_path: Path) -> None:
    async with world(tmp_path, routes={"support": route(Scripted(), price=None)}) as made:
        key, _ = made.store.keys.create("app", ["inference"], limits=Limits(nanos_per_day=10**9))
        with pytest.raises(Exception, match="has no price"):
            await made.ask(principal_of(key))
        await made.ask()


async def test_the_dearest_that_may_stand_in_is_reserved_and_who_answered_is_paid(tmp_path: Path) -> None:
    cheap = route(Scripted(script=Script(status=500)), price=(1.0, 1.0), fallback=("spare",))
    dear = route(Scripted(), "spare", price=PRICE)
    async with world(tmp_path, "budget: {per_day_usd: 1}", routes={"support": cheap, "spare": dear}) as made:
        answer = await made.ask()
        await made.admission.aclose()
        assert made.paid() == (cost_of(answer), 0)


async def test_users_that_are_invented_share_one_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.admission.admission.MOST_BOOKS", 5)
    async with world(tmp_path, "limits: [{per: user, requests_per_minute: 2}]") as made:
        asked = [made.ask(Principal(subject=f"u{number}")) for number in range(20)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(answer, dict) for answer in answers) == 5 + 2
        assert len(made.admission._books) <= 6
        made.now += 120_000_000_000
        made.admission.sweep()
        assert not made.admission._books


# --- turns ------------------------------------------------------------------------------------------------------------


async def test_a_busy_model_is_passed_over_or_says_when(tmp_path: Path) -> None:
    slow = Held(Script(delay_s=1))
    lane = Lane("support", start=1, longest_wait_s=0.5, clock=asyncio.get_running_loop().time)
    unsent: set[str] = set()
    busy = route(Gated(slow, lane, unsent), price=PRICE, fallback=("spare",))
    routes = {"support": busy, "spare": route(Scripted(), "spare")}
    async with world(tmp_path, routes=routes) as made:
        first = asyncio.create_task(made.ask())
        await until(lambda: slow.calls, "the first asks")
        await made.ask()  # the wait is expected to be a second, so another answers
        slow.go.set()
        await first
        made.house.gateway.write_records()
        names = [record.variant for record in made.house.written(2)]
        assert sorted(names) == ["spare", "support"]
        assert (lane.busy, lane.waiting) == (0, 0)


async def test_who_gives_up_waiting_pays_nothing(tmp_path: Path) -> None:
    slow = Held(Script(delay_s=1))
    lane = Lane("support", start=1, clock=asyncio.get_running_loop().time)
    with Store.open(tmp_path) as store:
        unsent: set[str] = set()
        routes = {"support": route(Gated(slow, lane, unsent), price=PRICE)}
        made = World(store, "budget: {per_day_usd: 1}", routes=routes)
        made.admission._unsent = unsent
        first = asyncio.create_task(made.ask())
        await until(lambda: slow.calls, "the first asks")
        second = asyncio.create_task(made.ask())
        await until(lambda: lane.waiting == 1, "the second waits")
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        slow.go.set()
        answer = await first
        await made.close()
        assert made.paid() == (cost_of(answer), 0)
        assert not unsent


async def test_a_stream_keeps_its_place_until_it_ends(tmp_path: Path) -> None:
    lane = Lane("support", start=1, longest_wait_s=0.0, clock=asyncio.get_running_loop().time)
    upstream = Gated(Scripted(script=Script(text="a b c d", pace_s=0.01)), lane, set())
    async with world(tmp_path, routes={"support": route(upstream)}) as made:
        async with aclosing(made.house.gateway.stream(dict(CHAT), principal=Principal())) as parts:  # type: ignore[type-var]
            await anext(parts)
            with pytest.raises(ModelBusy):
                await made.ask()
        assert lane.busy == 0
        async for _ in made.house.gateway.stream(dict(CHAT), principal=Principal()):
            pass
        assert lane.busy == 0


# --- whose limits: the model that is named, and the one that answers --------------------------------------------------

LEARNT = Split(small="spare", big="support", gain=lambda text: float("hard" in text), threshold=0.5)


def led_on(script: Script | None = None, **changes: Any) -> dict[str, Route]:
    """``desk`` chooses between ``spare`` (easy) and ``support`` (hard); ``third`` may stand in."""
    routes = {name: route(Scripted(script=script), name, price=PRICE, defaults={"max_tokens": 100}, **changes)
              for name in ("support", "spare", "third")}  # fmt: skip
    return {**routes, "desk": route(routes["spare"].upstream, "desk", price=PRICE, split=LEARNT)}


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


async def test_whom_a_router_chooses_is_counted_for_its_own_limits_too(tmp_path: Path) -> None:
    limits = "limits: [{per: model, only: [spare], requests_per_minute: 2}]"
    async with world(tmp_path, limits, routes=led_on()) as made:
        await made.ask(**said("easy", model="desk"))
        await made.ask(**said("easy", model="spare"))
        for name in ("desk", "spare"):
            with pytest.raises(RateLimited, match="the model spare") as refused:
                await made.ask(**said("easy", model=name))
            assert refused.value.details["retry_after"] == 30
        await made.ask(**said("hard", model="desk"))
        assert made.refused == ["rate_limit_exceeded"] * 2
        made.now += 30_000_000_000
        await made.ask(**said("easy", model="desk"))


async def test_a_router_is_counted_for_its_own_name(tmp_path: Path) -> None:
    async with world(tmp_path, "limits: [{per: model, requests_per_minute: 1}]", routes=led_on()) as made:
        await made.ask(**said("easy", model="desk"))
        with pytest.raises(RateLimited, match="the model desk"):
            await made.ask(**said("hard", model="desk"))
        await made.ask(**said("hard", model="support"))


async def test_a_chosen_model_has_only_so_many_at_once_until_their_last_byte(tmp_path: Path) -> None:
    limits = "limits: [{per: model, only: [spare], concurrent: 1}]"
    async with world(tmp_path, limits, routes=led_on()) as made:
        body = {**CHAT, **said("easy", model="desk")}
        stream: Any = made.house.gateway.stream(body, principal=Principal())
        async with aclosing(stream):
            await anext(stream)
            with pytest.raises(TooManyAtOnce, match="the model spare"):
                await made.ask(**said("easy", model="desk"))
            await made.ask(**said("hard", model="desk"))
        await made.ask(**said("easy", model="desk"))


async def test_the_budget_of_a_chosen_model_pays_for_what_it_answers_and_for_nothing_else(tmp_path: Path) -> None:
    limits = "limits: [{per: model, only: [spare], usd_per_day: 0.0004}]"
    async with world(tmp_path, limits, routes=led_on(Script(text="word " * 50))) as made:
        answers = []
        with pytest.raises(BudgetSpent, match="this model"):  # noqa: PT012 - how many fit is not the question
            while True:
                answers.append(await made.ask(**said("easy", model="desk")))
                await made.ask(**said("hard", model="desk"))
        await made.ask(**said("hard", model="desk"))
        await made.admission.aclose()
        assert made.paid("model") == (sum(map(cost_of, answers)), 0)


async def test_who_stands_in_is_counted_and_passed_over_when_it_has_had_enough(tmp_path: Path) -> None:
    routes = led_on()
    routes["support"] = route(Scripted(script=Script(status=500)), price=PRICE, fallback=("spare", "third"))
    limits = "limits: [{per: model, only: [spare], requests_per_minute: 1}]"
    async with world(tmp_path, limits, routes=routes) as made:
        records = made.house.records
        for place, name in enumerate(("spare", "third")):
            await made.ask(**said("hard", model="desk"))
            made.house.gateway.write_records()
            assert records[place].model == f"{name}-model"
        assert records[1].tags["fallback"].endswith("spare:rate_limit_exceeded")
        assert made.refused == []
        routes["support"] = route(Scripted(script=Script(status=500)), price=PRICE, fallback=("spare",))
        with pytest.raises(RateLimited):
            await made.ask(**said("hard", model="support"))
        assert made.refused == ["rate_limit_exceeded"]


async def test_whom_weights_choose_is_counted(tmp_path: Path) -> None:
    routes = led_on()
    shares = {"spare": 1e6, "support": 1e-9}
    routes["support"] = route(Scripted(), price=PRICE, fallback=("spare",), weights=shares)
    limits = "limits: [{per: model, only: [spare], requests_per_minute: 1}]"
    async with world(tmp_path, limits, routes=routes) as made:
        await made.ask()
        await made.ask()  # as spare has had enough, support answers
        made.house.gateway.write_records()
        assert [row.model for row in made.house.records] == ["spare-model", "support-model"]


async def test_headers_tell_what_is_left_of_the_tightest_of_all(tmp_path: Path) -> None:
    limits = (
        "limits: [{per: tenant, requests_per_minute: 50}, {per: model, only: [spare], requests_per_minute: 5},"
        "{per: model, only: [support], requests_per_minute: 500}]"
    )
    async with world(tmp_path, limits, routes=led_on()) as made:
        key, secret = made.store.keys.create("app", ["inference"])
        assert key.name == "app"
        with serving(made.house.gateway) as url:
            async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {secret}"}) as client:
                for text, limit, left in (("easy", "5", "4"), ("hard", "50", "48")):
                    reply = await client.post("/v1/chat/completions", json=said(text, model="desk"))
                    assert reply.headers.get_list("x-ratelimit-limit-requests") == [limit]
                    assert reply.headers.get_list("x-ratelimit-remaining-requests") == [left]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["desk", "support", "spare"]), st.booleans(), st.booleans()), max_size=12))
async def test_every_model_is_counted_for_what_named_it_and_for_what_it_answered(
    tmp_path: Path, asked: list[tuple[str, bool, bool]]
) -> None:
    """Counted beside it, in the obvious way: one request for each model that is named or asked, tokens of answers."""
    failing: set[str] = set()

    def script(call: Call) -> Script:
        return Script(status=500 if call.body["model"].removesuffix("-model") in failing else 200)

    routes = {name: route(Scripted(script=script), name, price=PRICE, fallback=("third",), rests=False)
              for name in ("support", "spare")}  # fmt: skip
    routes |= {"third": route(Scripted(), "third", price=PRICE)}
    routes |= {"desk": route(routes["spare"].upstream, "desk", price=PRICE, split=LEARNT)}
    most = 1_000_000
    limits = f"limits: [{{per: model, requests_per_minute: {most}, tokens_per_minute: {most}}}]"
    requests, tokens = dict.fromkeys(routes, 0), dict.fromkeys(routes, 0)
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        async with world(Path(folder), limits, routes=routes) as made:
            for name, hard, fails in asked:
                first = name if name != "desk" else "support" if hard else "spare"
                failing.clear()
                if fails:
                    failing.add(first)
                answer = await made.ask(**said("hard" if hard else "easy", model=name))
                answered = "third" if fails else first
                for each in {name, first, answered}:
                    requests[each] += 1
                for each in {name, answered}:
                    tokens[each] += answer["usage"]["total_tokens"]
            for name in routes:
                book = made.admission._book("model", name, "")
                assert book is not None
                assert book.requests is not None
                assert book.tokens is not None
                assert most - book.requests.left(made.now) == requests[name], name
                assert most - book.tokens.left(made.now) == tokens[name], name


async def test_what_has_no_price_is_named_with_the_line_that_mends_it(tmp_path: Path) -> None:
    routes = led_on()
    routes["support"] = route(Scripted(), price=None)
    async with world(tmp_path, routes=routes) as made:
        key, _ = made.store.keys.create("app", ["inference"], limits=Limits(nanos_per_day=10**9))
        with pytest.raises(PriceUnknown) as refused:
            await made.ask(principal_of(key), **said("easy", model="desk"))
        assert refused.value.status == 403
        assert "for support, which has no price" in str(refused.value)
        assert "desk" not in str(refused.value)
        assert str(refused.value).endswith("price: {input_usd_per_million: …, output_usd_per_million: …}")
        await made.ask(principal_of(key), **said("easy", model="spare"))
