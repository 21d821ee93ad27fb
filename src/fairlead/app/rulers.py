"""What measures a wired use case: its variants as candidates, its judges, the bound on wrong answers from memory.

Apart from the wiring because it needs statistics and judges, which a server does not (0.04 s of its start).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from fairlead.app.parts import make_content, price_of, resident_bytes, rules_of
from fairlead.app.wiring import Fairlead
from fairlead.evaluate.candidates import Candidate, through_assistant, through_gateway
from fairlead.evaluate.judges import Definition, Instrument, Said, Standing, prompted, standing_of
from fairlead.evaluate.judges.prompted import LONGEST, Ask, Messages
from fairlead.evaluate.sequences import betting
from fairlead.gateway import Principal
from fairlead.gateway.cache import Bands
from fairlead.gateway.usage import tokens_of
from fairlead.providers.base import CallContext
from fairlead.settings import Settings
from fairlead.spec import UseCase, Variant, load, release_hash
from fairlead.store import Store


def candidates(
    fairlead: Fairlead, variants: Iterable[Variant], *, through: Literal["assistant", "gateway"]
) -> list[Candidate]:
    """The variants as the ruler asks them: the whole assistant with each behind it, or their models alone."""
    found = []
    for variant in variants:
        price, release = price_of(fairlead.usecase, variant), fairlead.releases[variant.id]
        memory = functools.partial(_memory, fairlead, variant)
        among = {each.id: (each, price_of(fairlead.usecase, each)) for each in fairlead.usecase.answering(variant)}
        given: dict[str, Any] = {"price": price, "among": among, "memory": memory}
        if through == "gateway":
            found.append(through_gateway(fairlead.gateway, variant, release, **given))
        else:
            found.append(through_assistant(fairlead.assistant, variant, release, **given))
    return found


def _memory(fairlead: Fairlead, variant: Variant) -> int | None:
    """Resident bytes of the processes that run a variant's models; None where they run in this one or elsewhere."""
    pids = [pid for weights in fairlead.needed(variant) if (pid := fairlead.engines[weights].health().pid) is not None]
    sizes = [resident_bytes(pid) for pid in pids]
    return sum(size for size in sizes if size is not None) if pids and None not in sizes else None


def judge_of(fairlead: Fairlead, identifier: str) -> Instrument:
    """A judge of ``judges:``, asking its variant through the gateway. Raises ChoiceUnknown."""
    usecase = fairlead.usecase
    variant = usecase.variant(usecase.judge(identifier).variant)
    return prompted(
        judge_definition(usecase, identifier), _ask(fairlead, variant.id), price=price_of(usecase, variant),
        longest=variant.sampling.max_tokens or LONGEST,
    )  # fmt: skip


def _ask(fairlead: Fairlead, identifier: str) -> Ask:
    variant = fairlead.usecase.variant(identifier)
    price, given = price_of(fairlead.usecase, variant), variant.sampling
    settings: dict[str, Any] = {"temperature": 0} if given.temperature is None else {}
    settings |= {"max_tokens": LONGEST} if given.max_tokens is None else {}
    context, principal = CallContext(channel="judge", alone=True), Principal(subject="judge")

    async def ask(messages: Messages, repetition: int) -> Said:
        body: dict[str, Any] = {"model": identifier, "messages": messages, **settings}
        if repetition and given.seed is None:
            body["seed"] = repetition
        reply = await fairlead.gateway.complete(body, principal=principal, context=context)
        tokens = tokens_of(reply.get("usage"))
        cost = None
        if price is not None and (not any(price) or None not in tokens):
            cost = round((tokens[0] or 0) * price[0] + (tokens[1] or 0) * price[1])
        text = reply["choices"][0]["message"].get("content")
        return Said(
            text=text if isinstance(text, str) else "", input_tokens=tokens[0], output_tokens=tokens[1],
            cost_nanos=cost,
        )  # fmt: skip

    return ask


def judge_definition(usecase: UseCase, identifier: str) -> Definition:
    """What a judge of ``judges:`` is: its variant's content decides, not its name. Raises ChoiceUnknown, OSError."""
    judge = usecase.judge(identifier)
    variant = usecase.variant(judge.variant)
    model = release_hash(make_content(variant))
    return Definition(id=judge.id, kind=judge.kind, rubric=judge.rubric, model=model)


def judge_standings(usecase: UseCase, store: Store) -> list[Standing]:
    """What each judge of ``judges:`` may decide today, by the newest calibration of it as it is."""
    return [
        standing_of(
            judge.id,
            judge_definition(usecase, judge.id).hash,
            judge.needs,
            store.calibrations.list(judge=judge.id),
        )
        for judge in usecase.judges
    ]


def learnt_of(settings: Settings, bands: bytes) -> list[dict[str, Any]]:
    """What was learnt of paraphrases, as the rules of the use case judge it; empty where they are not answered."""
    if not settings.spec_path.is_file():
        return []
    rules = rules_of(load(settings.spec_path).cache)
    if rules.verified is None:
        return []
    known = Bands(rules.verified, largest_share)
    known.load(bands)
    return known.show()


def largest_share(wrong: int, checked: int, confidence: float) -> float:
    """The most a share can be after ``wrong`` of ``checked``, at any time (betting; the order does not matter)."""
    if checked == 0:
        return 1.0
    values = np.zeros(checked)
    values[:wrong] = 1.0
    return betting(values, confidence, side="high").high
