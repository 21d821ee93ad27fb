"""Embeddings of several callers of a served project in one request to their server."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fairlead.app import build
from fairlead.gateway import Principal
from fairlead.providers.scripted import Scripted
from fairlead.records import now_us
from fairlead.settings import Settings
from tests.gateway.gateway_harness import build as gateway_of
from tests.gateway.gateway_harness import serving

FILE = """
fairlead: 1
name: desk
purpose: Answer.
users: {{who: customers}}
risk: limited
variants:
  - {{id: plain, model: extractive}}
  - id: vectors
    model: "{url}/v1#support"
    price: {{input_usd_per_million: 1, output_usd_per_million: 0}}
    dynamic_batching: {{max_batch_size: 4, max_queue_delay_ms: 1000}}
live: plain
"""
TEXTS = ["one", "two words", "and three words", "four", "five"]


async def test_each_caller_has_an_answer_and_a_record_of_its_own(tmp_path: Path) -> None:
    server = Scripted()
    with serving(gateway_of(server).gateway) as url:
        (tmp_path / "fairlead.yaml").write_text(FILE.format(url=url), encoding="utf-8")
        fairlead = build(Settings(project=tmp_path, journal_flush_ms=20, require_key=False))
        try:
            answers = await asyncio.gather(
                *(
                    fairlead.gateway.complete(
                        {"model": "vectors", "input": text},
                        principal=Principal(tenant=f"tenant-{number}"),
                        operation="embedding",
                    )
                    for number, text in enumerate(TEXTS)
                )
            )
            fairlead.gateway.write_records()
            fairlead.store.traces.flush()
            rows = fairlead.store.traces.query(since=0, until=now_us() + 1, order="asc")
        finally:
            await fairlead.stop()
    assert [call.body["input"] for call in server.calls] == [TEXTS[:4], TEXTS[4]]
    alone = gateway_of().gateway
    for text, answer in zip(TEXTS, answers, strict=True):
        wanted = await alone.complete({"model": "support", "input": text}, principal=Principal(), operation="embedding")
        assert answer["data"] == wanted["data"]
    assert sorted(row.tenant for row in rows) == [f"tenant-{number}" for number in range(5)]
    assert all(row.status == 200 and row.cost == 1_000 * row.input_tokens > 0 for row in rows)
    assert sum(row.input_tokens for row in rows) == sum(answer["usage"]["prompt_tokens"] for answer in answers)
