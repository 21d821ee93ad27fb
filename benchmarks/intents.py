"""How often the intent classifier is right, what it does with messages that belong to no intent, and what it costs.

    FAIRLEAD_DATA=... make bench NAME=intents         # some minutes; needs scikit-learn for the peer

banking77: five-fold cross-validation beside TF-IDF with logistic regression (scikit-learn) on the same folds; the
difference has a paired interval. The embedder saw nothing of banking77. clinc_oos: fitted on the 15,000 utterances of
the train split, measured on the 3,000 of the validation split (the test split is not at hand) and on messages out of
scope. Recall there is the share called unknown; in-scope accuracy counts a known message called unknown as wrong, as
Larson et al. (2019, "An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction") do, whose BERT
reaches 96.9 % in scope and 40.3 % out of scope. The parts of the fit were chosen on the 100 messages of oos_train;
oos_val is the test.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks.report import Report
from fairlead.app import router_of
from fairlead.engines.embed.embedder import shared
from fairlead.engines.embed.intents import Intents
from fairlead.spec import load
from fairlead.spec.power import share_interval
from training.embed_data import read_intents

FOLDS, SEED = 5, 0
BERT_IN, BERT_OUT = 96.9, 40.3
KEEPS = (0.99, 0.97, 0.95)
Hits = npt.NDArray[np.bool_]


def peer_hits(texts: Sequence[str], labels: Sequence[str], asked: Sequence[str], truth: Sequence[str]) -> Hits:
    """Which of ``asked`` TF-IDF with logistic regression gets right; the best of six settings (no pairs, C 30)."""
    vectoriser = TfidfVectorizer(sublinear_tf=True)
    model = LogisticRegression(C=30, max_iter=300).fit(vectoriser.fit_transform(texts), labels)
    return np.asarray(model.predict(vectoriser.transform(asked)) == np.array(truth))


def our_hits(texts: Sequence[str], labels: Sequence[str], asked: Sequence[str], truth: Sequence[str]) -> Hits:
    """Which of ``asked`` the classifier gets right."""
    model = Intents.fit(texts, labels, shared(), kept=1)
    return np.array([guess.intent == t for guess, t in zip(model.guesses(asked, shared()), truth, strict=True)])


def cross_validate(rows: list[tuple[str, str]]) -> tuple[Hits, Hits]:
    """(ours, the peer's) right or wrong on every row, from the fold that did not see it."""
    fold = np.random.default_rng(SEED).permutation(len(rows)) % FOLDS
    ours, theirs = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    for k in range(FOLDS):
        known = [row for row, f in zip(rows, fold, strict=True) if f != k]
        asked = [row for row, f in zip(rows, fold, strict=True) if f == k]
        parts = ([t for t, _ in known], [i for _, i in known], [t for t, _ in asked], [i for _, i in asked])
        ours[fold == k], theirs[fold == k] = our_hits(*parts), peer_hits(*parts)
    return ours, theirs


def add_share(
    report: Report, name: str, hits: Hits, peer: str = "", peer_value: float | None = None, target: str = ""
) -> None:
    """A share with its interval."""
    low, high = (100 * bound for bound in share_interval(int(hits.sum()), len(hits)))
    report.add(
        name,
        100 * float(hits.mean()),
        "%",
        n=len(hits),
        low=low,
        high=high,
        peer=peer,
        peer_value=peer_value,
        target=target,
    )


def banking(report: Report, rows: list[tuple[str, str]]) -> None:
    """Cross-validation with the paired difference."""
    ours, theirs = cross_validate(rows)
    add_share(report, "banking77: intent right", ours, "TF-IDF + logistic regression", 100 * float(theirs.mean()))
    gap = 100 * (ours.astype(float) - theirs.astype(float))
    half = 1.96 * float(gap.std()) / len(gap) ** 0.5
    mean = float(gap.mean())
    report.add(
        "banking77: ahead of the peer", mean, "points", n=len(gap), low=mean - half, high=mean + half, target=">= 0"
    )


def clinc(report: Report, path: Path) -> None:
    """In-scope accuracy and out-of-scope recall: without a threshold, at some, and where recall is BERT's."""
    sets: dict[str, list[tuple[str, str]]] = json.loads(path.read_text())
    texts, labels = [t for t, _ in sets["train"]], [i for _, i in sets["train"]]
    began = time.process_time()
    model = Intents.fit(texts, labels, shared())
    report.add("clinc: time to fit with the threshold", time.process_time() - began, "s", n=len(texts))
    inside = model.guesses([t for t, _ in sets["val"]], shared())
    right = np.array([g.intent == i for g, (_, i) in zip(inside, sets["val"], strict=True)])
    fits = np.array([g.fit for g in inside])
    outside = np.array([g.fit for g in model.guesses([t for t, _ in sets["oos_val"]], shared())])
    add_share(report, "clinc: in-scope accuracy, no threshold", right, "BERT", BERT_IN, f">= {BERT_IN}")
    for name, threshold in [
        ("the threshold of fit", model.threshold),
        *((f"{100 * keep:.0f} % kept", float(np.quantile(fits, 1 - keep))) for keep in KEEPS),
        ("BERT's recall", float(np.quantile(outside, BERT_OUT / 100))),
    ]:
        add_share(report, f"clinc: in-scope accuracy at {name}", right & (fits >= threshold), "BERT", BERT_IN)
        add_share(report, f"clinc: out-of-scope recall at {name}", outside < threshold, "BERT", BERT_OUT)
    messages = [t for t, _ in sets["val"][:500]]
    began_ns = time.process_time_ns()
    for message in messages:
        model.guess(message, shared())
    report.add(
        "CPU of a message, 150 intents",
        (time.process_time_ns() - began_ns) / 1000 / len(messages),
        "µs",
        n=len(messages),
    )


SHOP = Path(__file__).parent.parent / "examples" / "shop"
SAME = {
    "store": "stores", "refund": "refunds", "voucher": "vouchers", "giftcard": "vouchers", "exchange": "exchanges",
    "order-change": "order_changes", "invoice": "invoices", "product": "products", "care": "products",
    "size": "products", "stock": "products", "newsletter": "account", "missing": "damaged",
}  # fmt: skip
"""What the reference shop's questions are tagged with, as its intents are called; other tags have the same name."""


def shop(report: Report) -> None:
    """The reference shop's own routing: intent of its questions, and what it takes away from the assistant."""
    usecase = load(SHOP / "fairlead.yaml")
    router = router_of(usecase)
    rows = [json.loads(line) for line in (SHOP / "data" / "questions.jsonl").read_text("utf-8").splitlines()]
    intents = {json.loads(line)["intent"] for line in (SHOP / "data" / "intents.jsonl").read_text("utf-8").splitlines()}
    truth = [(row["question"], SAME.get(row["tags"][0], row["tags"][0])) for row in rows]
    asked = [(question, intent) for question, intent in truth if intent in intents]
    add_share(report, "reference shop: intent right", np.array([router.guess(q)[0] == i for q, i in asked]))
    taken = sum(router.guess(question)[1] for question, _ in truth)
    report.add(
        "reference shop: questions for the assistant handed to a person", taken, "of n", n=len(truth), target="<= 0"
    )


def main() -> int:
    """Measure and print."""
    data = Path(os.environ.get("FAIRLEAD_DATA", "data"))
    if not (data / "banking77").is_dir():
        report = Report("intents", note="FAIRLEAD_DATA is not set: only the reference shop was measured.")
        shop(report)
        return report.finish()
    report = Report(
        "intents",
        note="Both sets are the public ones; no message of theirs taught the embedder, but clinc's train split.",
    )
    shop(report)
    banking(report, read_intents(data)["banking77"])
    clinc(report, data / "clinc_oos" / "clinc_train_val.json")
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
