"""Keys over a real store: who may come in, and how soon a revocation holds everywhere."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fairlead.errors import KeyEnded, StoreBusy
from fairlead.gateway.keyring import KeyRing
from fairlead.providers.scripted import Scripted
from fairlead.records import Key, Limits, now_us
from fairlead.store import Store
from tests.gateway.gateway_harness import CHAT, await_true, build, recent, route, serving, stored, until


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with stored(tmp_path) as opened:
        yield opened


@pytest.fixture
def url(store: Store) -> Iterator[str]:
    with serving(build(keys=store.keys, record=store.traces.append).gateway) as base:
        yield base


def ask(url: str, secret: str, scheme: str = "Bearer") -> httpx.Response:
    headers = {"authorization": f"{scheme} {secret}"}
    return httpx.post(f"{url}/v1/chat/completions", json=CHAT, headers=headers, timeout=30)


def await_status(url: str, secret: str, status: int) -> None:
    await_true(lambda: ask(url, secret).status_code == status, f"answered with {status}")


def test_a_key_opens_and_names_the_caller(store: Store, url: str) -> None:
    key, secret = store.keys.create("shop", ["inference"], tenant="acme")
    await_status(url, secret, 200)
    assert ask(url, secret, "bearer").status_code == 200
    await_true(lambda: recent(store), "the record is written")
    found = recent(store)[-1]
    assert (found.tenant, found.key, found.subject) == ("acme", key.id, f"key:{key.id}")
    assert secret not in str(found)


@pytest.mark.parametrize("secret", ["fl-wrong", "x", "fl-" + "x" * 5000, "ü"])
def test_what_is_no_key_is_refused(url: str, secret: str) -> None:
    answer = httpx.post(
        f"{url}/v1/chat/completions", json=CHAT, headers=[(b"authorization", f"Bearer {secret}".encode())]
    )
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] in ("invalid_api_key", "missing_api_key")
    assert "fairlead keys" in answer.json()["error"]["message"]
    assert len(secret) < 3 or secret not in answer.text


def test_no_key_and_another_scheme(url: str, store: Store) -> None:
    assert httpx.post(f"{url}/v1/chat/completions", json=CHAT).json()["error"]["code"] == "missing_api_key"
    _, secret = store.keys.create("shop", ["inference"])
    await_status(url, secret, 200)
    assert ask(url, secret, "Basic").status_code == 401


def test_nobody_reads_a_body_before_the_key_is_known(url: str) -> None:
    answer = httpx.post(f"{url}/v1/chat/completions", content=b"not json", headers={"content-type": "text/plain"})
    assert answer.status_code == 401


def test_a_revocation_by_another_process_holds(store: Store, url: str, tmp_path: Path) -> None:
    key, secret = store.keys.create("shop", ["inference"])
    await_status(url, secret, 200)
    program = (
        "import sys; from pathlib import Path; from fairlead.store import Store\n"
        "with Store.open(Path(sys.argv[1])) as store: store.keys.revoke(sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path), key.id], check=True)
    await_status(url, secret, 401)


def move_clock(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    real = time.time_ns
    monkeypatch.setattr("fairlead.records.time.time_ns", lambda: real() + seconds * 10**9)


def test_an_expired_key_is_refused_to_the_moment(store: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, secret = store.keys.create("brief", ["inference"], expires=now_us() + 600_000_000)
    await_status(url, secret, 200)
    move_clock(monkeypatch, 601)
    assert ask(url, secret).status_code == 401


def test_scopes(store: Store, url: str) -> None:
    _, admin = store.keys.create("operator", ["admin"])
    _, user = store.keys.create("user", ["inference"])
    await_status(url, user, 200)
    refused = ask(url, admin)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "insufficient_scope"
    for path, secret, status in (
        ("/metrics", user, 403),
        ("/metrics", admin, 200),
        ("/v1/models", user, 200),
        ("/v1/models", admin, 403),
    ):
        answer = httpx.get(f"{url}{path}", headers={"authorization": f"Bearer {secret}"})
        assert answer.status_code == status, path
    assert httpx.get(f"{url}/metrics").status_code == 401
    assert httpx.get(f"{url}/v1/models").status_code == 401
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert httpx.get(f"{url}{path}").status_code == 200


def test_a_key_opens_only_its_models_and_operations(store: Store) -> None:
    upstream = Scripted()
    routes = {name: route(upstream, name) for name in ("support", "other")}
    with serving(build(keys=store.keys, routes=routes).gateway) as url:
        _, secret = store.keys.create("app", ["inference"], models=["support"], operations=["chat"])
        await_status(url, secret, 200)
        headers = {"authorization": f"Bearer {secret}"}
        for path, body, code in (
            ("/v1/chat/completions", {**CHAT, "model": "other"}, "model_not_allowed"),
            ("/v1/chat/completions", {**CHAT, "model": "nobody"}, "model_not_allowed"),
            ("/v1/embeddings", {"model": "support", "input": "x"}, "operation_not_allowed"),
        ):
            answer = httpx.post(f"{url}{path}", json=body, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, code)
            assert answer.json()["error"]["type"] == "permission_error"
        listed = httpx.get(f"{url}/v1/models", headers=headers).json()["data"]
        assert [model["id"] for model in listed] == ["support"]
        assert httpx.get(f"{url}/v1/models/other", headers=headers).status_code == 403


def test_a_rotated_key_works_beside_its_successor_until_the_overlap_ends(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, first = store.keys.create("app", ["inference"], limits=Limits(requests_per_minute=100))
    old, new, second = store.keys.rotate(key.prefix, 600_000_000)
    assert (new.origin, new.limits, new.expires) == (key.id, key.limits, None)
    assert old.expires is not None
    await_status(url, first, 200)
    await_status(url, second, 200)
    move_clock(monkeypatch, 601)
    assert ask(url, first).status_code == 401
    assert ask(url, second).status_code == 200
    with pytest.raises(KeyEnded, match="expired"):
        store.keys.rotate(key.id, 1_000_000)


def test_rotating_never_makes_a_key_live_longer(store: Store) -> None:
    key, _ = store.keys.create("brief", ["inference"], expires=now_us() + 60_000_000)
    old, new, _ = store.keys.rotate(key.id, 3_600_000_000)
    assert old.expires == new.expires == key.expires


async def test_a_store_that_cannot_be_read_keeps_the_known_keys_in_force(caplog: pytest.LogCaptureFixture) -> None:
    class Flaky:
        broken = False

        def active(self) -> list[Key]:
            return []

        def version(self) -> int:
            if self.broken:
                raise StoreBusy(path="x", seconds=1)
            return 1

    source = Flaky()
    ring = KeyRing(source, required=False)
    ring.watch()
    source.broken = True
    await until(lambda: "stay in force" in caplog.text, "a warning")
    await ring.aclose()
    await ring.aclose()
