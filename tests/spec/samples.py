"""A use case that uses every part of the file, and ways to see what is wrong with another."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.spec import Problem, SpecError, parse

FULL = """\
fairlead: 1
name: shop-support
purpose: Answer customers' questions about orders, delivery and returns.
owners: [{name: Ada Moss, role: support lead, email: ada@example.com}]
users: {who: customers of the shop, languages: [en, no]}
channels: [chat, api]
risk: limited
unit: conversation
traffic: {conversations_per_day: 400, turns_per_conversation: 3, input_tokens: 900, output_tokens: 80}
slices: {tier: [basic, gold]}
metrics:
  politeness: {definition: Polite answers., level: inference, type: bool, direction: max, source: "judge:polite"}
  resolution: {window_hours: 48}
objectives:
  - {id: resolution, metric: resolution, aggregation: mean, bound: ">= 0.60", kind: goal, weight: 3}
  - {id: grounded, metric: groundedness, bound: ">= 0.97", kind: guardrail, margin: 0.01, slice: {intent: refund}}
  - {id: first-token, metric: first_token_latency, aggregation: p95, bound: "<= 1.5 s", kind: guardrail}
  - {id: cost, metric: cost_per_resolution, aggregation: ratio, bound: "<= 0.20 USD", kind: goal, weight: 1}
  - {id: polite, metric: politeness, bound: ">= 90 %", slice: {tier: gold}}
  - {id: fair, metric: fairness_gap, bound: "<= 0.10", by: language, of: resolution}
judges:
  - {id: polite, variant: mini, rubric: "Is the answer polite?", needs: {kappa: 0.7}}
confidence: 0.95
min_samples: 200
budget: {evaluation_usd: 5, per_day_usd: 10, per_month_usd: 200}
variants:
  - {id: extractive, model: extractive}
  - {id: mini, model: mini, prompt: prompts/system.md, sampling: {temperature: 0, max_tokens: 160}}
  - id: hosted
    model: "openai:gpt-4.1-mini"
    api_key: env:OPENAI_API_KEY
    price: {input_usd_per_million: 0.4, output_usd_per_million: 1.6}
live: extractive
policy:
  privacy: {mask: [email, phone, card, iban], store_content: true, training_use: false}
  retention: {traces_days: 30, conversations_days: 90}
  residency: {regions: [eu], external_models: false}
  handoff: {enabled: true, hours: "Mon-Fri 09:00-17:00", timezone: Europe/Berlin, message: A person will answer here.}
  disclosure: {greeting: "I am the shop's AI assistant."}
datasets: [{id: questions, path: data/questions.jsonl, purpose: eval, licence: Apache-2.0}]
knowledge: [{path: knowledge}]
tools: [{path: tools.py}]
"""


def problems_of(text: str | bytes, base: Path | None = None) -> tuple[Problem, ...]:
    """The problems of a text that must have some."""
    with pytest.raises(SpecError) as caught:
        parse(text, base=base)
    return caught.value.problems


def only_problem(text: str | bytes, base: Path | None = None) -> Problem:
    """The problem of a text that must have exactly one."""
    problems = problems_of(text, base)
    assert len(problems) == 1, "\n".join(map(str, problems))
    return problems[0]


def problems_if_any(text: str | bytes) -> tuple[Problem, ...]:
    """The problems of a text; none when it is a use case."""
    try:
        parse(text)
    except SpecError as error:
        return error.problems
    return ()


SMALLEST = (
    "{fairlead: 1, name: a, purpose: b, users: {who: c}, risk: minimal, "
    "variants: [{id: e, model: extractive}], live: e}"
)
