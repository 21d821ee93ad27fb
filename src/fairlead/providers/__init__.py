"""Calling a model over HTTP, one file a provider: translate, call, stream. Knows no storage and no gateway."""

from __future__ import annotations

from fairlead.providers.base import Upstream
from fairlead.registry import Registry

registry: Registry[Upstream] = Registry(
    "provider",
    {
        "openai": "fairlead.providers.openai_compatible:OpenAICompatible",
        "anthropic": "fairlead.providers.anthropic:Anthropic",
        "litellm": "fairlead.providers.litellm:LiteLLM",
        "scripted": "fairlead.providers.scripted:Scripted",
    },
    group="fairlead.providers",
)
"""Provider name, as in ``model: openai:NAME``, to the Upstream class behind it."""
