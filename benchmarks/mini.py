"""Whether `mini` words an answer at least as well as the answerer that only quotes, skill by skill, and what it costs.

    python -m benchmarks.mini [--model FILE] [--count 300] [--card FILE] [--pairs FILE] [--skip skills|costs]

*Skills*: the same request goes to `extractive` alone and to the cascade with every skill open, so that what is compared
is the whole path: the choice, the wording, the checks. Requests come from the generator of `training/` (shops, names,
amounts and wordings that training never used) and from hand-written shops that trained nothing. One judge for both. A
skill is held when the 95 % interval of the paired difference (Agresti and Min 2005) lies above -2 points and the
wording was used at all; `--card` writes that into the model card.

*Costs*: the engine as it is served, one thread, one request at a time. On a shared machine the clock measures the
others too; so CPU time of the engine is taken as well, which is what an idle core would need, and bears the targets.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson

from benchmarks.engine import child_cpu
from benchmarks.report import Report
from fairlead.engines.extractive import Extractive
from fairlead.engines.llamacpp import LlamaCpp
from fairlead.gateway.cascade import SKILLS, Cascade, skill_of
from fairlead.providers.base import Call, CallContext, Upstream
from fairlead.spec.power import share_interval
from training.corpus import find_data, read_extra
from training.generator import Extra, draw_cases, unseen_result_document
from training.judging import is_right
from training.natural_shops import read_shops
from training.prompt import Document, Turn, as_messages

MODEL = Path(__file__).parent.parent / "src" / "fairlead" / "engines" / "weights" / "mini.gguf"
OPEN = frozenset({"grounded_one", "grounded_few", *SKILLS.values()})
MARGIN = 0.02
"""How much worse, in shares of all answers, a skill may be at the lower end of the interval and still be taken over."""
SEED = 11
ROUNDS = 40
TOKENS = 64
_Z = 1.959963984540054


class Case(NamedTuple):
    """A request and how its answer is judged: by the generator's turn, or by texts it must hold."""

    body: dict[str, Any]
    turn: Turn | None
    right: tuple[str, ...]

    def judge(self, text: str) -> bool:
        if self.turn is not None:
            return is_right(self.turn, text)
        return all(any(form.casefold() in text.casefold() for form in part.split("|")) for part in self.right)


class Said(NamedTuple):
    """What one path answered: the text, the skill it showed, and whether the fluent model's words were taken."""

    text: str
    skill: str


def body_of(document: Document, place: int) -> dict[str, Any]:
    """The request that the assistant would send for the turns before ``place``."""
    bare = dataclasses.replace(document, passages=())
    documents = [{"id": f"{i}", "title": "", "text": text} for i, text in enumerate(document.passages, 1)]
    body: dict[str, Any] = {"model": "x", "messages": as_messages(bare, place)}
    body |= {"tools": [tool.as_openai() for tool in document.tools]} if document.tools else {}
    return body | ({"documents": documents} if documents else {})


def generated(skill: str, count: int, extra: Extra) -> list[Case]:
    """Held-out requests of the generator."""
    cases = draw_cases(skill, count, "wordings", SEED, extra)
    return [Case(body_of(document, place), document.turns[place], ()) for document, place in cases]


def unseen_results(count: int) -> list[Case]:
    """Results of kinds of tools that training never saw."""
    rng = random.Random(SEED)
    documents = [unseen_result_document(rng) for _ in range(count)]
    return [Case(body_of(document, 3), document.turns[3], ()) for document in documents]


def natural(count: int) -> list[Case]:
    """Questions to hand-written shops that trained nothing, with the section that answers and the two beside it."""
    cases = []
    for shop in read_shops("calibration"):
        for asked in shop.asked:
            if asked.unit:
                around = [at for at in (asked.section - 1, asked.section, asked.section + 1) if at >= 0]
                texts = [shop.sections[at] for at in around if at < len(shop.sections) and shop.sections[at]]
                documents = [{"id": f"{i}", "title": "", "text": text} for i, text in enumerate(texts, 1)]
                messages = [{"role": "user", "content": asked.question}]
                cases.append(Case({"model": "x", "messages": messages, "documents": documents}, None, asked.right))
    random.Random(SEED).shuffle(cases)
    return cases[:count]


async def answer(upstream: Upstream, body: dict[str, Any]) -> Said:
    deadline = asyncio.get_running_loop().time() + 60
    call = Call(operation="chat", body=body, stream=False, deadline=deadline, context=CallContext())
    reply = await upstream.open(call)
    assert reply.status == 200, reply.body
    assert reply.body is not None
    completion = orjson.loads(reply.body)
    return Said(completion["choices"][0]["message"].get("content") or "", skill_of(completion, body))


class Paired(msgspec.Struct, frozen=True):
    """Both paths on the same requests. ``shown`` is how often the skill was shown at all, ``worded`` how often the
    fluent model's words were taken; ``gained`` and ``lost`` are answers that this made right or wrong."""

    skill: str
    n: int
    shown: int
    worded: int
    extractive: int
    cascade: int
    gained: int
    lost: int

    @property
    def interval(self) -> tuple[float, float]:
        """Of the difference of the two shares: half an answer is added to each cell of the table."""
        b, c, n = self.gained + 0.5, self.lost + 0.5, self.n + 2
        middle, spread = (b - c) / n, _Z * math.sqrt(b + c - (b - c) ** 2 / n) / n
        return middle - spread, middle + spread

    @property
    def no_worse(self) -> bool:
        return self.interval[0] >= -MARGIN

    @property
    def held(self) -> bool:
        return self.no_worse and 10 * self.worded >= self.shown > 0

    def as_dict(self) -> dict[str, Any]:
        low, high = self.interval
        counts: dict[str, Any] = msgspec.to_builtins(self)
        return counts | {"low": round(low, 4), "high": round(high, 4), "held": self.held}


async def compare(
    skill: str, cases: list[Case], careful: Upstream, cascade: Upstream, pairs: list[dict[str, str]]
) -> Paired:
    """Ask both; every answer that differs goes into ``pairs``."""
    shown = worded = gained = lost = before = after = 0
    answers = ("grounded_one", "grounded_few")
    wanted = {"natural": answers, "grounded_one": answers, "unseen_result": ("tool_result",)}
    for case in cases:
        draft, said = await answer(careful, case.body), await answer(cascade, case.body)
        shown += draft.skill in wanted.get(skill, (skill,))
        was, now = case.judge(draft.text), case.judge(said.text)
        before, after = before + was, after + now
        gained, lost = gained + (now and not was), lost + (was and not now)
        if said.text != draft.text:
            worded += 1
            question = case.body["messages"][-1]["content"] or ""
            pairs.append(
                {"skill": skill, "asked": question, "draft": draft.text, "said": said.text, "right": f"{was}>{now}"}
            )
    return Paired(skill, len(cases), shown, worded, before, after, gained, lost)


async def measure_skills(report: Report, engine: LlamaCpp, count: int, pairs: list[dict[str, str]]) -> list[Paired]:
    extra = read_extra(find_data())
    careful = Extractive().upstream()
    cascade = Cascade("cascade", careful, engine.upstream(), OPEN)
    results = []
    for skill in ("grounded_one", "natural", "tool_result", "unseen_result", "ask_missing"):
        own = {"natural": natural, "unseen_result": unseen_results}
        cases = own[skill](count) if skill in own else generated(skill, count, extra)
        result = await compare(skill, cases, careful, cascade, pairs)
        results.append(result)
        low, high = result.interval
        low, high = share_interval(result.cascade, result.n)
        report.add(
            f"{skill}: right with mini's words where they pass", result.cascade / result.n, "share", n=result.n,
            low=low, high=high, peer="extractive",
            peer_value=result.extractive / result.n,
        )  # fmt: skip
        report.add(f"{skill}: difference", (result.gained - result.lost) / result.n, "share", n=result.n, low=low,
                   high=high)  # fmt: skip
        report.add(f"{skill}: worded by mini, of answers that show the skill", result.worded / max(1, result.shown),
                   "share", n=result.shown)  # fmt: skip
        print(f"{skill}: {result.as_dict()}", flush=True)
    return results


# --- costs ------------------------------------------------------------------------------------------------------------


def prompts() -> Iterator[dict[str, Any]]:
    """Requests with five passages each, no two alike."""
    rng = random.Random(SEED)
    sections = [text for shop in read_shops("calibration") for text in shop.sections if 80 < len(text) < 330]
    asked = [one.question for shop in read_shops("calibration") for one in shop.asked]
    while True:
        documents = [{"id": str(i), "text": text} for i, text in enumerate(rng.sample(sections, 5), 1)]
        yield {
            "model": "x", "messages": [{"role": "user", "content": rng.choice(asked)}], "documents": documents,
            "temperature": 0, "max_tokens": TOKENS, "ignore_eos": True, "stream_options": {"include_usage": True},
        }  # fmt: skip


class Round(NamedTuple):
    first_s: float
    rest_s: float
    first_cpu_s: float
    cpu_s: float
    prompt: int
    cached: int
    tokens: int


async def stream(engine: LlamaCpp, body: dict[str, Any]) -> Round:
    """One streamed answer and what it took."""
    pid = engine.health().pid
    assert pid is not None
    deadline = asyncio.get_running_loop().time() + 120
    call = Call(operation="chat", body=body | {"stream": True}, stream=True, deadline=deadline, context=CallContext())
    cpu, began, first, first_cpu, raw = child_cpu(pid), time.perf_counter(), 0.0, 0.0, b""
    reply = await engine.upstream().open(call)
    assert reply.chunks is not None, reply.body
    try:
        async for chunk in reply.chunks:
            raw += chunk
            if not first and b'"content":"' in chunk.replace(b'"content":""', b""):
                first, first_cpu = time.perf_counter() - began, child_cpu(pid) - cpu
    finally:
        await reply.aclose()
    spent = time.perf_counter() - began
    events = [line.removeprefix(b"data: ") for line in raw.split(b"\n") if line.startswith(b"data: {")]
    usage = next(event["usage"] for event in map(orjson.loads, events) if event.get("usage"))
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return Round(
        first, spent - first, first_cpu, child_cpu(pid) - cpu, usage["prompt_tokens"], cached,
        usage["completion_tokens"],
    )  # fmt: skip


def quickest(values: list[float]) -> list[float]:
    """The quarter that other work disturbed least."""
    return sorted(values)[: max(1, len(values) // 4)]


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


async def measure_costs(report: Report, engine: LlamaCpp) -> None:
    source = prompts()
    await stream(engine, next(source))
    rounds = [await stream(engine, next(source)) for _ in range(ROUNDS)]
    size = statistics.median(one.prompt for one in rounds)
    first = sorted(1000 * one.first_s for one in rounds)
    report.add(f"first token, five passages ({size:.0f} tokens), all rounds, p95", p95(first), "ms", n=ROUNDS,
               low=first[0], high=first[-1])  # fmt: skip
    calm = quickest(first)
    report.add("first token, five passages, slowest of the quickest quarter", calm[-1], "ms", n=len(calm),
               low=calm[0], high=calm[-1])  # fmt: skip
    cpu = sorted(1000 * one.first_cpu_s for one in rounds)
    report.add("first token, five passages, engine CPU, p95", p95(cpu), "CPU ms", n=ROUNDS, low=cpu[0], high=cpu[-1],
               target="<= 400")  # fmt: skip
    speeds = sorted((one.tokens - 1) / one.rest_s for one in rounds)
    report.add("tokens a second, all rounds, median", statistics.median(speeds), "tokens/s", n=ROUNDS, low=speeds[0],
               high=speeds[-1])  # fmt: skip
    rates = sorted((one.tokens - 1) / (one.cpu_s - one.first_cpu_s) for one in rounds)
    report.add("tokens a second of engine CPU, slowest of twenty", rates[ROUNDS // 20], "tokens/s", n=ROUNDS,
               low=rates[0], high=rates[-1], target=">= 150")  # fmt: skip
    await measure_cache(report, engine)


async def measure_cache(report: Report, engine: LlamaCpp) -> None:
    """The same system text and tools with other questions: what is not read again."""
    document = draw_cases("tool_call", 1, "wordings", SEED, Extra())[0][0]
    tools = [tool.as_openai() for tool in document.tools]
    system = {"role": "system", "content": " ".join([document.instruction, "Be polite and brief."] * 6)}
    fresh: list[Round] = []
    again: list[Round] = []
    for number in range(12):
        opening = {"role": "system", "content": f"{number}. {system['content']}"}
        for question, kept in (("Where is my parcel?", fresh), ("Can I change my order?", again)):
            messages = [opening, {"role": "user", "content": question}]
            body = {"model": "x", "messages": messages, "tools": tools, "temperature": 0, "max_tokens": 4,
                    "stream_options": {"include_usage": True}}  # fmt: skip
            kept.append(await stream(engine, body))
    share = statistics.median(one.cached / one.prompt for one in again)
    report.add("prefix cache: share of the prompt not read again, system and tools the same", share, "share", n=12)
    for name, rounds in (("first time", fresh), ("from the cache", again)):
        calm = quickest([1000 * one.first_s for one in rounds])
        report.add(f"prefix cache: first token, {name}", statistics.median(calm), "ms", n=len(calm))
        cpu = statistics.median(1000 * one.cpu_s for one in rounds)
        report.add(f"prefix cache: engine CPU, {name}", cpu, "CPU ms", n=len(rounds))


def write_card(path: Path, results: list[Paired]) -> None:
    """What the cascade showed, and the skills that are held by it."""
    card = json.loads(path.read_text(encoding="utf-8"))
    card["through_the_cascade"] = {"margin": MARGIN, "skills": [result.as_dict() for result in results]}
    by_name = {result.skill: result for result in results}
    further = {"grounded_one": "natural", "tool_result": "unseen_result"}
    # A skill must be no worse on what is further from the training, too.
    card["holds"] = [
        skill for skill in ("grounded_one", "tool_result", "ask_missing")
        if by_name[skill].held and by_name[further.get(skill, skill)].no_worse
    ]  # fmt: skip
    path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


async def run(arguments: argparse.Namespace) -> int:
    report = Report("mini", note="one engine thread; the machine was shared, see load")
    pairs: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        engine = LlamaCpp("mini", arguments.model, log_dir=Path(folder), threads=1, context=1024, slots=1)
        await engine.start()
        try:
            if arguments.skip != "skills":
                results = await measure_skills(report, engine, arguments.count, pairs)
                if arguments.card:
                    write_card(arguments.card, results)
            if arguments.skip != "costs":
                await measure_costs(report, engine)
        finally:
            await engine.stop()
    if arguments.pairs:
        lines = (json.dumps(pair, ensure_ascii=False) for pair in pairs)
        arguments.pairs.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return report.finish()


def main() -> int:
    """The command; exit status 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mini", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL, help="GGUF file, default: the one that ships")
    parser.add_argument("--count", type=int, default=300, help="requests for each skill")
    parser.add_argument("--card", type=Path, help="model card to write what is held into")
    parser.add_argument("--pairs", type=Path, help="file for the answers that differ, one JSON object a line")
    parser.add_argument("--skip", choices=("skills", "costs"), default="", help="leave one half out")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
