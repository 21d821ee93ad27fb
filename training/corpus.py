"""Texts of public corpora for `generator.py`, read from the folder in FAIRLEAD_DATA.

Only sources whose licence lets the weights be passed on without conditions on the weights themselves: MIT, BSD,
Apache-2.0, CC BY, CDLA (both kinds say that results of computation are free) and the public domain. The CC BY-SA
corpora (sgd, smcalflow, xquad, qed, wow-plus-plus, wikitext2, wikisplit) and the benchmarks (bfcl, mtrag, clapnq) are
left alone on purpose. Nothing read here is ever written into the repository.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.generator import Extra
from training.natural_shops import read_shops

ENVIRONMENT = "FAIRLEAD_DATA"


@dataclass(frozen=True)
class Source:
    name: str
    path: str
    licence: str
    use: str


SOURCES = (
    Source("bitext", "bitext", "CDLA-Sharing-1.0 (results are free of it)", "customer messages for tools and hand-off"),
    Source("cucom_ecommerce", "cucom_ecommerce", "Apache-2.0", "first messages of customers as complaints"),
    Source("dstc9-faq", "corpus/shards", "Apache-2.0", "real questions with their answers as passages"),
    Source("ms-chitchat", "corpus/shards", "MIT", "small talk"),
    Source("star", "corpus/shards", "MIT", "conversations"),
    Source("taskmaster4", "corpus/shards", "CC BY 4.0", "conversations"),
    Source("self-dialogue", "corpus/shards", "BSD-3-Clause", "conversations"),
    Source("gutenberg-children", "corpus/shards", "public domain", "sentences for copying practice"),
)

_INTENTS = {
    "track_order": "order status",
    "cancel_order": "cancel order",
    "newsletter_subscription": "newsletter",
    "contact_human_agent": "hand_off",
    "complaint": "complaint",
}
_UNWANTED = re.compile(
    r"\b(wtf|hell|damn|crap|stupid|idiots?|amazon|flipkart|unsubscri\w*|cancel\w* (my |the )?(news|sub))", re.IGNORECASE
)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _shards(root: Path, name: str) -> Iterator[dict[str, Any]]:
    for shard in sorted((root / "corpus" / "shards").glob(f"{name}-*.jsonl.gz")):
        with gzip.open(shard, "rt", encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)


def read_messages(root: Path) -> dict[str, list[str]]:
    """Customer messages by purpose; in those of `... complete` a slot stands for the order number. Other messages with
    a number or name of their own are left out: the values that a conversation needs are drawn by the generator."""
    messages: dict[str, list[str]] = {purpose: [] for purpose in _INTENTS.values()}
    messages |= {f"{purpose} complete": [] for purpose in _INTENTS.values()}
    for part in ("Training", "Validation"):
        path = root / "bitext" / f"Bitext_Sample_Customer_Service_{part}_Dataset.csv"
        for row in _rows(path) if path.exists() else ():
            text = row["utterance"]
            purpose = _INTENTS.get(row["intent"])
            if purpose and row["entity_type"] == "order_id" and "{" not in text:
                messages[f"{purpose} complete"].append(text.replace(row["entity_value"], "{order}"))
            elif purpose and not row["entity_type"] and not re.search(r"\d", text) and not _UNWANTED.search(text):
                messages[purpose].append(text)
    archive = root / "cucom_ecommerce" / "ecommerce_v_0_1.jsonl.zip"
    if archive.exists():
        with zipfile.ZipFile(archive) as opened, opened.open("merged.jsonl") as raw:
            for line in io.TextIOWrapper(raw, encoding="utf-8"):
                text = json.loads(line)["turns"][0]["content"]
                if 20 < len(text) < 160 and not _UNWANTED.search(text):
                    messages["complaint"].append(text)
    return {purpose: sorted(set(texts)) for purpose, texts in messages.items() if texts}


def read_questions(root: Path) -> list[list[tuple[str, str]]]:
    groups: list[list[tuple[str, str]]] = []
    for record in _shards(root, "dstc9-faq"):
        turns = record["turns"]
        pairs = [(turns[i][1], turns[i + 1][1]) for i in range(0, len(turns) - 1, 2) if len(turns[i + 1][1]) < 160]
        if len(pairs) >= 2:
            groups.append(pairs)
    return groups


def read_small_talk(root: Path) -> list[tuple[str, str]]:
    return [(record["turns"][0][1], record["turns"][1][1]) for record in _shards(root, "ms-chitchat")]


def read_dialogues(root: Path) -> list[list[tuple[str, str]]]:
    """Conversations that open with the customer and take turns."""
    dialogues: list[list[tuple[str, str]]] = []
    for name in ("star", "taskmaster4", "self-dialogue"):
        for number, record in enumerate(_shards(root, name)):
            turns = [(role, text) for role, text in record["turns"]]
            regular = all(role == ("user", "agent")[place % 2] for place, (role, _) in enumerate(turns))
            if regular and len(turns) >= 4 and (name != "self-dialogue" or number % 8 == 0):
                dialogues.append(turns)
    return dialogues


def read_sentences(root: Path) -> list[str]:
    sentences: list[str] = []
    for record in _shards(root, "gutenberg-children"):
        sentences += re.split(r"(?<=[.!?])\s+", " ".join(record["text"].split()))
    return [s for s in sentences if 6 <= len(s.split()) <= 16 and s[0].isupper() and not set(s) & set('"“”_')]


def find_data() -> Path | None:
    value = os.environ.get(ENVIRONMENT)
    return Path(value) if value else None


def missing_sources(root: Path | None) -> list[Source]:
    """Sources that are not under `root`."""

    def present(source: Source) -> bool:
        if root is None:
            return False
        folder = root / source.path
        return any(folder.glob(f"{source.name}-*")) if source.path.endswith("shards") else folder.is_dir()

    return [source for source in SOURCES if not present(source)]


def read_extra(root: Path | None, say: Callable[[str], None] = lambda text: print(text, file=sys.stderr)) -> Extra:
    """All texts at hand; says which sources are missing. The generator works without any of them."""
    missing = missing_sources(root)
    if missing:
        where = f"under {root}" if root else f"because {ENVIRONMENT} is not set"
        names = ", ".join(source.name for source in missing)
        say(f"corpus: {len(missing)} of {len(SOURCES)} sources missing {where}: {names}. The generator does without.")
    shops = read_shops("train")
    if root is None:
        return Extra(shops=shops)
    return Extra(
        shops=shops,
        messages=read_messages(root),
        questions=read_questions(root),
        small_talk=read_small_talk(root),
        dialogues=read_dialogues(root),
        sentences=read_sentences(root),
    )
