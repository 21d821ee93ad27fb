"""Rows of files: JSON lines, JSON, CSV, Parquet, and folders of Hugging Face ``datasets``.

A row is a mapping with the place it came from. Everything wrong with a file is told at once, with line numbers. What a
row means is not known here.
"""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import math
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from fairlead.errors import DatasetInvalid, TableUnreadable
from fairlead.spec.datasets import MAX_LINE, MAX_PROBLEMS
from fairlead.spec.problems import Problem, listed
from fairlead.store.tables import parquet_note, parquet_rows

MAX_BYTES = 2 * 1024**3
"""Of one file: samples are held in memory."""
_MARKS = {
    b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16",
}  # fmt: skip
"""How files begin that are in another encoding and say so; the longer marks first."""
_PART = re.compile(r"^(?P<part>[A-Za-z][A-Za-z0-9_]*?)(?:[-_.]\d.*)?$")


class Row(msgspec.Struct, frozen=True):
    """One row. ``line`` counts from 1 (of CSV the last line of the row, of tables the row)."""

    line: int
    values: dict[str, Any]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What was read. ``licence`` is what the data says of itself, empty if nothing."""

    rows: list[Row]
    format: str
    licence: str = ""


class Faults:
    """Collects what is wrong with a file; at most 20 are told, all are counted."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.count = 0

    def add(self, line: int, found: str, expected: str) -> None:
        """Something to mend at a line; 0 means the whole file."""
        self.count += 1
        if len(self.problems) < MAX_PROBLEMS:
            column = 1 if line else 0
            self.problems.append(Problem(file=self.file, line=line, column=column, found=found, expected=expected))

    def raise_any(self) -> None:
        """Raises DatasetInvalid when there is anything."""
        if self.problems:
            shown = [f"  {problem}" for problem in self.problems]
            if self.count > len(shown):
                shown.append(f"  and {self.count - len(shown)} more")
            count = f"{self.count} {'thing' if self.count == 1 else 'things'}"
            raise DatasetInvalid(file=self.file, count=count, listing="\n".join(shown))


def read(path: Path, *, part: str = "") -> Source:
    """The rows of a file or folder, by its suffix. ``part`` chooses from a folder with several, such as ``train``.

    Raises DatasetInvalid with every line to mend, TableUnreadable for a damaged table.
    """
    faults = Faults(str(path))
    if path.is_dir():
        return _read_folder(path, part, faults)
    reader = READERS.get(path.suffix.lower())
    if reader is None and not path.exists():
        faults.add(0, "no file", "a file of samples")
    elif reader is None:
        faults.add(0, f"a file that ends in {path.suffix or 'nothing'}", f"{listed(sorted(READERS))}, or a folder")
    else:
        try:
            size = path.stat().st_size
            if size > MAX_BYTES:
                faults.add(0, f"{size:,} bytes", f"at most {MAX_BYTES:,}; split the file")
            faults.raise_any()
            rows = list(reader(path, faults))
        except OSError as error:
            faults.add(0, f"no file that can be read ({error.strerror or error})", "a file of samples")
    faults.raise_any()
    return Source(rows=rows, format=path.suffix.lower().lstrip("."))


def _lines(path: Path, faults: Faults) -> Iterator[Row]:
    expected = 'one JSON object on a line, as in {"id": "q1", "question": "..."}'
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if number == 1 and _is_foreign(line, path, faults):
                return
            if len(line) > MAX_LINE:
                faults.add(number, f"a line of more than {MAX_LINE:,} bytes", "shorter lines")
                return
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not line.strip():
                continue
            values = _object(line, number, expected, path, faults)
            if values is not None:
                yield Row(number, values)


def _is_foreign(start: bytes, path: Path, faults: Faults) -> bool:
    """Whether a file begins in another encoding, by its mark or the zeros beside its first letter; adds the fault."""
    name = next((name for mark, name in _MARKS.items() if start.startswith(mark)), "")
    if not name and start[:4].count(0):
        width = 32 if start[:4].count(0) == 3 else 16
        name = f"UTF-{width}{'BE' if start[0] == 0 else 'LE'}"
    if name:
        faults.add(1, f"a file in {name}", f"UTF-8, as {_mending(name, path)} makes it")
    return bool(name)


def _in_utf8(path: Path) -> str:
    return f"UTF-8 throughout, as {_mending('LATIN1', path)} makes it if all of it is Latin-1"


def _mending(encoding: str, path: Path) -> str:
    old, new = shlex.quote(str(path)), shlex.quote(str(path.with_name(f"utf8-{path.name}")))
    return f"`iconv -f {encoding} -t UTF-8 {old} > {new}`"


def _object(line: bytes, number: int, expected: str, path: Path, faults: Faults) -> dict[str, Any] | None:
    try:
        values = msgspec.json.decode(line)
    except UnicodeDecodeError:
        faults.add(number, "bytes that are no UTF-8", _in_utf8(path))
    except RecursionError:
        faults.add(number, "JSON that is nested too deeply", expected)
    except msgspec.DecodeError as error:
        faults.add(number, f"a line that is not JSON ({str(error)[:120]})", expected)
    else:
        if isinstance(values, dict) and values:
            return values
        faults.add(number, "JSON that is not an object with keys", expected)
    return None


def _document(path: Path, faults: Faults) -> Iterator[Row]:
    """A JSON file: a list of objects, or an object with one list of them."""
    raw = path.read_bytes()
    if _is_foreign(raw, path, faults):
        return
    try:
        document = msgspec.json.decode(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        faults.add(raw.count(b"\n", 0, error.start) + 1, "bytes that are no UTF-8", _in_utf8(path))
        return
    except (msgspec.DecodeError, RecursionError) as error:
        faults.add(0, f"no JSON ({str(error)[:120]})", "a list of objects")
        return
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        document = lists[0] if len(lists) == 1 else document
    if not isinstance(document, list):
        faults.add(0, "JSON that is no list", "a list of objects, or an object with one list of objects")
        return
    for number, values in enumerate(document, start=1):
        if isinstance(values, dict) and values:
            yield Row(number, values)
        else:
            faults.add(0, f"element {number}, which is not an object with keys", "objects only")


def _table(path: Path, faults: Faults) -> Iterator[Row]:
    """CSV or TSV with a header; an empty cell is an absent value."""
    raw = path.read_bytes()
    if _is_foreign(raw, path, faults):
        return
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        faults.add(line, "bytes that are no UTF-8", _in_utf8(path))
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(path, text), strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            if not header:
                header = [cell.strip() for cell in cells]
                _check_header(header, faults)
            elif cells and len(cells) != len(header):
                faults.add(reader.line_num, f"{len(cells)} cells", f"{len(header)}, as the header has")
            elif cells:
                yield Row(reader.line_num, {name: cell for name, cell in zip(header, cells, strict=True) if cell})
    except csv.Error as error:
        faults.add(reader.line_num, f"a row that cannot be read ({error})", "quotes in pairs, fields below 128 KiB")


def _delimiter(path: Path, text: str) -> str:
    first = text.partition("\n")[0]
    return "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)


def _check_header(header: list[str], faults: Faults) -> None:
    doubled = {name for name in header if header.count(name) > 1}
    if doubled or "" in header:
        found = f"the column {min(doubled - {''})!r} twice" if doubled - {""} else "a column without a name"
        faults.add(1, found, "a header whose names are all different")


def _parquet(path: Path, faults: Faults) -> Iterator[Row]:
    names = _label_names(parquet_note(path, "huggingface"))
    for number, values in enumerate(parquet_rows(path), start=1):
        yield Row(number, _plain_row(values, names, number, faults))


def _plain_row(values: dict[str, Any], names: dict[str, list[str]], number: int, faults: Faults) -> dict[str, Any]:
    plain = {}
    for column, value in values.items():
        try:
            plain[column] = _plain(value)
        except TypeError as error:
            faults.add(number, f"{error} in column {column!r}", "texts, numbers, lists and objects")
            continue
        labels = names.get(column)
        if labels and isinstance(value, int) and 0 <= value < len(labels):
            plain[column] = labels[value]
    return {column: value for column, value in plain.items() if value is not None}


def _plain(value: Any) -> Any:
    """A value of a table as JSON has it. Raises TypeError for bytes and the like."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.date | datetime.datetime | datetime.time):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise TypeError(f"a value of type {type(value).__name__}")


READERS: dict[str, Callable[[Path, Faults], Iterator[Row]]] = {
    ".jsonl": _lines,
    ".ndjson": _lines,
    ".json": _document,
    ".csv": _table,
    ".tsv": _table,
    ".parquet": _parquet,
}


def _read_folder(path: Path, part: str, faults: Faults) -> Source:
    """A folder of ``datasets``: as ``save_to_disk`` writes it, or files by part as the hub has them."""
    parts = _parts(path)
    if not parts:
        faults.add(
            0, "a folder without data", f"state.json of `save_to_disk`, or files that end in {listed(sorted(READERS))}"
        )
    elif part and part not in parts:
        faults.add(0, f"no part {part!r}", listed(sorted(parts)))
    elif not part and len(parts) > 1:
        faults.add(0, f"{len(parts)} parts", f"--part with {listed(sorted(parts))}")
    faults.raise_any()
    rows: list[Row] = []
    files = parts[part or next(iter(parts))]
    licence = ""
    for file in files:
        if file.suffix == ".arrow":
            information = _information(file.parent)
            licence = str(information.get("license") or "")
            found = _arrow(file, _labels(information), faults)
        else:
            found = READERS[file.suffix.lower()](file, faults)
        first = len(rows) + 1
        rows += [Row(number, row.values) for number, row in enumerate(found, start=first)]
    faults.raise_any()
    return Source(rows=rows, format=f"folder of {files[0].suffix.lstrip('.')}", licence=licence)


def _parts(path: Path) -> dict[str, list[Path]]:
    """Part to its files, in order."""
    if (path / "state.json").is_file():
        return {"": _state_files(path)}
    if (path / "dataset_dict.json").is_file():
        folders = sorted(folder for folder in path.iterdir() if (folder / "state.json").is_file())
        return {folder.name: _state_files(folder) for folder in folders}
    parts: dict[str, list[Path]] = {}
    for folder in (path, path / "data"):
        files = [file for file in folder.iterdir() if file.suffix.lower() in READERS] if folder.is_dir() else []
        for file in sorted(files):
            if file.name not in _ABOUT:
                match = _PART.match(file.stem)
                parts.setdefault(match["part"] if match else file.stem, []).append(file)
    return parts


_ABOUT = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")


def _state_files(folder: Path) -> list[Path]:
    """The data files a ``state.json`` names; names that lead elsewhere are left out."""
    try:
        state = msgspec.json.decode((folder / "state.json").read_bytes())
        names = [str(each["filename"]) for each in state["_data_files"]]
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise TableUnreadable(path=folder / "state.json", detail=f"it names no data files ({error})") from error
    return [folder / name for name in names if Path(name).name == name and name.endswith(".arrow")]


def _arrow(path: Path, names: dict[str, list[str]], faults: Faults) -> Iterator[Row]:
    import nanoarrow  # only for these folders
    from nanoarrow import ipc

    try:
        with ipc.InputStream.from_path(path) as stream:
            number = 0
            for batch in nanoarrow.ArrayStream(stream):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(number, _plain_row(values, names, number, faults))
    except (OSError, RuntimeError, ValueError) as error:
        raise TableUnreadable(path=path, detail=str(error).splitlines()[0]) from error


def _information(folder: Path) -> dict[str, Any]:
    try:
        found = msgspec.json.decode((folder / "dataset_info.json").read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _label_names(note: str) -> dict[str, list[str]]:
    """Column to the names of its labels, from what ``datasets`` writes into a table."""
    try:
        found = msgspec.json.decode(note or "{}")
    except msgspec.DecodeError:
        return {}
    information = found.get("info") if isinstance(found, dict) else None
    return _labels(information if isinstance(information, dict) else {})


def _labels(information: dict[str, Any]) -> dict[str, list[str]]:
    features = information.get("features")
    if not isinstance(features, dict):
        return {}
    kinds = {name: kind for name, kind in features.items() if isinstance(kind, dict)}
    return {
        name: [str(label) for label in kind["names"]]
        for name, kind in kinds.items()
        if kind.get("_type") == "ClassLabel" and isinstance(kind.get("names"), list)
    }
