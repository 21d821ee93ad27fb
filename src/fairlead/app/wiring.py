"""The composition root: builds everything from the settings and fairlead.yaml. The only place that wires rooms."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from fairlead import providers
from fairlead.admission import Admission, Bank, Gated, Lane, LimitRules
from fairlead.app.admin import PATH as ADMIN_PATH
from fairlead.app.admin import EnginesSurface
from fairlead.app.machines import Machines
from fairlead.app.parts import (
    EMBED,
    IN_PROCESS,
    OPENVINO,
    VLLM_SERVE,
    credentials,
    engine_identity,
    held_skills,
    network_of,
    operations_of,
    price_of,
    router_identity,
    router_of,
    rules_of,
    split_of,
    weights_of,
)
from fairlead.assistant import Assistant, AssistantUpstream, Knowledge, Tools
from fairlead.batch import KIND, Backend, Batches, Limits, Live, Runner, Spare, Surface, described
from fairlead.batch.runner import holder_of
from fairlead.engines.base import Engine
from fairlead.errors import FairleadError, RouterRefused
from fairlead.gateway import Gateway, Identity, Route
from fairlead.gateway import body as bodies
from fairlead.gateway.cache import Cache as KeptAnswers
from fairlead.gateway.cache.explain import Explanation, explain
from fairlead.gateway.cascade import Cascade
from fairlead.gateway.http import Receive, Scope, Send
from fairlead.gateway.keypool import KeyPool
from fairlead.gateway.keyring import pseudonym
from fairlead.gateway.route import Split, chosen_for, find_route
from fairlead.guard import Masker
from fairlead.jobs import Lease, Worker
from fairlead.providers.base import Operation, Upstream
from fairlead.providers.dialect import DIALECTS
from fairlead.providers.embeddings import BatchedEmbeddings
from fairlead.providers.facts import OPENVINO as OPENVINO_FACTS
from fairlead.providers.facts import facts_of
from fairlead.providers.structured import Structured
from fairlead.records import Inference, Release, now_us
from fairlead.settings import Settings
from fairlead.spec import UseCase, Variant, load, release_hash
from fairlead.store import Store
from fairlead.telemetry import Telemetry

log = logging.getLogger(__name__)

TEND: Final = "batch.tend"
TEND_EVERY_S: Final = 3600.0
FEWEST_PLACES: Final = 8
MOST_PLACES: Final = 10_000
"""Calls a model of somebody else has at once: the most and what it starts with, and never less than the fewest."""


class Pages(Protocol):
    """What answers everything that is not the API's: the chat and the console."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        ...

    async def aclose(self) -> None:
        """End what still runs. Idempotent."""
        ...


class Fairlead:
    """One use case, wired: what the commands and the console work with."""

    def __init__(self, settings: Settings, *, observed: bool = True) -> None:
        """What is asked of an app that is not ``observed`` is no traffic: it leaves no trace."""
        self.settings = settings
        self._observed = observed
        self.started_at = now_us()
        self.pages: Pages | None = None
        self.usecase: UseCase = load(settings.spec_path)
        self.store = Store.open(
            settings.data_path,
            flush_ms=settings.journal_flush_ms,
            segment_rows=settings.segment_rows,
            segment_s=settings.segment_s,
            queue=settings.record_queue,
        )
        try:
            self._wire()
        except BaseException:
            self.store.close()
            raise

    def _wire(self) -> None:
        usecase, settings = self.usecase, self.settings
        self.mask = Masker(frozenset(usecase.policy.privacy.mask))
        self.knowledge = Knowledge.load([usecase.path(part.path) for part in usecase.knowledge], self.store.derived)
        self.tools = Tools.of(usecase)
        self.router = router_of(usecase, self.store.derived)
        self.machines = Machines(usecase, settings)
        self.engines = self.machines.engines
        self.failures: dict[str, str] = {}
        self.releases: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsent: set[str] = set()
        self._lanes: dict[str, Lane] = {}
        self._pools: dict[str, KeyPool] = {}
        weights = {name: each.weight for each in usecase.limits if each.weight for name in each.only}
        self._weights: dict[str, float] = weights
        self._served = variants = self._allowed()
        self._splits = splits = self._open_routers(variants)
        self._routes = routes = self._make_routes(variants, splits)
        self._wire_gateway(variants, routes)
        self.assistant = Assistant(
            gateway=self.gateway,
            usecase=usecase,
            store=self.store,
            knowledge=self.knowledge,
            tools=self.tools,
            router=self.router,
            splits=splits,
            mask=self.mask,
            record=self._record,
            releases=self.releases,
            max_message_chars=settings.chat_message_chars,
        )
        routes[usecase.name] = Route(
            name=usecase.name, upstream=AssistantUpstream(self.assistant), model=usecase.name, variant=usecase.live.id,
            release=self.releases[usecase.live.id], operations=frozenset({"chat"}), price=(0.0, 0.0),
            recorded_as="request", rests=False,
        )  # fmt: skip
        self._wire_batches(variants)

    def _allowed(self) -> list[Variant]:
        """The variants that may be asked."""
        found = [variant for variant in self.usecase.variants if self.usecase.allows(variant)]
        for variant in self.usecase.variants:
            if variant not in found:
                log.warning("variant %s gets no traffic: policy.residency allows no external models", variant.id)
        return found

    def _open_routers(self, variants: Sequence[Variant]) -> dict[str, Split]:
        """How the routers choose."""
        splits = {variant.id: split_of(self.usecase, variant) for variant in variants if variant.target.routes}
        self._warn_of(splits)
        return splits

    def _warn_of(self, splits: Mapping[str, Split]) -> None:
        for name, split in splits.items():
            if split.doubt:
                log.warning("variant %s: %s", name, split.doubt)

    def _make_routes(self, variants: Sequence[Variant], splits: Mapping[str, Split]) -> dict[str, Route]:
        """How the gateway comes to every variant, and to the embedder."""
        upstreams = {variant.id: self._upstream(variant) for variant in variants if variant.id not in splits}
        # A router calls nobody itself: who it chose is called by that one's own route.
        upstreams |= {name: upstreams[split.small] for name, split in splits.items()}
        self.releases = self._freeze(variants, splits)
        self._go_live()
        routes = {
            variant.id: self._route(variant, upstreams[variant.id], splits.get(variant.id)) for variant in variants
        }
        if EMBED not in routes:
            embedder = self.machines.engine(EMBED).upstream()
            routes[EMBED] = Route(
                name=EMBED, upstream=embedder, model=EMBED, variant=EMBED,
                release=self.releases[self.usecase.live.id], operations=frozenset({"embedding"}), price=(0.0, 0.0),
                defaults={},
            )  # fmt: skip
        return routes

    def _wire_gateway(self, variants: Sequence[Variant], routes: dict[str, Route]) -> None:
        usecase, settings = self.usecase, self.settings
        self.telemetry = Telemetry()
        self.admission = Admission(
            rules=LimitRules(usecase),
            bank=Bank(self.store.ledger),
            routes=routes,
            count=self.telemetry.count_turned_away,
            unsent=self._unsent,
            key_of=self.store.keys.find,
            own=frozenset(variant.id for variant in variants if variant.priced and variant.price is None),
        )
        self._watch_admission()
        stores = settings.store_content and usecase.policy.privacy.store_content
        self.gateway = Gateway(
            routes=routes,
            keys=self.store.keys,
            record=self._record,
            settings=dataclasses.replace(settings, store_content=stores),
            mask=self.mask,
            identity=Identity(usecase=usecase.name, spec_hash=usecase.spec_hash),
            fallback=self._page,
            ready=self.ready,
            pseudonym_secret=self.store.secret("pseudonyms"),
            cache=self._cache(),
            telemetry=self.telemetry,
            steps={"admit": (self.admission.admit,)},
            admit_now=self.admission.admit_now,
        )

    def _route(self, variant: Variant, upstream: Upstream, split: Split | None) -> Route:
        """How the gateway comes to a variant."""
        usecase, target, settings = self.usecase, variant.target, self.settings
        return Route(
            name=variant.id,
            upstream=upstream,
            model=self.machines.asked_as(variant),
            variant=variant.id,
            release=self.releases[variant.id],
            operations=frozenset.intersection(*map(operations_of, usecase.answering(variant))),
            price=price_of(usecase, variant),
            defaults=variant.sampling.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
            | self.machines.defaults(variant),
            deterministic=target.quotes,
            salt=DIALECTS[target.provider].salt if target.provider in DIALECTS else "",
            retries=settings.retries if target.remote else 0,
            rests=target.remote,
            fallback=variant.fallback,
            weights=variant.weights,
            hedge=variant.hedge,
            repairs=isinstance(upstream, Structured),
            line=f"{target.base_url} {target.name} {' '.join(variant.references)}" if target.remote else "",
            split=split,
        )

    def _wire_batches(self, variants: Iterable[Variant]) -> None:
        """Files, batches, and the worker that answers them on what room live traffic leaves."""
        settings, gateway, store = self.settings, self.gateway, self.store
        spare = Spare(lambda: gateway.in_flight)
        alone, many = Live(gateway, spare, 1), Live(gateway, spare, settings.batch_places)
        # What answers in this very loop answers one at a time, for live requests wait as long.
        quoting = {each.id for each in variants if any(other.target.quotes for other in self.usecase.answering(each))}
        here = quoting | {EMBED, self.usecase.name}
        elsewhere = {variant.id: self._batch_backend(variant) for variant in variants if variant.batch != "gateway"}

        def backend_of(route: Route) -> Backend:
            return elsewhere.get(route.name) or (alone if route.name in here else many)

        limits = Limits(line_bytes=settings.max_body_bytes, depth=settings.max_depth)
        self.batches = Batches(store, gateway.identity, most_held_bytes=settings.files_mb * 1_000_000)
        runner = Runner(
            store,
            gateway.routes,
            backend_of,
            limits=limits,
            holder=lambda identifier: holder_of(identifier, store.keys.list(), now_us()),
        )
        self.worker = Worker(store, {KIND: runner, TEND: self._tend})
        gateway.surfaces.update(Surface(gateway, store, self.batches, wake=self.worker.wake).surfaces)
        gateway.description = described(gateway.description)
        gateway.surfaces[ADMIN_PATH] = EnginesSurface(
            gateway, lambda: list(self.engines.values()), self.swap, self.doubts
        )

    def _batch_backend(self, variant: Variant) -> Backend:
        """Who else answers a variant's batches."""
        secret, price = self.store.secret("pseudonyms"), price_of(self.usecase, variant)
        if variant.batch == "provider":
            from fairlead.batch.provider import Provider  # aiohttp takes 0.2 s, and few use cases need it
            from fairlead.providers.batches import ProviderBatches

            key, network = credentials(variant, self.usecase)[0], network_of(variant, self.settings)
            account = ProviderBatches(variant.id, variant.target.base_url, key, network)
            return Provider(account, variant.target.name, price, secret)
        from fairlead.batch.command import Command

        return Command(variant.batch, variant.target.name, price, secret)

    async def _tend(self, _: Lease) -> None:
        await asyncio.to_thread(self.batches.tend)

    async def work(self) -> None:
        """Do queued work until cancelled, beside what else this process does."""
        await asyncio.to_thread(self.store.jobs.add, TEND, {}, key=TEND, every_s=TEND_EVERY_S)
        await self.worker.run()

    def _cache(self) -> KeptAnswers | None:
        """What keeps answers, as ``cache:`` says; None where nothing is kept."""
        wanted = self.usecase.cache
        if not wanted.enabled:
            return None
        self.store.answers.limit = wanted.size_mib * 1024 * 1024
        rest: dict[str, Any] = {}
        if wanted.paraphrases is not None:
            from fairlead.app.rulers import largest_share  # the statistics; few use cases answer paraphrases
            from fairlead.guard.sameness import Sameness

            rest = {"judge": Sameness(), "bound": largest_share}
        return KeptAnswers(
            rules_of(wanted), secret=self.store.secret("answers"), mask=self.mask, backing=self.store.answers, **rest
        )

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Everything that is not the API's goes to the pages, which are built on top of this."""
        if self.pages is None:
            raise RuntimeError("no pages were set before serving")
        await self.pages(scope, receive, send)

    def _freeze(self, variants: Iterable[Variant], splits: Mapping[str, Split]) -> dict[str, str]:
        """Store the use case and one release per variant; returns variant id to release hash. A router's two that are
        not among them have the release they had.
        """
        usecase = self.usecase
        self.store.usecases.put(usecase.name, usecase.spec_hash, json.dumps(usecase.content(), sort_keys=True))
        self.store.objects.put(self.knowledge.content)  # under its snapshot hash, which every release names
        hashes: dict[str, str] = {}
        for variant in sorted(variants, key=lambda each: each.target.routes):  # a router is made of the two it names
            content = variant.release_content(
                knowledge=self.knowledge.snapshot,
                tools=self.tools.digest,
                routing=self.router.digest,
                engine=router_identity(variant, {**self.releases, **hashes}, shut=splits[variant.id].shut)
                if variant.target.routes
                else engine_identity(variant),
            )
            hashes[variant.id] = release_hash(content)
            self.store.releases.put(
                Release(
                    id=hashes[variant.id], time=now_us(), tenant="default", subject="", usecase=usecase.name,
                    spec_hash=usecase.spec_hash, release=hashes[variant.id], variant=variant.id,
                    content=json.dumps(content, sort_keys=True), state="proposed",
                )
            )  # fmt: skip
        return hashes

    def _go_live(self) -> None:
        """The live variant's release is the one that lives."""
        live = self.releases[self.usecase.live.id]
        current = self.store.releases.live(self.usecase.name)
        if current is None or current.id != live:
            self.store.releases.set_live(self.usecase.name, live)

    def _upstream(self, variant: Variant) -> Upstream:
        target = variant.target
        if target.remote:
            upstream = _batched(self._hosted(variant), variant)
            facts = facts_of(target.provider)
            # A server of one's own has one capacity for all its models, a provider one for each.
            own = target.kind == "http" or not target.external
            upstream = self._gated(upstream, target.base_url if own else variant.model, variant.id)
            return upstream if facts.json_schema and facts.strict_tools else Structured(upstream, facts)
        first, *more = (self._own(weights, variant) for weights in weights_of(variant))
        return Cascade(variant.id, first, more[0], held_skills("mini")) if more else first

    def _hosted(self, variant: Variant) -> Upstream:
        """A model over HTTP, by its key or by those of its keys that are there."""
        target = variant.target
        dialect = {"dialect": DIALECTS[target.provider]} if target.provider in DIALECTS else {}
        present = [key for key in credentials(variant, self.usecase) if key is not None]
        members = [
            providers.registry.build(
                target.kind if target.kind in ("anthropic", "litellm") else "openai",
                variant.id, target.base_url, target.name, key,
                network=network_of(variant, self.settings), **dialect,
            )
            for key in present or (None,)
        ]  # fmt: skip
        if len(members) == 1:
            return members[0]
        pool = self._pools[variant.id] = KeyPool(variant.id, members)
        return pool

    def _own(self, weights: str, variant: Variant) -> Upstream:
        upstream = self.machines.engine(weights).upstream()
        if weights in IN_PROCESS:
            return upstream
        places = 2 * self.machines.slots(weights)
        gated = self._gated(_batched(upstream, variant), weights, upstream.name, places=places)
        if weights.startswith(OPENVINO):
            return Structured(gated, OPENVINO_FACTS)
        return Structured(gated, facts_of("vllm")) if weights.startswith(VLLM_SERVE) else gated

    def _gated(self, upstream: Upstream, engine: str, name: str, *, places: int | None = None) -> Upstream:
        """``upstream`` behind the lane of its engine, which variants share.

        An engine of ours never idles with twice the calls it has slots for; nobody knows what another takes, so it
        gets all there is until it says that it is too much.
        """
        lane = self._lanes.get(engine)
        if lane is None:
            lane = self._lanes[engine] = Lane(
                name,
                start=places or MOST_PLACES,
                least=self.settings.engine_slots if places else FEWEST_PLACES,
                most=2 * places if places else MOST_PLACES,
                longest_wait_s=self.settings.queue_wait_s,
                weights=self._weights,
                clock=time.monotonic,
            )
        return Gated(upstream, lane, self._unsent)

    @property
    def lanes(self) -> list[Lane]:
        """The places of each engine and of each model over HTTP."""
        return list(self._lanes.values())

    def _watch_admission(self) -> None:
        read = self.telemetry.watch
        lanes = self._lanes
        read("fairlead_model_places", "Calls a model may have at once, as found out.", ["model"],
             lambda: [((lane.name,), int(lane.limit)) for lane in lanes.values()])  # fmt: skip
        read("fairlead_model_busy", "Calls a model has.", ["model"],
             lambda: [((lane.name,), lane.busy) for lane in lanes.values()])  # fmt: skip
        read("fairlead_model_waiting", "Calls that wait for a model.", ["model"],
             lambda: [((lane.name,), lane.waiting) for lane in lanes.values()])  # fmt: skip
        pools = self._pools
        read("fairlead_model_keys", "Keys of a model that may be used now, of those that take turns.", ["model"],
             lambda: [((name,), pool.able()) for name, pool in pools.items()])  # fmt: skip
        for what, of in (("running", "works on"), ("waiting", "lets wait")):
            read(f"fairlead_engine_{what}", f"Requests an engine {of}, as it says.", ["engine"],
                 functools.partial(self._loads, what))  # fmt: skip
        read("fairlead_engine_cache", "Share of its memory for contexts an engine uses, as it says.", ["engine"],
             functools.partial(self._loads, "cache"))  # fmt: skip
        read("fairlead_budget_usd", "The use case's budget of this day and month: limit, spent, reserved, left.",
             ["period", "state"], self.admission.budget)  # fmt: skip

    def _loads(self, what: str) -> list[tuple[tuple[str, ...], float]]:
        """What the engines that say it have to do; nothing of the others."""
        told = [(engine.name, engine.health().load) for engine in self.engines.values()]
        return [((name,), float(getattr(load, what))) for name, load in told if load is not None]

    async def swap(self, name: str) -> None:
        """Put another engine, from the files as they are now, in the place of the one called ``name``; see
        ``Machines.swap``. From the moment it takes the calls, its variants answer under the release it makes of them,
        and routers in front of them go by what they are worth now.
        """
        weights = self.machines.weights(name)
        changed = [
            variant for variant in self._served if any(weights in weights_of(each) for each in self._made_of(variant))
        ]
        splits = await asyncio.to_thread(self._look_again, [each for each in changed if each.target.routes])
        hashes = await asyncio.to_thread(self._freeze, changed, {**self._splits, **splits})

        def switched() -> None:
            fresh = {self.releases[variant]: release for variant, release in hashes.items()}
            for route in list(self.gateway.routes.values()):
                split = splits[route.name] if route.split is not None and route.name in splits else route.split
                if route.release in fresh or split is not route.split:
                    release = fresh.get(route.release, route.release)
                    self._routes[route.name] = msgspec.structs.replace(route, release=release, split=split)
            self.releases.update(hashes)
            self._splits.update(splits)
            self._warn_of(splits)
            self._go_live()

        await self.machines.swap(name, switched)
        self.failures.pop(name, None)

    def _made_of(self, variant: Variant) -> tuple[Variant, ...]:
        """What a variant's release is made of: itself, and the two of a router."""
        return (variant, *self.usecase.answering(variant))

    def _look_again(self, routers: Iterable[Variant]) -> dict[str, Split]:
        """How routers choose by what their files and their two are now. One whose file cannot be used any more sends
        all to the big one.
        """
        splits = {}
        for variant in routers:
            try:
                splits[variant.id] = split_of(self.usecase, variant)
            except RouterRefused as error:
                old = self._splits[variant.id]
                splits[variant.id] = msgspec.structs.replace(old, shut=True, doubt=str(error))
        return splits

    def doubts(self) -> list[str]:
        """Routers that should not stay as they are, in words."""
        return [f"Variant {name}: {split.doubt}" for name, split in self._splits.items() if split.doubt]

    def _record(self, inference: Inference) -> bool:
        return self.store.traces.append(inference) if self._observed else True

    def needed(self, variant: Variant) -> list[str]:
        """What the engines run that a variant's answers come from."""
        return [weights for each in self.usecase.answering(variant) for weights in weights_of(each)]

    def ready(self) -> list[str]:
        """Why live traffic cannot be answered yet, a sentence an engine; empty when it can.

        Engines of other variants do not count, nor does the fluent half of a cascade: a server that answers its
        customers is ready.
        """
        waiting = []
        first = [weights for each in self.usecase.answering(self.usecase.live) for weights in weights_of(each)[:1]]
        for weights in first:
            engine = self.engines[weights]
            health = engine.health()
            if health.state not in ("ready", "asleep"):
                waiting.append(f"{engine.name}: {self.failures.get(engine.name) or health.detail or health.state}")
        return waiting

    async def start(self) -> None:
        """Start every engine. In-process ones answer when this returns, the others start in the background."""
        for weights, engine in self.engines.items():
            if weights in IN_PROCESS:
                await engine.start()
            else:
                self._spawn(self._start_engine(engine))
        self._spawn(self.admission.watch())
        self._spawn(self.tools.ready())
        self._spawn(self.assistant.watch_actions())
        self._spawn(self.assistant.outcomes.watch())
        if self.settings.work_jobs:
            self._spawn(self.work())

    async def start_variant(self, identifier: str) -> None:
        """Start only what one variant needs, and wait for it. Raises what the engine raises."""
        needed = self.needed(self.usecase.variant(identifier))
        for weights, engine in self.engines.items():
            if weights in IN_PROCESS or weights in needed:
                await engine.start()

    async def _start_engine(self, engine: Engine) -> None:
        try:
            await engine.start()
        except FairleadError as error:
            # The other variants go on answering; /readyz, the console and `doctor` show this one.
            self.failures[engine.name] = str(error)
            log.error("engine %s: %s", engine.name, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Stop engines, write what waits, close the store. Idempotent."""
        if self.pages is not None:
            await self.pages.aclose()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.assistant.finish_actions()
        await self.gateway.aclose()
        await self.admission.aclose()
        await self.tools.aclose()
        await asyncio.gather(*(engine.stop() for engine in self.engines.values()))
        await asyncio.to_thread(self.store.close)


def _batched(upstream: Upstream, variant: Variant) -> Upstream:
    """``upstream``, with several callers' texts to embed in one request where the variant says so."""
    batching = variant.dynamic_batching
    if batching is None:
        return upstream
    delay_s = batching.max_queue_delay_ms / 1000
    return BatchedEmbeddings(upstream, max_batch_size=batching.max_batch_size, max_queue_delay_s=delay_s)


def build(settings: Settings, *, observed: bool = True) -> Fairlead:
    """Everything, wired and not yet started. Raises SpecErrors, StoreError or what a file at fault raises."""
    return Fairlead(settings, observed=observed)


def explain_kept(
    fairlead: Fairlead, body: dict[str, Any], *, operation: Operation, tenant: str, scopes: frozenset[str]
) -> Explanation:
    """Why a request body would be answered from what is kept on disk, or not. Raises RequestInvalid, ModelUnknown."""
    bodies.check(body, operation)
    user = body.get("safety_identifier") or body.get("user")
    cache, routes = fairlead.gateway.cache, fairlead.gateway.routes
    route, _ = chosen_for(routes, find_route(routes, body["model"], operation), body)
    return explain(
        body, operation=operation, tenant=tenant, scopes=scopes,
        subject=pseudonym(fairlead.store.secret("pseudonyms"), tenant, user) if user else "",
        route=route, secret=fairlead.store.secret("answers"),
        rules=cache.rules if cache is not None else None, kept=fairlead.store.answers.newest(), now=now_us(),
    )  # fmt: skip
