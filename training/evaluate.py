"""Measure the exported file, skill by skill, through the engine that serves it, and write its model card.

`python -m training.evaluate --gguf mini.gguf --card mini.json [--run DIR] [--count 300]`

Every number comes from greedy answers of llama.cpp over its OpenAI protocol, on shops, names, amounts and wordings that
training never used (split `wordings`); the same with trained wordings (split `shops`) shows what the wordings cost.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training.corpus import SOURCES, find_data, missing_sources, read_extra
from training.generator import SKILLS, Extra, draw_cases
from training.judging import AT_LEAST, CONFIDENCE, Count, invents_number, is_refusal, is_right
from training.lexicon import Split
from training.prompt import Document, as_messages, call_text, render

SEED = 7
LONGEST_ANSWER = 96


class Engine:
    """llama.cpp's server in this process, asked over loopback as the runtime asks it."""

    def __init__(self, address: str) -> None:
        self._address = address

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            answer: dict[str, Any] = json.load(response)
        return answer

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of a streamed answer, as they come."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            for line in response:
                event = line.decode().removeprefix("data:").strip()
                if event and event != "[DONE]":
                    yield json.loads(event)

    def answer(self, document: Document, place: int) -> str:
        """Text of the answer to the turns before `place`; a parsed tool call is written out again."""
        settings = {"temperature": 0, "max_tokens": LONGEST_ANSWER}
        message = self.post("/v1/chat/completions", _request(document, place) | settings)["choices"][0]["message"]
        text: str = message.get("content") or ""
        for call in message.get("tool_calls") or ():
            function = call["function"]
            try:
                text += call_text(function["name"], json.loads(function["arguments"]))
            except json.JSONDecodeError:
                text += function["arguments"]
        return text

    def has_shape(self, document: Document, place: int) -> bool:
        """Whether the engine builds exactly the prompt that training used."""
        return bool(self.post("/apply-template", _request(document, place))["prompt"] == render(document, place))


def _request(document: Document, place: int) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": as_messages(document, place)}
    return body | {"tools": [tool.as_openai() for tool in document.tools]} if document.tools else body


@contextmanager
def start_engine(path: Path, adapter: Path | None = None) -> Iterator[Engine]:
    """The file, and an adapter if there is one, served with one thread and one slot until the block is left."""
    xllamacpp: Any = importlib.import_module("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx, parameters.n_parallel = 1024, 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    if adapter:
        parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    parameters.hostnames, parameters.port = ["127.0.0.1"], _free_port()
    parameters.use_jinja, parameters.offline, parameters.ui = True, True, False
    parameters.fit_params, parameters.verbosity = False, 2
    server = xllamacpp.Server(parameters)
    try:
        yield Engine(server.listening_address)
    finally:
        del server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def measure_skill(
    engine: Engine, skill: str, split: Split, count: int, extra: Extra, wrong: list[dict[str, str]]
) -> dict[str, Any]:
    """Counts for one skill; the wrong answers are appended to `wrong`."""
    right = invented = refused = 0
    for document, place in draw_cases(skill, count, split, SEED, extra):
        answer, prompt, turn = engine.answer(document, place), render(document, place), document.turns[place]
        good = is_right(turn, answer)
        right += good
        invented += invents_number(answer, prompt)
        refused += is_refusal(answer)
        if not good:
            wrong.append({"skill": skill, "split": split, "prompt": prompt, "answer": answer, "expected": turn.text})
    result = Count(skill, count, right).as_dict() | {"invented_numbers": invented}
    return result | {"refused": refused} if skill.startswith("grounded") else result


def measure(path: Path, count: int, extra: Extra, wrong: list[dict[str, str]]) -> dict[Split, list[dict[str, Any]]]:
    results: dict[Split, list[dict[str, Any]]] = {"wordings": [], "shops": []}
    with start_engine(path) as engine:
        for document, place in draw_cases("tool_result", 5, "wordings", SEED, extra):
            if not engine.has_shape(document, place):
                sys.exit(f"{path}: its chat template does not build the prompt of training/prompt.py: export it again")
        for split, lines in results.items():
            for skill in SKILLS:
                began = time.monotonic()
                lines.append(measure_skill(engine, skill, split, count, extra, wrong))
                line = lines[-1]
                interval = f"{100 * line['low']:5.1f} to {100 * line['high']:5.1f} %"
                print(
                    f"{split:9} {skill:13} {line['right']:4}/{count}  {interval}  {line['verdict']:15} "
                    f"{line['invented_numbers']:3} invented  {time.monotonic() - began:.0f} s",
                    flush=True,
                )
    return results


def describe_run(run: Path) -> dict[str, Any]:
    """What the checkpoint says about its training."""
    from training.model import Shape, count_parameters
    from training.train import CHECKPOINT, load_checkpoint

    state = load_checkpoint(run / CHECKPOINT)
    shape, plan, place = Shape(**state["shape"]), state["plan"], state["place"]
    return {
        "parameters": count_parameters(state["weights"]),
        "shape": shape.as_dict(),
        "trained_length": plan["length"],
        "training": {
            "tokens": place["tokens"],
            "steps": place["step"],
            "seed": plan["seed"],
            "plans": state["history"],
        },
    }


def build_card(
    path: Path, version: str, results: dict[Split, list[dict[str, Any]]], known: dict[str, Any]
) -> dict[str, Any]:
    data = path.read_bytes()
    missing = {source.name for source in missing_sources(find_data())}
    sources = [{"name": "generator", "licence": "Apache-2.0", "use": "invented and hand-written shops of Fairlead"}]
    sources += [{"name": s.name, "licence": s.licence, "use": s.use} for s in SOURCES if s.name not in missing]
    lines = results["wordings"]
    return {
        "name": "mini",
        "version": version,
        "author": "Fairlead",
        "licence": "Apache-2.0",
        "file": path.name,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "context": 1024,
        "prompt": "chatml; sources in the system message; hermes tool calls",
        **known,
        "data": sources,
        "objective": {"at_least": AT_LEAST, "confidence": CONFIDENCE},
        "skills": lines,
        "skills_in_trained_wordings": results["shops"],
        "through_the_cascade": {"margin": 0.0, "skills": []},  # `python -m benchmarks.mini --card` fills in
        "holds": [],
        "command": "python -m training.evaluate --gguf src/fairlead/engines/weights/mini.gguf",
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--gguf", type=Path, required=True, help="file to measure")
    parser.add_argument("--count", type=int, default=300, help="cases for each skill and split")
    parser.add_argument("--card", type=Path, help="model card to write")
    parser.add_argument("--run", type=Path, help="folder of the run, for what the card says about training")
    parser.add_argument("--version", default="0.1", help="version for the card")
    parser.add_argument("--wrong", type=Path, help="file for the wrong answers, one JSON object a line")
    arguments = parser.parse_args()
    if arguments.card and not arguments.run:
        parser.error("--card needs --run, the folder of the training run")
    extra = read_extra(find_data())
    wrong: list[dict[str, str]] = []
    results = measure(arguments.gguf, arguments.count, extra, wrong)
    if arguments.wrong:
        arguments.wrong.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in wrong))
    if arguments.card:
        card = build_card(arguments.gguf, arguments.version, results, describe_run(arguments.run))
        partial = arguments.card.with_suffix(".partial")
        partial.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
        os.replace(partial, arguments.card)


if __name__ == "__main__":
    main()
