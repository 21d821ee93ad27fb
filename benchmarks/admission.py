"""What admission costs a request, and what finding out a model's places is good for.

The cost is processor time in process, without sockets: authentication, three limits (requests and tokens a minute, at
once) for key, tenant and user each, and two budgets (day and month) over a real ledger, with settling. Places and turns
are played in a simulation with the real lanes: time is virtual, the model server is a queue that behaves like one that
batches continuously (it begins a call when one of its slots is free, and each call slows the others down).
"""

from __future__ import annotations

import asyncio
import random
import selectors
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import orjson
import uvloop

from benchmarks.gateway_inside import SECRET, WHOLE, Instant, OneKey
from benchmarks.report import Report
from fairlead.admission import Admission, Bank, Lane, LimitRules
from fairlead.errors import ModelBusy
from fairlead.gateway import Exchange, Route, settle
from fairlead.gateway.keyring import KeyRing
from fairlead.providers.base import CallContext, Reply
from fairlead.records import Priority, new_id
from fairlead.spec import parse
from fairlead.store import Store

ROUNDS, REQUESTS = 20, 1_000
SECONDS = 300.0
BODY = orjson.dumps(
    {"model": "plain", "max_tokens": 200, "messages": [{"role": "user", "content": "Where is my parcel? " * 40}]}
)
EVERYTHING = """
fairlead: 1
name: benchmark
purpose: Measure.
users: {who: nobody}
risk: minimal
variants: [{id: plain, model: extractive}]
live: plain
budget: {per_day_usd: 1000, per_month_usd: 20000}
limits:
  - {per: key, requests_per_minute: 1000000000, tokens_per_minute: 1000000000000, concurrent: 1000}
  - {per: tenant, requests_per_minute: 1000000000, tokens_per_minute: 1000000000000, concurrent: 1000}
  - {per: user, requests_per_minute: 1000000000, tokens_per_minute: 1000000000000, concurrent: 1000}
"""
ONE = """
fairlead: 1
name: benchmark
purpose: Measure.
users: {who: nobody}
risk: minimal
variants: [{id: plain, model: extractive}]
live: plain
budget: {per_day_usd: 1000}
limits: [{per: key, requests_per_minute: 1000000000, tokens_per_minute: 1000000000000, concurrent: 1000}]
"""
NOTHING = ONE.split("budget:")[0]


async def admit(spec: str, directory: Path) -> tuple[list[float], int]:
    """Microseconds a request of each round, and how often the ledger was written to."""
    with Store.open(directory) as store:
        ring = KeyRing(OneKey(), required=True)
        ring.refresh()
        routes = {"plain": Route(name="plain", upstream=Instant(), model="plain", price=(400, 1600))}
        admission = Admission(
            rules=LimitRules(parse(spec)), bank=Bank(store.ledger), routes=routes, count=lambda code: None, unsent=set()
        )
        answer, reply = orjson.loads(WHOLE), Reply(200, body=WHOLE)
        made = []
        for _ in range(ROUNDS):
            exchanges = [_exchange(answer, reply, routes["plain"]) for _ in range(REQUESTS)]
            began = time.process_time()
            for x in exchanges:
                x.principal = ring.identify(x.authorization)
                await admission.admit(x)
                for told in x.afterwards:
                    told(x)
            made.append((time.process_time() - began) / REQUESTS * 1e6)
        await admission.aclose()
        lines = store.ledger.entries("benchmark", since=0, until=10**18, limit=100_000)
        assert store.ledger.reconcile("benchmark") == []
    return made, len(lines)


def _exchange(answer: dict[str, Any], reply: Reply, route: Route) -> Exchange:
    x = Exchange(
        new_id(), "chat", context=CallContext(request="r"), timeout_s=60, authorization=b"Bearer " + SECRET
    )  # fmt: skip
    x.body = orjson.loads(BODY)
    x.sent, x.raw, x.subject = dict(x.body), BODY, "user:1"
    x.route, x.reply, x.answer = route, reply, answer
    return x


# --- simulation -------------------------------------------------------------------------------------------------------


class Now:
    """Virtual time."""

    def __init__(self) -> None:
        self.s = 0.0


def play(work: Callable[[Now], Coroutine[Any, Any, Any]]) -> Any:
    """Run ``work`` on a loop that never waits: when nothing is to be done, time jumps to the next timer."""
    now = Now()

    class Jumping(selectors.DefaultSelector):
        def select(self, timeout: float | None = None) -> Any:
            now.s += timeout or 0.0
            return super().select(0)

    loop = asyncio.SelectorEventLoop(Jumping())
    loop.time = lambda: now.s  # type: ignore[method-assign]
    try:
        return loop.run_until_complete(work(now))
    finally:
        loop.close()


class Server:
    """A model server: ``slots`` calls at once, each a little slower for every other; the rest wait or are refused."""

    def __init__(self, now: Now, slots: int, *, refuses_beyond: int | None = None) -> None:
        self.now = now
        self.slots = asyncio.Semaphore(slots)
        self.inside = self.running = self.done = self.refused = 0
        self.beyond = refuses_beyond

    async def answer(self, tokens: int) -> Callable[[], Coroutine[Any, Any, None]] | None:
        """Wait for the first word; what to await for the rest. None when refused."""
        if self.beyond is not None and self.inside >= self.beyond:
            self.refused += 1
            return None
        self.inside += 1
        await self.slots.acquire()
        self.running += 1
        await asyncio.sleep(0.15 + 0.002 * self.running)

        async def rest() -> None:
            await asyncio.sleep(tokens * (0.010 + 0.0004 * self.running))
            self.running -= 1
            self.inside -= 1
            self.done += self.now.s <= SECONDS
            self.slots.release()

        return rest


async def overload(
    now: Now, lane: Lane | None, server: Server, *, rate: float, seconds: float, seed: int
) -> dict[str, list[float]]:
    """A flood of one tenant's programs, and a few people of another: how long each waits for the first word."""
    draw = random.Random(seed)
    first: dict[str, list[float]] = {"interactive": [], "standard": [], "refused": [], "predicted": [], "waited": []}

    async def one(tenant: str, priority: Priority) -> None:
        arrived = now.s
        tokens = round(draw.expovariate(1 / 120)) + 20
        predicted = lane.wait_s(1, lane.waiting) if lane is not None and priority == "standard" else 0.0
        waits = lane is not None and lane.busy >= int(lane.limit)
        try:
            if lane is not None:
                await lane.enter(tenant, priority, now.s + 60.0)
        except ModelBusy:
            first["refused"].append(now.s)
            return
        if waits and priority == "standard":
            first["predicted"].append(predicted)
            first["waited"].append(now.s - arrived)
        began = now.s
        rest = await server.answer(tokens)
        if rest is None:
            if lane is not None:
                lane.leave(now.s - began, refused=True, answered=False)
            first["refused"].append(now.s)
            return
        first[priority].append(now.s - arrived)
        if lane is not None:
            lane.began(now.s - began)
        await rest()
        if lane is not None:
            lane.leave(now.s - began)

    tasks = []
    while now.s < seconds:
        await asyncio.sleep(draw.expovariate(rate))
        people = draw.random() < 0.1
        tasks.append(
            asyncio.ensure_future(one("people" if people else "flood", "interactive" if people else "standard"))
        )
    await asyncio.gather(*tasks)
    return first


def simulate(kind: str, *, refuses: bool, seed: int) -> tuple[dict[str, list[float]], Server, float]:
    """One run: without a lane, with the right number of places given, or with places found out."""

    async def run(now: Now) -> tuple[dict[str, list[float]], Server, float]:
        server = Server(now, 32, refuses_beyond=48 if refuses else None)
        lane = None
        if kind != "none":
            start, most = (32, 32) if kind == "fixed" else (10_000, 10_000)
            lane = Lane("m", start=start, most=most, longest_wait_s=10.0, clock=lambda: now.s)
        first = await overload(now, lane, server, rate=14.0, seconds=SECONDS, seed=seed)
        return first, server, lane.limit if lane is not None else 0.0

    result: tuple[dict[str, list[float]], Server, float] = play(run)
    return result


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` of ``values`` lie; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def spread(values: list[float]) -> dict[str, Any]:
    """Ends of the middle 90 % of repeated runs."""
    return {"n": len(values), "low": percentile(values, 0.05), "high": percentile(values, 0.95)}


def turns(seed: int) -> float:
    """Share of the calls a modest tenant gets of those it asks for, while another asks for twenty times as many."""

    async def run(now: Now) -> float:
        lane, draw = Lane("m", start=8, most=8, longest_wait_s=20.0, clock=lambda: now.s), random.Random(seed)
        asked, served = {"modest": 0, "greedy": 0}, {"modest": 0, "greedy": 0}

        async def one(tenant: str) -> None:
            asked[tenant] += 1
            try:
                await lane.enter(tenant, "standard", now.s + 60.0)
            except ModelBusy:
                return
            took = draw.expovariate(1.0)
            await asyncio.sleep(took)
            lane.leave(took)
            served[tenant] += 1

        tasks = []
        while now.s < 200.0:
            await asyncio.sleep(draw.expovariate(42.0))
            tasks.append(asyncio.ensure_future(one("modest" if draw.random() < 1 / 21 else "greedy")))
        await asyncio.gather(*tasks)
        return served["modest"] / asked["modest"]

    share: float = play(run)
    return share


def main() -> int:
    report = Report(
        "admission",
        note="Costs are processor time in process; low and high are the ends of the middle 90 % of rounds. Simulated "
        "figures play 300 s of 1.5 times what a server of 32 slots can do, 10 seeds, with the lanes of the gateway.",
    )
    settle()
    for name, spec, target in (
        ("no limit is set", NOTHING, ""),
        ("three limits of a key, one budget", ONE, "<= 15"),
        ("nine limits (key, tenant, user), two budgets", EVERYTHING, ""),
    ):
        with tempfile.TemporaryDirectory() as directory:
            made, lines = uvloop.run(admit(spec, Path(directory)))
        report.add(
            f"authenticate, admit and settle: {name}", statistics.median(made), "µs", target=target, **spread(made)
        )
        if spec is ONE:
            report.add("ledger lines written for them", lines, "lines", n=ROUNDS * REQUESTS, target="<= 60")
    seeds = range(10)
    for refuses in (False, True):
        server_kind = "refuses beyond 48" if refuses else "queues"
        for kind, words in (("none", "no lane"), ("fixed", "32 places, given"), ("found", "places found out")):
            runs = [simulate(kind, refuses=refuses, seed=seed) for seed in seeds]
            waits = [percentile(first["interactive"], 0.95) for first, _, _ in runs]
            done = [server.done / SECONDS for _, server, _ in runs]
            target = "<= 3" if kind == "found" and not refuses else ""
            where = f"server {server_kind}, {words}"
            report.add(
                f"{where}: people wait for the first word, p95",
                statistics.median(waits),
                "s",
                target=target,
                **spread(waits),
            )
            report.add(f"{where}: answers", statistics.median(done), "1/s", **spread(done))
            if refuses:
                thrown = [float(server.refused) for _, server, _ in runs]
                report.add(f"{where}: calls the server refused", statistics.median(thrown), "calls", **spread(thrown))
            if kind == "found":
                limits = [limit for _, _, limit in runs]
                report.add(f"{where}: places in the end", statistics.median(limits), "calls", **spread(limits))
    pairs = [pair for seed in seeds for pair in _waits(seed)]
    errors = [abs(waited - predicted) for predicted, waited in pairs]
    report.add("predicted wait against the wait, median difference", statistics.median(errors), "s", **spread(errors))
    shares = [turns(seed) for seed in seeds]
    report.add(
        "a modest tenant is served beside a greedy one", 100 * statistics.median(shares), "%", target=">= 99",
        **spread([100 * share for share in shares]),
    )  # fmt: skip
    return report.finish()


def _waits(seed: int) -> list[tuple[float, float]]:
    first, _, _ = simulate("fixed", refuses=False, seed=seed)
    return list(zip(first["predicted"], first["waited"], strict=True))


if __name__ == "__main__":
    sys.exit(main())
