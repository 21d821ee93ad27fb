"""The reference shop with a real store, gateway and extractive engine, and a scripted model where one is needed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fairlead.assistant import Assistant, AssistantUpstream, Delta, Done, Event, Knowledge, Router, Tools
from fairlead.engines.extractive import Extractive
from fairlead.gateway import Gateway, Identity, Route
from fairlead.guard import Masker
from fairlead.providers.base import Call, Upstream
from fairlead.providers.scripted import Script, Scripted
from fairlead.records import Inference, now_us
from fairlead.settings import Settings
from fairlead.spec import UseCase, parse
from fairlead.store import Store

SHOP = Path(__file__).parents[2] / "examples" / "shop"
GREETING = "Hello! I am the AI assistant"
MIRA = {"order_id": "TT-482913", "email": "mira.holm@example.com"}


class Shop:
    """Everything wired, without HTTP. ``model`` is the scripted variant ``mini``."""

    def __init__(
        self,
        directory: Path,
        *,
        script: Script | Callable[[Call], Script] | None = None,
        tools: Tools | None = None,
        knowledge: Knowledge | None = None,
        change: Mapping[str, str] | None = None,
    ) -> None:
        self.usecase = load_shop(change or {})
        self.store = Store.open(directory, flush_ms=5)
        self.model = Scripted("mini", script)
        upstreams: dict[str, Upstream] = {"extractive": quoting(), "cascade": quoting(), "mini": self.model}
        routes = {
            variant.id: Route(
                name=variant.id, upstream=upstreams[variant.id], model=variant.id, variant=variant.id,
                release=f"release-{variant.id}", operations=frozenset({"chat"}), price=(0, 0),
            )
            for variant in self.usecase.variants
        }  # fmt: skip
        self.routes = routes
        self.gateway = Gateway(
            routes=routes,
            keys=self.store.keys,
            record=self.store.traces.append,
            settings=Settings(project=SHOP, data_dir=directory),
            mask=Masker(),
            identity=Identity(usecase=self.usecase.name, spec_hash=self.usecase.spec_hash),
        )
        self.assistant = Assistant(
            gateway=self.gateway,
            usecase=self.usecase,
            store=self.store,
            knowledge=knowledge or shop_knowledge(),
            tools=tools or Tools.load([SHOP / "tools.py"]),
            router=shop_router() if self.usecase.routing is not None else None,
            mask=Masker(),
            releases={variant.id: f"release-{variant.id}" for variant in self.usecase.variants},
        )
        routes[self.usecase.name] = Route(
            name=self.usecase.name, upstream=AssistantUpstream(self.assistant), model=self.usecase.name,
            variant="extractive", release="release-extractive", operations=frozenset({"chat"}),
        )  # fmt: skip

    async def say(self, conversation: str, text: str, **more: Any) -> list[Event]:
        """All events of one message."""
        return [event async for event in self.assistant.reply(conversation, text, **more)]

    async def traces(self) -> list[Inference]:
        """Every record so far, oldest first."""
        await self.gateway.aclose()
        self.store.traces.flush()
        return self.store.traces.query(since=0, until=now_us() + 60_000_000, limit=1000, order="asc")

    def close(self) -> None:
        """Close the store."""
        self.store.close()


@functools.cache
def quoting() -> Upstream:
    """The real extractive engine; it has no state, so one serves all tests."""
    return Extractive().upstream()


@functools.cache
def shop_router() -> Router:
    """The shop's intents, fitted once."""
    usecase = load_shop({})
    return Router.load(usecase.routing, SHOP / "data" / "intents.jsonl")


@functools.cache
def shop_knowledge() -> Knowledge:
    """The shop's pages, read and indexed once."""
    return Knowledge.load([SHOP / "knowledge"])


def load_shop(change: Mapping[str, str]) -> UseCase:
    """The shop's fairlead.yaml, with texts replaced."""
    text = (SHOP / "fairlead.yaml").read_text(encoding="utf-8")
    for old, new in change.items():
        assert old in text, old
        text = text.replace(old, new)
    return parse(text, file="fairlead.yaml", base=SHOP)


def spoken(events: list[Event]) -> str:
    """The text of an answer."""
    return "".join(event.text for event in events if isinstance(event, Delta))


def act_of(events: list[Event]) -> str:
    """What an answer did."""
    done = events[-1]
    assert isinstance(done, Done), done
    return done.act
