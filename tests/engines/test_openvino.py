"""OpenVINO GenAI as an engine: what makes text of tokens, and, where the extra is installed, the library itself."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.app import build, packaged_weights
from fairlead.engines import registry
from fairlead.engines.openvino import FILES, OpenVino
from fairlead.engines.openvino_runner import Stops, Words
from fairlead.errors import AnswerUnfit, ExtraMissing, WeightsDamaged, WeightsMissing
from fairlead.gateway import Principal
from fairlead.providers.base import Call, CallContext, Reply
from fairlead.settings import Settings
from fairlead.spec import SpecError, load
from tests.engines.test_supervisor import alive, until

MISSING = importlib.util.find_spec("openvino_genai") is None
HOW = "the extra openvino is not installed here (pip install '.[openvino]')"
real = pytest.mark.skipif(MISSING, reason=HOW)
QUESTION = "How long can I send something back?"


def by_bytes(ids: Sequence[int]) -> str:
    return bytes(ids).decode("utf-8", "replace")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd")), st.lists(st.integers(1, 5)))
def test_text_comes_whole_however_its_tokens_come(text: str, sizes: list[int]) -> None:
    """A token here is a byte, so that most characters come in several."""
    words, ids, told = Words(by_bytes), list(text.encode()), []
    for size in [*sizes, len(ids) or 1]:
        told.append(words.feed(ids[:size]))
        ids = ids[size:]
    assert not any("\ufffd" in piece for piece in told)
    assert "".join(told) + words.end() == text


def test_half_a_character_at_the_end_is_a_mark() -> None:
    words = Words(by_bytes)
    assert words.feed(list("aé".encode())[:2]) == ""
    assert words.end() == "a\ufffd"


@given(st.text("ab#", max_size=20), st.lists(st.text("ab#", min_size=1, max_size=3), max_size=3), st.integers(1, 4))
def test_text_is_cut_before_the_stop_that_is_whole_first(text: str, stops: list[str], size: int) -> None:
    cutter, told, stopped = Stops(stops), "", False
    for place in range(0, len(text), size):
        piece, stopped = cutter.feed(text[place : place + size])
        told += piece
        if stopped:
            break
    ends = [(place + len(stop), place) for stop in stops if (place := text.find(stop)) >= 0]
    if stopped:
        assert told == text[: min(ends)[1]]
    else:
        assert not ends
        assert told + cutter.rest() == text


@pytest.mark.skipif(not MISSING, reason="the extra openvino is installed here")
async def test_without_the_extra_the_error_names_it(tmp_path: Path) -> None:
    engine = registry.build("openvino", "mini", packaged_weights("mini"), log_dir=tmp_path)
    with pytest.raises(ExtraMissing, match=r"\[openvino\]"):
        await engine.start()
    assert engine.health().state == "stopped"


def test_nothing_of_the_library_is_imported_here() -> None:
    assert "openvino_genai" not in sys.modules


@real
async def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(WeightsMissing, match=FILES[0]):
        await OpenVino("x", tmp_path / "folder", log_dir=tmp_path).start()
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(WeightsDamaged):
        await OpenVino("x", tmp_path / "bad.gguf", log_dir=tmp_path).start()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[OpenVino]:
    made = OpenVino("mini", packaged_weights("mini"), log_dir=tmp_path, slots=4, context=1024)
    await made.start()
    yield made
    await made.stop()


def call(stream: bool = False, **body: Any) -> Call:
    asked = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 24, **body}
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    deadline = asyncio.get_running_loop().time() + 110
    return Call(operation="chat", body=asked, stream=stream, deadline=deadline, context=CallContext())


async def whole(engine: OpenVino, **body: Any) -> dict[str, Any]:
    reply = await engine.upstream().open(call(**body))
    await reply.aclose()
    assert reply.status == 200, reply.body
    found: dict[str, Any] = orjson.loads(reply.body or b"")
    return found


async def chunks(reply: Reply) -> list[dict[str, Any]]:
    assert reply.chunks is not None
    raw = b"".join([data async for data in reply.chunks])
    await reply.aclose()
    events = raw.decode().split("\n\n")
    assert events[-2] == "data: [DONE]"
    return [orjson.loads(event.removeprefix("data: ")) for event in events[:-2]]


def text_of(found: Sequence[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content", "") for each in found for choice in each["choices"])


@real
@pytest.mark.engine
async def test_it_answers_whole_and_in_pieces_alone_and_together(engine: OpenVino) -> None:
    answer = await whole(engine)
    said = answer["choices"][0]["message"]["content"]
    assert said
    assert answer["usage"]["prompt_tokens"] > 5
    assert 0 < answer["usage"]["completion_tokens"] <= 24
    assert "<|im_end|>" not in said
    replies = await asyncio.gather(*(engine.upstream().open(call(stream=True)) for _ in range(6)))
    for found in await asyncio.gather(*map(chunks, replies)):
        assert text_of(found) == said, "a greedy answer does not depend on who else is answered"
        assert found[-1]["usage"] == answer["usage"]
        assert len(found) > 4, "it came in one piece"
        finishes = [choice["finish_reason"] for each in found for choice in each["choices"]]
        assert finishes[-1] == answer["choices"][0]["finish_reason"]


@real
@pytest.mark.engine
async def test_lengths_stops_and_what_it_cannot_do(engine: OpenVino) -> None:
    short = await whole(engine, max_tokens=3)
    assert (short["choices"][0]["finish_reason"], short["usage"]["completion_tokens"]) == ("length", 3)
    said = (await whole(engine))["choices"][0]["message"]["content"]
    word = said.split()[1]
    cut = await whole(engine, stop=[word])
    assert cut["choices"][0]["finish_reason"] == "stop"
    assert cut["choices"][0]["message"]["content"] == said[: said.index(word)]
    seeded = [await whole(engine, temperature=1.0, seed=7, max_tokens=8) for _ in range(2)]
    assert len({each["choices"][0]["message"]["content"] for each in seeded}) == 1
    for body, param in (
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
    ):
        reply = await engine.upstream().open(call(**body))
        assert (reply.status, orjson.loads(reply.body or b"")["error"]["param"]) == (400, param)


@real
@pytest.mark.engine
@pytest.mark.skipif(sys.platform != "linux", reason="the processor time of a process is read from Linux")
async def test_who_leaves_stops_the_work(engine: OpenVino) -> None:
    """Told by processor time: what is left must not be worked on any more, or it would take many times as much."""
    pid = engine.health().pid
    assert pid is not None
    before = cpu_ticks(pid)
    await whole(engine, max_tokens=300, ignore_eos=True)
    one = cpu_ticks(pid) - before
    before = cpu_ticks(pid)
    for stream in (True, False):
        for _ in range(12):
            asked = asyncio.create_task(engine.upstream().open(call(stream=stream, max_tokens=900, ignore_eos=True)))
            if stream:
                reply = await asked
                assert reply.chunks is not None
                await anext(aiter(reply.chunks))
                await reply.aclose()
            else:
                await asyncio.sleep(0.05)
                asked.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asked
    assert (await whole(engine))["choices"][0]["message"]["content"]
    seen = -1
    while seen != (seen := cpu_ticks(pid)):  # noqa: ASYNC110  until it rests, which nothing announces
        await asyncio.sleep(1.0)
    assert seen - before < 24 * one, "24 answers of 900 tokens are 72 times that"


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@real
@pytest.mark.engine
async def test_it_comes_back_when_it_dies_and_leaves_nothing_behind(engine: OpenVino) -> None:
    first = engine.health().pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: engine.health().state == "ready" and engine.health().pid != first)
    assert (await whole(engine))["choices"]
    second = engine.health().pid
    assert second is not None
    await engine.stop()
    assert not alive(first)
    assert not alive(second)


SPEC = """
fairlead: 1
name: tiny
purpose: Prove the engine.
users: {{who: customers}}
risk: minimal
variants:
  - {{id: ov, model: "openvino:{path}", sampling: {{temperature: 0, max_tokens: 12}}}}
  - {{id: quoting, model: extractive}}
live: ov
"""


def project(folder: Path, path: str) -> Settings:
    (folder / "fairlead.yaml").write_text(SPEC.format(path=path), encoding="utf-8")
    return Settings(project=folder)


@real
@pytest.mark.engine
async def test_a_variant_names_it_and_it_is_replaced_while_it_serves(tmp_path: Path) -> None:
    shutil.copy(packaged_weights("mini"), tmp_path / "mini.gguf")
    fairlead = build(project(tmp_path, "./mini.gguf"))
    try:
        await fairlead.start_variant("ov")
        body = {"model": "ov", "messages": [{"role": "user", "content": QUESTION}]}
        answer = await fairlead.gateway.complete(dict(body), principal=Principal())
        said = answer["choices"][0]["message"]["content"]
        assert said
        before = fairlead.engines[f"openvino:{tmp_path / 'mini.gguf'}"].health().pid
        await fairlead.swap("mini")
        again = await fairlead.gateway.complete(dict(body), principal=Principal())
        assert again["choices"][0]["message"]["content"] == said
        assert fairlead.engines[f"openvino:{tmp_path / 'mini.gguf'}"].health().pid != before
        schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
        with pytest.raises(AnswerUnfit):  # the small model writes no JSON; what does not fit is never shown
            await fairlead.gateway.complete({**body, "response_format": schema}, principal=Principal())
    finally:
        await fairlead.stop()


@pytest.mark.parametrize(
    ("path", "made", "said"),
    [
        ("./none.gguf", None, "no file"),
        ("none.gguf", None, "openvino: and a GGUF file"),
        ("./../up.gguf", None, "below the folder"),
        ("./folder", "folder", "without openvino_model.xml"),
    ],
)
def test_the_definition_says_what_is_wrong_with_its_path(
    tmp_path: Path, path: str, made: str | None, said: str
) -> None:
    if made is not None:
        (tmp_path / made).mkdir()
    with pytest.raises(SpecError, match=said):
        load(project(tmp_path, path).spec_path)
