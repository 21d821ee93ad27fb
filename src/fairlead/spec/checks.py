"""The rules across fields: names that must exist, bounds that must be possible, files that must be there.

Each rule looks at those parts of the file that are well formed by themselves, so that one wrong key does not hide the
next problem. Reads files' presence, never their meaning.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fairlead.spec.bounds import UNIT_WORDS
from fairlead.spec.hours import HoursError, zone, zones
from fairlead.spec.metrics import (
    BUILT_IN,
    OVERRIDABLE,
    REQUIRED,
    Metric,
    MetricEntry,
    effective,
)
from fairlead.spec.model import (
    Budget,
    Dataset,
    Judge,
    Knowledge,
    Limit,
    Objective,
    Routing,
    Users,
)
from fairlead.spec.policy import Handoff, Policy
from fairlead.spec.prices import built_in
from fairlead.spec.problems import HIDDEN, SECRET_VALUES, Location, Problem, expected_of, listed, nearest
from fairlead.spec.target import Kind
from fairlead.spec.tools import Tools
from fairlead.spec.variant import Variant
from fairlead.spec.yaml_source import Source

P = TypeVar("P", bound=BaseModel)
TAGS = ("language", "channel", "intent", "topic", "country", "group", "risk", "variant")
"""Tags every row may carry; a project declares more in ``slices``."""


def check(source: Source, base: Path | None) -> list[Problem]:
    """All problems across fields. Files are looked for below ``base``; not at all when it is None."""
    data: dict[str, Any] = source.data
    metrics = _metrics(data)
    variants = list(_parts(data, "variants", Variant))
    problems = [
        *_secrets(source),
        *_unique(source, "variants", "id"),
        *_names(source),
        *_unique(source, "objectives", "id"),
        *_unique(source, "judges", "id"),
        *_unique(source, "datasets", "id"),
        *_unique(source, "datasets", "path"),
        *_own_metrics(source),
        *_live(source, variants),
        *_keys(source, variants),
        *_fallbacks(source, variants),
        *_routers(source, variants),
        *_judges(source, variants),
        *_batches(source, variants),
        *_dynamic_batching(source, variants),
        *_tasks(source, variants),
        *_prices(source, variants),
        *_limits(source, variants),
        *_handoff(source),
    ]
    for location, objective in _parts(data, "objectives", Objective):
        problems += _objective(source, location, objective, metrics)
    if base is not None:
        problems += _files(source, base, variants)
    return problems


def fill(data: dict[str, Any]) -> None:
    """Writes the defaults that depend on other fields: an objective's aggregation is its metric's usual one."""
    metrics = _metrics(data)
    for item in _items(data, "objectives"):
        if "aggregation" not in item and isinstance(name := item.get("metric"), str) and name in metrics:
            item["aggregation"] = metrics[name].allowed[0]


def _items(data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = data.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _valid(model: type[P], value: Any) -> P | None:
    try:
        return model.model_validate_json(json.dumps(value))
    except ValidationError:
        return None  # reported by the validation of the whole file


def _parts(data: dict[str, Any], key: str, model: type[P]) -> Iterator[tuple[Location, P]]:
    value = data.get(key)
    for index, item in enumerate(value if isinstance(value, list) else []):
        part = _valid(model, item)
        if part is not None:
            yield (key, index), part


def _metrics(data: dict[str, Any]) -> dict[str, Metric]:
    written = data.get("metrics")
    entries = written.items() if isinstance(written, dict) else ()
    own = {name: entry for name, value in entries if (entry := _valid(MetricEntry, value)) is not None}
    return effective(own)


def _secrets(source: Source) -> Iterator[Problem]:
    """Anything that looks like a provider's key, wherever it stands (``api_key`` has a rule of its own)."""
    stack: list[tuple[Location, Any]] = [((), source.data)]
    while stack:
        location, value = stack.pop()
        if isinstance(value, dict):
            stack += [((*location, key), item) for key, item in value.items()]
        elif isinstance(value, list):
            stack += [((*location, index), item) for index, item in enumerate(value)]
        elif {"api_key", "api_keys"} & set(location[-2:]):
            continue
        elif isinstance(value, str) and SECRET_VALUES.search(value):
            yield source.problem(
                location, HIDDEN, "no key or password in this file; use api_key: env:NAME or file:PATH"
            )


def _unique(source: Source, key: str, field: str) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    value = source.data.get(key)
    for index, item in enumerate(value if isinstance(value, list) else []):
        name = item.get(field) if isinstance(item, dict) else None
        if not isinstance(name, str):
            continue
        if name in seen:
            line = source.mark((key, seen[name], field)).line
            what = "an id" if field == "id" else "a file"
            yield source.problem(
                (key, index, field), f"{name!r} a second time", f"{what} of its own; line {line} has it"
            )
        seen.setdefault(name, index)


def _names(source: Source) -> Iterator[Problem]:
    """Clients name the assistant, a variant and the embedder in one and the same field."""
    name = source.data.get("name")
    if name == "embed":
        yield source.problem(("name",), "'embed', the name of the built-in embedder", "a name of its own")
    for index, item in enumerate(_items(source.data, "variants")):
        if isinstance(name, str) and item.get("id") == name:
            found = f"{name!r}, the name of the use case, by which clients reach the assistant"
            yield source.problem(("variants", index, "id"), found, "an id of its own", f"{name}-model")


def _own_metrics(source: Source) -> Iterator[Problem]:
    written = source.data.get("metrics")
    for name, value in written.items() if isinstance(written, dict) else ():
        entry = _valid(MetricEntry, value)
        if entry is None:
            continue
        location: Location = ("metrics", name)
        given = entry.given()
        if name in BUILT_IN:
            for field in given:
                if field not in OVERRIDABLE:
                    expected = f"only {', '.join(OVERRIDABLE)} for a built-in metric; choose another name for your own"
                    yield source.problem((*location, field), f"the key {field!r}", expected, key=True)
            continue
        if missing := [field for field in REQUIRED if field not in given]:
            near = nearest(name, BUILT_IN)
            found = f"a metric of its own without {', '.join(missing)}"
            yield source.problem(location, found, f"the keys {', '.join(REQUIRED)}", near, key=True)
            continue
        yield from _consistent(source, location, effective({name: entry})[name])


def _consistent(source: Source, location: Location, metric: Metric) -> Iterator[Problem]:
    if metric.type == "ratio" and not (metric.numerator and metric.denominator):
        yield source.problem(location, "a ratio without both parts", "the keys numerator and denominator", key=True)
    if metric.low is not None and metric.high is not None and metric.low >= metric.high:
        yield source.problem((*location, "low"), f"low {metric.low:g} and high {metric.high:g}", "low less than high")
    fitting = metric.model_copy(update={"aggregations": ()}).allowed
    for index, aggregation in enumerate(metric.aggregations):
        if aggregation not in fitting:
            expected = f"{listed(fitting)} for the type {metric.type}"
            yield source.problem((*location, "aggregations", index), repr(aggregation), expected)
    if metric.type == "bool" and metric.unit:
        yield source.problem((*location, "unit"), f"the unit {metric.unit}", "no unit for a bool: it becomes a share")


def _objective(
    source: Source, location: Location, objective: Objective, metrics: dict[str, Metric]
) -> Iterator[Problem]:
    metric = metrics.get(objective.metric)
    yield from _slice(source, location, objective)
    if objective.kind == "guardrail" and objective.weight != 1:
        expected = "no weight on a guardrail: it must hold and is not traded"
        yield source.problem((*location, "weight"), f"the weight {objective.weight:g}", expected, key=True)
    if metric is None:
        near = nearest(objective.metric, metrics)
        expected = expected_of([*metrics], near, "a built-in metric or one of `metrics:`")
        yield source.problem((*location, "metric"), f"the unknown metric {objective.metric!r}", expected, near)
        return
    if objective.aggregation not in metric.allowed:
        expected = f"{listed(metric.allowed)} for {objective.metric} (type {metric.type})"
        yield source.problem((*location, "aggregation"), repr(objective.aggregation), expected, metric.allowed[0])
    yield from _bound(source, location, objective, metric)
    yield from _gap(source, location, objective, metrics)


def _bound(source: Source, location: Location, objective: Objective, metric: Metric) -> Iterator[Problem]:
    bound, place = objective.bound, (*location, "bound")
    if bound.unit != metric.unit:
        near = f"{bound.op} {bound.value:g} {metric.unit}" if metric.unit and not bound.unit else ""
        found = f"{str(bound)!r} ({UNIT_WORDS[bound.unit]})"
        yield source.problem(place, found, f"{UNIT_WORDS[metric.unit]} for {objective.metric}", near)
        return
    good = ">=" if metric.direction == "max" else "<="
    if bound.op != good:
        better = "more" if metric.direction == "max" else "less"
        expected = f"{good} for {objective.metric}, of which {better} is better"
        yield source.problem(place, f"{str(bound)!r}", expected, f"{good} {bound.value:g} {bound.unit}".rstrip())
    low, high = metric.range
    impossible = (low is not None and bound.value < low) or (high is not None and bound.value > high)
    positive = metric.unit in {"s", "USD"} and bound.value <= 0 and bound.op == "<="
    if impossible or positive:
        limits = f"{'' if low is None else f'at least {low:g} '}{'' if high is None else f'at most {high:g}'}".strip()
        near = f"{bound.op} {bound.value:g} %" if high == 1 and 2 <= bound.value <= 100 else ""
        yield source.problem(
            place, repr(str(bound)), f"a possible value of {objective.metric}: {limits or 'above 0'}", near
        )
    yield from _margin(source, location, objective, metric)


def _margin(source: Source, location: Location, objective: Objective, metric: Metric) -> Iterator[Problem]:
    margin, (low, high) = objective.margin, metric.range
    if margin.value and margin.unit != metric.unit:
        expected = f"{UNIT_WORDS[metric.unit]}, like the bound"
        yield source.problem((*location, "margin"), repr(str(margin)), expected)
    elif margin.value < 0 or (high is not None and low is not None and margin.value >= high - low):
        yield source.problem(
            (*location, "margin"), repr(str(margin)), "a margin of at least 0 and less than the metric's range"
        )


def _gap(source: Source, location: Location, objective: Objective, metrics: dict[str, Metric]) -> Iterator[Problem]:
    is_gap = objective.aggregation == "gap"
    for field in ("by", "of"):
        value = getattr(objective, field)
        if value and not is_gap:
            yield source.problem((*location, field), f"the key {field!r}", "it only with fairness_gap", key=True)
        if is_gap and not value:
            what = "the tag whose groups are compared, such as language" if field == "by" else "the metric to compare"
            yield source.problem(
                (*location, field), "nothing", f"the key `{field}`: {what}", mark=source.mark(location)
            )
    if is_gap and objective.by and objective.by not in (tags := _tags(source)):
        found, expected = f"the unknown tag {objective.by!r}", listed([*tags])
        yield source.problem((*location, "by"), found, expected, nearest(objective.by, tags))
    if is_gap and objective.of:
        shares = [name for name, metric in metrics.items() if metric.is_share and name != objective.metric]
        if objective.of not in shares:
            expected = "a metric that is a share"
            yield source.problem((*location, "of"), repr(objective.of), expected, nearest(objective.of, shares))


def _tags(source: Source) -> dict[str, list[str] | None]:
    """Tag -> the values it can have; None when any text will do."""
    tags: dict[str, list[str] | None] = dict.fromkeys(TAGS)
    users = _valid(Users, source.data.get("users"))
    if users is not None:
        tags["language"] = list(users.languages)
    channels = source.data.get("channels", ["chat", "api"])
    tags["channel"] = _texts(channels)
    tags["variant"] = _texts(item.get("id") for item in _items(source.data, "variants"))
    own = source.data.get("slices")
    for name, values in own.items() if isinstance(own, dict) else ():
        tags[name] = _texts(values)
    return tags


def _texts(values: object) -> list[str]:
    return [value for value in values if isinstance(value, str)] if isinstance(values, Iterable) else []


def _slice(source: Source, location: Location, objective: Objective) -> Iterator[Problem]:
    tags = _tags(source)
    for name, value in objective.slice.items():
        place = (*location, "slice", name)
        if name not in tags:
            expected = f"{listed([*tags])}; a tag of your own is declared in `slices:`"
            yield source.problem(place, f"the unknown tag {name!r}", expected, nearest(name, tags), key=True)
        elif (values := tags[name]) is not None and value not in values:
            yield source.problem(place, f"the unknown value {value!r}", listed(values), nearest(value, values))


def _live(source: Source, variants: list[tuple[Location, Variant]]) -> Iterator[Problem]:
    live = source.data.get("live")
    ids = _texts(item.get("id") for item in _items(source.data, "variants"))
    if not isinstance(live, str) or not ids:
        return
    if live not in ids:
        found, expected = f"the unknown variant {live!r}", f"the id of a variant: {listed(ids)}"
        yield source.problem(("live",), found, expected, nearest(live, ids))
    for _, variant in variants:
        if variant.id != live:
            continue
        if not variant.answers:
            yield source.problem(("live",), f"{live!r}, an embedding model", "a variant that can answer messages")
        policy = source.data.get("policy")
        residency = policy.get("residency") if isinstance(policy, dict) else None
        both = {variant.between.small, variant.between.big} if variant.between is not None else {variant.id}
        outside = any(each.target.external for _, each in variants if each.id in both)
        if outside and isinstance(residency, dict) and residency.get("external_models") is False:
            expected = "a variant inside your network, since policy.residency.external_models is false"
            yield source.problem(("live",), f"{live!r}, a model outside your network", expected)


def _keys(source: Source, variants: list[tuple[Location, Variant]]) -> Iterator[Problem]:
    """One key or several, of a provider that takes keys; none twice, since a quota belongs to a key."""
    for location, variant in variants:
        place = (*location, "api_keys")
        if variant.api_keys and variant.api_key is not None:
            yield source.problem(place, "api_keys beside api_key", "one of the two; list all in api_keys", key=True)
        elif variant.references and not (variant.target.remote or variant.target.routes):
            name = "api_keys" if variant.api_keys else "api_key"
            found = f"{name} for {variant.model!r}, which needs none"
            yield source.problem((*location, name), found, f"no {name} here", key=True)
        for number, reference in enumerate(variant.api_keys):
            if reference in variant.api_keys[:number]:
                yield source.problem((*place, number), f"{reference!r} twice", "each key once")


def _fallbacks(source: Source, variants: list[tuple[Location, Variant]]) -> Iterator[Problem]:
    """What stands in must exist, be another one, answer the same sort of request, and itself lean on none of these."""
    known = {variant.id: variant for _, variant in variants}
    for location, variant in variants:
        if variant.fallback and not variant.answers:
            expected = "no fallback here: another model's vectors cannot stand for its own"
            yield source.problem((*location, "fallback"), f"a fallback for {variant.model!r}", expected, key=True)
            continue
        if variant.hedge and (variant.target.quotes or variant.target.kind == "embed"):
            expected = "no hedge here: it answers in this process, where a second try only takes the first one's time"
            yield source.problem((*location, "hedge"), f"hedge for {variant.model!r}", expected, key=True)
        for number, name in enumerate(variant.fallback):
            place = (*location, "fallback", number)
            others = [each for each in known if each != variant.id and _plain(known[each])]
            if name not in known:
                found = f"the unknown variant {name!r}"
                yield source.problem(
                    place, found, f"the id of another variant: {listed(others)}", nearest(name, others)
                )
            elif name == variant.id or not _plain(known[name]):
                found = f"{name!r}, {_why_not(known[name], variant.id)}"
                expected = (
                    f"another variant that answers messages itself: {listed(others) if others else 'there is none'}"
                )
                yield source.problem(place, found, expected)
            elif name in variant.fallback[:number]:
                yield source.problem(place, f"{name!r} twice", "each variant once")
            elif (way := _way_back(known, name, variant.id)) is not None:
                found = f"a circle, {' → '.join((variant.id, *way))}"
                yield source.problem(
                    place, found, f"fallbacks that end; take {way[-1]} out of the fallback of {way[-2]}"
                )
        if variant.weights and not variant.fallback and not variant.target.routes:
            expected = "fallback: with the variants that share its requests"
            yield source.problem((*location, "weights"), "weights with nobody to share", expected, key=True)
        for name in variant.weights:
            if name != variant.id and name not in variant.fallback:
                choices = listed([variant.id, *variant.fallback])
                yield source.problem((*location, "weights", name), f"a weight for {name!r}", choices, key=True)


def _why_not(other: Variant, asked: str) -> str:
    """Why ``other`` cannot stand in for the variant ``asked``."""
    if other.id == asked:
        return "the variant itself"
    return "a router" if other.target.routes else "an embedding model"


def _plain(variant: Variant) -> bool:
    """Whether it answers messages, and by itself."""
    return variant.answers and not variant.target.routes


_OF_ITS_OWN = (
    "task", "adapter", "prompt", "sampling", "retrieval", "api_key", "api_keys", "price", "fallback", "weights",
    "batch", "hedge", "dynamic_batching",
)  # fmt: skip
"""What a router has none of: whoever answers brings it along."""


def _routers(source: Source, variants: list[tuple[Location, Variant]]) -> Iterator[Problem]:
    """A router names two other variants that answer by themselves, and nothing of its own."""
    able = [variant.id for _, variant in variants if _plain(variant)]
    for location, variant in variants:
        if not variant.target.routes:
            if variant.between is not None:
                yield source.problem(
                    (*location, "between"),
                    f"two variants of {variant.model!r}",
                    "the model router:./file.json",
                    key=True,
                )
            continue
        if variant.between is None:
            yield source.problem(
                location,
                f"the router {variant.id!r} without its two",
                "the key between: {small: ID, big: ID}",
                key=True,
            )
            continue
        for side in ("small", "big"):
            name = getattr(variant.between, side)
            if name not in able:
                expected = f"the id of a variant that answers by itself: {listed(able)}"
                yield source.problem((*location, "between", side), repr(name), expected, nearest(name, able))
        if variant.between.small == variant.between.big:
            yield source.problem((*location, "between", "big"), repr(variant.between.big), "another one than the small")
        for name in sorted(variant.model_fields_set & set(_OF_ITS_OWN)):
            expected = f"{name} at {variant.between.small!r} and {variant.between.big!r}: a router has none of its own"
            yield source.problem((*location, name), f"the key {name!r} of a router", expected, key=True)


def _way_back(known: dict[str, Variant], start: str, end: str) -> list[str] | None:
    """From ``start`` over fallbacks to ``end``, if there is a way."""
    ways = [[start]]
    seen = {start}
    while ways:
        way = ways.pop(0)
        for name in known[way[-1]].fallback if way[-1] in known else ():
            if name == end:
                return [*way, name]
            if name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return None


def _judges(source: Source, variants: list[tuple[Location, Variant]]) -> Iterator[Problem]:
    """A judge is a model that is declared and writes; a metric's judge is one that is declared and sees one answer."""
    able = {variant.id for _, variant in variants if _plain(variant) and not variant.target.quotes}
    unable = {variant.id for _, variant in variants} - able
    ids = _texts(item.get("id") for item in _items(source.data, "variants"))
    for location, judge in _parts(source.data, "judges", Judge):
        if judge.variant not in ids or judge.variant in unable:
            found = f"the variant {judge.variant!r}"
            expected = "the id of a variant that writes its answers (no embedder, router or quoting engine): "
            expected += listed(sorted(able)) if able else "none is declared yet"
            yield source.problem((*location, "variant"), found, expected, nearest(judge.variant, able))
    known = _texts(item.get("id") for item in _items(source.data, "judges"))
    pairwise = {judge.id for _, judge in _parts(source.data, "judges", Judge) if judge.kind == "pairwise"}
    written = source.data.get("metrics")
    for name, value in written.items() if isinstance(written, dict) else ():
        given = value.get("source") if isinstance(value, dict) else None
        kind, _, judge_id = given.partition(":") if isinstance(given, str) else ("", "", "")
        if kind == "judge" and judge_id in pairwise:
            able_too = [each for each in known if each not in pairwise]
            expected = f"a judge of kind: rubric, which looks at one answer{': ' if able_too else ''}{listed(able_too)}"
            yield source.problem(("metrics", name, "source"), f"the pairwise judge {judge_id!r}", expected)
        elif kind == "judge" and judge_id not in known:
            expected = f"judge: and the id of a judge: {listed(known)}" if known else "a judge declared in `judges:`"
            yield source.problem(("metrics", name, "source"), f"the unknown judge {judge_id!r}", expected,
                                 nearest(judge_id, known))  # fmt: skip


def _batches(source: Source, variants: list[tuple[Location, Variant]]) -> Iterator[Problem]:
    """Who answers batches must be able to."""
    for location, variant in variants:
        place, text = (*location, "batch"), variant.batch
        if text == "provider" and variant.target.kind not in ("openai", "http"):
            found = f"provider, for a model that has no batches of its own ({variant.model})"
            yield source.problem(place, found, "gateway, or a model behind an OpenAI-compatible server")
        elif text not in ("gateway", "provider") and not ("{input}" in text and "{output}" in text):
            expected = "gateway, provider, or a command line with {input} and {output} in it"
            near = nearest(text, ["gateway", "provider"]) or "vllm run-batch -i {input} -o {output} --model {model}"
            yield source.problem(place, repr(text), expected, near)


def _dynamic_batching(source: Source, variants: list[tuple[Location, Variant]]) -> Iterator[Problem]:
    """Embeddings are gathered for a server that makes them; what answers in this process gains nothing by it."""
    for location, variant in variants:
        target = variant.target
        if variant.dynamic_batching is not None and not target.routes and not variant.embeds_over_http:
            found = f"dynamic_batching for {variant.model!r}, which makes no embeddings over HTTP"
            expected = "it at a model with task: embed, or behind a server that does, as in vllm+http://host/v1#NAME"
            yield source.problem((*location, "dynamic_batching"), found, expected, key=True)


_OF_ANSWERS = ("adapter", "prompt", "sampling", "retrieval")
"""What decides an answer and no vector."""


def _tasks(source: Source, variants: list[tuple[Location, Variant]]) -> Iterator[Problem]:
    """Embeddings are the task of an engine started for it; a server needs only be asked, and ``embed`` has no other."""
    for location, variant in variants:
        if variant.task != "embed":
            continue
        if variant.target.kind not in ("gguf", "vllm"):
            expected = "it with ./file.gguf or vllm-serve:NAME alone"
            if variant.target.embeds_over_http or variant.target.kind == "embed":
                expected = "no task here: it makes embeddings when it is asked for them at /v1/embeddings"
            yield source.problem((*location, "task"), f"task: embed for {variant.model!r}", expected, key=True)
        for name in sorted(variant.model_fields_set & set(_OF_ANSWERS)):
            yield source.problem((*location, name), f"{name} of an embedding model", f"no {name} here", key=True)


def _prices(source: Source, variants: list[tuple[Location, Variant]]) -> Iterator[Problem]:
    """A budget of money cannot be kept for a model whose price nobody knows; one that gets no traffic needs none."""
    policy = _valid(Policy, source.data.get("policy"))
    if policy is not None and not policy.residency.external_models:
        return
    budget = _valid(Budget, source.data.get("budget"))
    lines = [f"budget.{name}" for name in ("per_day_usd", "per_month_usd") if getattr(budget, name, None) is not None]
    for (key, index), limit in _parts(source.data, "limits", Limit):
        if limit.usd_per_day is not None or limit.usd_per_month is not None:
            lines.append(f"{key}[{index}]")
    for location, variant in variants:
        if lines and not variant.priced:
            told = built_in().find(variant.target)
            read, written = (told.input_usd_per_million, told.output_usd_per_million) if told else ("…", "…")
            expected = (
                f"price: {{input_usd_per_million: {read}, output_usd_per_million: {written}}}, compared with the "
                f"provider's figures, since {lines[0]} cannot be kept without it"
            )
            yield source.problem(location, f"the variant {variant.id!r} without a price", expected)


def _limits(source: Source, variants: list[tuple[Location, Variant]]) -> Iterator[Problem]:
    models = [*(variant.id for _, variant in variants), str(source.data.get("name")), "embed"]
    for location, limit in _parts(source.data, "limits", Limit):
        given = limit.model_dump(exclude={"per", "only"}, exclude_none=True)
        if not given:
            expected = "at least one of requests_per_minute, tokens_per_minute, concurrent, usd_per_day, usd_per_month"
            yield source.problem(location, "a limit that limits nothing", expected)
        if limit.weight is not None and limit.per != "tenant":
            yield source.problem(
                (*location, "weight"), f"a weight per {limit.per}", "weight with per: tenant", key=True
            )
        elif limit.weight is not None and not limit.only:
            expected = "only: with the tenants it is for: a weight of all is a weight of none"
            yield source.problem((*location, "weight"), "a weight for every tenant", expected, key=True)
        if limit.only and limit.per in ("key", "user"):
            expected = "no names here: a key has limits of its own (fairlead keys create --rpm), users have pseudonyms"
            yield source.problem((*location, "only"), f"names with per: {limit.per}", expected, key=True)
        if "only" in limit.model_fields_set and not limit.only:
            expected = "the names it holds for, or no only: for each"
            yield source.problem((*location, "only"), "an empty list", expected)
        for index, name in enumerate(limit.only if limit.per == "model" else ()):
            if name not in models:
                place = (*location, "only", index)
                yield source.problem(place, f"the unknown model {name!r}", listed(models), nearest(name, models))


def _handoff(source: Source) -> Iterator[Problem]:
    policy = source.data.get("policy")
    handoff = _valid(Handoff, policy.get("handoff")) if isinstance(policy, dict) else None
    if handoff is None:
        return
    try:
        zone(handoff.timezone)
    except HoursError as error:
        known = zones()
        expected = str(error) if known else "UTC, or install zone data: pip install tzdata"
        place = ("policy", "handoff", "timezone")
        last = {name.rsplit("/", 1)[-1]: name for name in known}
        near = nearest(handoff.timezone, known, 1) or last.get(nearest(handoff.timezone, last, 1), "")
        yield source.problem(place, f"the unknown time zone {handoff.timezone[:60]!r}", expected, near)


_WEIGHTS: Mapping[Kind, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "gguf": ("a GGUF file", (".gguf",)),
        "openvino": ("a GGUF file or a folder exported for OpenVINO", (".gguf", ".xml")),
        "router": ("a router's file", (".json",)),
    }
)
"""What a model that is a file is, and the endings of its name."""


def _files(source: Source, base: Path, variants: list[tuple[Location, Variant]]) -> Iterator[Problem]:
    for location, variant in variants:
        if variant.prompt is not None:
            yield from _file(
                source, base, (*location, "prompt"), variant.prompt, "a text file in UTF-8", (".md", ".txt")
            )
        if variant.adapter is not None:
            yield from _adapter(source, base, (*location, "adapter"), variant, variant.adapter)
        if variant.target.kind == "vllm" and variant.target.path:
            yield from _model_folder(source, base, (*location, "model"), variant.target.path)
        elif variant.target.path:
            expected, endings = _WEIGHTS[variant.target.kind]
            folder = variant.target.kind == "openvino"
            yield from _file(source, base, (*location, "model"), variant.target.path, expected, endings, folder=folder,
                             inside="openvino_model.xml")  # fmt: skip
    data = source.data
    for location, dataset in _parts(data, "datasets", Dataset):
        yield from _file(source, base, (*location, "path"), dataset.path, "a .jsonl file", (".jsonl",))
    for location, tools in _parts(data, "tools", Tools):
        if tools.path is not None:
            yield from _file(source, base, (*location, "path"), tools.path, "a Python file", (".py",))
    routing = _valid(Routing, data.get("routing"))
    if routing is not None:
        yield from _file(source, base, ("routing", "examples"), routing.examples, "a .jsonl file", (".jsonl",))
    for location, knowledge in _parts(data, "knowledge", Knowledge):
        expected = "a folder of pages (Markdown, HTML, PDF, CSV), or one page"
        yield from _file(source, base, (*location, "path"), knowledge.path, expected, PAGES, folder=True)


def _model_folder(source: Source, base: Path, location: Location, text: str) -> Iterator[Problem]:
    """A folder as Hugging Face's libraries write it, anywhere: models are large, and often kept apart."""
    if not (base / text / "config.json").is_file():
        found = f"no folder {text!r} with a config.json"
        yield source.problem(location, found, "a folder with a model as Hugging Face's libraries write it")


def _adapter(source: Source, base: Path, location: Location, variant: Variant, text: str) -> Iterator[Problem]:
    """A folder for vLLM, a GGUF file for llama.cpp; other models are adapted where they run."""
    if variant.target.kind in ("gguf", "mini"):
        yield from _file(source, base, location, text, "an adapter, a .gguf file", (".gguf",))
    elif variant.target.kind == "vllm":
        expected = "a folder with adapter_config.json"
        found = list(
            _file(source, base, location, text, expected, (".json",), folder=True, inside="adapter_config.json")
        )
        yield from found
        if not found and not (base / text / "adapter_config.json").is_file():
            yield source.problem(location, f"the path {text!r} without adapter_config.json", expected)
    else:
        expected = "adapter only with vllm-serve:NAME, ./file.gguf or mini"
        yield source.problem(location, f"an adapter for {variant.model!r}", expected, key=True)


PAGES = (".md", ".markdown", ".html", ".htm", ".pdf", ".csv")
"""Endings of files that can be read as pages; a test holds them to the readers there are."""


def _file(
    source: Source,
    base: Path,
    location: Location,
    text: str,
    expected: str,
    endings: tuple[str, ...],
    *,
    folder: bool = False,
    inside: str = "a page",
) -> Iterator[Problem]:
    pure = PurePosixPath(text)
    if "\\" in text or pure.is_absolute() or ".." in pure.parts or (len(text) > 1 and text[1] == ":"):
        rule = "a path with / below the folder of this file, so that the project can be moved"
        yield source.problem(location, f"the path {text!r}", rule, text.replace("\\", "/").lstrip("./"))
        return
    path = base / text
    try:
        fits = path.is_file() or (folder and path.is_dir())
        exists = path.exists()
        siblings = [child.name for child in path.parent.iterdir()] if not exists and path.parent.is_dir() else []
    except OSError as error:
        yield source.problem(location, f"the path {text[:60]!r} ({error.strerror})", expected)
        return
    if not exists:
        near = [str(pure.parent / name) for name in nearest(path.name, siblings, 1).split(", ") if name]
        yield source.problem(location, f"no file {text!r} in {base}", expected, ", ".join(near))
    elif not fits:
        yield source.problem(location, f"{text!r}, which is not a file", expected)
    elif path.is_dir() and not any(child.suffix.lower() in endings for child in path.rglob("*")):
        yield source.problem(location, f"the folder {text!r} without {inside}", expected)
    elif path.is_file() and path.suffix.lower() not in endings:
        yield source.problem(location, f"the file {text!r}", f"{expected} ({' or '.join(endings)})")
