"""``fairlead check``: everything there is to say about a use case before it runs.

Combines what is wrong (problems), what is odd (warnings), what the data can show and what the traffic will cost. Only
reads; printing is the command's work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fairlead.spec import datasets
from fairlead.spec.load import FILE_NAME, load
from fairlead.spec.model import UseCase
from fairlead.spec.plan import CostPlan, ObjectivePlan, is_measured_offline, plan_costs, plan_objectives
from fairlead.spec.problems import Problem, SpecError
from fairlead.spec.target import HOSTED

_SAYS_AI = re.compile(r"\b(?:AI|A\.I\.|KI|IA|artificial|bot|chatbot|virtual|automated|machine)\b", re.IGNORECASE)


class DatasetReport(msgspec.Struct, frozen=True, kw_only=True):
    """A declared data set and how many rows it holds."""

    id: str
    path: str
    purpose: str
    rows: int


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """What ``check`` found. ``ok`` is False when there are problems; warnings do not count.

    With problems in the file itself everything below ``problems`` is empty. Encode it with ``msgspec.json``.
    """

    file: str
    ok: bool
    problems: tuple[Problem, ...] = ()
    name: str = ""
    spec_hash: str = ""
    live: str = ""
    confidence: float = 0.0
    datasets: tuple[DatasetReport, ...] = ()
    objectives: tuple[ObjectivePlan, ...] = ()
    costs: tuple[CostPlan, ...] = ()
    warnings: tuple[str, ...] = ()


def check(path: Path) -> CheckReport:
    """Checks the use case at ``path`` (the file, or its folder). Never raises for what the file says."""
    try:
        usecase = load(path)
    except SpecError as error:
        return CheckReport(file=str(error.details["file"]), ok=False, problems=error.problems)
    rows, samples, problems = _count(usecase)
    evaluation = sum(each.rows for each in rows if each.purpose == "eval")
    plans = plan_objectives(usecase, samples)
    costs = plan_costs(usecase, evaluation)
    return CheckReport(
        file=str(path / FILE_NAME if path.is_dir() else path),
        ok=not problems,
        problems=tuple(problems),
        name=usecase.name,
        spec_hash=usecase.spec_hash,
        live=usecase.live.id,
        confidence=usecase.confidence,
        datasets=tuple(rows),
        objectives=tuple(plans),
        costs=tuple(costs),
        warnings=tuple(_warnings(usecase, evaluation, plans, costs)),
    )


def _count(usecase: UseCase) -> tuple[list[DatasetReport], dict[str, int], list[Problem]]:
    """Rows of each data set, evaluation rows that count for each objective, and lines that cannot be read."""
    filters = {
        objective.id: {**usecase.effective_metrics[objective.metric].rows, **objective.slice}
        for objective in usecase.objectives
    }
    reports, problems = [], []
    samples = dict.fromkeys(filters, 0)
    for dataset in usecase.datasets:
        path = usecase.path(dataset.path)
        try:
            found = datasets.scan(path, filters, shown=str(usecase.base / dataset.path))
        except OSError as error:
            problems.append(
                Problem(file=str(path), found=f"a file that cannot be read ({error.strerror})", expected="data")
            )
            continue
        problems += found.problems
        reports.append(DatasetReport(id=dataset.id, path=dataset.path, purpose=dataset.purpose, rows=found.rows))
        if dataset.purpose == "eval":
            for objective, count in found.matches.items():
                samples[objective] += count
    return reports, samples, sorted(problems)


def _warnings(usecase: UseCase, evaluation: int, plans: list[ObjectivePlan], costs: list[CostPlan]) -> Iterator[str]:
    yield from _warn_people(usecase)
    yield from _warn_objectives(usecase, evaluation, plans)
    yield from _warn_variants(usecase, costs)
    yield from _warn_policy(usecase)


def _warn_people(usecase: UseCase) -> Iterator[str]:
    if not any(owner.email for owner in usecase.owners):
        yield "No owner has an e-mail address, so alerts and data-protection requests reach nobody: add `owners:`."
    if usecase.traffic is None:
        yield "`traffic:` is not declared, so neither costs nor waits for evidence can be projected: declare it."
    if usecase.risk == "high":
        yield (
            "Risk class high: the EU AI Act asks for risk management, data governance, logging, human oversight and "
            "more (Articles 8 to 15 and 26) before it is used."
        )


def _warn_objectives(usecase: UseCase, evaluation: int, plans: list[ObjectivePlan]) -> Iterator[str]:
    if not usecase.objectives:
        yield "There are no objectives, so nothing says what good means: add `objectives:`."
    elif not any(objective.kind == "guardrail" for objective in usecase.objectives):
        yield "No objective is a guardrail, so anything may be traded against anything: add `kind: guardrail` to one."
    offline = [
        objective
        for objective in usecase.objectives
        if is_measured_offline(usecase.effective_metrics[objective.metric])
    ]
    if offline and evaluation < usecase.min_samples:
        yield (
            f"The evaluation data has {evaluation} rows, fewer than min_samples ({usecase.min_samples}): every verdict "
            f"will be `not enough data`. Add rows to {_samples_of(usecase)}, or lower `min_samples:`."
        )
    yield from _warn_plans(usecase, evaluation, plans, {objective.id for objective in offline})
    for objective in usecase.objectives:
        low, high = usecase.effective_metrics[objective.metric].range
        if objective.bound.value == (low if objective.bound.op == ">=" else high):
            yield f"Objective {objective.id}: {objective.bound} holds whatever happens: tighten or remove it."
        for other in usecase.effective_metrics[objective.metric].reported_with:
            if other not in {each.metric for each in usecase.objectives}:
                yield f"Objective {objective.id}: {objective.metric} says little without {other}; bound that too."


def _warn_plans(usecase: UseCase, evaluation: int, plans: list[ObjectivePlan], offline: set[str]) -> Iterator[str]:
    for plan in plans:
        if plan.needed is None and "never be confirmed" in plan.note:
            yield f"Objective {plan.objective}: {plan.bound} is the end of the range; no sample confirms it. Relax it."
        elif plan.evaluation is not None and plan.evaluation.n < usecase.min_samples <= evaluation:
            yield (
                f"Objective {plan.objective}: {plan.evaluation.n} evaluation rows count for it, fewer than min_samples "
                f"({usecase.min_samples}). Add such rows to {_samples_of(usecase)}, or lower `min_samples:`."
            )
        elif plan.evaluation is None and plan.objective in offline and evaluation:
            yield (
                f"Objective {plan.objective}: none of the {evaluation} evaluation rows counts for {plan.metric}. "
                f"Add such rows to {_samples_of(usecase)}, or remove the objective."
            )


def _samples_of(usecase: UseCase) -> str:
    """Where its evaluation data is, in words."""
    paths = [str(each.path) for each in usecase.datasets if each.purpose == "eval" and each.path is not None]
    return " or ".join(paths) or "a data set of `purpose: eval` under `datasets:`"


def _warn_variants(usecase: UseCase, costs: list[CostPlan]) -> Iterator[str]:
    policy = usecase.policy
    for variant in usecase.variants:
        if not usecase.allows(variant):
            yield (
                f"Variant {variant.id} is outside your network while policy.residency.external_models is false: remove "
                "one or the other."
            )
        elif variant.target.external and policy.residency.regions:
            regions = ", ".join(policy.residency.regions)
            unknown = f"whether {variant.target.base_url} stays within {regions} is not known here"
            yield f"Variant {variant.id}: {unknown}. Ask the provider, or use their address there."
        host = HOSTED.get(variant.target.provider)
        if host is not None and host.key and variant.target.external and not variant.references:
            yield (
                f"Variant {variant.id} has no `api_key:`; {host.title} answers only with one (api_key: env:{host.key})."
            )
        if variant.target.remote and "api_keys" in variant.model_fields_set and not variant.references:
            yield f"Variant {variant.id}: `api_keys:` is empty, so no key is sent; list references, as env:NAME."
        for reference in variant.references:
            kind, _, where = reference.partition(":")
            if kind == "file" and not (usecase.base / where).is_file():
                yield f"Variant {variant.id}: there is no file {where} here, so its key ({reference}) cannot be read."
        if variant.prompt is None and not variant.target.quotes and variant.answers and not variant.target.routes:
            yield f"Variant {variant.id} has no `prompt:`, so the model is told nothing about its task: add one."
    if any(variant.target.quotes for variant in usecase.variants) and not usecase.knowledge:
        yield "The extractive model quotes from `knowledge:`, and there is none, so it knows nothing: add pages."
    yield from _warn_costs(usecase, costs)


def _warn_costs(usecase: UseCase, costs: list[CostPlan]) -> Iterator[str]:
    limited = any(value is not None for value in usecase.budget.model_dump().values())
    priced = [each for each in usecase.objectives if each.metric == "cost_per_resolution" and not each.slice]
    bounds = [each.bound.value for each in priced]
    for cost in costs:
        if bounds and cost.per_resolution_usd is not None and cost.per_resolution_usd > min(bounds):
            projected = f"{cost.per_resolution_usd:.2g} USD per resolution even if the bound for resolution holds"
            more = f"more than {min(bounds):g} USD: relax that, or choose another model"
            yield f"Variant {cost.variant} is projected to cost {projected}, {more}."
        if cost.breaks:
            does = "may break" if cost.at_most else "breaks"
            broken = ", ".join(cost.breaks)
            mend = "Raise it, or use a cheaper model."
            yield f"Variant {cost.variant} {does} the budget at the declared traffic: {broken}. {mend}"
        if limited and cost.per_day_usd is None and usecase.traffic is not None:
            names = usecase.unpriced(usecase.variant(cost.variant))
            told = "no `price:` and is in no price table"
            if names != [cost.variant]:
                told = f"no price, as those it asks have none; add `price:` to {' and '.join(names)}"
            yield f"Variant {cost.variant} has {told}, so no budget can be kept for it."


def _warn_policy(usecase: UseCase) -> Iterator[str]:
    policy = usecase.policy
    missing = sorted({"email", "phone", "card", "iban"} - set(policy.privacy.mask))
    if policy.privacy.store_content and missing:
        yield f"Message texts are stored with {', '.join(missing)} unmasked: add it to policy.privacy.mask."
    if policy.privacy.training_use:
        yield "policy.privacy.training_use is true: tell users, and have a legal basis for it (GDPR, Article 6)."
    if not policy.handoff.enabled:
        yield "policy.handoff is off: users cannot reach a person. Set `enabled: true` there."
    talks = {"chat", "widget"} & set(usecase.channels)
    if talks and not _SAYS_AI.search(policy.disclosure.greeting):
        yield "policy.disclosure.greeting does not seem to say that an AI answers (EU AI Act, Article 50(1)): say so."
