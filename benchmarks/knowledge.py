"""Pages: how often `fairlead knowledge check` finds a contradiction, and what reading pages again costs.

    make bench NAME=knowledge

The pairs are written by hand for this benchmark; the invented shops say every fact once, so anything reported there is
a false alarm.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import Report
from fairlead.assistant.knowledge import Knowledge, Passage
from fairlead.assistant.review import contradictions
from fairlead.engines.embed.embedder import shared
from fairlead.spec.power import share_interval
from fairlead.store.derived import Derived

HERE = Path(__file__).parent
SHOPS = (HERE.parent / "training" / "natural", HERE / "data" / "answers_shops")
CONTRADICTING = (
    ("Returns", "You can send an item back within 30 days of delivery.",
     "FAQ", "Items may be returned within 14 days after delivery."),
    ("Returns", "You have 30 days to return an item.", "Help", "Returns are accepted for 14 days."),
    ("Delivery", "Delivery is free from €50.", "Basket", "Orders over €60 ship free of charge."),
    ("Refunds", "We refund within five working days.", "Payment", "Your refund is paid within 10 working days."),
    ("Warranty", "All lamps have a two-year warranty.", "Lamps", "The warranty on our lamps is 3 years."),
    ("Delivery", "Standard delivery costs €4.90.", "Checkout", "Standard shipping costs €5.90."),
    ("Vouchers", "Gift cards are valid for three years.", "Gift cards", "A gift card expires after 2 years."),
    ("Contact", "We answer e-mails within 24 hours.", "Service", "E-mails are answered within two days."),
    ("Orders", "You can cancel your order within one hour.", "Changes", "An order can be cancelled within 30 minutes."),
    ("Price", "We match a lower price within 14 days of purchase.",
     "Price guarantee", "If you find a lower price within 7 days of your purchase, we pay the difference."),
    ("Students", "Students get 10 % off.", "Discounts", "There is a 15 % student discount."),
    ("Loyalty", "You earn 2 points for every euro.", "Club", "Members get 1 point per euro spent."),
)  # fmt: skip
ALIKE = (
    ("Delivery", "Standard delivery takes 3 to 5 working days.",
     "Delivery", "Express delivery takes one working day."),
    ("Delivery", "Standard delivery costs €4.90.", "Delivery", "Express delivery costs €9.90."),
    ("Returns", "Clothes can come back within 45 days.", "Returns", "Toys can come back within 30 days."),
    ("Delivery", "Delivery to France costs €9.", "Delivery", "Delivery to Italy costs €12."),
    ("Warranty", "Tents have a five-year warranty.", "Warranty", "Stoves have a two-year warranty."),
    ("Refunds", "We refund within five working days.", "Delivery", "Parcels arrive within three working days."),
    ("Returns", "You have 30 days to return an item.", "Exchanges", "You have 60 days to exchange an item."),
    ("Vouchers", "The minimum value of a voucher is €10.", "Vouchers", "The maximum value of a voucher is €200."),
)  # fmt: skip
COPIES = 20


def main() -> int:
    """Measure and report."""
    report = Report("knowledge", note="Pairs and shops are our own, written by hand. CPU time of this process.")
    for name, pairs in (("contradicting pairs found", CONTRADICTING), ("pairs that only look alike reported", ALIKE)):
        hits = sum(map(_clashes, pairs))
        low, high = (100 * bound for bound in share_interval(hits, len(pairs)))
        report.add(name, 100 * hits / len(pairs), "%", n=len(pairs), low=low, high=high)
    pages = [page for folder in SHOPS for page in sorted(folder.glob("*.md")) if page.stem != "README"]
    alarms = sum(bool(contradictions(Knowledge.load([page]).passages)) for page in pages)
    low, high = (100 * bound for bound in share_interval(alarms, len(pages)))
    share = 100 * alarms / len(pages)
    report.add("invented shops with a false alarm", share, "%", n=len(pages), low=low, high=high)
    _cost(report, pages)
    return report.finish()


def _clashes(pair: tuple[str, str, str, str]) -> bool:
    title, text, other, other_text = pair
    passages = [
        Passage(id="a", title=title, location="a.md", text=text),
        Passage(id="b", title=other, location="b.md", text=other_text),
    ]
    return bool(contradictions(passages))


def _cost(report: Report, pages: list[Path]) -> None:
    """CPU of making the index of many pages anew, and after one page has changed."""
    shared()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "pages"
        root.mkdir()
        for copy in range(COPIES):
            for page in pages:
                shutil.copyfile(page, root / f"{copy:02}-{page.name}")
        cache = Derived(Path(folder) / "derived")
        count = len(Knowledge.load([root], cache).passages)
        anew = _index(root, None)
        (root / f"00-{pages[0].name}").write_text("# New\n\nThis page has changed.\n", encoding="utf-8")
        again = _index(root, cache)
    report.add("index made anew, CPU a passage", 1e6 * anew / count, "µs", n=count)
    report.add("index after one page changed, CPU a passage", 1e6 * again / count, "µs", n=count)


def _index(root: Path, cache: Derived | None) -> float:
    began = time.process_time()
    _ = Knowledge.load([root], cache).index
    return time.process_time() - began


if __name__ == "__main__":
    sys.exit(main())
