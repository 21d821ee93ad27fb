"""``fairlead knowledge``: the pages the assistant answers from: add, list, search, check."""

from __future__ import annotations

import datetime
import shlex
import shutil
import tempfile
from collections.abc import Sized
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import track

from fairlead.assistant import Knowledge
from fairlead.assistant.pages import READERS
from fairlead.assistant.review import Finding, outside_links, review
from fairlead.cli.output import JsonFlag, advise, err, out, print_json, print_table, same, with_settings
from fairlead.errors import RecordUnknown, UsageError
from fairlead.settings import Settings
from fairlead.spec import UseCase, load
from fairlead.store import Store

TRY_S = 10.0
"""Seconds an address outside may take to answer."""


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="The pages the assistant answers from: add, list, search, check.")
    group.command("add")(add)
    group.command("list")(list_pages)
    group.command("search")(search)
    group.command("check")(check)
    app.add_typer(group, name="knowledge")


@with_settings("project", "data_dir")
def add(
    *,
    settings: Settings,
    files: Annotated[list[Path], typer.Argument(help=f"Pages to copy into the project ({', '.join(READERS)}).")],
    into: Annotated[str | None, typer.Option(help="Folder of `knowledge:` to copy into; without it the first.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite pages of the same name.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, change nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Copy pages into the project's knowledge, after reading them as the assistant will.

    All or nothing: when one page cannot be read, none is copied. A running server goes on with the pages it began with.
    """
    usecase = load(settings.spec_path)
    folder = _folder(usecase, into)
    new = Knowledge.load(_present(files))
    targets = {file: folder / file.name for file in files}
    there = _taken(targets, folder, replace=replace)
    added: list[dict[str, Any]] = [
        {"page": target.name, "title": page.title, "passages": page.passages, "replaced": target in there}
        for page, target in ((page, targets[Path(page.path)]) for page in new.pages)
    ]
    if not dry_run:
        _copy(targets)
    knowledge = _current(usecase)
    if as_json:
        print_json({"dry_run": dry_run, "added": added, "folder": str(folder), "snapshot": knowledge.snapshot})
        return
    for each in added:
        did = ("would be " if dry_run else "") + ("replaced" if each["replaced"] else "added")
        out.print(f"{did}: {each['page']} ({each['title']}), {_count(each['passages'], 'passage')}", markup=False)
    if not dry_run:
        out.print(f"Snapshot is now {knowledge.snapshot[:16]}.", markup=False)
        fresh = shlex.join(str(target) for target in targets.values() if target not in there)
        undo = f" Undo: rm {fresh}" if fresh else ""
        advise(f"Next: fairlead knowledge check{same(settings)}; restart `fairlead serve`.{undo}", to=err)


def _taken(targets: dict[Path, Path], folder: Path, *, replace: bool) -> list[Path]:
    """The targets that are there already. Raises UsageError where they must not be, or two files have one name."""
    if len(set(targets.values())) < len(targets):
        raise UsageError(detail="Two of the files have the same name; rename one of them.")
    there = [target for target in targets.values() if target.exists()]
    if there and not replace:
        names = ", ".join(target.name for target in there)
        raise UsageError(detail=f"{folder} has {names} already. Add --replace to overwrite, or rename the file.")
    return there


def _present(files: list[Path]) -> list[Path]:
    for file in files:
        if not file.is_file():
            raise UsageError(detail=f"{file} is no file. Give pages, one or more, that end in {', '.join(READERS)}.")
        if file.suffix.lower() not in READERS:
            raise UsageError(detail=f"{file} is not a page; expected a file that ends in {', '.join(READERS)}.")
    return files


def _folder(usecase: UseCase, wanted: str | None) -> Path:
    """The folder of the project that pages go into. Raises UsageError."""
    folders = [path for part in usecase.knowledge if (path := usecase.path(part.path)).is_dir()]
    if wanted is not None:
        chosen = usecase.path(wanted)
        if chosen not in folders:
            known = ", ".join(str(part.path) for part in usecase.knowledge) or "none"
            raise UsageError(
                detail=f"{wanted!r} is no folder of `knowledge:` in fairlead.yaml. Folders there: {known}."
            )
        return chosen
    if not folders:
        raise UsageError(detail="fairlead.yaml names no folder of pages. Add `knowledge: [{path: knowledge}]` to it.")
    return folders[0]


def _copy(targets: dict[Path, Path]) -> None:
    """Copy every file beside its target first, so that a full disk leaves the old pages as they were."""
    beside: dict[Path, Path] = {}
    try:
        for file, target in targets.items():
            with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".adding-", delete=False) as copy:
                beside[target] = Path(copy.name)
            shutil.copyfile(file, beside[target])
            beside[target].chmod(0o644)
        for target, copied in beside.items():
            copied.replace(target)
    finally:
        for copied in beside.values():
            copied.unlink(missing_ok=True)


def _current(usecase: UseCase) -> Knowledge:
    return Knowledge.load([usecase.path(part.path) for part in usecase.knowledge])


@with_settings("project", "data_dir")
def list_pages(
    *,
    settings: Settings,
    snapshot: Annotated[
        str | None, typer.Option(help="Passages of an earlier snapshot, as a release names it.", metavar="HASH")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the pages with the passages cut from them, or what an earlier snapshot held."""
    if snapshot is not None:
        _list_snapshot(settings, snapshot, as_json=as_json)
        return
    usecase = load(settings.spec_path)
    with Store.open(settings.data_path) as store:
        knowledge = Knowledge.load([usecase.path(part.path) for part in usecase.knowledge], store.derived)
    if as_json:
        print_json({"snapshot": knowledge.snapshot, "pages": knowledge.pages, "read_again": knowledge.reread})
        return
    if not knowledge.pages:
        out.print("No pages. Add `knowledge: [{path: knowledge}]` to fairlead.yaml and a page to that folder.")
        return
    print_table(
        ["page", "title", "passages", "updated"],
        [[page.name, page.title, page.passages, page.updated] for page in knowledge.pages],
        right=["passages"],
    )
    err.print(
        f"{_count(knowledge.passages, 'passage')}, snapshot {knowledge.snapshot[:16]}; "
        f"read again because changed: {_count(knowledge.reread, 'page')}.",
        markup=False,
    )


def _list_snapshot(settings: Settings, wanted: str, *, as_json: bool) -> None:
    with Store.open(settings.data_path) as store:
        known = [digest for digest in store.objects.list() if digest.startswith(wanted.lower())] if wanted else []
        if len(known) != 1:
            raise RecordUnknown(kind="snapshot", id=wanted)
        knowledge = Knowledge.from_content(store.objects.get(known[0]).read_bytes())
    if as_json:
        print_json({"snapshot": known[0], "passages": knowledge.passages})
        return
    print_table(["location", "passage"], [[each.location, each.text] for each in knowledge.passages])


@with_settings("project", "data_dir")
def search(
    *,
    settings: Settings,
    question: Annotated[str, typer.Argument(help="What a customer might ask.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=50, help="How many passages.")] = 5,
    as_json: JsonFlag = False,
) -> None:
    """Show the passages found for a question, best first, as the assistant would find them."""
    usecase = load(settings.spec_path)
    with Store.open(settings.data_path) as store:
        knowledge = Knowledge.load([usecase.path(part.path) for part in usecase.knowledge], store.derived)
        found = knowledge.search(question, count)
    if as_json:
        print_json([{"rank": rank, **_shown(passage)} for rank, passage in enumerate(found, 1)])
        return
    if not found:
        out.print("Nothing found: no page shares a word or a meaning with this question.")
        return
    for rank, passage in enumerate(found, 1):
        out.print(f"{rank}. {passage.title}  ({passage.location})", markup=False, style="bold")
        out.print(f"   {passage.text}", markup=False)


def _shown(passage: Any) -> dict[str, str]:
    return {"title": passage.title, "location": passage.location, "text": passage.text, "id": passage.id}


@with_settings("project", "data_dir")
def check(
    *,
    settings: Settings,
    online: Annotated[bool, typer.Option("--online", help="Also ask the addresses that pages link to.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Look for figures that contradict each other, dead links and stale dates. Exits 1 when something was found."""
    usecase = load(settings.spec_path)
    knowledge = _current(usecase)
    found = review(knowledge, today=datetime.datetime.now(datetime.UTC).date())
    if online:
        found += _unreachable(knowledge)
    if as_json:
        print_json({"snapshot": knowledge.snapshot, "pages": len(knowledge.pages), "findings": found})
    else:
        for finding in found:
            _print(finding)
        links = outside_links(knowledge)
        rest = f" Not tried without --online: {_count(links, 'address', 'addresses')} outside." if links else ""
        pages, findings = _count(knowledge.pages, "page"), _count(found, "finding")
        err.print(f"{pages}, {findings}.{'' if online else rest}", markup=False)
    if found:
        raise typer.Exit(1)


def _count(things: int | Sized, one: str, many: str = "") -> str:
    number = things if isinstance(things, int) else len(things)
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def _print(finding: Finding) -> None:
    if finding.kind == "contradiction":
        out.print(f"{finding.location} and {finding.other} may contradict: {finding.detail}", markup=False)
        out.print(f"   {finding.text}\n   {finding.other_text}", markup=False)
    else:
        what = {"link": "dead link", "date": "stale date"}[finding.kind]
        out.print(f"{finding.location}: {what}: {finding.text} ({finding.detail})", markup=False)


def _unreachable(knowledge: Knowledge) -> list[Finding]:
    """Addresses outside that do not answer. Asked one after the other, each once."""
    import urllib.error
    import urllib.request

    links = outside_links(knowledge)
    answers: dict[str, str] = {}
    for address in track(sorted({link for _, link in links}), "Asking addresses", console=err, transient=True):
        request = urllib.request.Request(address, method="GET", headers={"User-Agent": "fairlead"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=TRY_S):  # noqa: S310  (http and https only)
                answers[address] = ""
        except urllib.error.HTTPError as error:
            answers[address] = f"answers {error.code}"
        except (OSError, ValueError) as error:
            answers[address] = f"does not answer: {error}"
    return [
        Finding(kind="link", location=page, text=link, detail=answers[link]) for page, link in links if answers[link]
    ]
