"""vLLM as an engine of ours: ``vllm serve`` supervised, reached over loopback with a key nobody else has.

vLLM lives where its operator installed it, often in an environment of its own: ``command`` is its executable, nothing
of it is imported. Any program that takes the same arguments and speaks the same protocol does as well. Knows no use
case and no request: calls go through ``upstream``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from fairlead.engines.base import Health, Load
from fairlead.engines.process import ProcessEngine
from fairlead.engines.program_child import config_of
from fairlead.engines.supervisor import Launch, Limits, python_module
from fairlead.errors import EngineFailed
from fairlead.providers.base import Upstream
from fairlead.providers.dialect import VLLM
from fairlead.providers.openai_compatible import OpenAICompatible

CHILD: Final = "fairlead.engines.program_child"
LOADING: Final = Limits(start_s=1800.0, grace_s=20.0, hung_s=60.0)
"""Weights of many gigabytes are fetched and compiled before the first answer."""
SEQUENCES: Final = 64
"""Requests worked on at once, unless said otherwise."""
SPARE: Final = 16
LOOK_S: Final = 5.0
"""How often a ready engine is asked for its load."""
PASSED_ON: Final = (
    "VLLM_", "HF_", "TRANSFORMERS_", "TOKENIZERS_", "TORCH", "TRITON_", "NCCL_", "MKL_", "KMP_", "XDG_CACHE_HOME",
    "LD_PRELOAD", "SSL_CERT_", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy",
    "https_proxy", "no_proxy",
)  # fmt: skip
"""Beginnings of the variables that vLLM goes by, the token for models that ask for one included: it fetches them."""
RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What ``--max-lora-rank`` takes; without it vLLM refuses an adapter beyond 16."""
USUAL_RANK: Final = 16
_METRIC = re.compile(rb"^vllm:(?P<name>[a-z_]+)(?:\{[^\n]*\})? (?P<value>[0-9.eE+-]+)\r?$", re.MULTILINE)
_CACHE: Final = ("kv_cache_usage_perc", "gpu_cache_usage_perc")
"""Today's name and the one before it; both are a share of 1, whatever they say."""


class Vllm(ProcessEngine):
    """A model that ``vllm serve`` runs.

    ``model`` is a name on Hugging Face or a folder, ``served`` what it is called in calls and answers (as ``model``
    where it is left out). ``arguments`` are passed on to vLLM as they are. ``adapters`` are LoRA folders by name: a
    call whose ``model`` is such a name is answered with it, every other by the model itself. ``embeddings`` makes it an
    embedder and nothing else. ``sequences`` are worked on at once; others wait here.
    """

    def __init__(
        self,
        name: str,
        model: str,
        *,
        log_dir: Path,
        command: str = "vllm",
        arguments: Sequence[str] = (),
        served: str = "",
        adapters: Mapping[str, Path] | None = None,
        embeddings: bool = False,
        context: int = 0,
        sequences: int = SEQUENCES,
        prefix_cache: bool = True,
        drain_s: float = 10.0,
        limits: Limits = LOADING,
        look_s: float = LOOK_S,
    ) -> None:
        super().__init__(name, log_dir=log_dir, at_once=sequences + SPARE, drain_s=drain_s, limits=limits)
        self.model = model
        self.served = served or model
        self.adapters = dict(adapters or {})
        self._rank = 0
        self._embeddings = embeddings
        self._command = command
        self._arguments = tuple(arguments)
        self._context = context
        self._sequences = sequences
        self._prefix_cache = prefix_cache
        self._look_s = look_s
        self._load: Load | None = None
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start, and return once the model answers. Raises EngineFailed; then nothing is left running."""
        await super().start()
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name=f"load of {self.name}")

    async def _check(self) -> None:
        """Raises EngineFailed."""
        if shutil.which(self._command) is None:
            detail = f"there is no program {self._command!r}; install vLLM, or name its executable with --vllm-command"
            raise EngineFailed(name=self.name, detail=detail, log=self._supervisor.log.path)
        missing = [str(path) for path in self.adapters.values() if not path.is_dir()]
        if missing:
            detail = f"there is no adapter folder {missing[0]}"
            raise EngineFailed(name=self.name, detail=detail, log=self._supervisor.log.path)
        try:
            self._rank = max(map(rank_of, self.adapters.values()), default=0)
        except ValueError as error:
            raise EngineFailed(name=self.name, detail=str(error), log=self._supervisor.log.path) from error

    async def stop(self) -> None:
        """Let calls that run finish (at most ``drain_s``), then stop the process. Idempotent."""
        looking, self._looking, self._load = self._looking, None, None
        if looking is not None:
            looking.cancel()
            await asyncio.wait([looking])
        await super().stop()

    def health(self) -> Health:
        """The state right now; the load is that of some seconds ago."""
        health = super().health()
        return msgspec.structs.replace(health, load=self._load) if health.state == "ready" else health

    async def _look(self) -> None:
        while True:
            said = await self._supervisor.get("/metrics") if self._supervisor.health().state == "ready" else None
            self._load = read_load(said) if said is not None else None
            await asyncio.sleep(self._look_s)

    def argv(self) -> list[str]:
        """The command; ``{port}`` stands for a port that is free when it is started."""
        argv = [shutil.which(self._command) or self._command, "serve", self.model]
        argv += ["--host", "127.0.0.1", "--port", "{port}", "--max-num-seqs", str(self._sequences)]
        argv += ["--served-model-name", self.served]  # otherwise answers would carry a folder's path
        if self._embeddings:
            argv += ["--runner", "pooling"]
        argv += ["--enable-prefix-caching" if self._prefix_cache else "--no-enable-prefix-caching"]
        argv += ["--enable-prompt-tokens-details"]  # tells how many tokens the prefix cache saved
        if self._context:
            argv += ["--max-model-len", str(self._context)]
        if self.adapters:
            modules = [f"{name}={path.resolve()}" for name, path in self.adapters.items()]
            argv += ["--enable-lora", "--max-loras", str(len(modules)), "--lora-modules", *modules]
        if self._rank > USUAL_RANK:
            argv += ["--max-lora-rank", str(next((rank for rank in RANKS if rank >= self._rank), self._rank))]
        return [*argv, *self._arguments]

    def _launch(self) -> Launch:
        config = config_of(self.argv(), {"VLLM_API_KEY": self._key})
        env = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        return Launch(argv=python_module(CHILD), config=config, env=env)

    def _connect(self, address: str) -> Upstream:
        names = frozenset(self.adapters)
        return OpenAICompatible(self.name, f"{address}/v1", self.served, self._key, dialect=VLLM, others=names)


def rank_of(adapter: Path) -> int:
    """The rank a LoRA folder states, 0 where it states none. Raises ValueError with what is wrong."""
    path = adapter / "adapter_config.json"
    try:
        rank = json.loads(path.read_text(encoding="utf-8")).get("r", 0)
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"the adapter's {path} cannot be read: {error}") from error
    if not isinstance(rank, int) or rank < 0:
        raise ValueError(f"the adapter's {path} says r: {rank!r}; expected a whole number")
    return rank


def read_load(metrics: bytes) -> Load | None:
    """The load in vLLM's metrics (Prometheus' text); None where they hold none of it.

    Several engines of one server are added up; of their caches the fullest counts.
    """
    found: dict[str, list[float]] = {}
    for line in _METRIC.finditer(metrics):
        with contextlib.suppress(ValueError):
            value = float(line["value"])
            if math.isfinite(value):
                found.setdefault(line["name"].decode("ascii"), []).append(value)
    running, waiting = found.get("num_requests_running"), found.get("num_requests_waiting")
    if running is None or waiting is None:
        return None
    shares = [share for name in _CACHE for share in found.get(name, ())]
    return Load(running=round(sum(running)), waiting=round(sum(waiting)), cache=max(shares, default=0.0))
