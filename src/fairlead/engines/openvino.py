"""OpenVINO GenAI as an engine of ours: continuous batching on Intel processors, in a supervised process over loopback.

Takes a GGUF file or a folder exported for OpenVINO. The library is an extra, imported by the child alone. Knows no use
case and no request: calls go through ``upstream``.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
from pathlib import Path
from typing import Final

from fairlead.engines.gguf import read_header
from fairlead.engines.llamacpp import default_threads
from fairlead.engines.process import ProcessEngine
from fairlead.engines.supervisor import Launch, Limits, python_module
from fairlead.errors import ExtraMissing, WeightsMissing
from fairlead.providers.base import Upstream
from fairlead.providers.dialect import OPENVINO
from fairlead.providers.openai_compatible import OpenAICompatible

CHILD: Final = "fairlead.engines.openvino_child"
FILES: Final = ("openvino_model.xml", "openvino_tokenizer.xml", "openvino_detokenizer.xml")
"""What an exported folder holds, besides the weights."""
SPARE: Final = 4


class OpenVino(ProcessEngine):
    """A model that OpenVINO GenAI runs.

    ``path`` is a GGUF file, or a folder with FILES. ``threads`` 0 means all cores but one; ``context`` is tokens a
    request may have, at most what the model was made for; ``slots`` are the requests worked on at once.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        log_dir: Path,
        threads: int = 0,
        context: int = 2048,
        slots: int = 4,
        drain_s: float = 10.0,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(name, log_dir=log_dir, at_once=slots + SPARE, drain_s=drain_s, limits=limits)
        self.path = path
        self._threads = threads or default_threads()
        self._context = context
        self._slots = slots

    async def _check(self) -> None:
        """Raises ExtraMissing, WeightsMissing or WeightsDamaged."""
        if importlib.util.find_spec("openvino_genai") is None:
            raise ExtraMissing(what=f"model openvino:{self.path.name}", extra="openvino", detail="no openvino_genai")
        made_for = await asyncio.to_thread(made_for_tokens, self.path)
        self._context = min(self._context, made_for) if made_for else self._context

    def _launch(self) -> Launch:
        return Launch(
            argv=python_module(CHILD),
            config={
                "name": self.path.stem,
                "model": str(self.path.resolve()),
                "key": self._key,
                "threads": self._threads,
                "slots": self._slots,
                "context": self._context,
            },
        )

    def _connect(self, address: str) -> Upstream:
        return OpenAICompatible(self.name, f"{address}/v1", self.path.stem, self._key, dialect=OPENVINO)


def made_for_tokens(path: Path) -> int:
    """Tokens of context a model was made for, 0 where its files do not say. Raises WeightsMissing, WeightsDamaged."""
    if not path.is_dir():
        return read_header(path).context
    for name in FILES:
        if not (path / name).is_file():
            raise WeightsMissing(path=path / name)
    try:
        found = json.loads((path / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
    except (OSError, ValueError, AttributeError):
        return 0
    return found if isinstance(found, int) else 0
