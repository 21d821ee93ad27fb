"""Back ends that answer elsewhere: a provider's own batches (a second Fairlead), and a command of the same contract."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.batch.command import Command, _started
from fairlead.batch.provider import Provider
from fairlead.errors import UpstreamRefused, UpstreamUnreachable
from fairlead.providers.base import Call, Reply
from fairlead.providers.batches import ProviderBatches
from fairlead.providers.network import Network
from fairlead.providers.scripted import Script, Scripted
from fairlead.store import Store
from tests.batch.batch_harness import Place, chat, content, opened, served, submit, wait
from tests.gateway.gateway_harness import serving
from tests.gateway.hostile import hostile, whole

SECRET = b"s" * 32
PRICE = (400.0, 1600.0)

COMMAND = """
import json, sys, time
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with open(options["-i"]) as lines, open(options["-o"], "a") as out:
    for raw in lines:
        line = json.loads(raw)
        said = line["body"]["messages"][-1]["content"]
        if said == "die":
            sys.exit("out of memory")
        time.sleep(float(options.get("--pace", "0")))
        body = {"model": line["body"]["model"], "choices": [{"index": 0, "message": {"role": "assistant",
                "content": said}}], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
        response = {"status_code": 200, "request_id": "vllm-1", "body": body}
        if said == "leave out":
            continue
        error = None
        if said == "refuse":  # as vLLM 0.32 writes it
            response = {"status_code": 400, "request_id": "vllm-2", "body": None}
            error = {"error": {"message": "too long", "type": "BadRequestError", "param": "max_tokens", "code": 400}}
        out.write(json.dumps({"id": "vllm-x", "custom_id": line["custom_id"], "response": response, "error": error}))
        out.write("\\n")
        out.flush()
"""


@pytest.fixture(name="store")
def store_fixture(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path / "ours") as store:
        yield store


@pytest.fixture(name="theirs")
def theirs_fixture(tmp_path: Path) -> Iterator[tuple[Place, str]]:
    """A second Fairlead, as the provider: a real server of the same protocol."""

    def answer(call: Call) -> Script:
        said = call.body["messages"][-1]["content"]
        return Script(status=400, message="no") if said == "refuse" else Script(delay_s=0.2 if said == "slow" else 0)

    with opened(tmp_path / "theirs") as store:
        place = Place(store, Scripted(script=answer), places=4)
        with serving(place) as url:
            yield place, f"{url}/v1"


def provider(url: str, model: str = "support") -> Provider:
    return Provider(ProviderBatches("hosted", url, None), model, PRICE, SECRET, poll_s=0.1)


def test_a_provider_s_batch_at_half_the_price(store: Store, theirs: tuple[Place, str]) -> None:
    far, url = theirs
    place = Place(store, backends={"support": provider(url, "other")})
    lines = [chat(f"ours-{n}", f"word {n}") for n in range(20)] + [chat("bad", "refuse")]
    lines[0]["body"]["user"] = "ada@example.com"
    with served(place) as client:
        ended = wait(client, submit(client, lines), within_s=120)
        assert ended.status == "completed", ended
        good = content(client, ended.output_file_id)
        assert [line["custom_id"] for line in good] == [f"ours-{n}" for n in range(20)]
        assert good[3]["response"]["body"]["choices"][0]["message"]["content"] == "word 3"
        (bad,) = content(client, ended.error_file_id)
        assert (bad["custom_id"], bad["response"]["status_code"]) == ("bad", 400)
        row = store.batches.get(ended.id)
        assert row is not None
        assert row.backend == "provider"
        assert row.cost == (row.input_tokens * 400 + row.output_tokens * 1600) / 2
    assert not place.upstream.calls, "none of our own models was asked"
    sent = [call.body for call in far.upstream.calls]
    assert {body["model"] for body in sent} == {"other-model"}
    assert "ada@example.com" not in json.dumps(sent), "the user's name stays here"
    assert store.files.page("default", purpose="batch"), "our input stays"
    assert far.store.files.page("default") == [], "theirs are deleted"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_provider_cannot_send_us_elsewhere(tmp_path: Path, status: int) -> None:
    with hostile(whole(b"inside")) as inside:
        lines = f"HTTP/1.1 {status} Moved\r\nlocation: {inside.url}/files/x/content\r\ncontent-length: 0\r\n\r\n"
        with hostile([lines.encode()]) as server:
            account = ProviderBatches("hosted", server.url, "planted-key-123")
            with pytest.raises(UpstreamRefused):
                await account.download("x", tmp_path / "got")
            with pytest.raises(UpstreamRefused):
                await account.get("x")
        assert inside.requests == []


async def test_a_name_that_looks_public_does_not_lead_a_batch_inside(tmp_path: Path) -> None:
    with hostile(whole(b"{}")) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(UpstreamUnreachable, match="no public address"):
            await ProviderBatches("hosted", url, "planted-key-123", Network(private=False)).get("x")
        assert server.requests == []
        assert await ProviderBatches("hosted", url, "planted-key-123").get("x") == {}


def test_a_crash_between_making_and_noting_pays_nothing_twice(
    store: Store, theirs: tuple[Place, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    far, url = theirs
    create = ProviderBatches.create
    made: list[str] = []

    async def create_and_lose(self: ProviderBatches, *arguments: Any) -> dict[str, Any]:
        answer = await create(self, *arguments)
        made.append(answer["id"])
        if len(made) == 1:
            raise UpstreamUnreachable(name="hosted", detail="the line broke after the batch was made")
        return answer

    monkeypatch.setattr(ProviderBatches, "create", create_and_lose)
    with served(Place(store, backends={"support": provider(url)})) as client:
        ended = wait(client, submit(client, [chat(str(n)) for n in range(5)]), within_s=120)
        assert ended.status == "completed"
        assert len(content(client, ended.output_file_id)) == 5
    assert len(made) == 1
    assert len(far.store.batches.page(None)) == 1
    assert len(far.upstream.calls) == 5


def test_cancelling_reaches_the_provider(store: Store, theirs: tuple[Place, str]) -> None:
    far, url = theirs
    with served(Place(store, backends={"support": provider(url)})) as client:
        made = submit(client, [chat(str(n), "slow") for n in range(200)])
        wait(client, made, lambda _: any(batch.completed for batch in far.store.batches.page(None)), within_s=120)
        client.batches.cancel(made.id)
        ended = wait(client, made, within_s=120)
        assert ended.status == "cancelled"
        good, bad = content(client, ended.output_file_id), content(client, ended.error_file_id)
        assert good
        assert sorted(int(line["custom_id"]) for line in good + bad) == list(range(200))
    assert [batch.status for batch in far.store.batches.page(None)] == ["cancelled"]


def test_a_provider_that_refuses_says_why(store: Store, theirs: tuple[Place, str]) -> None:
    with served(Place(store, backends={"support": provider(theirs[1], "nobody")})) as client:
        ended = wait(client, submit(client, [chat("a")]), within_s=120)
        (line,) = content(client, ended.error_file_id)
        assert line["error"]["code"] == "backend_refused"
        assert "nobody" in line["error"]["message"]


def command(tmp_path: Path, *more: str) -> Command:
    script = tmp_path / "run_batch.py"
    script.write_text(COMMAND)
    words = [sys.executable, str(script), "-i", "{input}", "-o", "{output}", "--model", "{model}", *more]
    return Command(" ".join(words), "qwen", PRICE, SECRET)


def test_a_command_of_the_same_contract(store: Store, tmp_path: Path) -> None:
    with served(Place(store, backends={"support": command(tmp_path)})) as client:
        ended = wait(client, submit(client, [chat("a"), chat("b", "refuse"), chat("c", "leave out")]), within_s=120)
        assert ended.status == "completed"
        (good,) = content(client, ended.output_file_id)
        assert (good["custom_id"], good["response"]["body"]["model"]) == ("a", "qwen")
        errors = {line["custom_id"]: line for line in content(client, ended.error_file_id)}
        assert errors["b"]["response"]["status_code"] == 400
        assert errors["b"]["response"]["body"]["error"]["message"] == "too long"
        assert errors["c"]["error"]["code"] == "not_answered"
        row = store.batches.get(ended.id)
        assert row is not None
        assert row.cost == 3 * 400 + 2 * 1600


def test_a_command_that_dies_is_run_again_for_the_rest(store: Store, tmp_path: Path) -> None:
    place = Place(store, backends={"support": command(tmp_path)})
    with served(place) as client:
        made = submit(client, [chat("a"), chat("b", "die"), chat("c")])
        wait(client, made, lambda found: bool(found.request_counts and found.request_counts.completed))
        job = next(job for job in store.jobs.newest() if job.kind == "batch")
        end = time.monotonic() + 60
        while "out of memory" not in job.note:
            assert time.monotonic() < end, job
            time.sleep(0.05)
            job = next(job for job in store.jobs.newest() if job.kind == "batch")
        client.batches.cancel(made.id)
        ended = wait(client, made, within_s=120)
        assert [line["custom_id"] for line in content(client, ended.output_file_id)] == ["a"], "kept, and once"


LIES: list[Any] = [
    {"prompt_tokens": -9, "completion_tokens": -9}, {"prompt_tokens": "3", "completion_tokens": [1]},
    {"prompt_tokens": 1.5, "completion_tokens": 10**30}, {"prompt_tokens": 10**12, "completion_tokens": 1},
    "none", None,
]  # fmt: skip


@pytest.mark.parametrize("usage", LIES)
def test_counts_that_cannot_be_lose_no_answer_and_give_no_money_back(store: Store, tmp_path: Path, usage: Any) -> None:
    told = '"usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}'
    assert told in COMMAND
    made = command(tmp_path)
    lie = json.dumps(usage).replace("null", "None")
    (tmp_path / "run_batch.py").write_text(COMMAND.replace(told, f'"usage": {lie}}}'))
    with served(Place(store, backends={"support": made})) as client:
        ended = wait(client, submit(client, [chat("a"), chat("b")]), within_s=120)
        assert [line["custom_id"] for line in content(client, ended.output_file_id)] == ["a", "b"]
        row = store.batches.get(ended.id)
        assert row is not None
        assert (row.input_tokens, row.output_tokens) == (0, 1 * 2 if usage == LIES[3] else 0)
        assert row.cost is None, "unknown, as nobody can say it"


class Liar(Scripted):
    """Says of its tokens what it is told to say."""

    said: Any = None

    async def open(self, call: Call) -> Reply:
        reply = await super().open(call)
        return Reply(200, body=json.dumps({**json.loads(reply.body or b""), "usage": self.said}).encode())


@pytest.mark.parametrize("usage", LIES)
def test_what_a_live_model_cannot_have_used_is_estimated_as_in_its_record(store: Store, usage: Any) -> None:
    liar = Liar(script=Script(text="one two three"))
    liar.said = usage
    place = Place(store, liar)
    with served(place) as client:
        ended = wait(client, submit(client, [chat("a"), chat("b")]), within_s=120)
        assert len(content(client, ended.output_file_id)) == 2
        row = store.batches.get(ended.id)
        assert row is not None
        assert 0 < (row.cost or 0) < 10**6
        assert min(row.input_tokens, row.output_tokens) > 0


def test_a_command_that_is_not_there(store: Store) -> None:
    nothing = Command("no-such-command {input} {output}", "m", None, SECRET)
    with served(Place(store, backends={"support": nothing})) as client:
        ended = wait(client, submit(client, [chat("a")]))
        (line,) = content(client, ended.error_file_id)
        assert "no-such-command cannot be started" in line["error"]["message"]


def test_a_command_whose_worker_was_killed_is_ended_first(store: Store, tmp_path: Path) -> None:
    """What is left of a killed worker: its command still runs, its output is half written, its note names it."""
    place = Place(store, backends={"support": command(tmp_path)})
    place.working = False
    with served(place) as client:
        made = submit(client, [chat(str(n)) for n in range(3)])
    folder = store.batches.folder(made.id)
    orphan = subprocess.Popen(["sleep", "60"], start_new_session=True)
    (folder / "command.pid").write_text(f"{orphan.pid} {_started(orphan.pid)}")
    response = {"status_code": 200, "request_id": "r", "body": {"choices": [], "usage": {"prompt_tokens": 1}}}
    first = json.dumps({"id": "x", "custom_id": "0", "response": response, "error": None})
    (folder / "made.jsonl").write_text(first + '\n{"id": "torn')
    with served(Place(store, backends={"support": command(tmp_path)})) as client:
        ended = wait(client, made)
        good = content(client, ended.output_file_id)
        assert [line["custom_id"] for line in good] == ["0", "1", "2"]
        assert good[0]["response"]["request_id"] == "r", "answered before the crash, not asked again"
    assert orphan.wait(60) == -signal.SIGKILL
