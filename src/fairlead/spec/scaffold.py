"""``fairlead init``: writes a working project from a template that comes with Fairlead.

Never overwrites unless told to, and never writes outside the target folder.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from fairlead.errors import ChoiceUnknown, TargetInUse, TargetUnwritable
from fairlead.spec.schema import FILE_NAME as SCHEMA_FILE
from fairlead.spec.schema import json_schema

_TEMPLATES = {
    "shop-support": "A shop's customer support: six help pages, an order look-up, 33 questions to measure with.",
    "blank": "The fewest lines that work, each explained.",
}
_FIRST_QUESTIONS = {"shop-support": "How long does delivery take?", "blank": "What does a page look like?"}
_SKIPPED = frozenset({"__pycache__"})


def templates() -> dict[str, str]:
    """Template names, each with the sentence that describes it."""
    return dict(_TEMPLATES)


def first_question(template: str) -> str:
    """A question that the template's own pages answer."""
    return _FIRST_QUESTIONS[template]


def init(template: str, target: Path, *, force: bool = False, dry_run: bool = False) -> list[Path]:
    """Writes ``template`` into ``target`` (made if needed) and returns the files; with ``dry_run`` writes none.

    Raises ChoiceUnknown for another template, TargetInUse when files would be overwritten without ``force``, and
    TargetUnwritable when the folder cannot be made or written.
    """
    if template not in _TEMPLATES:
        raise ChoiceUnknown(kind="template", name=template, choices=", ".join(_TEMPLATES))
    contents = dict(_contents(template))
    paths = {target / relative: content for relative, content in contents.items()}
    existing = [path for path in paths if os.path.lexists(path)]
    if target.exists() and not target.is_dir():
        raise TargetUnwritable(path=target, detail="it is a file, not a folder")
    if existing and not force:
        listing = ", ".join(str(path.relative_to(target)) for path in existing)
        raise TargetInUse(path=target, count=len(existing), files=listing)
    if not dry_run:
        for path, content in paths.items():
            _write(path, content)
    return list(paths)


def _contents(template: str) -> Iterator[tuple[Path, bytes]]:
    root = files("fairlead.spec") / "templates" / template.replace("-", "_")
    yield from _walk(root, Path())
    yield Path(SCHEMA_FILE), (json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n").encode()
    yield Path(".gitignore"), b"# What Fairlead stores: conversations, traces, keys.\n.fairlead/\n"


def _walk(folder: Traversable, relative: Path) -> Iterator[tuple[Path, bytes]]:
    for child in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if child.name in _SKIPPED:
            continue
        if child.is_dir():
            yield from _walk(child, relative / child.name)
        else:
            yield relative / child.name, child.read_bytes()


def _write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise TargetUnwritable(path=path, detail=error.strerror or str(error)) from error
