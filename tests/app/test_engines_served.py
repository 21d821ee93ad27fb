"""Engines of a running server, with real processes: adapters by variant, their load, and one replaced under load."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from typer.testing import CliRunner

from fairlead.app import makes_of
from fairlead.cli import application
from fairlead.records import now_us
from fairlead.select.routing import learn, to_file
from fairlead.spec import load
from fairlead.store import Store
from tests.engines.tiny_gguf import write_adapter, write_model
from tests.processes import await_address
from tests.select.select_harness import questions

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]  # servers start in seconds, or in minutes under load
SPEC = """
fairlead: 1
name: tiny
purpose: Prove the engines.
users: {who: customers}
risk: minimal
variants:
  - {id: plain, model: ./tiny.gguf, sampling: {temperature: 0, max_tokens: 16}}
  - {id: adapted, model: ./tiny.gguf, adapter: ./adapter.gguf, sampling: {temperature: 0, max_tokens: 16}}
  - {id: quoting, model: extractive}
live: plain
"""
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "the end of a day"}]}
WITHIN_S = 200.0


def until(condition: Callable[[], Any]) -> Any:
    limit = time.monotonic() + WITHIN_S
    while not (found := condition()):
        assert time.monotonic() < limit
        time.sleep(0.05)
    return found


class Server:
    """``fairlead serve`` as a process, with keys of both scopes."""

    def __init__(self, folder: Path, *more: str, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        with Store.open(folder / ".fairlead") as store:
            self.user = store.keys.create("user", scopes=("inference",))[1]
            self.admin = store.keys.create("admin", scopes=("admin",))[1]
        command = [sys.executable, "-m", "fairlead", "serve", "--project", str(folder), "--port", "0", *more]
        self.log = folder / "serve.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, env={**os.environ, **(environment or {})})
        self.url = await_address(self.log, self.process)
        self.client = httpx.Client(base_url=self.url, timeout=WITHIN_S)
        until(self._ready)

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, model: str, **more: Any) -> str:
        with httpx.Client(base_url=self.url, timeout=WITHIN_S) as client:
            headers = {"authorization": f"Bearer {self.user}"}
            answer = client.post("/v1/chat/completions", json={**BODY, "model": model, **more}, headers=headers)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["choices"][0]["message"]["content"])

    def command(self, *arguments: str, key: str | None = None) -> tuple[int, str]:
        environment = {"FAIRLEAD_ADMIN_KEY": self.admin if key is None else key}
        ran = CliRunner().invoke(application("engines"), ["engines", *arguments, "--url", self.url], env=environment)
        return ran.exit_code, ran.output + (str(ran.exception) if ran.exception is not None else "")

    def engines(self) -> dict[str, dict[str, Any]]:
        status, said = self.command("list", "--json")
        assert status == 0, said
        return {each["name"]: each for each in json.loads(said)}

    def stop(self) -> None:
        self.client.close()
        self.process.terminate()
        assert self.process.wait(60) == 0


@pytest.fixture(name="folder")
def folder_fixture(tmp_path: Path) -> Path:
    write_model(tmp_path / "tiny.gguf", context=4096)
    write_adapter(tmp_path / "adapter.gguf")
    (tmp_path / "fairlead.yaml").write_text(SPEC, encoding="utf-8")
    return tmp_path


@pytest.fixture(name="server")
def server_fixture(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    yield server
    server.stop()


def test_an_adapter_is_in_effect_for_its_variant_alone_and_a_swap_loses_no_call(server: Server) -> None:
    plain, adapted = server.ask("plain"), server.ask("adapted")
    assert plain != adapted
    old = server.engines()["tiny"]
    assert old["state"] == "ready"
    write_adapter(server.folder / "fresh.gguf", seed=2)
    shutil.move(server.folder / "fresh.gguf", server.folder / "adapter.gguf")
    assert server.ask("adapted") == adapted, "what is loaded does not change with its file"
    answers: list[str] = []
    failures: list[BaseException] = []
    over = threading.Event()

    def keep_asking() -> None:
        try:
            while not over.is_set():
                answers.append(server.ask("plain"))
        except BaseException as error:  # noqa: BLE001  shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: len(answers) > 5)
    status, said = server.command("swap", "tiny")
    before = len(answers)
    until(lambda: len(answers) > before + 5)
    over.set()
    for thread in threads:
        thread.join(WITHIN_S)
    assert (status, failures) == (0, []), said
    assert set(answers) == {plain}
    now = server.engines()["tiny"]
    assert now["pid"] != old["pid"]
    assert not Path(f"/proc/{old['pid']}").exists()
    changed = server.ask("adapted")
    assert changed not in (plain, adapted)


def test_records_after_a_swap_name_the_release_of_what_answered(folder: Path) -> None:
    server = Server(folder)
    try:
        for name in ("adapted", "plain"):
            server.ask(name)
        write_adapter(folder / "fresh.gguf", seed=2)
        shutil.move(folder / "fresh.gguf", folder / "adapter.gguf")
        assert server.command("swap", "tiny")[0] == 0
        for name in ("adapted", "plain"):
            server.ask(name)
    finally:
        server.stop()
    with Store.open(folder / ".fairlead") as store:
        rows = list(store.traces.query(since=0, until=now_us() + 1, order="asc"))
        releases = {name: [row.release for row in rows if row.variant == name] for name in ("adapted", "plain")}
        assert len(set(releases["adapted"])) == 2, "other weights, another release"
        assert len(set(releases["plain"])) == 1, "nothing changed for it"
        for release in (*releases["adapted"], *releases["plain"]):
            assert store.releases.get(release) is not None


def test_a_swap_that_cannot_be_says_why_and_changes_nothing(server: Server) -> None:
    before = server.ask("plain")
    pid = server.engines()["tiny"]["pid"]
    (server.folder / "bad").write_bytes(b"GGUF")  # moved into place: the old engine still reads the old file
    shutil.move(server.folder / "bad", server.folder / "tiny.gguf")
    for arguments, key, said in (
        (("swap", "tiny"), None, "was not replaced and serves on"),
        (("swap", "tine"), None, "There are: "),
        (("swap", "extractive"), None, "part of this process"),
        (("swap", "../keys"), None, "There is no engine"),
        (("list",), "", "scope admin"),
        (("list",), server.user, "scope admin"),
        (("swap", "tiny"), server.user, "scope admin"),
    ):
        status, told = server.command(*arguments, key=key)
        assert status != 0
        assert said in " ".join(told.split()), told
    (server.folder / "adapter.gguf").unlink()
    status, told = server.command("swap", "tiny")
    assert (status, "adapter.gguf: No such file" in " ".join(told.split())) == (1, True), told
    assert server.ask("plain") == before
    assert server.engines()["tiny"]["pid"] == pid
    for method, path, headers, expected in (
        ("POST", "/admin/engines/tiny/swap", {}, 415),
        ("POST", "/admin/engines/tiny/swap", {"content-type": "text/plain"}, 415),
        ("GET", "/admin/engines/tiny/swap", {}, 405),
        ("POST", "/admin/engines", {"content-type": "application/json"}, 405),
        ("GET", "/admin/engines/tiny", {}, 404),
    ):
        headers = {**headers, "authorization": f"Bearer {server.admin}"}
        assert server.client.request(method, path, headers=headers).status_code == expected


def test_a_gguf_file_makes_embeddings_beside_answers(folder: Path) -> None:
    text = SPEC.replace("  - {id: quoting", "  - {id: vectors, model: ./tiny.gguf, task: embed, dynamic_batching: {}}\n"
                        "  - {id: quoting")  # fmt: skip
    (folder / "fairlead.yaml").write_text(text, encoding="utf-8")
    server = Server(folder)
    try:
        until(lambda: server.engines()["tiny-embed"]["state"] == "ready")
        headers = {"authorization": f"Bearer {server.user}"}
        body = {"model": "vectors", "input": ["the end", "of a day"]}
        answer = server.client.post("/v1/embeddings", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        first, second = (each["embedding"] for each in answer.json()["data"])
        assert len(first) == len(second) == 64
        assert first != second
        alone = server.client.post("/v1/embeddings", json={**body, "input": "of a day"}, headers=headers).json()
        assert alone["data"][0]["embedding"] == pytest.approx(second, abs=1e-4)
        for path, model, able in (("embeddings", "plain", "vectors"), ("chat/completions", "vectors", "plain")):
            refused = server.client.post(f"/v1/{path}", json={**BODY, **body, "model": model}, headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_operation")
            assert able in refused.json()["error"]["message"]
        assert server.ask("plain"), "its own engine answers, of the same file"
        assert server.command("swap", "tiny-embed")[0] == 0
        again = server.client.post("/v1/embeddings", json=body, headers=headers)
        assert again.json()["data"][0]["embedding"] == pytest.approx(first, abs=1e-4)
    finally:
        server.stop()


def test_a_router_notices_a_swap_behind_it(folder: Path) -> None:
    write_model(folder / "other.gguf", context=4096, seed=5)
    variants = (
        "  - {id: small, model: ./tiny.gguf, sampling: {max_tokens: 4},\n"
        "     price: {input_usd_per_million: 1, output_usd_per_million: 1}}\n"
        "  - {id: big, model: ./other.gguf, sampling: {max_tokens: 4},\n"
        "     price: {input_usd_per_million: 9, output_usd_per_million: 9}}\n"
        "  - {id: routed, model: 'router:./router.json', between: {small: small, big: big}}\nlive: routed"
    )
    file = folder / "fairlead.yaml"
    file.write_text(SPEC[: SPEC.index("  - {id: plain")] + variants, encoding="utf-8")
    learnt = learn(questions(3_000), "small", "big", small_cost=0.01, big_cost=1.0)

    def write_router() -> None:
        """As learnt from the two as they are now."""
        (folder / "router.json").write_bytes(to_file(learnt))  # the use case is read with all its files there
        makes = makes_of(load(file), ("small", "big"))
        source = msgspec.structs.replace(learnt.source, makes=makes, runs=("a-run-70b4895f",))
        (folder / "router.json").write_bytes(to_file(msgspec.structs.replace(learnt, source=source)))

    write_router()
    server = Server(folder)
    headers = {"authorization": f"Bearer {server.user}"}

    def who() -> str:
        body = {"model": "routed", "messages": [{"role": "user", "content": "When do you open on day 9?"}]}
        return str(server.client.post("/v1/chat/completions", json=body, headers=headers).json()["model"])

    try:
        until(lambda: all(each["state"] == "ready" for each in server.engines().values()))
        assert who() == "tiny"
        status, said = server.command("swap", "other")
        assert (status, "out of date" in said) == (0, False), "the same weights: nothing has changed"
        assert who() == "tiny"
        write_model(folder / "fresh.gguf", context=4096, seed=7)
        shutil.move(folder / "fresh.gguf", folder / "tiny.gguf")
        assert who() == "tiny", "what is loaded does not change with its file"
        status, said = server.command("swap", "tiny")
        told = " ".join(said.split())
        assert status == 0
        assert "Variant routed: its router is out of date: small has other weights." in told
        assert "everything goes to big. Learn it again: fairlead select --candidates small,big" in told
        assert who() == "other"
        assert "out of date" in " ".join(server.command("list")[1].split())
        assert "out of date" in server.log.read_text()
        write_router()
        status, said = server.command("swap", "tiny")
        assert (status, "out of date" in said) == (0, False), "a router learnt again is read with the swap"
        assert who() == "tiny"
        (folder / "router.json").write_text("{}")
        status, said = server.command("swap", "tiny")
        assert (status, "router.json" in said) == (0, True), said
        assert who() == "other", "one that cannot be used any more sends all to the big one"
    finally:
        server.stop()


def test_vllm_gets_its_adapters_and_tells_its_load(tmp_path: Path) -> None:
    """With a program that has vLLM's command line, its paths and its metrics; it holds no model."""
    program = Path(__file__).parents[1] / "engines" / "vllm_for_tests.py"
    command = tmp_path / "vllm"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n')
    command.chmod(0o755)
    folder = tmp_path / "project"
    (folder / "kind").mkdir(parents=True)
    (folder / "kind" / "adapter_config.json").write_text("{}")
    variants = (
        "  - {id: base, model: 'vllm-serve:org/qwen'}\n"
        "  - {id: kind, model: 'vllm-serve:org/qwen', adapter: ./kind}\nlive: base"
    )
    start = SPEC.index("  - {id: plain")
    (folder / "fairlead.yaml").write_text(SPEC[:start] + variants, encoding="utf-8")
    server = Server(folder, "--vllm-command", str(command))
    try:
        told = {name: json.loads(server.ask(name)) for name in ("base", "kind")}
        argv = told["kind"]["argv"]
        assert argv[argv.index("--lora-modules") + 1] == f"kind={folder / 'kind'}"
        assert "--enable-prefix-caching" in argv
        assert told["base"]["asked"]["model"] == "org/qwen"
        assert told["kind"]["asked"]["model"] == "kind"
        salts = {name: each["asked"]["cache_salt"] for name, each in told.items()}
        assert salts["base"] == salts["kind"], "one tenant, one prefix cache"
        with Store.open(folder / ".fairlead") as store:
            other = store.keys.create("other", tenant="north", scopes=("inference",))[1]
        mine, server.user = server.user, other
        again = until(lambda: server.client.get("/v1/models", headers={"authorization": f"Bearer {other}"}).is_success)
        assert again
        north = json.loads(server.ask("base", cache_salt=salts["base"]))["asked"]["cache_salt"]
        assert north not in salts.values(), "another tenant's prefixes can be told by their timing"
        server.user = mine
        load = until(lambda: server.engines()["qwen"]["load"])
        assert load == {"running": 3, "waiting": 2, "cache": 0.25}
        metrics = server.client.get("/metrics", headers={"authorization": f"Bearer {server.admin}"}).text
        assert 'fairlead_engine_running{engine="qwen"} 3.0' in metrics
        assert 'fairlead_engine_waiting{engine="qwen"} 2.0' in metrics
        assert 'fairlead_engine_cache{engine="qwen"} 0.25' in metrics
        status, shown = server.command("list")
        assert status == 0
        assert "25%" in shown
    finally:
        server.stop()


def test_nobody_there_is_told() -> None:
    ran = CliRunner().invoke(application("engines"), ["engines", "list", "--url", "http://127.0.0.1:9"])
    assert ran.exit_code != 0
    assert "No answer from" in str(ran.exception)
    ran = CliRunner().invoke(application("engines"), ["engines", "list", "--url", "file:///etc/passwd"])
    assert "is no address" in str(ran.exception)
