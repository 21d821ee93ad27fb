"""What the scorer learns from: questions with the units of a shop, which of them answer, and plain texts to distil.

Sources: the invented shops of `embed_data` (training wordings only), the hand-written shops of `training/natural` whose
split is "train", the pairs of `scorer_pairs.txt`, and permissively licensed public data (FAIRLEAD_DATA, never shipped;
no share-alike source). Knows no model. Everything is a pure function of the files and the seed.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fairlead.assistant.knowledge import Knowledge
from fairlead.engines.embed.embedder import shared
from fairlead.engines.extractive.question import standalone
from fairlead.engines.extractive.text import split_sentences
from fairlead.engines.extractive.units import cut
from fairlead.engines.scorer.pieces import pieces_of, with_context
from training.embed_data import Split, is_held, load_topics, make_shop, read_faq, read_intents, read_shard

HERE = Path(__file__).parent
NATURAL = HERE / "natural"
PAIRS = HERE / "scorer_pairs.txt"
PAGES = HERE / "pairs"
SEED = 20260229
PASSAGES = 8  # that retrieval hands to the answerer
MOST_UNITS = 200  # of a shop
LICENCES = {
    "clapnq-dev": "Apache-2.0",
    "mtrag-un": "Apache-2.0",
    "dstc9-faq": "Apache-2.0",
    "star": "MIT",
    "multiwoz21-devtest": "MIT",
    "taskmaster4": "CC BY 4.0",
    "multidogo-customer": "CDLA-Permissive-1.0",
    "self-dialogue": "BSD-3-Clause",
    "gsm8k-train": "MIT",
    "abcd": "MIT",
    "banking77": "CC BY 4.0",
    "clinc_oos": "CC BY 3.0",
    "training/embed_topics.txt": "Apache-2.0 (own)",
    "training/natural": "Apache-2.0 (own)",
    "training/scorer_pairs.txt": "Apache-2.0 (own)",
    "training/pairs": "Apache-2.0 (own)",
}


@dataclass(frozen=True)
class Asked:
    """A question over the units of one shop (indices into ``Shelf.units``).

    ``right``: units that answer, empty if none does; ``near``: those retrieval would hand over.
    """

    source: str
    shelf: int
    text: str
    right: tuple[int, ...]
    near: tuple[int, ...]


@dataclass(frozen=True)
class Shelf:
    """All units of one shop, each with its heading in front (`with_context`)."""

    name: str
    units: tuple[str, ...]


@dataclass
class Library:
    """Questions and the shelves they are asked over."""

    shelves: list[Shelf]
    asked: list[Asked]

    def add(self, other: Library) -> None:
        """Append another library, its shelf numbers moved up."""
        offset = len(self.shelves)
        self.shelves += other.shelves
        self.asked += [Asked(a.source, a.shelf + offset, a.text, a.right, a.near) for a in other.asked]


def holds(text: str, right: Iterable[str]) -> bool:
    """Whether a text holds everything a right answer must; "a|b" asks for either."""
    return all(any(form.lower() in text.lower() for form in part.split("|")) for part in right)


# ---------------------------------------------------------------- shops
def from_pages(source: str, rows: Iterable[dict[str, Any]], pages: Path) -> Library:
    """Hand-written questions over a Markdown page or a folder of them, with what retrieval would hand over."""
    knowledge = Knowledge.load([pages])
    passages = cut([p.document() for p in knowledge.passages], shared())
    units = [(number, unit) for number, passage in enumerate(passages) for unit in passage.units]
    shelf = Shelf(source, tuple(with_context(unit.context, unit.text) for _, unit in units))
    asked = []
    for row in rows:
        earlier, right = tuple(row.get("earlier", ())), tuple(row["right"])
        order = knowledge.index.rank(row["q"], previous=earlier[-1] if earlier else "")[:PASSAGES]
        found = set(order)
        told = [i for i, (_, u) in enumerate(units) if right and holds(u.text, right)]
        if right and not told:
            told = [i for i, (_, u) in enumerate(units) if any(holds(u.text, (part,)) for part in right)]
        near = tuple(i for i, (number, _) in enumerate(units) if number in found)
        if right and not told:
            print(f"{source}: no unit holds {right} ({row['q']!r}); left out")
            continue
        asked.append(Asked(source, 0, standalone(row["q"], earlier).text, tuple(told), near))
    return Library([shelf], asked)


def natural_shops(split: str) -> list[tuple[str, list[dict[str, Any]], Path]]:
    """(name, questions, page) of the hand-written shops of a split."""
    found = []
    for path in sorted(NATURAL.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.get("split") == split and path.with_suffix(".md").is_file():
            found.append((path.stem, record["questions"], path.with_suffix(".md")))
    return found


def from_invented(first: int, count: int) -> Library:
    """Questions of the shop generator, training wordings only."""
    topics = load_topics()
    library = Library([], [])
    for seed in range(first, first + count):
        shop = make_shop(seed, Split.TRAIN, topics)
        passages = cut([p.document() for p in shop.passages], shared())
        units = [(p.id, unit) for p in passages for unit in p.units]
        shelf = Shelf(f"shop {seed}", tuple(with_context(u.context, u.text) for _, u in units))
        asked = []
        for one in shop.questions:
            told = tuple(
                i
                for i, (place, u) in enumerate(units)
                if one.passage == place and (one.sentence in u.text if one.sentence else holds(u.text, one.values))
            )
            if told or not one.passage:
                asked.append(Asked("invented", 0, one.text, told, tuple(range(len(units)))))
        library.add(Library([shelf], asked))
    return library


def gather(data: Path, left_out: set[str], *, invented: int) -> Library:
    """Everything there is to learn from, but the natural shops left out."""
    library = Library([], [])
    for name, rows, page in natural_shops("train"):
        if name not in left_out:
            found = from_pages(name, rows, page)
            library.add(Library(found.shelves, [replace(one, source="natural") for one in found.asked]))
    for path in (PAIRS, *sorted(PAGES.glob("*.txt"))):
        library.add(from_pairs(path))
    library.add(from_invented(0, invented))
    library.add(from_faq(data))
    library.add(from_clapnq(data))
    library.add(from_mtrag(data))
    return library


def from_pairs(path: Path = PAIRS) -> Library:
    """The hand-written pairs: a block a shop, `U heading | unit`, `Q question | question`, `N unanswered | ...`.

    A line Q belongs to the unit above it; N are questions on the subject that no unit of the block answers. Raises
    ValueError for a line it cannot place.
    """
    library = Library([], [])
    name, units = "", list[str]()
    asked: list[tuple[str, tuple[int, ...]]] = []

    def close() -> None:
        if units:
            everything = tuple(range(len(units)))
            found = [Asked("pairs", 0, text, right, everything) for text, right in asked]
            library.add(Library([Shelf(name, tuple(units))], found))

    for raw in path.read_text(encoding="utf-8").splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("== "):
            close()
            name, units, asked = line[3:], [], []
            continue
        kind, _, rest = line.partition(" ")
        parts = [part.strip() for part in rest.split("|")]
        if kind == "U":
            units.append(with_context(f"{name} › {parts[0]}", " | ".join(parts[1:])))
        elif kind in ("Q", "N"):
            asked += [(part, (len(units) - 1,) if kind == "Q" else ()) for part in parts if part]
        else:
            raise ValueError(f"{path}: cannot place {line!r}")
    close()
    return library


# ---------------------------------------------------------------- public data
def from_faq(data: Path) -> Library:
    """Questions on public venues (those the embedder may see): each answer beside the others of its venue."""
    venues: dict[str, dict[str, list[str]]] = {}
    for venue, asked, told in read_faq(data):
        if not is_held(venue):
            venues.setdefault(venue, {}).setdefault(told, []).append(asked)
    library = Library([], [])
    for venue, answers in venues.items():
        units = tuple(with_context("", told) for told in answers)
        everything = tuple(range(len(units)))
        asked_of = [
            Asked("faq", 0, question, (i,), everything)
            for i, questions in enumerate(answers.values())
            for question in dict.fromkeys(questions)
        ]
        if len(units) > 3:
            library.add(Library([Shelf(venue, units)], asked_of))
    return library


def from_clapnq(data: Path) -> Library:
    """Encyclopaedic questions over the sentences of one passage: those that share most with the answer are right."""
    library = Library([], [])
    for record in read_shard(data, "clapnq-dev"):
        sentences = [s for s in split_sentences(record["context"]) if len(s) > 20][:30]
        if len(sentences) < 2:
            continue
        told = " ".join(text for who, text in record["turns"] if who == "agent")
        right = tuple(i for i, s in enumerate(sentences) if told and shared_words(s, told) >= 0.6)
        if told and not right:
            continue
        units = tuple(with_context("", s) for s in sentences)
        asked = Asked("clapnq", 0, record["turns"][0][1], right, tuple(range(len(units))))
        library.add(Library([Shelf("", units)], [asked]))
    return library


def from_mtrag(data: Path) -> Library:
    """The last questions of conversations on public documents, over the sentences of these."""
    library = Library([], [])
    for record in read_shard(data, "mtrag-un"):
        text = re.sub(r"(?:<br>|\s)+", " ", re.sub(r"\]\(\S+\)|\[", " ", record["context"][:6000]))
        sentences = [s for s in split_sentences(text) if 20 < len(s) < 400][:40]
        turns = record["turns"]
        if len(sentences) < 4 or turns[-1][0] != "agent":
            continue
        earlier = [said for who, said in turns[:-2] if who == "user"]
        question = standalone(turns[-2][1], earlier[-1:]).text
        answered = record["answerability"] == "ANSWERABLE"
        right = tuple(i for i, s in enumerate(sentences) if answered and shared_words(s, turns[-1][1]) >= 0.6)
        if bool(right) == answered:
            units = tuple(with_context("", s) for s in sentences)
            library.add(Library([Shelf("", units)], [Asked("mtrag", 0, question, right, tuple(range(len(units))))]))
    return library


def shared_words(text: str, other: str) -> float:
    """The share of a text's distinct words that stand in another."""
    words = {w for w in re.findall(r"\w+", text.lower()) if len(w) > 3}
    return len(words & set(re.findall(r"\w+", other.lower()))) / max(len(words), 4)


# ---------------------------------------------------------------- texts to distil
def plain_texts(data: Path, most: int) -> list[str]:
    """Distinct short texts of permissive sources, support and questions first: what the teacher encodes."""
    rng = random.Random(SEED)
    chosen: dict[str, None] = {}

    def take(texts: Iterable[str], count: int) -> None:
        distinct = [t for t in dict.fromkeys(t.strip() for t in texts) if 8 < len(t) < 240 and t not in chosen]
        rng.shuffle(distinct)
        chosen.update(dict.fromkeys(distinct[:count]))

    invented = from_invented(50_000, 160)
    take((a.text for a in invented.asked), 4000)
    take((u.partition("\n\n")[2] for s in invented.shelves for u in s.units), 3000)
    pairs = [(q, a) for venue, q, a in read_faq(data) if not is_held(venue)]
    take((q for q, _ in pairs), 6000)
    take((a for _, a in pairs), 5000)
    take(_abcd(data), 5000)
    intents = read_intents(data)
    take((t for t, i in intents["banking77"] if not is_held(i)), 4000)
    take((t for t, i in intents["clinc"] if not is_held(i)), 4000)
    for source, count in (
        ("clapnq-dev", 4500), ("mtrag-un", 5500), ("star", 6000), ("multidogo-customer", 5000),
        ("multiwoz21-devtest", 2500), ("taskmaster4", 1000), ("self-dialogue", 7000), ("gsm8k-train", 1500),
    ):  # fmt: skip
        take(_sentences(data, source), count)
    texts = list(chosen)
    rng.shuffle(texts)
    return texts[:most]


def _sentences(data: Path, source: str) -> Iterator[str]:
    for record in read_shard(data, source):
        for _, text in record["turns"]:
            yield from split_sentences(text)
        if record.get("context") and source in ("clapnq-dev", "mtrag-un"):
            yield from split_sentences(re.sub(r"<br>|\s+", " ", record["context"][:6000]))


def _abcd(data: Path) -> Iterator[str]:
    """Turns and guidelines of the retail dialogues."""
    for record in json.loads((data / "abcd" / "original_examples.json").read_text()):
        for who, text in record["original"]:
            if who != "action":
                yield text

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for value in node.values():
                yield from walk(value)
        elif isinstance(node, list):
            for value in node:
                yield from walk(value)
        elif isinstance(node, str):
            yield from split_sentences(node)

    yield from walk(json.loads((data / "abcd" / "guidelines.json").read_text()))


def vocabulary(texts: Iterable[str], own: Iterable[str], most: int) -> list[str]:
    """The pieces that get a row of their own: all of our own texts, then the most frequent others, numbers apart."""
    counts = Counter(piece for text in texts for piece in pieces_of(text))
    ours = Counter(piece for text in own for piece in pieces_of(text))
    ranked = sorted(ours, key=lambda p: (-ours[p], p))
    ranked += [p for p, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if p not in ours]
    return [p for p in ranked if not p.isdigit() or len(p) < 3][:most]
