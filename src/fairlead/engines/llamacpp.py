"""The embedded engine: llama.cpp in a supervised process, reached over loopback with a key nobody else has.

Any GGUF file works; it brings its own chat template. Knows no use case and no request: calls go through ``upstream``.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fairlead.engines.gguf import Header, read_header
from fairlead.engines.process import ProcessEngine
from fairlead.engines.supervisor import Launch, Limits, python_module
from fairlead.errors import EngineFailed
from fairlead.providers.base import Upstream
from fairlead.providers.dialect import LLAMA_CPP_ADAPTED, LLAMA_CPP_OWN
from fairlead.providers.openai_compatible import OpenAICompatible

CHILD: Final = "fairlead.engines.llamacpp_child"
SPARE: Final = 4
"""Calls in the engine beyond its slots, so that a slot that gets free has work at once."""
POOLED_NOT, RANKED = 0, 4
"""Ways in which a file may say that one vector is made of many: not at all, and a mark for a pair of texts."""
SPARE_HTTP_THREADS: Final = 4
"""HTTP threads beyond the calls let in, so that the health probe is answered when all of them stream."""


class LlamaCpp(ProcessEngine):
    """A GGUF model on this machine's processor.

    ``threads`` 0 means all cores but one (a core that others use makes llama.cpp's threads wait for each other,
    measured 10 to 40 times slower). ``context`` is tokens per slot, at most what the model was made for; ``slots`` are
    the requests worked on at once. ``adapters`` are LoRA GGUF files: each request may name them by their position
    (``"lora": [{"id": 0, "scale": 1.0}]``), none is in effect otherwise. ``embeddings`` makes it an embedder and
    nothing else. ``cache_mib`` bounds the memory for prompts that may come again; with adapters none is remembered.
    """

    def __init__(
        self,
        name: str,
        model_path: Path,
        *,
        log_dir: Path,
        threads: int = 0,
        context: int = 2048,
        slots: int = 4,
        adapters: Sequence[Path] = (),
        embeddings: bool = False,
        cache_mib: int = 64,
        drain_s: float = 10.0,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(name, log_dir=log_dir, at_once=slots + SPARE, drain_s=drain_s, limits=limits)
        self.model_path = model_path
        self.adapters = tuple(adapters)
        self.header: Header | None = None
        self._threads = threads or default_threads()
        self._context = context
        self._slots = slots
        self._embeddings = embeddings
        self._cache_mib = cache_mib

    async def _check(self) -> None:
        """Raises WeightsMissing or WeightsDamaged, EngineFailed for a reranker that should embed."""
        self.header = await asyncio.to_thread(read_header, self.model_path)
        if self._embeddings and self._pooling() == RANKED:
            detail = f"{self.model_path.name} ranks texts and makes no embeddings; name a model that does"
            raise EngineFailed(name=self.name, detail=detail, log=self._supervisor.log.path)
        for adapter in self.adapters:
            await asyncio.to_thread(read_header, adapter, kind="adapter")

    def _launch(self) -> Launch:
        calls = self._slots + SPARE
        return Launch(
            argv=python_module(CHILD),
            config={
                "name": self.model_path.stem,
                "model": str(self.model_path.resolve()),
                "adapters": [str(path.resolve()) for path in self.adapters],
                "port": 0,  # the kernel chooses a free one and the child reports it: nothing to race for
                "key": self._key,
                "threads": self._threads,
                "slots": self._slots,
                "context": self._longest(),
                "http_threads": calls + SPARE_HTTP_THREADS,
                "embeddings": self._embeddings,
                # Averaging is right for those that do not say; without any there is no vector of a text.
                "mean_pooling": self._embeddings and self._pooling() in (None, POOLED_NOT),
                # llama.cpp takes what one adapter made of a prompt for what another makes of it.
                "cache_mib": 0 if self.adapters else self._cache_mib,
                "reuse": not self.adapters,
            },
            # OpenMP threads that wait by spinning take the core from whoever they wait for.
            env={"OMP_WAIT_POLICY": "passive"},
        )

    def _longest(self) -> int:
        """Tokens per slot: beyond what the model was made for it would only talk nonsense."""
        made_for = self.header.context if self.header is not None else 0
        return min(self._context, made_for) if made_for else self._context

    def _pooling(self) -> object:
        """How the file says that one vector is made of many; None where it does not."""
        return self.header.fields.get(f"{self.header.architecture}.pooling_type") if self.header is not None else None

    def _connect(self, address: str) -> Upstream:
        dialect = LLAMA_CPP_ADAPTED if self.adapters else LLAMA_CPP_OWN
        return OpenAICompatible(self.name, f"{address}/v1", self.model_path.stem, self._key, dialect=dialect)


def default_threads() -> int:
    """All cores this process may use but one, at least one."""
    return max(1, usable_cores() - 1)


def usable_cores() -> int:
    """Cores by affinity and, in a container, by the processor quota of its control group (version 2 or 1)."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota = cgroup_quota()
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores the control group may use, None when it sets no limit or cannot be read."""
    try:
        if (root / "cpu.max").is_file():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text()
        cores = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None
