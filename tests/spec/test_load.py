"""From text to use case: what is understood, and every way it can be wrong with its place and its mending."""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.errors import ChoiceUnknown, UsageError
from fairlead.spec import SpecError, UseCase, load, parse
from fairlead.spec.problems import HIDDEN, describe
from fairlead.spec.yaml_source import read
from tests.spec.samples import FULL, SMALLEST, only_problem, problems_if_any, problems_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "shop"


def test_understands_the_full_file(usecase: UseCase) -> None:
    assert usecase.live is usecase.variant("extractive")
    assert usecase.users.languages == ("en", "no")
    assert usecase.objectives[1].aggregation == "mean"
    assert usecase.objectives[5].aggregation == "gap"
    assert usecase.objectives[4].bound.value == 0.9
    assert usecase.effective_metrics["resolution"].window_hours == 48
    assert usecase.effective_metrics["politeness"].is_share
    assert usecase.variant("hosted").target.name == "gpt-4.1-mini"
    price = usecase.variant("hosted").price
    assert price is not None
    assert price.nanos_per_token == (400.0, 1600.0)
    assert usecase.policy.handoff.opening.windows == ((0, 4, 540, 1020),)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("", "", "budget.per_day_usd"),
        ("budget: {evaluation_usd: 5, per_day_usd: 10, per_month_usd: 200}",
         "limits: [{per: tenant, concurrent: 5}, {per: tenant, only: [acme], usd_per_month: 5}]", "limits[1]"),
    ],
)  # fmt: skip
def test_a_budget_needs_the_price_of_everything_that_may_be_billed(old: str, new: str, line: str) -> None:
    unpriced = FULL.replace("    price: {input_usd_per_million: 0.4, output_usd_per_million: 1.6}\n", "")
    text = unpriced.replace("external_models: false", "external_models: true").replace(old, new)
    problem = only_problem(text)
    assert problem.key == "variants[2]"
    assert "'hosted' without a price" in problem.found
    assert f"{line} cannot be kept without it" in problem.expected
    # the figures of the price table, to be compared; none are invented for what is not in it
    assert "price: {input_usd_per_million: 0.4, output_usd_per_million: 1.6}" in problem.expected
    other = only_problem(text.replace("openai:gpt-4.1-mini", "openai:unheard-of"))
    assert "price: {input_usd_per_million: …" in other.expected
    parse(text.replace('model: "openai:gpt-4.1-mini"', "model: http://127.0.0.1:9/v1#m"))
    parse(unpriced)


def test_says_which_variants_the_policy_allows(usecase: UseCase) -> None:
    assert [usecase.allows(variant) for variant in usecase.variants] == [True, True, False]
    open_to_all = parse(FULL.replace("external_models: false", "external_models: true"))
    assert all(open_to_all.allows(variant) for variant in open_to_all.variants)


def test_is_frozen(usecase: UseCase) -> None:
    with pytest.raises(ValueError, match="frozen"):
        usecase.name = "other"
    with pytest.raises(ValueError, match="frozen"):
        usecase.variants[0].sampling.temperature = 1.0


def test_unknown_variant_lists_the_choices(usecase: UseCase) -> None:
    with pytest.raises(ChoiceUnknown, match="extractive, mini, hosted"):
        usecase.variant("gpt")


def test_fills_the_defaults_that_its_documentation_shows() -> None:
    usecase = parse(SMALLEST)
    assert usecase.channels == ("chat", "api")
    assert usecase.min_samples == 200
    assert usecase.policy.privacy.mask == ("email", "phone", "card", "iban")
    assert usecase.objectives == ()


@pytest.mark.parametrize(
    ("old", "new", "key", "found", "expected", "near"),
    [
        ("name: shop-support", "name: Shop Support", "name", "'Shop Support'", "small letters", "shop-support"),
        ("name: shop-support", "name: 5", "name", "number 5", "text", '"5", in quotes'),
        ("name: shop-support", "name: [a]", "name", "a list", "text", ""),
        ("purpose: Answer", "purpose: ''\nx_: Answer", "purpose", "an empty text", "something here", ""),
        ("fairlead: 1", "fairlead: 2", "fairlead", "number 2", "newer Fairlead", ""),
        ("fairlead: 1", 'fairlead: "1"', "fairlead", "text '1'", "1, the version", ""),
        ("email: ada@example.com", "email: ada", "owners[0].email", "'ada'", "e-mail address", ""),
        ("languages: [en, no]", "languages: en", "users.languages", "'en'", "a list", "[en]"),
        ("languages: [en, no]", "languages: [english]", "users.languages[0]", "'english'", "language code", "en"),
        ("languages: [en, no]", "languages: []", "users.languages", "empty list", "at least one", ""),
        ("channels: [chat, api]", "channels: [chatt]", "channels[0]", "'chatt'", "chat, widget or api", "chat"),
        ("risk: limited", "risk: low", "risk", "'low'", "minimal, limited or high", ""),
        ("risk: limited", "risk: unacceptable", "risk", "'unacceptable'", "Article 5 of the EU AI Act", ""),
        ("unit: conversation", "unit: user", "unit", "'user'", "inference or conversation", ""),
        ("_day: 400", "_day: 0", "traffic.conversations_per_day", "number 0", "greater than 0", ""),
        ("_day: 400", "_day: 400.5", "traffic.conversations_per_day", "400.5", "a whole number", ""),
        ("_day: 400", "_day: '400'", "traffic.conversations_per_day", "'400'", "a whole number", "400"),
        ("_day: 400", "_day: 0400", "traffic.conversations_per_day", "'0400'", "a whole number", "400"),
        ("_day: 400", "_day: 1_000", "traffic.conversations_per_day", "'1_000'", "a whole number", "1000"),
        ("_day: 400", "_day: yes", "traffic.conversations_per_day", "'yes'", "a whole number", ""),
        ("_day: 400", "_day: true", "traffic.conversations_per_day", "true", "a whole number", ""),
        ("confidence: 0.95", "confidence: 95", "confidence", "95", "at most 0.999", ""),
        ("min_samples: 200", "min_samples: -1", "min_samples", "-1", "at least 1", ""),
        ("per_day_usd: 10", "per_day_usd: -10", "budget.per_day_usd", "-10", "at least 0", ""),
        ("per_day_usd: 10", "per_day: 10", "budget.per_day", "unknown key", "per_day_usd", "per_day_usd"),
        ("temperature: 0", "temperature: 3", "variants[1].sampling.temperature", "3", "at most 2", ""),
        ("model: mini", "model: minni", "variants[1].model", "'minni'", "openai:NAME", "mini"),
        ("env:OPENAI_API_KEY", "sk-proj-abcdefgh12345678", "variants[2].api_key", HIDDEN, "env:NAME", ""),
        ("env:OPENAI_API_KEY", "hunter2", "variants[2].api_key", HIDDEN, "env:NAME", ""),
        ("per_million: 1.6", "per_million: x", "variants[2].price.output_usd_per_million", "'x'", "a number", ""),
        ("store_content: true", "store_content: yes", "policy.privacy.store_content", "'yes'", "true or false", "true"),
        ("content: true", "content: off", "policy.privacy.store_content", "'off'", "true or false", "false"),
        ("store_content: true", "store_content: 1", "policy.privacy.store_content", "number 1", "true or false", ""),
        ("mask: [email", "mask: [mail", "policy.privacy.mask[0]", "'mail'", "email, phone", "email"),
        ("traces_days: 30", "traces_days: 0", "policy.retention.traces_days", "0", "at least 1", ""),
        ("regions: [eu]", "regions: [Europe]", "policy.residency.regions[0]", "'Europe'", "region code", ""),
        ("Mon-Fri 09:00", "Mon-Fri 25:00", "policy.handoff.hours", "25:00", "00:00 to 24:00", ""),
        ("Europe/Berlin", "Europe/Berln", "policy.handoff.timezone", "Europe/Berln", "IANA", "Europe/Berlin"),
        ("Europe/Berlin", "Berlin", "policy.handoff.timezone", "Berlin", "IANA", "Europe/Berlin"),
        ("Europe/Berlin", "../../etc/passwd", "policy.handoff.timezone", "passwd", "IANA", ""),
        ("Europe/Berlin", "Europe", "policy.handoff.timezone", "Europe", "IANA", ""),
        ("purpose: eval,", "purpose: test,", "datasets[0].purpose", "'test'", "train, eval or calibration", ""),
        (", licence: Apache-2.0", "", "datasets[0].licence", "nothing", "`licence`", ""),
        ("licence: Apache-2.0}]", "licence: X}, {id: q, path: data/questions.jsonl, purpose: train, licence: X}]",
         "datasets[1].path", "a second time", "a file of its own", ""),
        ("\nlive:", "\nlimits: [{per: tenant}]\nlive:", "limits[0]", "limits nothing", "requests_per_minute", ""),
        ("\nlive:", "\nlimits: [{per: key, only: [a], concurrent: 1}]\nlive:", "limits[0].only", "per: key",
         "fairlead keys create", ""),
        ("\nlive:", "\nlimits: [{per: model, only: [minni], concurrent: 1}]\nlive:", "limits[0].only[0]",
         "unknown model 'minni'", "one of", "mini"),
        ("\nlive:", "\nlimits: [{per: user, weight: 2}]\nlive:", "limits[0].weight", "per user", "per: tenant", ""),
        ("\nlive:", "\nlimits: [{per: tenant, tokens_per_minute: 0}]\nlive:", "limits[0].tokens_per_minute",
         "the number 0", "at least 1", ""),
        ("mini, model: mini", "mini, model: mini, fallback: [minni]", "variants[1].fallback[0]", "unknown variant",
         "another variant: one of extractive or hosted", ""),
        ("mini, model: mini", "mini, model: mini, batch: provider", "variants[1].batch", "no batches of its own",
         "gateway, or a model behind", ""),
        ("mini, model: mini", "mini, model: mini, batch: gatway", "variants[1].batch", "'gatway'",
         "{input} and {output}", "gateway"),
        ("mini, model: mini", "mini, model: mini, dynamic_batching: {}", "variants[1].dynamic_batching",
         "no embeddings over HTTP", "behind a server that does", ""),
        ("mini, model: mini", "mini, model: mini, task: embed", "variants[1].task", "task: embed for 'mini'",
         "./file.gguf or vllm-serve:NAME alone", ""),
        ("mini, model: mini", "mini, model: 'http://h/v1#m', task: embed", "variants[1].task", "task: embed for",
         "when it is asked for them", ""),
        ("mini, model: mini", "mini, model: mini, task: embedd", "variants[1].task", "'embedd'", "embed", ""),
        ("mini, model: mini", "mini, model: 'vllm-serve:org/m', task: embed", "variants[1].prompt",
         "prompt of an embedding model", "no prompt here", ""),
        ("mini, model: mini", "mini, model: 'vllm-serve:org/m', task: embed, fallback: [extractive]",
         "variants[1].fallback", "a fallback for", "another model's vectors", ""),
        ('"openai:gpt-4.1-mini"', '"groq:some-model"\n    dynamic_batching: {}', "variants[2].dynamic_batching",
         "no embeddings over HTTP", "behind a server that does", ""),
        ("4.1-mini\"", "4.1-mini\"\n    dynamic_batching: {max_batch_size: 1}",
         "variants[2].dynamic_batching.max_batch_size", "the number 1", "at least 2", ""),
        ("4.1-mini\"", "4.1-mini\"\n    dynamic_batching: {max_queue_delay_ms: -1}",
         "variants[2].dynamic_batching.max_queue_delay_ms", "-1", "at least 0", ""),
        ("4.1-mini\"", "4.1-mini\"\n    dynamic_batching: {max_queue_delay_ms: 60000}",
         "variants[2].dynamic_batching.max_queue_delay_ms", "60000", "at most 1000", ""),
        ("4.1-mini\"", "4.1-mini\"\n    dynamic_batching: {max_queue_delay: 2}",
         "variants[2].dynamic_batching.max_queue_delay", "unknown key", "max_queue_delay_ms", "max_queue_delay_ms"),
        ("mini, model: mini", "mini, model: mini, fallback: [mini]", "variants[1].fallback[0]", "the variant itself",
         "another variant", ""),
        ("mini, model: mini", "mini, model: mini, fallback: [extractive, extractive]", "variants[1].fallback[1]",
         "twice", "once", ""),
        ("mini, model: mini", "mini, model: embed, fallback: [extractive]", "variants[1].fallback",
         "a fallback for 'embed'", "another model's vectors", ""),
        ("extractive, model: extractive", "extractive, model: extractive, hedge: true", "variants[0].hedge",
         "hedge for 'extractive'", "no hedge here", ""),
        ("\nlive:", "\nlimits: [{per: tenant, weight: 2}]\nlive:", "limits[0].weight", "for every tenant",
         "only: with", ""),
        ("mini, model: mini", "mini, model: mini, weights: {mini: 9}", "variants[1].weights", "nobody to share",
         "fallback: with", ""),
        ("mini, model: mini", "mini, model: mini, api_key: env:K", "variants[1].api_key", "'mini', which needs none",
         "no api_key here", ""),
        ("mini, model: mini", "mini, model: mini, api_keys: [env:K]", "variants[1].api_keys", "which needs none",
         "no api_keys here", ""),
        ("mini, model: mini", "mini, model: mini, weights: {mini: 9, hosted: 1}", "variants[1].weights.hosted",
         "a weight for 'hosted'", "mini", ""),
        ("mini, model: mini", "mini, model: mini, fallback: [extractive], weights: {hosted: 1}",
         "variants[1].weights.hosted", "a weight for 'hosted'", "one of mini or extractive", ""),
        ("extractive, model: extractive",
         "extractive, model: embed}\n  - {id: other, model: mini, fallback: [extractive]",
         "variants[1].fallback[0]", "an embedding model", "answers messages itself", ""),
        ("\nlive:", "\nlimits: [{per: tenant, only: [], concurrent: 1}]\nlive:", "limits[0].only", "an empty list",
         "no only: for each", ""),
        ("\nlive:", "\nlimits: [{per: key, usd_per_day: 5 USD}]\nlive:", "limits[0].usd_per_day",
         "'5 USD'", "a number", "5"),
        ("\nlive:", "\ncache: {paraphrases: {max_error: 1.5 %}}\nlive:", "cache.paraphrases.max_error", "'1.5 %'",
         "a number", "0.015"),
        ("\nlive:", "\ncache: {ttl: 2 days}\nlive:", "cache.ttl", "2 days", "a unit", "48 h"),
        ("\nlive:", "\ncache: {ttl: 60}\nlive:", "cache.ttl", "number 60", "1 s to 720 h", "60 s"),
        ("mini, model: mini", "mini, model: mini, weights: {mini: 0}", "variants[1].weights.mini", "0",
         "greater than 0", ""),
        ("live: extractive", "live: extractiv", "live", "unknown variant", "extractive, mini or hosted", "extractive"),
        ("live: extractive", "live: hosted", "live", "outside your network", "external_models", ""),
        ("{id: mini, model: mini", "{id: extractive, model: mini", "variants[1].id", "a second time", "of its own", ""),
        ("name: shop-support", "name: mini", "variants[1].id", "the name of the use case", "of its own", "mini-model"),
        ("name: shop-support", "name: embed", "name", "built-in embedder", "of its own", ""),
        ("id: cost,", "id: resolution,", "objectives[3].id", "a second time", "of its own", ""),
        ("groundedness", "groundednes", "objectives[1].metric", "unknown metric", "built-in", "groundedness"),
        ("intent: refund", "intnt: refund", "objectives[1].slice.intnt", "unknown tag", "slices:", "intent"),
        ("{tier: gold}", "{tier: golden}", "objectives[4].slice.tier", "unknown value", "basic or gold", "gold"),
        ("intent: refund", "language: de", "objectives[1].slice.language", "unknown value", "en or no", ""),
        ("aggregation: p95", "aggregation: p96", "objectives[2].aggregation", "'p96'", "p95", "p9"),
        ("aggregation: mean", "aggregation: p95", "objectives[0].aggregation", "'p95'", "mean", "mean"),
        ("aggregation: ratio", "aggregation: mean", "objectives[3].aggregation", "'mean'", "ratio", "ratio"),
        ('">= 0.60"', '">= 1.5"', "objectives[0].bound", ">= 1.5", "at most 1", ""),
        ('">= 0.60"', '">= 60"', "objectives[0].bound", ">= 60", "at most 1", ">= 60 %"),
        ('">= 0.60"', '">= -0.1"', "objectives[0].bound", ">= -0.1", "at least 0", ""),
        ('">= 0.60"', '"<= 0.60"', "objectives[0].bound", "<= 0.6", "more is better", ">= 0.6"),
        ('">= 0.60"', "0.6", "objectives[0].bound", "number 0.6", "text such as", ""),
        ('">= 0.60"', '"> 0.6"', "objectives[0].bound", "> 0.6", ">= or <=", ">="),
        ('"<= 1.5 s"', '">= 1.5 s"', "objectives[2].bound", ">= 1.5 s", "less is better", "<= 1.5 s"),
        ('"<= 1.5 s"', '"<= 1.5"', "objectives[2].bound", "no unit", "a time", "<= 1.5 s"),
        ('"<= 1.5 s"', '"<= 1.5 USD"', "objectives[2].bound", "USD", "a time", ""),
        ('"<= 1.5 s"', '"<= -1.5 s"', "objectives[2].bound", "-1.5 s", "at least 0", ""),
        ('"<= 1.5 s"', '"<= 0 s"', "objectives[2].bound", "0 s", "possible value", ""),
        ('"<= 1.5 s"', '"<= 1.5 sec"', "objectives[2].bound", "1.5 sec", "a unit", "s"),
        ('"<= 0.20 USD"', '"<= 0.20 EUR"', "objectives[3].bound", "EUR", "a unit", ""),
        ("margin: 0.01", "margin: 10 ms", "objectives[1].margin", "0.01 s", "no unit", ""),
        ("margin: 0.01", "margin: -0.01", "objectives[1].margin", "-0.01", "at least 0", ""),
        ("margin: 0.01", "margin: 2", "objectives[1].margin", "2", "less than", ""),
        ("kind: guardrail, m", "kind: guardrail, weight: 2, m", "objectives[1].weight", "weight 2", "no weight", ""),
        ("kind: goal, weight: 3", "kind: gaol, weight: 3", "objectives[0].kind", "'gaol'", "goal or guardrail", "goal"),
        (", by: language", "", "objectives[5].by", "nothing", "the tag", ""),
        (", of: resolution", "", "objectives[5].of", "nothing", "the metric", ""),
        ("of: resolution", "of: total_latency", "objectives[5].of", "'total_latency'", "a share", ""),
        ("by: language", "by: langage", "objectives[5].by", "unknown tag", "language", "language"),
        ("slice: {tier: gold}", "by: tier", "objectives[4].by", "'by'", "only with fairness_gap", ""),
        (", direction: max, source", ", source", "metrics.politeness", "without direction", "definition", ""),
        ("{window_hours: 48}", "{direction: min}", "metrics.resolution.direction", "'direction'", "another name", ""),
        ("type: bool", "type: ratio", "metrics.politeness", "without both parts", "numerator", ""),
        ("type: bool", "type: bool, unit: s", "metrics.politeness.unit", "unit s", "no unit", ""),
        ("type: bool", "type: bool, aggregations: [p95]", "metrics.politeness.aggregations[0]", "'p95'", "mean", ""),
        ('"judge:polite"', "guess", "metrics.politeness.source", "'guess'", "trace, outcome", ""),
        ("politeness: {def", "Politeness: {def", "metrics.Politeness", "'Politeness'", "small letters", ""),
        ("role: support lead", "role: sk-" + "a" * 24, "owners[0].role", HIDDEN, "env:NAME", ""),
    ],
)  # fmt: skip
def test_names_what_is_wrong(old: str, new: str, key: str, found: str, expected: str, near: str) -> None:
    assert old in FULL
    problems = [problem for problem in problems_of(FULL.replace(old, new, 1)) if problem.key == key]
    assert len(problems) == 1, "\n".join(map(str, problems_of(FULL.replace(old, new, 1))))
    problem = problems[0]
    assert found in problem.found
    assert expected in problem.expected
    assert near in problem.nearest
    line = FULL.replace(old, new, 1).splitlines()[problem.line - 1]
    last = key.rsplit(".", 1)[-1].split("[")[0]
    assert last in line or problem.found == "nothing", f"{problem} is not on the line {line!r}"


def test_one_item_that_is_wrong_does_not_make_its_list_too_short() -> None:
    text = SMALLEST.replace("model: extractive", "model: nothing like it")
    assert [problem.key for problem in problems_of(text)] == ["variants[0].model"]


@pytest.mark.parametrize("key", ["fairlead", "name", "purpose", "users", "risk", "variants", "live"])
def test_names_a_missing_key(full: dict[str, Any], key: str) -> None:
    del full[key]
    problem = next(problem for problem in problems_of(yaml.safe_dump(full)) if problem.key == key)
    assert problem.found == "nothing"
    assert f"`{key}`" in problem.expected


def test_reports_everything_at_once_in_the_order_of_the_file() -> None:
    text = FULL.replace("name: shop", "nmae: shop").replace("metric: groundedness", "metric: ground")
    text = (
        text.replace("live: extractive", "live: none").replace("store_content: true", "store_content: ja")
        + "risk: high\n"
    )
    problems = problems_of(text)
    assert [problem.key for problem in problems] == [
        "name", "nmae", "objectives[1].metric", "live", "policy.privacy.store_content", "risk",
    ]  # fmt: skip
    assert [problem.line for problem in problems] == sorted(problem.line for problem in problems)
    text = str(SpecError(file="fairlead.yaml", problems=problems))
    assert text.startswith(
        "fairlead.yaml cannot be used yet, 6 things to mend:\n  fairlead.yaml:1:1: name: found nothing"
    )
    assert "Nearest: name." in text


@pytest.mark.parametrize("number", [".nan", "-.inf", "1" * 30, "1e999"])
@pytest.mark.parametrize("value", ["min_samples: 200", "confidence: 0.95", "name: shop-support"])
def test_a_number_that_cannot_be_read_is_told_once(value: str, number: str) -> None:
    broken = FULL.replace(value, f"{value.partition(':')[0]}: {number}", 1)
    assert broken != FULL
    assert "the number 0" not in only_problem(broken).found


def test_a_spec_error_is_a_usage_error_that_survives_pickling() -> None:
    with pytest.raises(UsageError) as caught:
        parse("a: 1")
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, SpecError)
    assert again.problems == caught.value.details["problems"]
    assert str(again) == str(caught.value)


def test_does_not_drown_in_problems() -> None:
    unknown = "".join(f"k{index}: {{}}\n" for index in range(9_000))
    slices = "slices: {" + ", ".join(f"s{index}: [a]" for index in range(2_000)) + "}\n"
    text = FULL.replace("slices: {tier: [basic, gold]}\n", slices)
    begun = time.process_time()
    problems = problems_of(FULL + unknown)
    assert len(problems) == 101
    assert problems[-1].found == "more problems than are listed"
    assert any("unknown tag 'tier'" in problem.found for problem in problems_of(text))
    assert time.process_time() - begun < 20


def test_never_prints_a_secret() -> None:
    for text in (
        FULL.replace("env:OPENAI_API_KEY", "hunter2secret"),
        FULL.replace("env:OPENAI_API_KEY", "[hunter2secret]"),
        FULL.replace("env:OPENAI_API_KEY", "{hunter2secret: hunter2secret}").replace("hunter2secret:", "a:"),
        FULL.replace('"openai:gpt-4.1-mini"', '"https://u:hunter2secret@host/v1#m"'),
        FULL.replace('"openai:gpt-4.1-mini"', '"https://host/v1?key=hunter2secret#m"'),
        FULL.replace("env:OPENAI_API_KEY", "@hunter2secret"),
        FULL.replace("min_samples:", "sk-hunter2secrethunter2secret:"),
        FULL.replace("metrics:\n", "metrics:\n  sk-hunter2secrethunter2secret: {}\n"),
        FULL.replace("metrics:\n", "sk-hunter2secrethunter2secret: 1\nsk-hunter2secrethunter2secret: 2\nmetrics:\n"),
    ):
        assert "hunter2secret" in text
        assert "hunter2secret" not in "".join(map(str, problems_of(text)))


@pytest.mark.parametrize("key", ["api_key", "client_secret", "access-token", "password", "credentials"])
def test_a_value_is_hidden_by_the_name_of_its_key(key: str) -> None:
    assert describe("hunter2", ("variants", 0, key)) == HIDDEN
    assert describe("hunter2", ("variants", 0, "max_tokens")) == "the text 'hunter2'"


class TestFiles:
    """Paths that must lead to something."""

    def test_the_template_and_the_reference_shop_are_whole(self, project: Path) -> None:
        assert load(project) == load(project / "fairlead.yaml")
        assert load(project).live.id == "extractive"
        if EXAMPLE.is_dir():
            assert load(EXAMPLE).spec_hash

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(SpecError) as caught:
            load(tmp_path)
        assert "fairlead init" in caught.value.problems[0].expected
        with pytest.raises(SpecError):
            load(tmp_path / "nul\0name")

    @pytest.mark.parametrize(
        ("old", "new", "found", "expected", "near"),
        [
            ("prompts/system.md", "prompts/sytem.md", "no file 'prompts/sytem.md'", "text file", "prompts/system.md"),
            ("prompts/system.md", "knowledge", "not a file", "text file", ""),
            ("prompts/system.md", "tools.py", "'tools.py'", ".md or .txt", ""),
            ("prompts/system.md", "/etc/hostname", "/etc/hostname", "below the folder", ""),
            ("prompts/system.md", "../outside.md", "../outside.md", "below the folder", ""),
            ("prompts/system.md", "prompts\\system.md", "prompts", "a path with /", "prompts/system.md"),
            ("data/questions.jsonl", "data/question.jsonl", "no file", ".jsonl", "data/questions.jsonl"),
            ("path: knowledge}", "path: blank}", "without a page", "Markdown", ""),
            ("path: knowledge}", "path: knowlege}", "no file", "Markdown", "knowledge"),
            ("path: tools.py", "path: tool.py", "no file", "Python", "tools.py"),
            ("model: mini", "model: ./mini.gguf", "no file './mini.gguf'", "GGUF", ""),
        ],
    )
    def test_says_which_is_missing(
        self, project: Path, old: str, new: str, found: str, expected: str, near: str
    ) -> None:
        text = (project / "fairlead.yaml").read_text()
        (project / "blank").mkdir()
        assert old in text
        problem = only_problem(text.replace(old, new), project)
        assert found in problem.found
        assert expected in problem.expected
        assert near in problem.nearest

    def test_paths_follow_the_folder(self, project: Path, tmp_path: Path) -> None:
        first = load(project)
        moved = project.rename(tmp_path / "moved")
        second = load(moved)
        assert first.spec_hash == second.spec_hash
        assert second.path("prompts/system.md").read_text() == second.variant("mini").prompt_text()
        assert second.variant("mini").prompt_text().startswith("You are the AI assistant")


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, len(FULL) - 1), st.integers(0, 40), st.text(max_size=10))
def test_a_damaged_file_gives_problems_or_a_use_case(start: int, length: int, patch: str) -> None:
    text = FULL[:start] + patch + FULL[start + length :]
    for problem in problems_if_any(text):
        assert problem.line >= 1
        assert problem.found
        assert problem.expected


@given(st.one_of(st.text(max_size=300), st.binary(max_size=300)))
def test_anything_else_gives_problems(text: str | bytes) -> None:
    with pytest.raises(SpecError):
        parse(text)


JSONISH = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from(["", "a", ">= 0.6", "mini", "env:X", "en", "1.5 s"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "model", "bound", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


AS_JSON = json.dumps(read(FULL, "f").data)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_wrong_types_anywhere_give_problems_or_a_use_case(data: st.DataObject) -> None:
    document: Any = json.loads(AS_JSON)
    node: Any = document
    for _ in range(data.draw(st.integers(1, 4))):
        choices = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not choices:
            break
        key = data.draw(st.sampled_from(choices))
        parent, node = node, node[key]
        if not isinstance(node, (dict, list)):
            break
    parent[key] = data.draw(JSONISH)
    for problem in problems_if_any(json.dumps(document)):
        assert problem.found
        assert problem.expected


def test_fallbacks_that_lead_back_are_refused_with_the_way_and_the_mend() -> None:
    text = FULL.replace("mini, model: mini", "mini, model: mini, fallback: [extractive]").replace(
        "extractive, model: extractive", "extractive, model: extractive, fallback: [hosted]"
    )
    assert not problems_if_any(text)
    found = problems_of(text.replace("  - id: hosted\n", "  - id: hosted\n    fallback: [mini]\n"))
    assert len(found) == 3, "every variant of the circle is at fault"
    assert any("mini → extractive → hosted → mini" in problem.found for problem in found)
    assert any("take mini out of the fallback of hosted" in problem.expected for problem in found)
