"""Facts: what providers and models can do, as far as their public references say it. Data; nothing is contacted.

What depends on the model behind a server is None, "not known here". Prices are not facts of this kind: they change by
the week and stand in the price table. As of November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from fairlead.providers.base import Operation

_ALL: frozenset[Operation] = frozenset({"chat", "completion", "embedding"})
_CHAT: frozenset[Operation] = frozenset({"chat"})
_NO_COMPLETION: frozenset[Operation] = frozenset({"chat", "embedding"})


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """``json_schema``: it makes an answer fit a ``response_format``; ``grammar``: or any grammar. ``strict_tools``: it
    makes the arguments of tool calls fit. ``stream_usage``: it counts the tokens of a stream. ``cache``: it says how
    many input tokens came from a prefix cache.
    """

    operations: frozenset[Operation] = _ALL
    tools: bool | None = None
    strict_tools: bool = False
    json_schema: bool | None = None
    grammar: bool = False
    vision: bool | None = None
    stream_usage: bool = True
    cache: bool = True


class Window(msgspec.Struct, frozen=True):
    """Tokens a model reads in all, and writes at most (0: not known here), and where that was read."""

    context: int
    output: int
    source: str


_UNKNOWN = Facts(stream_usage=True, cache=False)
FACTS: Mapping[str, Facts] = MappingProxyType(
    {
        "http": _UNKNOWN,
        "openai": Facts(tools=True, strict_tools=True, json_schema=True),
        "anthropic": Facts(operations=_CHAT, tools=True, json_schema=True, vision=True),
        "azure": Facts(tools=True, strict_tools=True, json_schema=True),
        "bedrock": Facts(operations=_CHAT, tools=True, cache=False),
        "gemini": Facts(operations=_NO_COMPLETION, tools=True, json_schema=True, vision=True),
        "mistral": Facts(operations=_NO_COMPLETION, tools=True, json_schema=True),
        "groq": Facts(operations=_CHAT, tools=True),
        "together": Facts(),
        "deepseek": Facts(operations=_CHAT, tools=True, json_schema=False, vision=False),
        "openrouter": Facts(),
        "vllm": Facts(json_schema=True, grammar=True),
        "sglang": Facts(json_schema=True, grammar=True),
        "ollama": Facts(json_schema=True, cache=False),
        "llamacpp": Facts(tools=True, strict_tools=True, json_schema=True, grammar=True),
        "litellm": Facts(operations=_NO_COMPLETION),
    }
)  # fmt: skip
"""By a target's ``provider``."""
OPENVINO = Facts(
    operations=frozenset({"chat", "completion"}), tools=False, json_schema=False, vision=False, cache=False
)
"""Of our own server around OpenVINO GenAI."""

_WINDOWS: tuple[tuple[str, str, Window], ...] = (
    ("openai", "gpt-4.1", Window(1_047_576, 32_768, "contextwindows.dev/models/gpt-4-1")),
    ("openai", "gpt-4o", Window(128_000, 16_384, "platform.openai.com/docs/models/gpt-4o")),
    ("openai", "gpt-5", Window(400_000, 128_000, "vercel.com/ai-gateway/models/gpt-5-fast.md")),
    ("openai", "gpt-5-pro", Window(400_000, 272_000, "api.koog.ai, GPT5Pro")),
    ("openai", "gpt-5.2", Window(400_000, 128_000, "vercel.com/ai-gateway/models/openai/gpt-5.2-fast.md")),
    ("openai", "gpt-5.4", Window(1_050_000, 128_000, "wavespeed.ai/llm/openai/gpt-5.4")),
    ("openai", "o3", Window(200_000, 100_000, "platform.openai.com/docs/models/o3")),
    ("openai", "o4-mini", Window(200_000, 100_000, "platform.openai.com/docs/models/o4-mini")),
    ("anthropic", "claude-3-7-sonnet", Window(200_000, 64_000, "docs.rs/mixtape-core, claude.rs")),
    ("anthropic", "claude-haiku-4-5", Window(200_000, 64_000, "tygartmedia.com, from the models page of May 2026")),
    ("anthropic", "claude-sonnet-4-20250514", Window(200_000, 64_000, "docs.rs/mixtape-core, claude.rs")),
    ("anthropic", "claude-sonnet-4-5", Window(200_000, 64_000, "llamaindex.ai reference; a million only on request")),
    ("anthropic", "claude-sonnet-4-6", Window(1_000_000, 0, "tygartmedia.com; of its output two figures are told")),
    ("anthropic", "claude-opus-4-20250514", Window(200_000, 32_000, "docs.rs/mixtape-core, claude.rs")),
    ("anthropic", "claude-opus-4-1", Window(200_000, 32_000, "docs.rs/mixtape-core, claude.rs")),
    ("anthropic", "claude-opus-4-6", Window(1_000_000, 128_000, "github.com/Effect-TS/effect, ai-anthropic beta.106")),
    ("anthropic", "claude-opus-4-7", Window(1_000_000, 128_000, "tygartmedia.com, from the models page of May 2026")),
    ("gemini", "gemini-2.5-flash", Window(1_048_576, 65_536, "cloud.google.com/vertex-ai, 2-5-flash")),
    ("gemini", "gemini-2.5-pro", Window(1_048_576, 65_536, "ai.google.dev/gemini-api/docs/models")),
    ("deepseek", "deepseek-chat", Window(128_000, 8_192, "api-docs.deepseek.com/quick_start/pricing")),
    ("groq", "llama-3.3-70b-versatile", Window(131_072, 32_768, "console.groq.com/docs/models")),
    ("groq", "openai/gpt-oss-20b", Window(131_072, 65_536, "console.groq.com/docs/models")),
    ("groq", "openai/gpt-oss-120b", Window(131_072, 65_536, "console.groq.com/docs/models")),
)  # fmt: skip
"""Provider, a model's name up to a dash or its end, and its window, read on 30 November 2026 in stored copies of the
pages named. Of gpt-4o, o3, o4-mini, gemini-2.5-pro and Groq's no copy was found that day: those are from before, and
the address says where to look. Moving names (``-latest``) and models of which sources disagree are left out.
"""


def facts_of(provider: str) -> Facts:
    """What is known of a provider; of one that is not in the table, nothing."""
    return FACTS.get(provider, _UNKNOWN)


def window_of(provider: str, model: str) -> Window | None:
    """The window of a model by the longest beginning of its name in the table, up to a dash, so that ``gpt-5`` says
    nothing of ``gpt-5.5``; None when it is not known here.
    """
    found = [
        (len(start), window)
        for name, start, window in _WINDOWS
        if name == provider and (model == start or model.startswith(f"{start}-"))
    ]
    return max(found, key=lambda each: each[0])[1] if found else None
