"""The process that holds a GGUF model: llama.cpp's own OpenAI-compatible server, run from the ``xllamacpp`` wheel.

Started by ``llamacpp.LlamaCpp`` as ``python -m fairlead.engines.llamacpp_child``; everything it needs comes over the
lifeline. Native code that reads a file from anywhere can crash: it does so here, where nothing else is lost.
"""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from typing import Any, Final

from fairlead.engines.lifeline import Lifeline

LOG_ERRORS: Final = 1
"""Of llama.cpp's levels; with warnings it writes two lines for each repeated prompt."""


def main() -> int:
    """Serve until SIGTERM or until the parent is gone. Exit status 1 when the model could not be served."""
    lifeline = Lifeline()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    config = lifeline.receive()
    try:
        server = serve(config)
    except (RuntimeError, ValueError, OSError) as error:
        lifeline.report(error=str(error))
        return 1
    lifeline.report(listening=server.listening_address)
    stop.wait()
    return 0


def serve(config: dict[str, Any]) -> Any:
    """Load the model and listen on loopback: an ``xllamacpp.Server``, which runs until it is collected.

    Keys of ``config``: see ``LlamaCpp``. Raises RuntimeError when the model or the port cannot be used.
    """
    # Native and untyped. Not imported at the top: the lifeline must hold before the library is loaded.
    xllamacpp: Any = importlib.import_module("xllamacpp")
    return xllamacpp.Server(parameters(xllamacpp, config))


def parameters(xllamacpp: Any, config: dict[str, Any]) -> Any:
    """llama.cpp's parameters. Everything that listens, writes or reaches out beyond answering is switched off."""
    params = xllamacpp.CommonParams()
    params.model.path = config["model"]
    params.model_alias = {config["name"]}  # otherwise answers would carry the file's path
    # Scale 0: each request may ask for an adapter, it is in effect for none that does not.
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 0.0) for path in config["adapters"]]
    params.hostnames = ["127.0.0.1"]
    params.port = config["port"]
    params.api_keys = [config["key"]]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = config["threads"]
    params.n_parallel = config["slots"]
    params.n_ctx = config["context"] * config["slots"]
    params.n_threads_http = config["http_threads"]
    params.embedding = config["embeddings"]
    if config["embeddings"]:  # a text is read in one piece; by default of 512 tokens, and longer ones are refused
        params.n_batch = params.n_ubatch = config["context"]
    if config["mean_pooling"]:
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.use_jinja = True
    params.offline = True
    params.ui = False
    params.endpoint_slots = False
    params.cors_origins = "http://127.0.0.1"
    params.cors_credentials = False
    params.fit_params = False
    params.cache_ram_mib = config["cache_mib"]
    params.cache_prompt = config["reuse"]
    params.verbosity = LOG_ERRORS
    return params


if __name__ == "__main__":
    sys.exit(main())
