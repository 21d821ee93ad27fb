"""The official clients of both protocols against the reference shop as it is served, on routes without an engine."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import anthropic
import openai
import pytest

from fairlead.app import Fairlead
from fairlead.settings import Settings
from tests.gateway.gateway_harness import serving

SHOP = Path(__file__).parents[2] / "examples" / "shop"
QUESTION = "How long does delivery take?"


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    target = tmp_path / "shop"
    shutil.copytree(SHOP, target, ignore=shutil.ignore_patterns(".fairlead", "__pycache__"))
    fairlead = Fairlead(Settings(project=target, journal_flush_ms=20, require_key=False))
    await fairlead.start_variant("extractive")
    with serving(fairlead.gateway) as base:
        yield base
    await fairlead.stop()


async def test_both_clients_get_what_the_chat_protocol_gets(url: str) -> None:
    async with (
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused") as client,
        anthropic.AsyncAnthropic(base_url=url, api_key="unused") as claude,
    ):
        for model in ("shop-support", "extractive"):
            chat = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": QUESTION}])
            expected = chat.choices[0].message.content
            assert expected
            response = await client.responses.create(model=model, input=QUESTION)
            assert response.output_text == expected
            async with client.responses.stream(model=model, input=QUESTION) as events:
                assert (await events.get_final_response()).output_text == expected
            message = await claude.messages.create(
                model=model, max_tokens=500, messages=[{"role": "user", "content": QUESTION}]
            )
            assert [block.text for block in message.content if block.type == "text"] == [expected]
            async with claude.messages.stream(
                model=model, max_tokens=500, messages=[{"role": "user", "content": QUESTION}]
            ) as stream:
                assert "".join([text async for text in stream.text_stream]) == expected
            if model == "shop-support":  # the sources of an answer come with it in every protocol
                extras = [each.model_extra for each in (chat.choices[0].message, response, message)]
                assert all(extra is not None and extra["fairlead"]["sources"] for extra in extras)
