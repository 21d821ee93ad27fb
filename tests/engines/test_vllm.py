"""The vLLM engine with a command of the same contract: arguments, secrets, readiness, restarts, no orphan.

vLLM itself is run by ``test_vllm_itself.py``, where it is installed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from fairlead.engines import registry
from fairlead.engines.base import Load
from fairlead.engines.supervisor import Limits
from fairlead.engines.vllm import Vllm, read_load
from fairlead.errors import EngineFailed
from fairlead.providers.base import Call, CallContext, Reply
from tests.engines.test_supervisor import alive, until
from tests.engines.tiny_hf import write_adapter

LIMITS = Limits(start_s=30, grace_s=2.0, backoff_first_s=0.05, backoff_max_s=0.2, probe_every_s=0.1, restarts=3)
Make = Callable[..., Vllm]


@pytest.fixture
def command(tmp_path: Path) -> str:
    """The program for tests, started by the Python that runs them."""
    path = tmp_path / "vllm"
    program = Path(__file__).with_name("vllm_for_tests.py")
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture
async def make(command: str, tmp_path: Path) -> AsyncIterator[Make]:
    made: list[Vllm] = []

    def build(**changes: Any) -> Vllm:
        engine = Vllm("qwen", "org/qwen", **{"log_dir": tmp_path, "command": command, "limits": LIMITS, **changes})
        made.append(engine)
        return engine

    yield build
    for engine in made:
        await engine.stop()


async def ask(engine: Vllm, **body: Any) -> Reply:
    body = {"messages": [{"role": "user", "content": "Hello"}], **body}
    deadline = asyncio.get_running_loop().time() + 60
    call = Call(operation="chat", body=body, stream=False, deadline=deadline, context=CallContext())
    reply = await engine.upstream().open(call)
    await reply.aclose()
    return reply


async def told(engine: Vllm, **body: Any) -> dict[str, Any]:
    reply = await ask(engine, **body)
    assert reply.status == 200, reply.body
    message = orjson.loads(reply.body or b"")["choices"][0]["message"]
    assert message["reasoning_content"] == "I am none."
    found: dict[str, Any] = orjson.loads(message["content"])
    return found


async def test_it_is_started_as_vllm_wants_it_and_the_key_is_no_argument(make: Make, tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter", rank=24)
    engine = make(
        context=4096, sequences=8, prefix_cache=False, adapters={"kind": tmp_path / "adapter"},
        arguments=["--load-s", "0.3"],
    )  # fmt: skip
    await engine.start()
    said = await told(engine, documents=[{"text": "Two days."}], grammar="g", model="kind")
    argv = said["argv"]
    assert argv[:2] == ["serve", "org/qwen"]
    assert argv[argv.index("--host") + 1] == "127.0.0.1"
    assert argv[argv.index("--max-model-len") + 1] == "4096"
    assert argv[argv.index("--max-num-seqs") + 1] == "8"
    assert "--no-enable-prefix-caching" in argv
    assert argv[argv.index("--lora-modules") + 1] == f"kind={tmp_path / 'adapter'}"
    assert argv[argv.index("--max-lora-rank") + 1] == "32", "the next it takes; without it vLLM refuses beyond 16"
    assert said["asked"]["model"] == "kind"
    assert "[1] Two days." in said["asked"]["messages"][0]["content"]
    assert said["asked"]["structured_outputs"] == {"grammar": "g"}
    key = engine._key
    assert key not in " ".join(argv)
    assert not [name for name in said["environment"] if name.endswith("_API_KEY") and name != "VLLM_API_KEY"]
    assert engine.health().state == "ready"


async def test_its_settings_reach_it_and_our_packages_do_not(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a Python of its own, with other versions of what we use."""
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("HF_HOME", "/models")
    monkeypatch.setenv("OPENAI_API_KEY", "none of its business")
    monkeypatch.setenv("VLLM_API_KEY", "the operator's, for another server")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    engine = make()
    await engine.start()
    environment = (await told(engine))["environment"]
    assert (environment["VLLM_CPU_KVCACHE_SPACE"], environment["HF_HOME"]) == ("1", "/models")
    assert environment["VLLM_API_KEY"] == engine._key
    assert not {"OPENAI_API_KEY", "PYTHONPATH"} & set(environment)
    await engine.stop()
    monkeypatch.setenv("PYTHONPATH", "/opt/plugins")
    await engine.start()
    assert (await told(engine))["environment"]["PYTHONPATH"] == "/opt/plugins"


async def test_a_folder_is_served_under_its_name_alone_and_may_embed(make: Make) -> None:
    engine = make(served="tiny")
    await engine.start()
    assert (await told(engine))["asked"]["model"] == "tiny"
    embedder = make(served="tiny", embeddings=True)
    await embedder.start()
    call = Call(operation="embedding", body={"input": ["a", "b"]}, stream=False,
                deadline=asyncio.get_running_loop().time() + 60, context=CallContext())  # fmt: skip
    reply = await embedder.upstream().open(call)
    assert [each["index"] for each in orjson.loads(reply.body or b"")["data"]] == [0, 1]


async def test_a_name_that_is_no_adapter_gets_the_model_itself(make: Make, tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter")
    engine = make(adapters={"kind": tmp_path / "adapter"})
    await engine.start()
    assert (await told(engine, model="other"))["asked"]["model"] == "org/qwen"


async def test_its_load_is_what_its_metrics_say(make: Make) -> None:
    engine = make(look_s=0.05)
    await engine.start()
    await until(lambda: engine.health().load is not None)
    assert engine.health().load == Load(running=3, waiting=2, cache=0.25)
    await engine.stop()
    assert engine.health().load is None


@pytest.mark.parametrize(
    ("said", "load"),
    [
        (b"", None),
        (b"vllm:num_requests_running 1.0\n", None),
        (b"vllm:num_requests_running nonsense\nvllm:num_requests_waiting 0\n", None),
        (b"vllm:num_requests_running 1\nvllm:num_requests_waiting 2\n", Load(running=1, waiting=2)),
        (b"vllm:num_requests_running{a=\"}\"} 1\nvllm:num_requests_waiting 2\nvllm:gpu_cache_usage_perc 5e-1\n",
         Load(running=1, waiting=2, cache=0.5)),
        (b"vllm:num_requests_running 1e999\nvllm:num_requests_waiting 2\n", None),
        (b"vllm:num_requests_running e\nvllm:num_requests_waiting 2\n", None),
    ],
)  # fmt: skip
def test_metrics_that_say_nothing_are_no_load(said: bytes, load: Load | None) -> None:
    assert read_load(said) == load


async def test_it_comes_back_when_it_dies_and_leaves_nothing_behind(make: Make, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    engine = make(arguments=["--pid-file", str(pid_file)])
    await engine.start()
    first = int(pid_file.read_text())
    os.kill(first, signal.SIGKILL)
    await until(lambda: engine.health().state == "ready" and pid_file.read_text() != str(first))
    assert (await told(engine))["asked"]["model"] == "org/qwen"
    second = int(pid_file.read_text())
    await engine.stop()
    await until(lambda: not alive(first) and not alive(second))  # killed, the kernel may still be busy with it
    assert engine.health().state == "stopped"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
async def test_the_program_dies_with_the_process_that_holds_it(make: Make, tmp_path: Path) -> None:
    pid_file, worker_file = tmp_path / "pid", tmp_path / "worker"
    engine = make(arguments=["--pid-file", str(pid_file), "--worker-pid-file", str(worker_file)])
    await engine.start()
    program, worker, holder = int(pid_file.read_text()), int(worker_file.read_text()), engine.health().pid
    assert holder is not None
    os.kill(holder, signal.SIGKILL)
    await until(lambda: not alive(program) and not alive(worker))


PARENT = """
import asyncio, sys
from pathlib import Path
from fairlead.engines.vllm import Vllm

async def main():
    await Vllm("q", "org/q", log_dir=Path(sys.argv[1]), command=sys.argv[2], arguments=sys.argv[3:]).start()
    print("ready", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
async def test_what_the_program_started_does_not_outlive_us(command: str, tmp_path: Path) -> None:
    """vLLM's own processes stayed, with all their memory, when the server was killed (vLLM 0.32)."""
    files = {name: tmp_path / name for name in ("--pid-file", "--worker-pid-file")}
    arguments = [part for name, path in files.items() for part in (name, str(path))]
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path), command, *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    assert await asyncio.wait_for(parent.stdout.readline(), 60) == b"ready\n"
    pids = [int(path.read_text()) for path in files.values()]
    assert all(map(alive, pids))
    parent.kill()
    await parent.communicate()
    await until(lambda: not any(map(alive, pids)))


async def test_what_cannot_run_says_so(make: Make, tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="there is no program 'no-such-vllm'"):
        await make(command="no-such-vllm").start()
    with pytest.raises(EngineFailed, match="there is no adapter folder"):
        await make(adapters={"a": tmp_path / "none"}).start()
    (tmp_path / "half").mkdir()
    with pytest.raises(EngineFailed, match=r"adapter_config\.json cannot be read"):
        await make(adapters={"a": tmp_path / "half"}).start()
    (tmp_path / "half" / "adapter_config.json").write_text('{"r": "eight"}')
    with pytest.raises(EngineFailed, match="says r: 'eight'"):
        await make(adapters={"a": tmp_path / "half"}).start()
    with pytest.raises(EngineFailed, match="unrecognized arguments: --no-such-flag"):
        await make(arguments=["--no-such-flag"]).start()


def test_it_is_in_the_table(tmp_path: Path) -> None:
    assert isinstance(registry.build("vllm", "q", "org/q", log_dir=tmp_path), Vllm)
