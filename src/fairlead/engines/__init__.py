"""Running a model ourselves, one file an engine: start, health, adapters, stop. Knows no storage and no gateway.

Another engine is one file plus one line in ``registry`` (or an entry point in the group ``fairlead.engines``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.registry import Registry

if TYPE_CHECKING:
    from fairlead.engines.base import Engine

registry: Registry[Engine] = Registry(
    "engine",
    {
        "extractive": "fairlead.engines.extractive:Extractive",
        "llamacpp": "fairlead.engines.llamacpp:LlamaCpp",
        "openvino": "fairlead.engines.openvino:OpenVino",
        "vllm": "fairlead.engines.vllm:Vllm",
        "embed": "fairlead.engines.embed:Embed",
    },
    group="fairlead.engines",
)
