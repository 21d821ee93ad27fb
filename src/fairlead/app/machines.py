"""The engines of one use case: which there are, what each is started with, and another in its place while it serves.

An engine is named by its weights (see ``weights_of``) and shared by the variants that name them. Knows no route.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fairlead import engines
from fairlead.app.parts import EMBEDS, IN_PROCESS, OPENVINO, VLLM_SERVE, packaged_weights, weights_of
from fairlead.engines.base import Engine
from fairlead.engines.ondemand import OnDemand
from fairlead.engines.swappable import Swappable
from fairlead.engines.vllm import SEQUENCES
from fairlead.errors import EngineFixed, EngineUnknown
from fairlead.settings import Settings
from fairlead.spec import UseCase, Variant

ADAPTED: Final = 1.0
"""Scale of an adapter for the variant that names it; other requests are answered without."""


class Machines:
    """``engines`` are those made so far, by weights."""

    def __init__(self, usecase: UseCase, settings: Settings) -> None:
        self.engines: dict[str, Engine] = {}
        self._usecase = usecase
        self._settings = settings

    def engine(self, weights: str) -> Engine:
        """The engine for ``weights``, made when it is first asked for."""
        if weights not in self.engines:
            made = self._make(weights)
            self.engines[weights] = made if weights in IN_PROCESS else Swappable(made)
        return self.engines[weights]

    def slots(self, weights: str) -> int:
        """Requests an engine works on at once."""
        return SEQUENCES if weights.removeprefix(EMBEDS).startswith(VLLM_SERVE) else self._settings.engine_slots

    def asked_as(self, variant: Variant) -> str:
        """What a call names, as ``model``, to be answered as the variant is."""
        return variant.id if variant.adapter and variant.target.kind == "vllm" else variant.target.name

    def defaults(self, variant: Variant) -> dict[str, Any]:
        """What a call carries, besides, to be answered as the variant is: llama.cpp is told its adapters by place."""
        if variant.adapter is None or variant.target.kind == "vllm":
            return {}
        place = list(self._adapters(*weights_of(variant))).index(variant.id)
        return {"lora": [{"id": place, "scale": ADAPTED}]}

    def weights(self, name: str) -> str:
        """The weights of the engine called ``name``. Raises EngineUnknown, EngineFixed for one that is our own code."""
        found = [weights for weights, engine in self.engines.items() if engine.name == name]
        if not found:
            raise EngineUnknown(name=name[:80], known=", ".join(engine.name for engine in self.engines.values()))
        if found[0] in IN_PROCESS:
            raise EngineFixed(name=name)
        return found[0]

    async def swap(self, name: str, switched: Callable[[], None]) -> None:
        """Start another engine from the files as they are now, and let it take the place of the one called ``name``.

        ``switched`` is called when calls go to the new one; then the old one finishes its own and is stopped. Raises
        EngineUnknown, EngineFixed, and what the new one raises when it cannot start; the old one then serves on.
        """
        weights = self.weights(name)
        engine = self.engines[weights]
        if not isinstance(engine, Swappable):
            raise EngineFixed(name=name)
        await engine.swap(self._make(weights), switched)

    def _adapters(self, weights: str) -> dict[str, Path]:
        """The adapters of the variants that share ``weights``, by variant."""
        return {
            variant.id: path
            for variant in self._usecase.variants
            if weights in weights_of(variant) and (path := variant.adapter_path()) is not None
        }

    def _make(self, weights: str) -> Engine:
        if weights in IN_PROCESS:
            return engines.registry.build(weights)
        settings = self._settings
        shared: dict[str, Any] = {"log_dir": settings.data_path / "logs", "drain_s": settings.shutdown_grace_s}
        model, ending = weights, ""
        if weights.startswith(EMBEDS):
            model, ending = weights.removeprefix(EMBEDS), "-embed"
            shared["embeddings"] = True
        engine: Engine
        if model.startswith(VLLM_SERVE):
            model = model.removeprefix(VLLM_SERVE)
            name = model.rsplit("/", 1)[-1]
            engine = engines.registry.build(
                "vllm", name + ending, model, served=name if model.startswith("/") else model,
                command=settings.vllm_command, arguments=shlex.split(settings.vllm_arguments),
                adapters=self._adapters(weights), **shared,
            )  # fmt: skip
        else:
            kind = "openvino" if model.startswith(OPENVINO) else "llamacpp"
            path = packaged_weights(model) if model == "mini" else Path(model.removeprefix(OPENVINO))
            adapters = {} if kind == "openvino" else {"adapters": tuple(self._adapters(weights).values())}
            engine = engines.registry.build(
                kind, (path.stem if path.suffix == ".gguf" else path.name) + ending, path,
                threads=settings.engine_threads, context=settings.engine_context, slots=settings.engine_slots,
                **adapters, **shared,
            )  # fmt: skip
        return OnDemand(engine, settings.engine_idle_s) if settings.engine_idle_s else engine
