"""What a variant's ``model:`` line points at. One line of text in, one typed target out; nothing is contacted."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal
from urllib.parse import urlsplit

from fairlead.addresses import address_of, may_call
from fairlead.spec.problems import nearest

Kind = Literal[
    "extractive", "cascade", "mini", "embed", "gguf", "openvino", "vllm", "router", "openai", "anthropic", "http",
    "litellm",
]  # fmt: skip
BUILT_IN: tuple[Kind, ...] = ("extractive", "cascade", "mini", "embed")


@dataclass(frozen=True)
class Host:
    """A provider or server by the scheme of its ``model:`` line.

    ``title`` is its name for people, ``key`` the variable its key usually stands in (empty: it needs none). In
    ``base_url`` ``{place}`` stands for what comes before the slash of the name: a resource, a region.
    """

    title: str
    base_url: str
    example: str
    key: str = ""
    kind: Kind = "openai"

    @property
    def form(self) -> str:
        """What follows the scheme, in words."""
        if "{place}" not in self.base_url:
            return "the model's name"
        return "a place and the model's name with a slash between them"


_ON_AZURE = "https://{place}.openai.azure.com/openai/v1"
_ON_BEDROCK = "https://bedrock-runtime.{place}.amazonaws.com/openai/v1"
_GEMINI = "https://generativelanguage.googleapis.com/v1beta/openai"
HOSTED: Mapping[str, Host] = MappingProxyType(
    {
        "openai": Host("OpenAI", "https://api.openai.com/v1", "openai:gpt-4.1-mini", "OPENAI_API_KEY"),
        "anthropic": Host(
            "Anthropic", "https://api.anthropic.com/v1", "anthropic:claude-haiku-5-5", "ANTHROPIC_API_KEY", "anthropic"
        ),
        "azure": Host("Azure OpenAI", _ON_AZURE, "azure:RESOURCE/DEPLOYMENT", "AZURE_OPENAI_API_KEY"),
        "bedrock": Host(
            "Amazon Bedrock", _ON_BEDROCK, "bedrock:eu-west-1/openai.gpt-oss-20b-1:0", "AWS_BEARER_TOKEN_BEDROCK"
        ),
        "gemini": Host("Gemini", _GEMINI, "gemini:gemini-3.5-flash", "GEMINI_API_KEY"),
        "mistral": Host("Mistral", "https://api.mistral.ai/v1", "mistral:mistral-small-latest", "MISTRAL_API_KEY"),
        "groq": Host("Groq", "https://api.groq.com/openai/v1", "groq:openai/gpt-oss-20b", "GROQ_API_KEY"),
        "together": Host("Together", "https://api.together.ai/v1", "together:openai/gpt-oss-20b", "TOGETHER_API_KEY"),
        "deepseek": Host("DeepSeek", "https://api.deepseek.com/v1", "deepseek:deepseek-chat", "DEEPSEEK_API_KEY"),
        "openrouter": Host(
            "OpenRouter", "https://openrouter.ai/api/v1", "openrouter:openai/gpt-oss-20b", "OPENROUTER_API_KEY"
        ),
        "vllm": Host("vLLM", "http://127.0.0.1:8000/v1", "vllm:Qwen/Qwen3-8B"),
        "sglang": Host("SGLang", "http://127.0.0.1:30000/v1", "sglang:Qwen/Qwen3-8B"),
        "ollama": Host("Ollama", "http://127.0.0.1:11434/v1", "ollama:qwen3"),
        "llamacpp": Host("llama.cpp", "http://127.0.0.1:8080/v1", "llamacpp:default"),
        "litellm": Host("LiteLLM", "", "litellm:cohere/command-a", kind="litellm"),
    }
)
"""Scheme of a ``model:`` line to who answers. Another address is said by ``SCHEME+http(s)://host/v1#NAME``."""
WITHOUT_EMBEDDINGS: Final = frozenset({"anthropic", "bedrock", "groq", "deepseek"})
"""Those of HOSTED that make none."""
_SCHEMES = ", ".join(f"{scheme}:" for scheme in HOSTED)
SERVED: Mapping[str, tuple[Kind, str]] = MappingProxyType({"vllm-serve": ("vllm", "vllm-serve:Qwen/Qwen3-8B")})
"""Scheme of a model that an engine of ours fetches and runs, to its kind and an example."""
OPENVINO: Final = "openvino:"
"""Begins the path of a model that OpenVINO GenAI runs."""
FORMS = (
    "extractive, cascade, mini, embed, ./file.gguf, http(s)://host/v1#NAME, or the model's name after one of "
    f"{_SCHEMES}, vllm-serve:, as openai:NAME; openvino:./model.gguf; router:./file.json for one that chooses "
    "between two"
)
ROUTER = "router:"
"""Begins the model line of a variant that chooses between two others, by a file of ``fairlead route learn``."""
_API_VERSION = re.compile(r"(?P<name>[^@]+)@(?P<version>\d{4}-\d{2}-\d{2}(?:-preview)?)")
_ODD_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}\.?", re.IGNORECASE)
_PLACE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?")
# Forms that are planned; a clear sentence instead of "unknown".
_PLANNED = {
    "hf": "a GGUF file fetched by yourself (./file.gguf) or a server that holds the model (http://host/v1#NAME), "
    "since fetching from Hugging Face is not supported yet",
}


class TargetError(ValueError):
    """What was expected of a model line, and the nearest form."""

    def __init__(self, expected: str, near: str = "", *, secret: bool = False) -> None:
        super().__init__(expected)
        self.expected = expected
        self.near = near
        self.secret = secret


@dataclass(frozen=True)
class Target:
    """``name`` is the model's own name, ``base_url`` where it answers (remote ones), ``path`` the weights (gguf).

    ``provider`` names the dialect its server speaks: a scheme of HOSTED, or ``http`` for any OpenAI-compatible one.
    ``path`` of vLLM is a folder, of a router its file. A router answers nothing itself: where it runs and what it costs
    is said by its two.
    """

    kind: Kind
    name: str
    base_url: str = ""
    path: str = ""
    provider: str = ""

    @property
    def remote(self) -> bool:
        """Whether a server that is not ours answers."""
        return self.kind in {"openai", "anthropic", "http", "litellm"}

    @property
    def embeds_over_http(self) -> bool:
        """Whether a server that is not ours makes embeddings with it, as far as its provider is concerned."""
        return self.remote and self.provider not in WITHOUT_EMBEDDINGS

    @property
    def external(self) -> bool:
        """Whether answering sends text outside this network; loopback and private addresses are inside.

        Where ``litellm`` sends it is its own affair, so that it counts as outside.
        """
        if self.kind == "litellm":
            return True
        return self.remote and not _is_private(urlsplit(self.base_url).hostname or "")

    @property
    def quotes(self) -> bool:
        """Whether it takes passages as documents and quotes them; others read them in their prompt."""
        return self.kind in {"extractive", "cascade"}

    @property
    def routes(self) -> bool:
        """Whether it chooses which of two other variants answers."""
        return self.kind == "router"


def read_target(text: str) -> Target:
    """Parses a ``model:`` line. Raises TargetError."""
    text = text.strip()
    for kind in BUILT_IN:
        if text == kind:
            return Target(kind, kind)
    if text.startswith(("http://", "https://")):
        return _http(text)
    scheme, colon, name = text.partition(":")
    if colon and scheme in _PLANNED:
        raise TargetError(_PLANNED[scheme])
    server, plus, address = text.partition("+")
    if plus and address.startswith(("http://", "https://")):
        return _elsewhere(server, address)
    if colon and scheme in HOSTED:
        return _hosted(scheme, name)
    if colon and scheme in SERVED:
        return _served(scheme, name)
    if (found := _file(text)) is not None:
        return found
    raise TargetError(FORMS, _near(text))


def _file(text: str) -> Target | None:
    """A model that is a file or a folder of the project; None for a line that names none."""
    if text.startswith(ROUTER):
        path = text.removeprefix(ROUTER)
        if not path.startswith("./") or not path.endswith(".json"):
            raise TargetError("router: and the file of a router, below the folder of this file", "router:./router.json")
        return Target("router", path.rsplit("/", 1)[-1].removesuffix(".json"), path=path)
    if text.startswith(OPENVINO):
        path = text.removeprefix(OPENVINO)
        if not path.startswith("./") or not path.strip("./"):
            expected = "openvino: and a GGUF file or an exported folder, below the folder of this file"
            raise TargetError(expected, "openvino:./model.gguf")
        name = path.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")
        return Target("openvino", name, path=path, provider="openvino")
    if text.endswith(".gguf"):
        if not text.startswith("./"):
            raise TargetError(
                "a path that begins with ./ and lies below the folder of this file", f"./{text.lstrip('/')}"
            )
        return Target("gguf", text.rsplit("/", 1)[-1].removesuffix(".gguf"), path=text)
    return None


def _near(text: str) -> str:
    """What was probably meant."""
    scheme, colon, name = text.partition(":")
    if text.startswith(("gpt-", "o1", "o3", "o4", "chatgpt-")):
        return f"openai:{text}"
    if text.startswith("claude-"):
        return f"anthropic:{text}"
    if colon and (close := nearest(scheme, [*HOSTED, *SERVED, "router"], 1)):
        return f"{close}:{name}"
    return nearest(text, [*BUILT_IN, *(f"{scheme}:" for scheme in HOSTED), "http://"])


def _hosted(scheme: str, name: str) -> Target:
    host = HOSTED[scheme]
    if not name or any(character.isspace() for character in name):
        raise TargetError(f"{scheme}: followed by {host.form}", host.example)
    if "{place}" not in host.base_url:
        return Target(host.kind, name, host.base_url, provider=scheme)
    place, slash, model = name.partition("/")
    if not slash or not model or not _PLACE.fullmatch(place):
        raise TargetError(f"{scheme}: followed by {host.form}", host.example)
    base = host.base_url.format(place=place.lower())
    if scheme == "azure" and (dated := _API_VERSION.fullmatch(model)):
        # Before the versionless API, a deployment was a path and every call named a version.
        root = base.removesuffix("/v1")
        return Target(
            host.kind,
            dated["name"],
            f"{root}/deployments/{dated['name']}?api-version={dated['version']}",
            provider=scheme,
        )
    return Target(host.kind, model, base, provider=scheme)


def _served(scheme: str, name: str) -> Target:
    kind, example = SERVED[scheme]
    if not name or any(character.isspace() for character in name) or name.startswith("-"):  # it becomes an argument
        raise TargetError(f"{scheme}: followed by the model's name, or ./ and a folder", example)
    if not name.startswith(("./", "../", "/")):
        return Target(kind, name, provider=kind)
    folder = name.rstrip("/").rsplit("/", 1)[-1]
    if folder in ("", ".", ".."):
        raise TargetError(f"{scheme}: followed by the model's name, or ./ and a folder", example)
    return Target(kind, folder, path=name, provider=kind)


def _elsewhere(scheme: str, address: str) -> Target:
    """A known kind of server at an address of its own."""
    able = [name for name, host in HOSTED.items() if host.kind != "litellm"]
    if scheme not in able:
        close = nearest(scheme, able, 1)
        raise TargetError(
            f"one of {', '.join(able)} before +http(s)://host/v1#NAME", f"{close}+{address}" if close else ""
        )
    found = _http(address)
    return Target(HOSTED[scheme].kind, found.name, found.base_url, provider=scheme)


def _http(text: str) -> Target:
    expected = "http(s)://host/v1#NAME, where NAME is the model's name on that server"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise TargetError(f"{expected}; a port is a number up to 65535") from error
    if parts.username is not None or parts.password is not None:
        raise TargetError("an address without a user name or password; use api_key: env:NAME", secret=True)
    if not host or any(character.isspace() for character in text):
        raise TargetError(expected)
    written = address_of(host)
    if _ODD_NUMBER.fullmatch(host) and written is None:  # it hides where it leads, outside or in
        raise TargetError("the name of a host, or an address in its usual form, as 10.0.0.5 or [fd00::5]")
    if written is not None and not may_call(host, private=True):
        raise TargetError(
            "the address of a model server; none is asked at link-local addresses and others where clouds keep a "
            "machine's credentials"
        )
    if parts.query:
        raise TargetError("an address without a query (?...); secrets belong in api_key: env:NAME", secret=True)
    if not parts.fragment:
        raise TargetError(expected, f"{text.rstrip('#')}#NAME")
    base = f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"
    return Target("http", parts.fragment, base, provider="http")


def _is_private(host: str) -> bool:
    if (
        host == "localhost"
        or host.endswith((".localhost", ".internal", ".local"))
        or not any(mark in host for mark in ".:")
    ):
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False
