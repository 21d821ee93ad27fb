"""A real gateway with scripted models, a real store and a runner between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairlead.evaluate.candidates import Candidate, through_gateway
from fairlead.evaluate.purse import Price, Purse
from fairlead.evaluate.runner import Runner
from fairlead.evaluate.scorers import Scorer, make_scorer
from fairlead.gateway import Gateway
from fairlead.providers.base import Call
from fairlead.providers.scripted import Script, Scripted
from fairlead.records import Run, Sample, new_id, now_us
from fairlead.spec import Variant
from fairlead.store import Store
from tests.gateway.gateway_harness import build, route

PRICE: Price = (400.0, 1600.0)
Saying = Callable[[Call], Script]


def make_samples(count: int, reference: str = "yes", **fields: Any) -> list[Sample]:
    return [Sample(id=f"s{n}", input=f"question {n}", reference=reference, fields=fields) for n in range(count)]


def make_run(**more: Any) -> Run:
    return Run(
        **{
            "id": new_id(), "time": now_us(), "tenant": "default", "subject": "", "usecase": "shop", "spec_hash": "h",
            "release": "", "step": "select", "dataset": "d@1", "content": "c", **more,
        }
    )  # fmt: skip


def variant(name: str, **more: Any) -> Variant:
    return Variant.model_validate({"id": name, "model": f"http://127.0.0.1:9/v1#{name}", **more})


class Models:
    """Scripted models behind one gateway; ``upstreams`` count what they were asked."""

    def __init__(self, **scripts: Script | Saying) -> None:
        self.upstreams = {name: Scripted(name, script) for name, script in scripts.items()}
        routes = {name: route(upstream, name, rests=False) for name, upstream in self.upstreams.items()}
        self.gateway: Gateway = build(routes=routes).gateway

    def calls(self, name: str) -> int:
        return len(self.upstreams[name].calls)

    def candidate(self, name: str, price: Price | None = PRICE, release: str = "", **more: Any) -> Candidate:
        return through_gateway(self.gateway, variant(name, **more), release or f"release of {name}", price=price)


@contextmanager
def running(
    folder: Path, scorers: Sequence[Scorer] = (), *, purse: Purse | None = None, **options: Any
) -> Iterator[tuple[Runner, Store]]:
    with Store.open(folder) as store:
        run = make_run()
        store.runs.begin(run)
        yield Runner(store, run, scorers or [make_scorer("exact")], purse=purse, **options), store
