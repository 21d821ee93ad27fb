"""Inspect's `.eval` logs: a zip with a header and a JSON file for each sample and epoch.

Read are inputs, targets, the model's answers, token counts, times and scores; a log we write has the same parts and is
read by Inspect itself. Format: `inspect_ai.log`, version 2. Newer logs are packed with Zstandard, which Python's own
zipfile reads from 3.14 on; here its members are unpacked by the library `zstandard`, if it is installed.
"""

from __future__ import annotations

import datetime
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fairlead import __version__
from fairlead.errors import InterchangeInvalid, install_extra
from fairlead.evaluate.interchange import Imported
from fairlead.evaluate.reading import Row
from fairlead.evaluate.scorers import Answer, Call, Score
from fairlead.records import Sample, new_id

VERSION = 2
HEADER = "header.json"
SAMPLES = "samples/"
MAX_MEMBER = 64 * 1024 * 1024
"""Bytes of one sample, unpacked: a zip can promise less than it holds."""
ZSTANDARD = 93
"""Number of the packing in the zip format (APPNOTE 6.3.8)."""
LOCAL_HEADER = 30
THEIRS = "inspect:"
"""Before the name of a scorer that is not ours."""
GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
"""Inspect's letters for correct, incorrect, partial and no answer."""


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """A log: what was asked, what a model answered, and how it was scored there, each in the order of the samples.

    ``scores`` are by the log's own scorers, named ``inspect:NAME``; their hash is empty, since their code is not known.
    """

    task: str
    model: str
    imported: Imported
    answers: dict[str, Answer]
    scores: list[Score]


def read_log(path: Path, *, epoch: int = 1) -> Logged:
    """A finished `.eval` log, one ``epoch`` of it. Raises InterchangeInvalid."""
    rows: list[Row] = []
    answers: dict[str, Answer] = {}
    scores: list[Score] = []
    unmapped: Counter[str] = Counter()
    try:
        with zipfile.ZipFile(path) as archive:
            header = _member(archive, HEADER, path)
            for each in _samples(archive, path):
                if each.get("epoch", 1) != epoch:
                    unmapped[f"epoch {each.get('epoch')} (import it by itself: --epoch)"] += 1
                    continue
                row = _row(len(rows) + 1, each, unmapped)
                identifier = str(row.values["id"])
                rows.append(row)
                answers[identifier] = _answer(each)
                scores += _scores(identifier, each, unmapped)
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise InterchangeInvalid(file=path, detail=f"it is no `.eval` log that can be read ({error})") from error
    if not rows:
        raise InterchangeInvalid(file=path, detail=f"it has no finished sample of epoch {epoch}")
    evaluated = header.get("eval") or {}
    return Logged(
        task=str(evaluated.get("task", "")), model=str(evaluated.get("model", "")),
        imported=Imported(rows=rows, unmapped=dict(unmapped)), answers=answers, scores=scores,
    )  # fmt: skip


def write_log(
    path: Path, task: str, model: str, samples: Sequence[Sample], answers: Mapping[str, Answer] | None = None,
    scores: Iterable[Score] = (),
) -> None:  # fmt: skip
    """Write samples, with what a variant answered and how that was scored where it is known, as an `.eval` log."""
    known = answers or {}
    by_sample: dict[str, list[Score]] = {}
    for each in scores:
        by_sample.setdefault(each.sample, []).append(each)
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    ids = [sample.id for sample in samples]
    header = {
        "version": VERSION,
        "status": "success",
        "eval": {
            "eval_id": new_id(), "run_id": new_id(), "created": created, "task": task, "task_id": new_id(),
            "task_version": 0, "task_attribs": {}, "task_args": {}, "model": model, "model_args": {},
            "dataset": {"name": task, "samples": len(ids), "sample_ids": ids, "shuffled": False},
            "config": {"epochs": 1}, "packages": {"fairlead": __version__},
        },
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": {"total_samples": len(ids), "completed_samples": len(ids), "scores": []},
        "stats": {"started_at": created, "completed_at": created, "model_usage": {}},
    }  # fmt: skip
    partial = path.with_name(path.name + ".part")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for sample in samples:
                content = _sample(sample, model, known.get(sample.id), by_sample.get(sample.id, ()))
                archive.writestr(f"{SAMPLES}{_safe(sample.id)}_epoch_1.json", msgspec.json.encode(content))
            archive.writestr(HEADER, msgspec.json.encode(header))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InterchangeInvalid(file=path, detail=f"it cannot be written ({error})") from error


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> dict[str, Any]:
    try:
        info = archive.getinfo(name)
    except KeyError:
        detail = f"it has no {name}; a run that was broken off has none: let Inspect finish or recover it"
        raise InterchangeInvalid(file=path, detail=detail) from None
    data = _unpacked(archive, info, path)
    if len(data) > MAX_MEMBER:
        raise InterchangeInvalid(file=path, detail=f"{name} holds more than {MAX_MEMBER:,} bytes")
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InterchangeInvalid(file=path, detail=f"{name} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise InterchangeInvalid(file=path, detail=f"{name} is {type(value).__name__}; expected an object")
    return value


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> bytes:
    """At most one byte more of a member than is allowed."""
    if info.compress_type != ZSTANDARD:
        with archive.open(info) as member:
            return member.read(MAX_MEMBER + 1)
    try:
        import zstandard
    except ModuleNotFoundError:
        detail = f"it is packed with Zstandard; install what reads it: {install_extra('inspect')}"
        raise InterchangeInvalid(file=path, detail=detail) from None
    with path.open("rb") as file:
        file.seek(info.header_offset)
        local = file.read(LOCAL_HEADER)
        file.seek(int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little"), 1)
        packed = file.read(info.compress_size)
    try:
        with zstandard.ZstdDecompressor().stream_reader(packed) as reader:
            return bytes(reader.read(MAX_MEMBER + 1))
    except zstandard.ZstdError as error:
        raise InterchangeInvalid(file=path, detail=f"{info.filename} is damaged ({error})") from error


def _samples(archive: zipfile.ZipFile, path: Path) -> Iterator[dict[str, Any]]:
    for name in archive.namelist():
        if name.startswith(SAMPLES) and name.endswith(".json"):
            yield _member(archive, name, path)


def _row(number: int, sample: Mapping[str, Any], unmapped: Counter[str]) -> Row:
    values: dict[str, Any] = {"id": str(sample.get("id", number)), "reference": sample.get("target")}
    given = sample.get("input")
    if isinstance(given, list):
        turns = [
            {"role": str(turn.get("role", "user")), "content": _content(turn.get("content"), unmapped)}
            for turn in given
            if isinstance(turn, dict)
        ]
        asked = max((place for place, turn in enumerate(turns) if turn["role"] == "user"), default=-1)
        values["input"] = turns[asked]["content"] if asked >= 0 else ""
        values["earlier"] = turns[: max(asked, 0)]
    else:
        values["input"] = given
    metadata = sample.get("metadata")
    for name, value in metadata.items() if isinstance(metadata, dict) else ():
        values.setdefault(str(name), value)
    for part in ("choices", "files", "setup", "sandbox"):
        if sample.get(part):
            unmapped[f"{part} of a sample"] += 1
    return Row(number, values)


def _content(content: Any, unmapped: Counter[str]) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and part.get("type") == "text":
            texts.append(str(part.get("text", "")))
        elif isinstance(part, dict):
            unmapped[f"content of type {part.get('type')}"] += 1
    return "\n".join(texts)


def _answer(sample: Mapping[str, Any]) -> Answer:
    output = sample.get("output") or {}
    choices = output.get("choices") or [{}]
    message = choices[0].get("message") or {}
    usage = output.get("usage") or {}
    error = sample.get("error") or output.get("error")
    return Answer(
        text=_content(message.get("content"), Counter()),
        calls=tuple(
            Call(name=str(call.get("function", "")), arguments=call.get("arguments") or {})
            for call in message.get("tool_calls") or ()
        ),
        total_s=sample.get("total_time"),
        input_tokens=usage.get("input_tokens"),
        output_tokens=usage.get("output_tokens"),
        error=str(error.get("message", error) if isinstance(error, dict) else error or ""),
    )


def _scores(identifier: str, sample: Mapping[str, Any], unmapped: Counter[str]) -> Iterator[Score]:
    for name, found in (sample.get("scores") or {}).items():
        value = found.get("value") if isinstance(found, dict) else None
        if isinstance(value, str) and value in GRADES:
            value = GRADES[value]
        note = str((found or {}).get("explanation") or "") if isinstance(found, dict) else ""
        if isinstance(value, bool):
            yield Score(sample=identifier, scorer=f"{THEIRS}{name}", hash="", kind="assertion", value=value, note=note)
        elif isinstance(value, int | float):
            yield Score(
                sample=identifier, scorer=f"{THEIRS}{name}", hash="", kind="number", value=float(value), note=note
            )
        elif isinstance(value, str):
            yield Score(sample=identifier, scorer=f"{THEIRS}{name}", hash="", kind="label", value=value, note=note)
        else:
            unmapped[f"scores of {name} that are {type(value).__name__}"] += 1


def _sample(sample: Sample, model: str, answer: Answer | None, scores: Iterable[Score]) -> dict[str, Any]:
    before = [{"role": turn.role, "content": turn.text} for turn in sample.earlier]
    asked: list[dict[str, Any]] = [*before, {"role": "user", "content": sample.input}]
    content: dict[str, Any] = {
        "id": sample.id, "epoch": 1, "input": asked if before else sample.input,
        "target": _target(sample.reference),
        "metadata": {**sample.fields, **sample.tags}, "messages": asked, "store": {}, "events": [], "attachments": {},
        "model_usage": {}, "output": {"model": model, "choices": []},
        "scores": {
            each.scorer.removeprefix(THEIRS): {"value": each.value, "explanation": each.note or None}
            for each in scores
            if each.value is not None
        },
    }  # fmt: skip
    return content if answer is None else content | _answered(asked, model, answer)


def _target(reference: Any) -> str | list[str]:
    """A reference as a log has it: a text, or several; anything else as JSON."""
    if isinstance(reference, str):
        return reference
    if isinstance(reference, list) and all(isinstance(each, str) for each in reference):
        return reference
    return "" if reference is None else msgspec.json.encode(reference).decode()


def _answered(asked: Sequence[dict[str, Any]], model: str, answer: Answer) -> dict[str, Any]:
    """What an answer adds to its sample."""
    calls = [
        {"id": f"call_{place}", "function": call.name, "arguments": call.arguments}
        for place, call in enumerate(answer.calls)
    ]
    said: dict[str, Any] = {"role": "assistant", "content": answer.text} | ({"tool_calls": calls} if calls else {})
    output: dict[str, Any] = {"model": model, "choices": [{"message": said, "stop_reason": "stop"}]}
    if answer.input_tokens is not None and answer.output_tokens is not None:
        output["usage"] = {"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens,
                           "total_tokens": answer.input_tokens + answer.output_tokens}  # fmt: skip
    added: dict[str, Any] = {"messages": [*asked, said], "output": output}
    if answer.total_s is not None:
        added["total_time"] = answer.total_s
    if answer.error:
        added["error"] = {"message": answer.error, "traceback": "", "traceback_ansi": ""}
    return added


def _safe(identifier: str) -> str:
    return "".join(each if each.isalnum() or each in "-._" else "_" for each in identifier)[:100] or "_"
