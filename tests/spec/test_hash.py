"""`spec_hash` and release hashes: the same for what means the same, different for everything else."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.spec import SpecError, UseCase, load, parse, release_hash
from fairlead.spec.canonical import digest, encode
from tests.spec.samples import FULL, SMALLEST

DATA: dict[str, Any] = yaml.safe_load(FULL) | {"users": {"who": "customers of the shop", "languages": ["en", "no"]}}
HASH = parse(FULL).spec_hash


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 and 1.2 read differently, and never writes aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        chance.shuffle(keys)
        return {key: _shuffled(value[key], chance) for key in keys}
    return [_shuffled(item, chance) for item in value] if isinstance(value, list) else value


def _with_comments(text: str, chance: random.Random) -> str:
    lines = []
    for line in text.splitlines():
        if chance.random() < 0.3:
            lines.append("# " + chance.choice(["a comment", "key: value", "- [", "'\""]))
        lines.append(line)
    return "\n".join([*lines, "   # the end", ""])


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32), st.sampled_from([None, True, False]),
    st.sampled_from([None, '"', "'"]), st.integers(2, 8), st.sampled_from(["\n", "\r\n"]),
)  # fmt: skip
def test_comments_key_order_quoting_and_style_do_not_matter(
    seed: int, flow: bool | None, quotes: str | None, indent: int, line_end: str
) -> None:
    chance = random.Random(seed)
    written = yaml.dump(
        _shuffled(DATA, chance), Dumper=_Dumper, sort_keys=False, default_flow_style=flow, indent=indent, width=10**6
    )
    if quotes and not flow:
        written = written.replace("name: shop-support", f"name: {quotes}shop-support{quotes}")
    if not flow:
        written = _with_comments(written, chance)
    usecase = parse(written.replace("\n", line_end))
    assert usecase.spec_hash == HASH
    assert usecase == parse(FULL)


def test_json_is_as_good_as_yaml() -> None:
    assert parse(json.dumps(DATA, indent=1)).spec_hash == HASH


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('">= 0.60"', '">= 60 %"'),
        ('">= 0.60"', '">=0.6"'),
        ('"<= 1.5 s"', '"<= 1500 ms"'),
        ("margin: 0.01", "margin: 1 %"),
        ("margin: 0.01", 'margin: "0.010"'),
        ("confidence: 0.95", "confidence: 0.950"),
        ("evaluation_usd: 5,", "evaluation_usd: 5.0,"),
        ("temperature: 0,", "temperature: -0.0,"),
        ("metric: groundedness,", "metric: groundedness, aggregation: mean,"),
        ("kind: goal, weight: 1}", "kind: goal}"),
        ("unit: conversation\n", ""),
        ("Mon-Fri 09:00-17:00", "mon-fri 09:00 - 17:00"),
        ("name: Ada Moss", "name: '  Ada Moss '"),
        (", message: A person will answer here.}", ', message: "A person\n   will answer here."}'),
        ("[email, phone, card, iban]", "&kinds [email, phone, card, iban]"),
    ],
)
def test_other_ways_to_write_the_same_do_not_matter(old: str, new: str) -> None:
    assert old in FULL
    assert parse(FULL.replace(old, new, 1)).spec_hash == HASH


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path


def _other(value: Any) -> Any:
    """A value of the same kind that is likely to be allowed."""
    swaps: dict[Any, Any] = {
        "goal": "guardrail", "guardrail": "goal", "max": "min", "p95": "p99", "limited": "high", "eval": "train",
        "conversation": "inference", "inference": "user", "UTC": "Europe/Paris", "Europe/Berlin": "Europe/Paris",
        "chat": "widget", "api": "widget", "en": "de", "no": "sv", "eu": "us", "env:OPENAI_API_KEY": "env:OTHER",
        "openai:gpt-4.1-mini": "openai:gpt-4.1", "mini": "embed", "extractive": "mini", "basic": "bronze",
        "gold": "basic", "judge:polite": "judge:kind", "bool": "float", "refund": "delivery", "language": "channel",
        "resolution": "containment", "politeness": "csat", "groundedness": "intent_accuracy", "email": "phone",
        "first_token_latency": "total_latency", "Mon-Fri 09:00-17:00": "Mon-Fri 09:00-18:00",
        ">= 0.60": ">= 0.61", ">= 0.97": ">= 0.98", "<= 1.5 s": "<= 1.6 s", "<= 0.20 USD": "<= 0.21 USD",
        ">= 90 %": ">= 91 %", "<= 0.10": "<= 0.11",
    }  # fmt: skip
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 if value != 0.95 else 0.9
    return swaps.get(value, f"{value}x")


@pytest.mark.parametrize("path", list(_leaves(DATA)), ids=lambda path: ".".join(map(str, path)))
def test_any_other_value_changes_the_hash(path: tuple[Any, ...]) -> None:
    data = json.loads(json.dumps(DATA))
    node = data
    for part in path[:-1]:
        node = node[part]
    before, node[path[-1]] = node[path[-1]], _other(node[path[-1]])
    assert before != node[path[-1]]
    try:
        changed = parse(json.dumps(data))
    except SpecError:
        return  # a value that is refused cannot be mistaken for another
    assert changed.spec_hash != HASH


def test_most_values_can_be_changed_at_all() -> None:
    """Guards the test above against refusing everything."""
    accepted = 0
    paths = list(_leaves(DATA))
    for path in paths:
        data = json.loads(json.dumps(DATA))
        node = data
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = _other(node[path[-1]])
        try:
            parse(json.dumps(data))
            accepted += 1
        except SpecError:
            continue
    assert accepted >= 0.7 * len(paths)


def test_order_of_lists_matters() -> None:
    assert parse(FULL.replace("[chat, api]", "[api, chat]")).spec_hash != HASH


def test_the_canonical_form_is_a_valid_file(usecase: UseCase) -> None:
    again = parse(json.dumps(usecase.content()))
    assert again == usecase
    assert again.spec_hash == usecase.spec_hash


def test_the_hash_is_pinned() -> None:
    """Changes when the format's defaults or the canonical form change: say so in the changelog then."""
    assert parse(SMALLEST).spec_hash[:16] == "97e0038004efa577"


def test_canonical_encoding() -> None:
    assert encode({"b": [1, -0.0, 0.1], "a": "é\n"}) == '{"a":"é\\n","b":[1,0.0,0.1]}'.encode()
    with pytest.raises(ValueError, match="Out of range"):
        digest([float("nan")])


class TestRelease:
    """What decides an answer, and nothing else."""

    def test_names_what_decides_an_answer(self, project: Path) -> None:
        mini = load(project).variant("mini")
        first = release_hash(mini.release_content(knowledge="k1"))
        assert first == release_hash(mini.release_content(knowledge="k1"))
        assert first != release_hash(mini.release_content(knowledge="k2"))
        assert first != release_hash(mini.release_content(knowledge="k1", tools="t"))
        assert first != release_hash(mini.release_content(knowledge="k1", engine="other weights"))

    def test_follows_the_prompt_text_not_its_name(self, project: Path) -> None:
        first = release_hash(load(project).variant("mini").release_content())
        prompt = project / "prompts" / "system.md"
        prompt.rename(project / "prompts" / "renamed.md")
        spec = project / "fairlead.yaml"
        spec.write_text(spec.read_text().replace("prompts/system.md", "prompts/renamed.md"))
        assert release_hash(load(project).variant("mini").release_content()) == first
        (project / "prompts" / "renamed.md").write_text("Another prompt.")
        assert release_hash(load(project).variant("mini").release_content()) != first

    def test_follows_the_weights(self, project: Path) -> None:
        spec = project / "fairlead.yaml"
        spec.write_text(spec.read_text().replace("model: mini", "model: ./weights.gguf"))
        weights = project / "weights.gguf"
        weights.write_bytes(b"GGUF" + bytes(3 << 20))
        first = release_hash(load(project).variant("mini").release_content())
        weights.write_bytes(b"GGUF" + bytes((3 << 20) - 1) + b"\x01")
        assert release_hash(load(project).variant("mini").release_content()) != first

    def test_does_not_depend_on_price_key_or_id(self) -> None:
        hosted = parse(FULL).variant("hosted")
        cheaper = parse(FULL.replace("input_usd_per_million: 0.4", "input_usd_per_million: 0.1")).variant("hosted")
        renamed = parse(FULL.replace("id: hosted", "id: other").replace("env:OPENAI", "env:MY")).variant("other")
        assert hosted.release_content() == cheaper.release_content() == renamed.release_content()
        hotter = parse(FULL.replace("api_key: env", "sampling: {temperature: 1}\n    api_key: env")).variant("hosted")
        assert release_hash(hotter.release_content()) != release_hash(hosted.release_content())
