"""The composition root on the real shop: what is wired, what a missing part does to the rest."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead import engines
from fairlead.app import Fairlead, build, credentials, machines, packaged_weights, price_of
from fairlead.errors import CredentialMissing
from fairlead.gateway import Principal
from fairlead.records import now_us
from fairlead.secret import hide
from fairlead.settings import Settings
from fairlead.spec import SpecError, UseCase, load
from tests.gateway.gateway_harness import CHAT
from tests.gateway.hostile import hostile, whole

SHOP = Path(__file__).parents[2] / "examples" / "shop"
ME = Principal(tenant="default", subject="test", key_id="", scopes=frozenset({"inference"}))


@pytest.fixture(name="project")
def project_fixture(tmp_path: Path) -> Callable[..., Settings]:
    def make(*changes: tuple[str, str]) -> Settings:
        target = tmp_path / "shop"
        shutil.copytree(SHOP, target, ignore=shutil.ignore_patterns(".fairlead", "__pycache__"), dirs_exist_ok=True)
        path = target / "fairlead.yaml"
        text = path.read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
        return Settings(project=target, journal_flush_ms=20)

    return make


async def test_every_record_names_spec_release_tenant_and_subject(project: Callable[..., Settings]) -> None:
    fairlead = build(project())
    try:
        await fairlead.start_variant("extractive")
        await fairlead.assistant.ask("How long does delivery take?")
        await fairlead.gateway.complete(
            {"model": "extractive", "messages": [{"role": "user", "content": "Hello"}]}, principal=ME
        )
        fairlead.gateway.write_records()
        fairlead.store.traces.flush()
        rows = fairlead.store.traces.query(since=0, until=now_us() + 1)
        live = fairlead.store.releases.live("shop-support")
        assert live is not None
        assert len(rows) == 3
        for row in rows:
            assert row.spec_hash == fairlead.usecase.spec_hash
            assert row.release == live.id
            assert row.tenant == "default"
            assert row.subject
            assert row.usecase == "shop-support"
    finally:
        await fairlead.stop()


async def test_a_release_changes_with_the_knowledge_and_not_with_a_restart(project: Callable[..., Settings]) -> None:
    settings = project()
    first = await _live_release(settings)
    assert await _live_release(settings) == first
    page = settings.project / "knowledge" / "returns.md"
    page.write_text(page.read_text(encoding="utf-8") + "\n\nGift cards cannot be returned at all.\n", encoding="utf-8")
    assert await _live_release(settings) != first


async def _live_release(settings: Settings) -> str:
    fairlead = build(settings)
    try:
        release = fairlead.store.releases.live("shop-support")
        assert release is not None
        return release.id
    finally:
        await fairlead.stop()


async def test_missing_weights_leave_the_live_variant_answering(
    project: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machines, "packaged_weights", lambda name: tmp_path / f"{name}.gguf")
    fairlead = build(project())
    try:
        await fairlead.start()
        await _settled(fairlead)
        assert fairlead.ready() == []
        assert "mini.gguf does not exist" in fairlead.failures["mini"]
        assert (await fairlead.assistant.ask("Are you a human?")).text
    finally:
        await fairlead.stop()


async def _settled(fairlead: Fairlead) -> None:
    """Until the engine in the background has come up or given up; other tasks go on as long as the server runs."""
    for _ in range(6_000):
        if fairlead.failures:
            return
        await asyncio.sleep(0.01)


def test_a_broken_definition_leaves_no_store_behind(project: Callable[..., Settings]) -> None:
    settings = project(("live: extractive", "live: extractiv"))
    with pytest.raises(SpecError, match="extractive"):
        build(settings)
    assert not settings.data_path.exists()


def test_keys_of_providers_come_by_reference_only(
    project: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    hosted = "  - {id: hosted, model: 'http://127.0.0.1:9/v1#m', api_key: env:SHOP_KEY}\n"
    filed = "  - {id: filed, model: 'http://127.0.0.1:9/v1#m', api_key: 'file:secret.txt'}\nlive: extractive"
    settings = project(("live: extractive", f"{hosted}{filed}"))
    usecase = _load(settings)
    assert price_of(usecase, usecase.variant("hosted")) is None
    assert price_of(usecase, usecase.variant("mini")) == (0.0, 0.0)
    monkeypatch.setenv("SHOP_KEY", " k1 ")
    assert credentials(usecase.variant("hosted"), usecase) == ["k1"]
    monkeypatch.delenv("SHOP_KEY")
    assert credentials(usecase.variant("hosted"), usecase) == [None]
    with pytest.raises(CredentialMissing, match=r"secret\.txt"):
        credentials(usecase.variant("filed"), usecase)
    (settings.project / "secret.txt").write_text("k2\n")
    assert credentials(usecase.variant("filed"), usecase) == ["k2"]
    for planted in ("planted\r\nx-evil: 1\n", "plantéd"):
        (settings.project / "secret.txt").write_text(planted)
        with pytest.raises(CredentialMissing, match="more than a key") as caught:
            credentials(usecase.variant("filed"), usecase)
        assert planted.split("\r")[0] not in str(caught.value)


async def test_the_keys_of_a_list_take_turns_and_the_definition_says_what_is_wrong_with_one(
    project: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_keys(server: str, keys: str) -> Settings:
        hosted = f"  - {{id: hosted, model: '{server}#m', {keys}}}\nlive: extractive"
        return project(("live: extractive", hosted))

    answer = whole(b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}')
    with hostile(answer) as server:
        for name, value in (("FIRST", "planted-1"), ("SECOND", "planted-2"), ("THIRD", "")):
            monkeypatch.setenv(name, value)
        fairlead = build(with_keys(server.url, "api_keys: [env:FIRST, env:SECOND, env:THIRD]"))
        try:
            for _ in range(4):
                await fairlead.gateway.complete({**CHAT, "model": "hosted"}, principal=ME)
            sent = [request.split(b"uthorization: Bearer ")[1].split(b"\r\n")[0] for request in server.requests]
            assert sorted(sent) == [b"planted-1", b"planted-1", b"planted-2", b"planted-2"]
            assert 'fairlead_model_keys{model="hosted"} 2.0' in fairlead.telemetry.expose().decode()
        finally:
            await fairlead.stop()
    for keys, said in (
        ("api_key: env:A, api_keys: [env:B]", "one of the two"),
        ("api_keys: [env:A, env:A]", "each key once"),
        ("api_keys: [hunter2hunter2]", "never the key itself"),
    ):
        with pytest.raises(SpecError, match=said) as told:
            load(with_keys("http://127.0.0.1:9/v1", keys).spec_path)
        assert "hunter2" not in str(told.value)


def _load(settings: Settings) -> UseCase:
    return load(settings.spec_path)


def test_the_packaged_weights_are_where_the_package_is() -> None:
    assert packaged_weights("mini").parent == Path(engines.__file__).parent / "weights"


def test_a_variant_that_residency_forbids_gets_no_route(project: Callable[..., Settings]) -> None:
    outside = "  - {id: hosted, model: 'openai:gpt-4.1-mini', api_key: env:OPENAI_API_KEY}\nlive: extractive"
    fairlead = build(project(("live: extractive", outside)))
    try:
        assert "hosted" not in fairlead.gateway.routes
        assert {"extractive", "mini", "embed", "shop-support"} <= set(fairlead.gateway.routes)
    finally:
        fairlead.store.close()


def test_the_parts_of_aws_credentials_are_secrets_each_for_itself(
    project: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7PLANTED"), ("AWS_SECRET_ACCESS_KEY", "planted/secret/of/aws"),
        ("AWS_SESSION_TOKEN", "planted-token-of-aws"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    hosted = "  - {id: hosted, model: 'bedrock:eu-west-1/openai.gpt-oss-20b-1:0', price: {input_usd_per_million: 1, "
    usecase = _load(project(("live: extractive", f"{hosted}output_usd_per_million: 1}}}}\nlive: extractive")))
    (found,) = credentials(usecase.variant("hosted"), usecase)
    assert found == "AKIAIOSFODNN7PLANTED:planted/secret/of/aws:planted-token-of-aws"
    told = hide("the server said planted/secret/of/aws and planted-token-of-aws of AKIAIOSFODNN7PLANTED")
    assert told == "the server said [secret] and [secret] of AKIAIOSFODNN7PLANTED"
