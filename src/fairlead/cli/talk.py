"""``fairlead ask`` and ``fairlead chat``: talk to the use case from the terminal, recorded like any other traffic."""

from __future__ import annotations

import asyncio
import csv
import functools
import io
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import indent
from typing import Annotated, Any, TextIO

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fairlead.app import Fairlead, build
from fairlead.assistant import Answer, Assistant
from fairlead.assistant.events import Confirm, Delta, Done, Event, Facts, Failed, HandedOff, Sources
from fairlead.cli.output import JsonFlag, err, out, print_json, with_settings
from fairlead.cli.times import span
from fairlead.errors import FairleadError, ServiceError, UsageError
from fairlead.readable import escaped
from fairlead.records import Source
from fairlead.settings import Settings

TEXT_COLUMNS = ("text", "message", "utterance", "question", "input", "query", "instruction")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("ask")(ask)
    app.command("chat")(chat)


@with_settings("project", "data_dir", "engine_threads")
def ask(
    *,
    settings: Settings,
    question: Annotated[str | None, typer.Argument(help="What a customer would ask; - reads standard input.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="Ask every line of a .txt, every row of a .csv, every object of a .jsonl file.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="The column or key of --file that holds the message.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many of --file.")] = None,
    conversation: Annotated[
        bool,
        typer.Option("--conversation", help="Take --file as one conversation, as in chat: a yes in it is a yes."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Append answers to this JSONL file; a rerun goes on after it.")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="Ask this variant instead of the live one.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask one question, or a file of them.

    Needs no server; answers are recorded like any other traffic.
    """
    if (question is None) == (file is None):
        raise UsageError(
            detail='Give either a question or --file. For example: fairlead ask "How long does delivery take?"'
        )
    if file is not None:
        _ask_file(settings, file, column, limit, output, variant, remember=conversation, as_json=as_json)
        return
    if output or column or limit or conversation:
        raise UsageError(detail="--output, --column, --limit and --conversation go with --file.")
    text = _utf8(sys.stdin.read() if question == "-" else str(question))
    if not text.strip():
        raise UsageError(detail='The question is empty. For example: fairlead ask "How long does delivery take?"')
    answer = asyncio.run(_ask_one(settings, text, variant))
    print_json(_plain(text, answer)) if as_json else _show(answer)


def _ask_file(
    settings: Settings, file: Path, column: str | None, limit: int | None, output: Path | None, variant: str | None,
    *, remember: bool, as_json: bool,
) -> None:  # fmt: skip
    if remember and output is not None:
        raise UsageError(detail="A conversation cannot be gone on with later: use --conversation without --output.")
    messages = list(read_messages(file, column))[: limit or None]
    if not messages:
        raise UsageError(detail=f"{file} holds no message.")
    done = 0
    if output is None:
        tell = _tell_json if as_json else _tell_text
        failures = asyncio.run(_ask_all(settings, messages, variant, done=0, tell=tell, remember=remember))
    else:
        done = len(output.read_text(encoding="utf-8").splitlines()) if output.exists() else 0
        with output.open("a", encoding="utf-8") as sink:
            tell = functools.partial(_tell_json, sink=sink)
            failures = asyncio.run(_ask_all(settings, messages, variant, done=done, tell=tell))
    before = f" ({done} before)" if done else ""
    where = f" Answers: {output}" if output else ""
    err.print(f"{max(0, len(messages) - done)} asked{before}, {failures} failed.{where}", markup=False)
    if failures:
        raise typer.Exit(1)


@with_settings("project", "data_dir", "engine_threads")
def chat(
    *,
    settings: Settings,
    variant: Annotated[str | None, typer.Option(help="Talk to this variant instead of the live one.")] = None,
) -> None:
    """Talk to the assistant in the terminal.

    An empty line or Ctrl-D ends it.
    """
    asyncio.run(_chat(settings, variant))


@asynccontextmanager
async def _started(settings: Settings, variant: str | None) -> AsyncIterator[Fairlead]:
    fairlead = build(settings)
    try:
        await fairlead.start_variant(variant or fairlead.usecase.live.id)
        yield fairlead
    finally:
        await fairlead.stop()


async def _ask_one(settings: Settings, text: str, variant: str | None) -> Answer:
    async with _started(settings, variant) as fairlead:
        return await fairlead.assistant.ask(text, variant=variant, channel="cli")


async def _ask_all(
    settings: Settings,
    messages: list[str],
    variant: str | None,
    *,
    done: int,
    tell: Callable[[dict[str, Any]], None],
    remember: bool = False,
) -> int:
    """Ask each of ``messages`` after the first ``done`` and tell each answer; returns how many failed."""
    failures = 0
    progress = Progress(
        TextColumn("asking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=err, transient=True
    )
    async with _started(settings, variant) as fairlead:
        with progress:
            task = progress.add_task("asking", total=len(messages), completed=done)
            talk = await asyncio.to_thread(fairlead.assistant.open_conversation, "cli") if remember else None
            for text in messages[done:]:
                try:
                    if talk is not None:
                        answer = await _reply(fairlead.assistant, talk[0].id, text, variant)
                    else:
                        answer = await fairlead.assistant.ask(text, variant=variant, channel="cli")
                    row = _plain(text, answer)
                except FairleadError as error:
                    failures += 1
                    row = {"question": text, "error": str(error)}
                tell(row)
                progress.advance(task)
    return failures


async def _reply(assistant: Assistant, conversation: str, text: str, variant: str | None) -> Answer:
    """The answer within a conversation, whole. Raises FairleadError where none could be given."""
    said, sources, facts = "", tuple[Source, ...](), list[Facts]()
    async for event in assistant.reply(conversation, text, variant=variant):
        match event:
            case Delta():
                said += event.text
            case Sources():
                sources = event.sources
            case Facts():
                facts.append(event)
            case Failed():
                raise FairleadError(detail=event.message)
            case Done():
                chosen = variant or assistant.usecase.live.id
                return Answer(
                    text=said, act=event.act, sources=sources, facts=tuple(facts), variant=chosen,
                    inference=event.inference_id, total_us=event.total_us,
                )  # fmt: skip
    raise FairleadError(detail="The conversation gave no answer.")


def _tell_json(row: dict[str, Any], sink: TextIO | None = None) -> None:
    sink = sink or sys.stdout
    sink.write(escaped(json.dumps(row, ensure_ascii=False)) + "\n")
    sink.flush()


def _tell_text(row: dict[str, Any]) -> None:
    told = indent(row.get("text") or row.get("error") or "", "  ")
    cited = "".join(f"\n    [{n}] {source['title']}" for n, source in enumerate(row.get("sources", ()), 1))
    cited = cited or "".join(f"\n    from: {title}" for title in looked_up(row.get("act", ""), row.get("facts", ())))
    out.print(f"> {row['question']}\n{told}{cited}\n", markup=False)


async def _chat(settings: Settings, variant: str | None) -> None:
    async with _started(settings, variant) as fairlead:
        assistant = fairlead.assistant
        identifier = ""
        prompt = "you: " if sys.stdin.isatty() else ""
        out.print(assistant.greeting, style="dim", markup=False)
        while True:
            try:
                text = (await asyncio.to_thread(input, prompt)).strip()
            except (EOFError, KeyboardInterrupt):
                out.print()
                return
            if not text:
                return
            if not identifier:  # at the first message, so that a look leaves nothing behind
                conversation, _ = await asyncio.to_thread(assistant.open_conversation, "cli")
                identifier = conversation.id
            out.print("assistant: ", end="", style="bold")
            try:
                async for event in assistant.reply(identifier, text, variant=variant):
                    _tell_event(event)
            except ServiceError as error:  # of one message; the conversation goes on
                err.print(f"fairlead: {error}", style="red", markup=False, end="")
            out.print()


def _tell_event(event: Event) -> None:
    match event:
        case Delta():
            out.print(event.text.replace("\n", "\n  "), end="", markup=False)
        case Facts():
            out.print(f"{event.title}{_rows(event.rows)}\n", markup=False)
        case Confirm():
            out.print(_rows(event.rows), style="dim", end="", markup=False)
        case Sources():
            shown = "".join(f"\n    [{n}] {source.title}" for n, source in enumerate(event.sources, 1))
            out.print(shown, style="dim", end="", markup=False)
        case HandedOff():
            out.print(f"\n{event.message}", markup=False)
        case Failed():
            err.print(event.message, style="red", markup=False)


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    return "".join(f"\n  {label}: {value}" for label, value in rows)


def _utf8(text: str) -> str:
    """``text`` if it was UTF-8 before Python made it a text. Raises UsageError."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(detail=f"The question is no UTF-8 text (character {error.start + 1}).") from error
    return text


def read_messages(path: Path, column: str | None) -> Iterator[str]:
    """The messages of a .txt (one a line), .csv or .jsonl file. Raises UsageError that names the line at fault."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(detail=f"There is no file {path}.") from error
    except OSError as error:
        raise UsageError(
            detail=f"{path} cannot be read ({error.strerror}). Give a .txt, .csv or .jsonl file."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(detail=f"{path} is no UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    match path.suffix.lower():
        case ".csv":
            reader = csv.DictReader(io.StringIO(text, newline=""))
            key = _column(column, reader.fieldnames or [], path, text)
            try:
                yield from (row[key].strip() for row in reader if (row.get(key) or "").strip())
            except csv.Error as error:
                raise UsageError(detail=f"{path}:{reader.line_num}: {error}. Close every quote.") from error
        case ".jsonl":
            yield from _jsonl(path, text, column)
        case _:
            yield from (line.strip() for line in text.splitlines() if line.strip())


def _column(column: str | None, names: Any, path: Path, text: str) -> str:
    if column in names:
        return str(column)
    if column is None:
        for name in names:
            if name.strip().lower() in TEXT_COLUMNS:
                return str(name)
    raise UsageError(
        detail=f"{path} has no column {column or ' or '.join(TEXT_COLUMNS)!r}; it has: {', '.join(map(str, names))}. "
        "Name the one that holds the message with --column."
    )


def _jsonl(path: Path, text: str, column: str | None) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError(detail=f"{path}, line {number}: not JSON ({error.msg}).") from error
        if isinstance(row, str):
            yield row
            continue
        if not isinstance(row, dict):
            raise UsageError(detail=f"{path}, line {number}: expected an object or a text, found {type(row).__name__}.")
        value = row[_column(column, list(row), path, text)]
        if isinstance(value, str) and value.strip():
            yield value.strip()


def looked_up(act: str, facts: Iterable[Mapping[str, Any]]) -> list[str]:
    """What an answer without pages rests on: the cards that tools gave, or that one was asked; empty if on nothing."""
    titles = [str(card["title"]) for card in facts if card.get("title")]
    return titles or (["a look-up"] if act in ("tool", "action") else [])


def _plain(question: str, answer: Answer) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(answer)
    return {"question": question, **row}


def _show(answer: Answer) -> None:
    out.print(answer.text, markup=False)
    for number, source in enumerate(answer.sources, 1):
        out.print(f"  [{number}] {source.title} ({source.location})", style="dim", markup=False)
    if not answer.sources:
        for title in looked_up(answer.act, [{"title": card.title} for card in answer.facts]):
            out.print(f"  from: {title}", style="dim", markup=False)
    err.print(
        f"{answer.variant}, {answer.act}, {span(answer.total_us)}; trace {answer.inference}", style="dim", markup=False
    )
