"""Batches through the official client, against a real server: every state, every way to end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from fairlead.providers.base import Call
from fairlead.providers.scripted import Script, Scripted
from fairlead.records import now_us
from fairlead.store import Store
from tests.batch.batch_harness import Place, chat, content, jsonl, opened, served, submit, wait
from tests.gateway.gateway_harness import Held, await_true, route


def answer(call: Call) -> Script:
    """Repeats what was said; refuses or takes its time on demand."""
    messages = call.body.get("messages") or [{"content": ""}]
    said = str(messages[-1]["content"])
    if said.startswith("status"):
        return Script(status=int(said.split()[1]), message="because you asked")
    return Script(delay_s=float(said.split()[1])) if said.startswith("slow") else Script()


@pytest.fixture(name="store")
def store_fixture(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path / "data") as store:
        yield store


@pytest.fixture(name="place")
def place_fixture(store: Store) -> Place:
    return Place(store, Scripted(script=answer))


@pytest.fixture(name="client")
def client_fixture(place: Place) -> Iterator[OpenAI]:
    with served(place) as client:
        yield client


def test_a_batch_from_upload_to_output(client: OpenAI, place: Place) -> None:
    lines = [chat(f"r-{n}", f"word {n}") for n in range(30)]
    made = submit(client, lines, metadata={"team": "north"})
    assert (made.object, made.status, made.completion_window) == ("batch", "validating", "24h")
    assert made.expires_at == made.created_at + 86_400
    ended = wait(client, made)
    assert ended.status == "completed", ended
    assert ended.metadata == {"team": "north"}
    assert ended.model == "support"
    assert ended.error_file_id is None
    assert ended.request_counts is not None
    assert ended.request_counts.model_dump() == {"total": 30, "completed": 30, "failed": 0}
    assert ended.in_progress_at is not None
    assert ended.finalizing_at is not None
    assert ended.completed_at is not None
    found = content(client, ended.output_file_id)
    assert [line["custom_id"] for line in found] == [line["custom_id"] for line in lines], "in the order of the input"
    assert [line["response"]["body"]["choices"][0]["message"]["content"] for line in found] == [
        f"word {n}" for n in range(30)
    ]
    assert all(line["response"]["status_code"] == 200 and line["error"] is None for line in found)
    assert len({line["id"] for line in found}) == 30
    output = client.files.retrieve(ended.output_file_id or "")
    assert (output.purpose, output.filename) == ("batch_output", f"{made.id}_output.jsonl")
    await_true(lambda: not place.store.batches.folder(made.id).exists(), "its folder is cleared")
    usage = ended.usage
    assert usage is not None
    assert usage.output_tokens == 60
    row = place.store.batches.get(made.id)
    assert row is not None
    assert row.cost == usage.input_tokens * 400 + usage.output_tokens * 1600, "reconciled with what was counted"
    assert row.estimate["output_tokens"] == 30 * 20, "told before, from max_tokens"
    asked = {(call.context.channel, call.context.priority) for call in place.upstream.calls}
    assert asked == {("batch", "batch")}


def test_completions_and_embeddings(client: OpenAI) -> None:
    one = {"custom_id": "c", "method": "POST", "url": "/v1/completions", "body": {"model": "support", "prompt": "So"}}
    two = {"custom_id": "e", "method": "POST", "url": "/v1/embeddings", "body": {"model": "support", "input": ["a"]}}
    for line in (one, two):
        ended = wait(client, submit(client, [line], line["url"]))
        assert ended.status == "completed", ended
        body = content(client, ended.output_file_id)[0]["response"]["body"]
        assert body.get("choices") or body["data"][0]["embedding"]


def test_requests_that_fail_go_to_the_error_file(client: OpenAI) -> None:
    lines = [chat("good"), chat("bad", "status 400"), chat("gone", "status 404"), chat("again", "status 500")]
    ended = wait(client, submit(client, lines))
    assert ended.status == "completed"
    assert ended.request_counts is not None
    assert ended.request_counts.model_dump() == {"total": 4, "completed": 1, "failed": 3}
    assert [line["custom_id"] for line in content(client, ended.output_file_id)] == ["good"]
    errors = {line["custom_id"]: line["response"] for line in content(client, ended.error_file_id)}
    assert {name: response["status_code"] for name, response in errors.items()} == {
        "bad": 400, "gone": 502, "again": 502
    }  # fmt: skip
    assert errors["bad"]["body"]["error"]["message"] == "because you asked"


def test_bom_crlf_and_blank_lines_are_no_errors(client: OpenAI) -> None:
    raw = b"\xef\xbb\xbf" + jsonl([chat("a", "é"), chat("b")]).replace(b"\n", b"\r\n\r\n").rstrip()
    ended = wait(client, submit(client, raw))
    assert ended.status == "completed", ended.errors
    assert [line["custom_id"] for line in content(client, ended.output_file_id)] == ["a", "b"]


@pytest.mark.parametrize(
    ("raw", "code", "line"),
    [
        (b"\n\r\n", "empty_file", None),
        (jsonl([chat("a")]) + b'{"custom_id": "b", \n', "invalid_json_line", 2),
        (b"[1, 2]\n", "invalid_json_line", 1),
        (b'{"custom_id": "\xff"}\n', "invalid_json_line", 1),
        (jsonl([chat("a")]).decode().encode("utf-16"), "invalid_encoding", 1),
        (jsonl([chat("a"), chat("a")]), "duplicate_custom_id", 2),
        (jsonl([chat("")]), "invalid_custom_id", 1),
        (jsonl([{**chat("a"), "custom_id": None}]), "missing_required_parameter", 1),
        (jsonl([chat("a", method="GET")]), "invalid_method", 1),
        (jsonl([chat("a", url="/v1/embeddings")]), "invalid_url", 1),
        (jsonl([chat("a", body=3)]), "invalid_body", 1),
        (jsonl([chat("a", body={"model": "support"})]), "invalid_value", 1),
        (jsonl([chat("a"), chat("b", body={**chat("b")["body"], "model": "other"})]), "mismatched_model", 2),
        (jsonl([chat("a", body={**chat("b")["body"], "model": "nobody"})]), "model_not_found", 1),
        (jsonl([chat("a", body={**chat("b")["body"], "stream": True})]), "invalid_value", 1),
        (jsonl([chat("a", "x" * 5_000_000)]), "line_too_long", 1),
    ],
)  # fmt: skip
def test_an_input_that_cannot_run_fails_whole_and_says_where(
    store: Store, raw: bytes, code: str, line: int | None
) -> None:
    place = Place(store, most_file=8 << 20)
    with served(place) as client:
        ended = wait(client, submit(client, raw))
        assert ended.status == "failed"
        assert ended.errors is not None
        assert ended.errors.data is not None
        assert [(error.code, error.line) for error in ended.errors.data] == [(code, line)]
        assert ended.failed_at is not None
        assert not place.upstream.calls, "nothing was asked"
        assert [batch.cost for batch in store.batches.page(None)] == [0]


def test_more_requests_than_possible(store: Store) -> None:
    from fairlead.batch import Limits

    with served(Place(store, limits=Limits(requests=3))) as client:
        ended = wait(client, submit(client, [chat(str(n)) for n in range(5)]))
        assert ended.status == "failed"
        assert ended.errors is not None
        assert [error.code for error in ended.errors.data or []] == ["too_many_requests"]


def test_cancelling_keeps_what_is_answered(store: Store) -> None:
    place = Place(store, Scripted(script=answer), places=2)
    with served(place) as client:
        made = submit(client, [chat(str(n), "slow 0.2") for n in range(100)])
        wait(client, made, lambda found: (found.request_counts.completed if found.request_counts else 0) >= 4)
        asked = client.batches.cancel(made.id)
        assert asked.status in ("cancelling", "cancelled")
        ended = wait(client, made)
        assert ended.status == "cancelled"
        assert ended.cancelled_at is not None
        good, bad = content(client, ended.output_file_id), content(client, ended.error_file_id)
        assert len(good) >= 4
        assert sorted(int(line["custom_id"]) for line in good + bad) == list(range(100)), "one line for each"
        assert {line["error"]["code"] for line in bad} == {"batch_cancelled"}
        assert ended.request_counts is not None
        assert ended.request_counts.completed == len(good)
        assert client.batches.cancel(made.id).status == "cancelled", "again changes nothing"
        done = wait(client, submit(client, [chat("x")]))
        with pytest.raises(openai.ConflictError, match="completed"):
            client.batches.cancel(done.id)


def test_cancelled_before_anything_began(store: Store) -> None:
    place = Place(store)
    place.working = False
    with served(place) as client:
        made = submit(client, [chat("a")])
        assert client.batches.cancel(made.id).status == "cancelling"
    place = Place(store)
    with served(place) as client:
        ended = wait(client, made)
        assert ended.status == "cancelled"
        assert not place.upstream.calls


def test_cancelled_while_finalising(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(store)
    write = place.runner._write

    def cancel_first(work: object, status: str) -> None:
        place.store.batches.cancel(work.batch.id)  # type: ignore[attr-defined]
        write(work, status)  # type: ignore[arg-type]

    monkeypatch.setattr(place.runner, "_write", cancel_first)
    with served(place) as client:
        ended = wait(client, submit(client, [chat("a")]))
        assert ended.status == "cancelled", "the wish came in time"
        assert [line["custom_id"] for line in content(client, ended.output_file_id)] == ["a"], "and nothing is lost"


def test_an_expired_batch_returns_what_finished(store: Store) -> None:
    for window_s in (2.0, 10.0, 60.0):  # until one is long enough for an answer, however busy the machine is
        place = Place(store, Held(answer), places=2, window_s=window_s)
        with served(place) as client:
            made = submit(client, [chat(str(n), "slow 1" if n > 3 else "quick") for n in range(120)])
            ended = wait(client, made)
            assert ended.status == "expired"
            assert ended.expired_at is not None
            good, bad = content(client, ended.output_file_id), content(client, ended.error_file_id)
        assert {line["error"]["code"] for line in bad} == {"batch_expired"}
        assert sorted(int(line["custom_id"]) for line in good + bad) == list(range(120))
        if good:
            break
    assert good


def test_a_file_deleted_while_its_batch_runs_changes_nothing(store: Store) -> None:
    model = Held(answer)
    with served(Place(store, model, places=2)) as client:
        made = submit(client, [chat(str(n), "slow 1") for n in range(20)])
        wait(client, made, lambda found: found.status == "in_progress")
        assert client.files.delete(made.input_file_id).deleted
        model.go.set()
        ended = wait(client, made)
        assert ended.status == "completed"
        assert len(content(client, ended.output_file_id)) == 20
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(made.input_file_id)


def test_an_input_lost_from_the_disk_is_told(store: Store) -> None:
    place = Place(store)
    place.working = False
    with served(place) as client:
        made = submit(client, [chat("a")])
    (store.batches.folder(made.id) / "input.jsonl").unlink()
    with served(Place(store)) as client:
        ended = wait(client, made)
        assert ended.status == "failed"
        assert ended.errors is not None
        assert [error.code for error in ended.errors.data or []] == ["file_lost"]


def test_a_model_that_is_served_no_more(store: Store) -> None:
    place = Place(store, Scripted(script=answer), places=1)
    with served(place) as client:
        made = submit(client, [chat(str(n), "slow 0.2") for n in range(50)])
        wait(client, made, lambda found: bool(found.request_counts and found.request_counts.completed))
    with served(Place(store, routes={"other": route(place.upstream, "other")})) as client:
        ended = wait(client, made)
        good, bad = content(client, ended.output_file_id), content(client, ended.error_file_id)
        assert good
        assert sorted(int(line["custom_id"]) for line in good + bad) == list(range(50))
        assert {line["error"]["code"] for line in bad} == {"model_not_found"}


def test_a_model_that_is_away_costs_no_request(store: Store) -> None:
    away = [True]

    def sick(call: Call) -> Script:
        return Script(status=503, message="overloaded", retry_after="0.1") if away[0] else Script()

    place = Place(store, Scripted(script=sick), places=2)
    with served(place) as client:
        made = submit(client, [chat(str(n)) for n in range(5)])
        noted = wait(client, made, lambda found: bool((found.model_extra or {})["fairlead"]["note"]))
        assert "overloaded" in (noted.model_extra or {})["fairlead"]["note"]
        away[0] = False
        ended = wait(client, made, within_s=120)
        assert ended.request_counts is not None
        assert ended.request_counts.completed == 5


def test_a_tenant_sees_nothing_of_another(store: Store) -> None:
    _, north = store.keys.create("n", ["inference"], tenant="north")
    _, south = store.keys.create("s", ["inference"], tenant="south")
    _, admin = store.keys.create("a", ["admin"], tenant="north")
    place = Place(store, keys=True)
    with served(place, north) as client:
        made = wait(client, submit(client, [chat("a")]))
        assert made.status == "completed"
        other = client.with_options(api_key=south)
        for act in (
            lambda: other.files.retrieve(made.input_file_id),
            lambda: other.files.content(made.output_file_id or ""),
            lambda: other.files.delete(made.input_file_id),
            lambda: other.batches.retrieve(made.id),
            lambda: other.batches.cancel(made.id),
            lambda: other.files.list(after=made.input_file_id),
            lambda: other.batches.create(
                input_file_id=made.input_file_id, endpoint="/v1/chat/completions", completion_window="24h"
            ),
        ):
            with pytest.raises(openai.NotFoundError):
                act()
        assert list(other.files.list()) == []
        assert list(other.batches.list()) == []
        with pytest.raises(openai.PermissionDeniedError):
            client.with_options(api_key=admin).files.list()
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="fl-wrong").batches.list()
        assert {call.context.tenant for call in place.upstream.calls} == {"north"}


def test_a_revoked_key_s_batch_ends(store: Store) -> None:
    key, secret = store.keys.create("n", ["inference"])
    _, other = store.keys.create("o", ["inference"])
    place = Place(store, Scripted(script=answer), keys=True, places=1)
    with served(place, secret) as client:
        made = submit(client, [chat(str(n), "slow 0.1") for n in range(200)])
        wait(client, made, lambda found: found.status == "in_progress")
        store.keys.revoke(key.id)
        ended = wait(client.with_options(api_key=other), made)
        assert ended.status == "cancelled"
        assert {line["error"]["code"] for line in content(client.with_options(api_key=other), ended.error_file_id)} == {
            "key_revoked"
        }


def accepted(client: OpenAI) -> bool:
    try:
        client.models.list()
    except openai.AuthenticationError:
        return False
    return True


def test_a_key_for_some_models_and_one_that_is_rotated(store: Store) -> None:
    key, secret = store.keys.create("n", ["inference"], models=["support"])
    model = Held(answer)
    with served(Place(store, model, keys=True, places=1), secret) as client:
        lines = [chat("a", body={**chat("a")["body"], "model": "other"})]
        failed = wait(client, submit(client, lines))
        assert failed.errors is not None
        assert [error.code for error in failed.errors.data or []] == ["model_not_allowed"]
        made = submit(client, [chat(str(n), "slow 1") for n in range(60)])
        wait(client, made, lambda found: found.status == "in_progress")
        _, _, fresh = store.keys.rotate(key.id, 0)
        await_true(lambda: accepted(client.with_options(api_key=fresh)), "a running server knows new keys")
        model.go.set()
        ended = wait(client.with_options(api_key=fresh), made)
        assert ended.status == "completed", "the key that took its place stands for it"


def test_pages_of_batches_and_files(client: OpenAI) -> None:
    made = [wait(client, submit(client, [chat("a")])) for _ in range(5)]
    assert [batch.id for batch in client.batches.list(limit=2)] == [batch.id for batch in reversed(made)]
    uploads = [batch.input_file_id for batch in made]
    assert [file.id for file in client.files.list(purpose="batch", limit=2, order="asc")] == uploads
    assert [file.id for file in client.files.list(purpose="batch", limit=2)] == uploads[::-1]
    assert len(list(client.files.list(purpose="batch_output"))) == 5
    with pytest.raises(openai.BadRequestError, match="limit"):
        client.batches.list(limit=101)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"endpoint": "/v1/moderations"}, "endpoint"),
        ({"endpoint": ["/v1/chat/completions"]}, "endpoint"),
        ({"completion_window": {"24h": 1}}, "completion_window"),
        ({"input_file_id": {"id": 1}}, "input_file_id"),
        ({"metadata": ["a"]}, "metadata"),
        ({"output_expires_after": [3600]}, "output_expires_after"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": {}}}, "seconds"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 10**30}}, "seconds"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"a": "x" * 600}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "expires_after"),
        ({"output_expires_after": {"anchor": "now", "seconds": 5000}}, "anchor"),
    ],
)
def test_a_batch_that_cannot_be_made(client: OpenAI, change: dict[str, object], match: str) -> None:
    file = client.files.create(file=("in.jsonl", jsonl([chat("a")])), purpose="batch")
    given = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h", **change}
    with pytest.raises(openai.BadRequestError, match=match):
        client.post("/batches", body=given, cast_to=object)


def test_a_batch_of_nothing_that_is_there(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="file-nobody"):
        client.batches.create(input_file_id="file-nobody", endpoint="/v1/chat/completions", completion_window="24h")


def test_live_traffic_takes_the_places(store: Store) -> None:
    """Two places, two live requests in flight: the batch starts nothing until they are answered."""
    import threading

    model = Held(answer)
    place = Place(store, model, places=2)
    with served(place) as client:
        threads = [
            threading.Thread(
                target=lambda: client.chat.completions.create(
                    model="support", messages=[{"role": "user", "content": "slow 1.5"}]
                )
            )
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        await_true(lambda: place.gateway.in_flight == 2, "both are in flight")
        made = submit(client, [chat(str(n)) for n in range(6)])
        wait(client, made, lambda found: found.status == "in_progress")
        assert {call.context.channel for call in place.upstream.calls} == {"api"}, "nothing of the batch yet"
        model.go.set()
        for thread in threads:
            thread.join()
        assert wait(client, made).status == "completed"


def test_a_clock_that_jumps_while_a_batch_runs_does_not_end_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(store, Scripted(script=answer), places=1)
    with served(place) as client:
        made = submit(client, [chat(str(n), "slow 0.1") for n in range(30)])
        wait(client, made, lambda found: bool(found.request_counts and found.request_counts.completed))
        ahead = now_us() + 3 * 86_400 * 1_000_000
        with monkeypatch.context() as patch:
            patch.setattr("fairlead.batch.runner.now_us", lambda: ahead)
            assert wait(client, made).status == "completed"


def test_dead_letters_are_plain(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.batches.retrieve("batch_nobody")
    assert json.dumps(caught.value.body)
    assert caught.value.request_id
