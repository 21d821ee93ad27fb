"""The texts and pairs the static embedder learns from, by source, with what is held out and under which licence.

Left out whole, to be tests: banking77, bitext, clapnq and mtrag. Held out in part, by hash (`embed_data.is_held`): two
fifths of clinc's intents and of dstc9-faq's venues, and all but the training wordings of the invented shops. Of the
hand-written shops of `training/natural` only those with `"split": "train"` are read. No share-alike text is read.
Knows no model.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fairlead.engines.embed.words import words_of
from training.embed_data import (
    OFF_TOPIC,
    Shop,
    Split,
    is_held,
    load_topics,
    make_shop,
    read_faq,
    read_intents,
    read_shard,
    roughen,
)

SEED = 20240229
SHOPS = 1500
IDEAS = Path(__file__).parent.parent / "src" / "fairlead" / "engines" / "extractive" / "concepts.txt"
NATURAL = Path(__file__).parent / "natural"
LICENCES = {
    "clinc_oos": "CC BY 3.0",
    "dstc9-faq": "Apache-2.0",
    "cucom_ecommerce": "Apache-2.0",
    "star": "MIT",
    "multiwoz21-devtest": "MIT",
    "taskmaster4": "CC BY 4.0",
    "camrest676": "Apache-2.0",
    "ms-chitchat": "MIT",
    "multidogo-customer": "CDLA-Permissive-1.0",
    "self-dialogue": "BSD-3-Clause",
    "gsm8k-train": "MIT",
    "gutenberg-children": "public domain",
    "training/embed_topics.txt": "Apache-2.0 (own)",
    "training/natural": "Apache-2.0 (own)",
    "engines/extractive/concepts.txt": "Apache-2.0 (own)",
}
# How many distinct texts of a source the teacher is asked for.
AMOUNTS = {
    "multidogo-customer": 25000,
    "star": 20000,
    "taskmaster4": 8000,
    "multiwoz21-devtest": 12000,
    "camrest676": 2000,
    "ms-chitchat": 4000,
    "self-dialogue": 45000,
    "gsm8k-train": 6000,
    "gutenberg-children": 10000,
}
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Pairs:
    """One source of pairs: texts that belong together; equal labels in a batch are no negatives (empty: none equal)."""

    name: str
    left: list[str]
    right: list[str]
    labels: list[str]
    share: float


# ---------------------------------------------------------------- texts
def every_text(data: Path) -> list[str]:
    """Distinct texts for the teacher, the most wanted first: shops, support questions, then general dialogue."""
    near: list[str] = [text for pairs in read_pairs(data) for text in (*pairs.left, *pairs.right)]
    near += [*OFF_TOPIC, *(unit for _, units, _ in natural_shops() for unit in units)]
    near += _sample(support_turns(data), 45000)
    far = [text for source, count in AMOUNTS.items() for text in _sample(turns_of(data, source), count)]
    ordered = [*sorted(set(near), key=_draw), *sorted(set(far), key=_draw)]
    return list(dict.fromkeys(text for text in ordered if words_of(text)))


def _draw(text: str) -> bytes:
    """A place in an order by chance that new texts do not change."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _sample(texts: Iterable[str], count: int) -> list[str]:
    distinct = [text for text in dict.fromkeys(texts) if 1 < len(text.split()) < 80]
    return random.Random(SEED).sample(distinct, min(count, len(distinct)))


def turns_of(data: Path, source: str) -> Iterator[str]:
    """Turns of a dialogue source; sentences of prose."""
    for record in read_shard(data, source):
        if "turns" in record:
            yield from (text for _, text in record["turns"])
        else:
            yield from _SENTENCE.split(record["text"])


def support_turns(data: Path) -> Iterator[str]:
    """Turns of customers and clerks of an internet shop, with their slips."""
    path = data / "cucom_ecommerce" / "ecommerce_v_0_1.jsonl.zip"
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as lines:
        for line in lines:
            yield from (turn["content"] for turn in json.loads(line)["turns"])


def count_words(texts: Iterable[str]) -> tuple[Counter[str], Counter[str]]:
    """How often each word and each pair of neighbouring words occurs."""
    single: Counter[str] = Counter()
    double: Counter[str] = Counter()
    for text in texts:
        words = words_of(text)
        single.update(words)
        double.update(f"{a} {b}" for a, b in itertools.pairwise(words))
    return single, double


# ---------------------------------------------------------------- pairs
def read_pairs(data: Path) -> list[Pairs]:
    """Every source of pairs with its share of the batches."""
    clinc = read_intents(data)["clinc"]
    faq = [(q, a) for venue, q, a in read_faq(data) if not is_held(venue)]
    return [
        *shop_pairs([make_shop(i, Split.TRAIN, load_topics()) for i in range(SHOPS)]),
        *natural_pairs(),
        idea_pairs(IDEAS, 0.5),
        intent_pairs("clinc", clinc, 0.5),
        Pairs("dstc9-faq", [q for q, _ in faq], [a for _, a in faq], [], 0.5),
    ]


def shop_pairs(shops: list[Shop]) -> tuple[Pairs, Pairs]:
    """(question, sentence with its heading), (question, another wording of it)."""
    rng = random.Random(SEED)
    topics = load_topics()
    left: list[str] = []
    right: list[str] = []
    labels: list[str] = []
    for shop in shops:
        title = {p.id: p.title for p in shop.passages}
        for q in shop.questions:
            if q.sentence:
                left.append(q.text)
                right.append(f"{title[q.passage]}. {q.sentence}" if rng.random() < 0.5 else q.sentence)
                labels.append(q.topic)
    again: tuple[list[str], list[str], list[str]] = ([], [], [])
    for _ in range(len(left) // 2):
        topic = rng.choice(topics)
        a, b = rng.sample(topic.questions_of(Split.TRAIN), 2)
        for side, text in zip(again, (a, b), strict=False):
            side.append(roughen(rng, text.replace("{prod}", "one").replace("{", "").replace("}", ""), 0.2))
        again[2].append(topic.name)
    return Pairs("shops", left, right, labels, 1.0), Pairs("shop-questions", *again, 0.5)


def natural_shops(folder: Path = NATURAL) -> Iterator[tuple[str, list[str], list[tuple[str, str]]]]:
    """(name, texts of the page, (question, sentence that answers it)) of each hand-written shop for training."""
    for path in sorted(folder.glob("*.json")):
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["split"] != "train":
            continue
        lines = path.with_suffix(".md").read_text(encoding="utf-8").splitlines()
        units = [unit.strip(" #-*|") for line in lines for unit in _SENTENCE.split(line)]
        asked = [(q["q"], unit) for q in about["questions"] for unit in _units(q)]
        yield path.stem, [unit for unit in units if len(unit.split()) > 1], asked


def _units(question: dict[str, object]) -> list[str]:
    unit = question.get("unit") or []
    return [str(u) for u in unit] if isinstance(unit, list) else [str(unit)]


def natural_pairs() -> list[Pairs]:
    """(question, sentence that answers it) of the hand-written shops for training; none where there are no shops."""
    asked = [pair for _, _, pairs in natural_shops() for pair in pairs]
    return [Pairs("natural", [q for q, _ in asked], [u for _, u in asked], [], 1.5)] if asked else []


def intent_pairs(name: str, rows: list[tuple[str, str]], share: float) -> Pairs:
    """Two utterances of one intent, of the intents not held out."""
    rng = random.Random(SEED)
    by_intent: dict[str, list[str]] = {}
    for text, intent in rows:
        if not is_held(intent):
            by_intent.setdefault(intent, []).append(text)
    left: list[str] = []
    right: list[str] = []
    labels: list[str] = []
    for intent, texts in by_intent.items():
        for text in texts:
            left.append(text)
            right.append(rng.choice(texts))
            labels.append(intent)
    return Pairs(name, left, right, labels, share)


def idea_pairs(path: Path, share: float) -> Pairs:
    """Two wordings of one idea of the extractive engine, in a short frame or bare."""
    rng = random.Random(SEED)
    frames = ["{}", "{}", "what about {}", "tell me about {}", "is there {}", "question about {}"]
    left: list[str] = []
    right: list[str] = []
    labels: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, wordings = line.partition(": ")
            listed = [w.strip() for w in wordings.split(",")]
            for wording in listed * 2:
                left.append(rng.choice(frames).format(wording))
                right.append(rng.choice(listed))
                labels.append(name)
    return Pairs("ideas", left, right, labels, share)
