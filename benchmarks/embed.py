"""How good the embedder is beside TF-IDF, character n-grams and its teacher, on what its training never saw; its cost.

    FAIRLEAD_DATA=... make bench NAME=embed                 # with --card the figures are also written into the card
    FAIRLEAD_DATA=... FAIRLEAD_TEACHER=runs/teacher-bench python -m benchmarks.embed --card     # and the teacher

The teacher is measured only where FAIRLEAD_TEACHER names the folder that keeps its vectors: the first run fills it and
needs sentence-transformers (training/embed_teacher.py), later ones need numpy alone.

Intents: five examples of each intent make a centroid, the other utterances are sorted to the nearest one. Retrieval:
the right answer among the venue's answers; the right passage of all the passages, cut into pieces of which the best
counts; the right sentence of an invented shop. Near misses (benchmarks/near_misses.py): of two questions, the one that
means the same must be the nearer one, though the other shares more words.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.near_misses import Triple, by_hand, by_rule
from benchmarks.report import Report
from fairlead.engines.embed.embedder import WEIGHTS, Embedder, shared
from fairlead.engines.embed.engine import Embed
from fairlead.engines.embed.likeness import Likeness
from fairlead.engines.embed.words import words_of
from fairlead.providers.base import Call, CallContext
from fairlead.spec.power import share_interval
from training.embed_data import Split, is_held, load_topics, make_shop, read_faq, read_intents, read_shard
from training.embed_teacher import Teacher
from training.embed_texts import NATURAL

ROUNDS = 9
TOGETHER = 16

Floats = npt.NDArray[np.float32]
Encoder = Callable[[Sequence[str], Sequence[str]], tuple[Floats, Floats]]
Count = tuple[int, int]
OLDER = Path(__file__).with_name("data") / "answers_shops"
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
EXAMPLES, MOST, MOST_ANSWERS, SHOPS, PIECE = 5, 40, 60, 40, 60


# ---------------------------------------------------------------- encoders
def words_vectors(base: Sequence[str], queries: Sequence[str], *, size: int = 0) -> tuple[Floats, Floats]:
    """TF-IDF vectors of words and pairs of words, or (size > 0) of character n-grams up to that length."""
    bags = [_grams(text, size) for text in [*base, *queries]]
    spread = Counter(term for bag in bags[: len(base)] for term in bag)
    frequent = [term for term, _ in spread.most_common(60_000)]
    column = {term: i for i, term in enumerate(frequent)}
    out = np.zeros((len(bags), len(column)), np.float32)
    for i, bag in enumerate(bags):
        for term, count in bag.items():
            if term in column:
                out[i, column[term]] = (1 + math.log(count)) * (1 + math.log((1 + len(base)) / (1 + spread[term])))
    out /= np.linalg.norm(out, axis=1, keepdims=True) + 1e-9
    return out[: len(base)], out[len(base) :]


def _grams(text: str, size: int) -> Counter[str]:
    words = words_of(text)
    if not size:
        return Counter([*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))])
    padded = f" {' '.join(words)} "
    return Counter(padded[i : i + n] for n in range(3, size + 1) for i in range(len(padded) - n + 1))


def our_vectors(base: Sequence[str], queries: Sequence[str]) -> tuple[Floats, Floats]:
    """The embedder's."""
    return shared().encode(base), shared().encode(queries)


def encoders() -> dict[str, Encoder]:
    """By the name of the column; the teacher where FAIRLEAD_TEACHER names its folder."""
    found: dict[str, Encoder] = {
        "embed": our_vectors,
        "TF-IDF": words_vectors,
        "char n-grams": partial(words_vectors, size=5),
    }
    if folder := os.environ.get("FAIRLEAD_TEACHER"):
        teacher = Teacher(cache=Path(folder))
        found["teacher"] = lambda base, queries: (teacher.encode(base), teacher.encode(queries))
    return found


# ---------------------------------------------------------------- tasks
def intents(rows: list[tuple[str, str]], encoder: Encoder) -> Count:
    """(right, of) utterances sorted to the nearest centroid of EXAMPLES examples of each intent."""
    rows = list(rows)
    random.Random(1).shuffle(rows)
    by_intent: dict[str, list[str]] = {}
    for text, intent in rows:
        by_intent.setdefault(intent, []).append(text)
    names = sorted(by_intent)
    base = [text for name in names for text in by_intent[name][:EXAMPLES]]
    queries = [(k, text) for k, name in enumerate(names) for text in by_intent[name][EXAMPLES : EXAMPLES + MOST]]
    known, asked = encoder(base, [text for _, text in queries])
    centres = known.reshape(len(names), EXAMPLES, -1).mean(axis=1)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True) + 1e-9
    guesses = (asked @ centres.T).argmax(axis=1)
    return int(sum(guess == k for guess, (k, _) in zip(guesses, queries, strict=True))), len(queries)


def answers(data: Path, encoder: Encoder) -> Count:
    """(right first, of) questions whose answer is sought among those of the same held-out venue."""
    venues: dict[str, list[tuple[str, str]]] = {}
    for venue, asked, told in read_faq(data):
        if is_held(venue):
            venues.setdefault(venue, []).append((asked, told))
    hits = total = 0
    for rows in venues.values():
        distinct = list(dict.fromkeys(rows))[:MOST_ANSWERS]
        known, asked_vectors = encoder([told for _, told in distinct], [asked for asked, _ in distinct])
        hits += int(((asked_vectors @ known.T).argmax(axis=1) == np.arange(len(distinct))).sum())
        total += len(distinct)
    return hits, total


def passages(data: Path, source: str, encoder: Encoder) -> Count:
    """(right first, of) questions whose passage is sought among all passages of the source.

    The question is the customer's last turn, after the one before it where there is one.
    """
    asked: list[tuple[str, str]] = []
    for record in read_shard(data, source):
        said = [text for who, text in record["turns"] if who == "user"]
        if record.get("context") and said and record.get("answerable", True):
            asked.append((" ".join(said[-2:]), record["context"]))
    contexts = list(dict.fromkeys(context for _, context in asked))
    pieces = [(number, piece) for number, context in enumerate(contexts) for piece in _pieces(context)]
    known, queries = encoder([piece for _, piece in pieces], [question for question, _ in asked])
    of = np.array([number for number, _ in pieces])
    guesses = of[(queries @ known.T).argmax(axis=1)]
    return sum(contexts[g] == context for g, (_, context) in zip(guesses, asked, strict=True)), len(asked)


def _pieces(text: str) -> list[str]:
    words = text.split()
    return [" ".join(words[i : i + PIECE]) for i in range(0, len(words), PIECE)]


def sentences(encoder: Encoder) -> Count:
    """(right first, of) questions on invented shops, all sentences of the shop competing, held-out wordings."""
    topics = load_topics()
    hits = total = 0
    for seed in range(SHOPS):
        shop = make_shop(seed, Split.TEST, topics)
        facts = [(topic, f"{p.title}. {fact}") for p in shop.passages for topic, fact in p.facts.items()]
        questions = [q for q in shop.questions if q.sentence]
        known, asked = encoder([text for _, text in facts], [q.text for q in questions])
        guesses = (asked @ known.T).argmax(axis=1)
        hits += sum(facts[g][0] == q.topic for g, q in zip(guesses, questions, strict=True))
        total += len(questions)
    return hits, total


def natural(encoder: Encoder) -> Count:
    """(right first, of) hand-written questions on hand-written shops, every sentence and table row of the shop
    competing under its heading. Only shops that trained nothing; they are for development, so the figure is no test."""
    hits = total = 0
    for page, asked in natural_shops():
        units = _units(page.read_text(encoding="utf-8"))
        questions = [question for question, _ in asked]
        known, queries = encoder([f"{head}. {text}" for head, text in units], questions)
        alone, again = encoder([text for _, text in units], questions)
        guesses = (queries @ known.T + again @ alone.T).argmax(axis=1)
        for guess, (_, right) in zip(guesses, asked, strict=True):
            if any(_holds(text, right) for _, text in units):
                hits += _holds(units[guess][1], right)
                total += 1
    return hits, total


def natural_shops() -> list[tuple[Path, list[tuple[str, list[str]]]]]:
    """(page, (question, what its answer must hold)) of each hand-written shop for calibration, without follow-ups."""
    older = json.loads((OLDER / "questions.json").read_text(encoding="utf-8"))["shops"]
    found = [(OLDER / f"{name}.md", rows) for name, rows in sorted(older.items())]
    for path in sorted(NATURAL.glob("*.json")):
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["split"] == "calibration":
            found.append((path.with_suffix(".md"), about["questions"]))
    return [
        (page, [(row["q"], row["right"]) for row in rows if row["right"] and not row.get("earlier")])
        for page, rows in found
    ]


def _holds(text: str, right: Sequence[str]) -> bool:
    return all(any(form.lower() in text.lower() for form in part.split("|")) for part in right)


def _units(page: str) -> list[tuple[str, str]]:
    """(heading, sentence or table row) of a Markdown page."""
    found: list[tuple[str, str]] = []
    head = ""
    for raw in page.splitlines():
        line = raw.strip()
        if line.startswith("#"):
            head = line.strip("# ")
        elif line.strip("|-: ") and not line.startswith("title:"):
            parts = [line] if line.startswith("|") else _SENTENCE.split(line)
            found += [(head, part.strip("|* -")) for part in parts]
    return found


def near_misses(triples: Sequence[Triple], encoder: Encoder) -> Count:
    """(paraphrase nearer than the near miss, of) by the cosine."""
    flat = [text for t in triples for text in (t.question, t.same, t.other)]
    vectors, _ = encoder(flat, flat)
    hits = sum(float(vectors[i] @ vectors[i + 1]) > float(vectors[i] @ vectors[i + 2]) for i in range(0, len(flat), 3))
    return hits, len(triples)


def near_misses_alike(triples: Sequence[Triple]) -> Count:
    """(paraphrase likelier to say the same than the near miss, of) by `Likeness`."""
    likeness = Likeness(shared())
    return sum(likeness.of(t.question, t.same) > likeness.of(t.question, t.other) for t in triples), len(triples)


def taken_for_same(triples: Sequence[Triple]) -> tuple[Count, Count]:
    """((paraphrases, of), (near misses, of)) that `Likeness` takes for the same at its own threshold."""
    likeness = Likeness(shared())
    same = sum(likeness.same(t.question, t.same) for t in triples)
    other = sum(likeness.same(t.question, t.other) for t in triples)
    return (same, len(triples)), (other, len(triples))


# ---------------------------------------------------------------- cost
def cost(embedder: Embedder, texts: Sequence[str]) -> float:
    """CPU microseconds to encode one message alone."""
    embedder.encode(texts[:50])
    start = time.process_time_ns()
    for text in texts:
        embedder.encode([text])
    return (time.process_time_ns() - start) / 1000 / len(texts)


def add_served(report: Report, texts: Sequence[str]) -> None:
    """What a message costs as a request of its own, and what encoding the messages of several requests together would
    save of it at most: their answers would still be made one by one, and each would have to be waited for.
    """
    embedder = shared()

    def cpu_us(work: Callable[[], object]) -> float:
        start = time.process_time_ns()
        work()
        return (time.process_time_ns() - start) / 1000 / len(texts)

    async def ask() -> None:
        upstream = Embed().upstream()
        for text in texts:
            body = {"model": "embed", "input": text}
            call = Call(operation="embedding", body=body, stream=False, deadline=math.inf, context=CallContext())
            await upstream.open(call)

    def together() -> None:
        for first in range(0, len(texts), TOGETHER):
            embedder.encode(texts[first : first + TOGETHER])

    asked, alone, in_groups = [], [], []
    for _ in range(ROUNDS):
        asked.append(cpu_us(lambda: asyncio.run(ask())))
        alone.append(cpu_us(lambda: [embedder.encode([text]) for text in texts]))
        in_groups.append(cpu_us(together))
    saved = [one - many for one, many in zip(alone, in_groups, strict=True)]
    for name, values in (
        ("CPU of a request with one message", asked),
        (f"CPU that encoding {TOGETHER} messages together would save each", saved),
    ):
        report.add(name, statistics.median(values), "µs", n=ROUNDS, low=min(values), high=max(values))


def main() -> int:
    """Measure, print, and with --card write the figures into the card."""
    data = Path(os.environ.get("FAIRLEAD_DATA", "data"))
    have = (data / "banking77").is_dir()
    columns = encoders()
    notes = [] if have else ["FAIRLEAD_DATA is not set: only our own sets were measured."]
    notes += [] if "teacher" in columns else ["FAIRLEAD_TEACHER is not set: the teacher was not measured."]
    report = Report("embed", note=" ".join(notes))
    card: dict[str, dict[str, float]] = {}
    for name, task in tasks(data if have else None).items():
        found = {label: task(encoder) for label, encoder in columns.items()}
        card[name] = {label: round(100 * hits / n, 1) for label, (hits, n) in found.items()} | {"n": found["embed"][1]}
        _add(report, name, found["embed"], {peer: 100 * h / n for peer, (h, n) in found.items() if peer != "embed"})
    for name, triples in (("hand", by_hand()), ("rule", by_rule())):
        _add(report, f"near misses by {name}: order by likeness", near_misses_alike(triples), {})
        same, other = taken_for_same(triples)
        _add(report, f"near misses by {name}: same taken for same", same, {})
        _add(report, f"near misses by {name}: other taken for same", other, {})
    messages = [q.text for seed in range(20) for q in make_shop(seed, Split.TEST, load_topics()).questions]
    report.add("CPU of a message", cost(shared(), messages), "µs", n=len(messages), target="<= 50")
    add_served(report, messages)
    started = time.process_time_ns()
    near_misses_alike(by_hand())
    report.add(
        "CPU of a likeness", (time.process_time_ns() - started) / 2000 / len(by_hand()), "µs", n=2 * len(by_hand())
    )
    report.add("weights", WEIGHTS.stat().st_size / 1e6, "MB", target="<= 8")
    if "--card" in sys.argv and have:
        path = WEIGHTS.with_suffix(".json")
        path.write_text(
            json.dumps({**json.loads(path.read_text()), "figures": card}, indent=2) + "\n", encoding="utf-8"
        )
    return report.finish()


def tasks(data: Path | None) -> dict[str, Callable[[Encoder], Count]]:
    """Every task by its name; without data those on our own sets."""
    found: dict[str, Callable[[Encoder], Count]] = {
        "invented shops: right sentence first": sentences,
        "hand-written shops: right sentence first": natural,
        "near misses by hand: paraphrase nearer": partial(near_misses, by_hand()),
        "near misses by rule: paraphrase nearer": partial(near_misses, by_rule()),
    }
    if data is not None:
        rows = read_intents(data)
        held = [row for row in rows["clinc"] if is_held(row[1])]
        found["banking77: nearest of 77 intents"] = partial(intents, rows["banking77"])
        found["bitext: nearest of 27 intents"] = partial(intents, rows["bitext"])
        found["clinc: nearest of 58 held-out intents"] = partial(intents, held)
        found["dstc9-faq: right answer first"] = partial(answers, data)
        found["clapnq: right passage first"] = partial(passages, data, "clapnq-dev")
        found["mtrag: right passage first"] = partial(passages, data, "mtrag-un")
    return found


def _add(report: Report, name: str, count: Count, peers: dict[str, float]) -> None:
    hits, n = count
    low, high = (100 * bound for bound in share_interval(hits, n))
    for peer, value in peers.items() or {"": None}.items():
        report.add(name, 100 * hits / n, "%", n=n, low=low, high=high, peer=peer, peer_value=value)


if __name__ == "__main__":
    raise SystemExit(main())
