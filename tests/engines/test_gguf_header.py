from __future__ import annotations

import os
import struct
import time
import tracemalloc
from pathlib import Path

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.engines.gguf import BLOCKS, MAGIC, read_header
from fairlead.errors import WeightsDamaged, WeightsMissing
from tests.engines.tiny_gguf import write_adapter, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_says_what_a_file_is(model: Path) -> None:
    header = read_header(model)
    assert (header.architecture, header.context, header.kind) == ("llama", 512, "model")
    assert header.needed == header.size == model.stat().st_size
    assert header.fields["tokenizer.ggml.tokens"] == header.fields["llama.vocab_size"]


def test_type_sizes_are_those_of_the_format() -> None:
    theirs = {int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {kind: theirs[kind] for kind in BLOCKS} == BLOCKS


def test_a_file_cut_anywhere_is_damaged(model: Path, tmp_path: Path) -> None:
    data = model.read_bytes()
    header = read_header(model)
    cut = tmp_path / "cut.gguf"
    points = [0, 3, 4, 8, 23, 24, 100, header.data_offset // 2, header.data_offset - 1, header.data_offset]
    points += [header.data_offset + 1, len(data) // 2, len(data) - 1]
    for point in points:
        cut.write_bytes(data[:point])
        with pytest.raises(WeightsDamaged) as caught:
            read_header(cut)
        assert str(cut) in str(caught.value)


def test_a_cut_file_says_how_much_is_missing(model: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(model.read_bytes()[:-1000])
    size = model.stat().st_size
    with pytest.raises(WeightsDamaged, match=f"has {size - 1000:,} bytes and needs {size:,}"):
        read_header(cut)


def test_what_is_no_gguf_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing):
        read_header(tmp_path / "absent.gguf")
    with pytest.raises(WeightsDamaged, match="not a regular file"):
        read_header(tmp_path)
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    with pytest.raises(WeightsDamaged, match="not a regular file"):
        read_header(fifo)
    page = tmp_path / "page.gguf"
    page.write_text("<!doctype html><title>404 Not Found</title>")
    with pytest.raises(WeightsDamaged, match="begins with b'<!do'"):
        read_header(page)
    with pytest.raises(WeightsMissing):
        read_header(page / "below")


def test_model_and_adapter_are_told_apart(model: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter.gguf")
    assert read_header(adapter, kind="adapter").tensors == 4
    with pytest.raises(WeightsDamaged, match="holds a GGUF adapter, expected a model"):
        read_header(adapter)
    with pytest.raises(WeightsDamaged, match="holds a GGUF model, expected a adapter"):
        read_header(model, kind="adapter")


def hostile(tensors: int, fields: int, rest: bytes) -> bytes:
    return MAGIC + struct.pack("<IQQ", 3, tensors, fields) + rest


HUGE = 2**64 - 1
KEY = struct.pack("<Q", 1) + b"k"
HOSTILE = {
    "fields": hostile(0, HUGE, b""),
    "tensors": hostile(HUGE, 0, b""),
    "name length": hostile(0, 1, struct.pack("<Q", HUGE)),
    "text length": hostile(0, 1, KEY + struct.pack("<IQ", 8, HUGE)),
    "array of numbers": hostile(0, 1, KEY + struct.pack("<IIQ", 9, 10, HUGE)),
    "array of texts": hostile(0, 1, KEY + struct.pack("<IIQ", 9, 8, HUGE)),
    "array of arrays": hostile(0, 1, KEY + struct.pack("<IIQ", 9, 9, 1) * 50),
    "unknown type": hostile(0, 1, KEY + struct.pack("<I", 77)),
    "dimensions": hostile(1, 0, KEY + struct.pack("<I", HUGE % 2**32)),
    "tensor size": hostile(1, 0, KEY + struct.pack("<IQQQQIQ", 4, HUGE, HUGE, HUGE, HUGE, 0, 0)),
    "tensor offset": hostile(1, 0, KEY + struct.pack("<IQIQ", 1, 1, 0, HUGE)),
    "no block multiple": hostile(1, 0, KEY + struct.pack("<IQIQ", 1, 31, 8, 0)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_header_costs_neither_memory_nor_time(case: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(HOSTILE[case] + b"\0" * 100_000)
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(WeightsDamaged):
        read_header(path)
    spent = time.process_time() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
    assert spent < 2


def test_many_fields_in_a_large_file_are_refused(tmp_path: Path) -> None:
    """As many fields as the file has room for, each of them valid."""
    field = struct.pack("<Q", 0) + struct.pack("<IB", 0, 1)
    path = tmp_path / "many.gguf"
    path.write_bytes(hostile(0, 300_000, field * 300_000))
    with pytest.raises(WeightsDamaged, match="claims 300000 fields"):
        read_header(path)


@settings(max_examples=150, deadline=None)
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8), whole=st.booleans())
def test_any_changed_header_is_read_or_refused(
    model: Path, tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[float, int]], whole: bool
) -> None:
    data = bytearray(model.read_bytes())
    reach = len(data) if whole else 400
    for where, value in changes:
        data[int(where * (reach - 1))] = value
    path = tmp_path_factory.getbasetemp() / "changed.gguf"
    path.write_bytes(data)
    try:
        header = read_header(path)
    except WeightsDamaged:
        return
    assert header.needed <= len(data)


@settings(max_examples=150, deadline=None)
@given(rest=st.binary(max_size=300), tensors=st.integers(0, 5), fields=st.integers(0, 5))
def test_arbitrary_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rest: bytes, tensors: int, fields: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "arbitrary.gguf"
    path.write_bytes(hostile(tensors, fields, rest))
    with pytest.raises(WeightsDamaged):
        read_header(path)
