"""What a variant's ``model:`` line points at. One line of text in, one typed target out; nothing is contacted."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

from fairlead.spec.problems import nearest

Kind = Literal["extractive", "cascade", "mini", "embed", "gguf", "openai", "anthropic", "http"]
BUILT_IN: tuple[Kind, ...] = ("extractive", "cascade", "mini", "embed")
HOSTED: Mapping[str, tuple[Kind, str, str]] = MappingProxyType(
    {
        "openai": ("openai", "https://api.openai.com/v1", "openai:gpt-4.1-mini"),
        "anthropic": ("anthropic", "https://api.anthropic.com/v1", "anthropic:claude-haiku-5-5"),
    }
)
"""Scheme of a ``model:`` line to kind, address and an example."""
FORMS = "extractive, cascade, mini, embed, ./file.gguf, openai:NAME, anthropic:NAME or http(s)://host/v1#NAME"
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
    """``name`` is the model's own name, ``base_url`` where it answers (remote ones), ``path`` the weights (gguf)."""

    kind: Kind
    name: str
    base_url: str = ""
    path: str = ""

    @property
    def remote(self) -> bool:
        """Whether a server that is not ours answers."""
        return self.kind in {"openai", "anthropic", "http"}

    @property
    def external(self) -> bool:
        """Whether answering sends text outside this network; loopback and private addresses are inside."""
        return self.remote and not _is_private(urlsplit(self.base_url).hostname or "")

    @property
    def quotes(self) -> bool:
        """Whether it takes passages as documents and quotes them; others read them in their prompt."""
        return self.kind in {"extractive", "cascade"}

    @property
    def answers(self) -> bool:
        """Whether it can answer a message; an embedder cannot."""
        return self.kind != "embed"


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
    if colon and scheme in HOSTED:
        kind, url, example = HOSTED[scheme]
        if not name or name != name.strip() or any(character.isspace() for character in name):
            raise TargetError(f"{scheme}: followed by the model's name", example)
        return Target(kind, name, url)
    if text.endswith(".gguf"):
        if not text.startswith("./"):
            raise TargetError(
                "a path that begins with ./ and lies below the folder of this file", f"./{text.lstrip('/')}"
            )
        return Target("gguf", text.rsplit("/", 1)[-1].removesuffix(".gguf"), path=text)
    near = nearest(text, [*BUILT_IN, *(f"{scheme}:" for scheme in HOSTED), "http://"])
    if text.startswith(("gpt-", "o1", "o3", "o4", "chatgpt-")):
        near = f"openai:{text}"
    if text.startswith("claude-"):
        near = f"anthropic:{text}"
    raise TargetError(FORMS, near)


def _http(text: str) -> Target:
    expected = "http(s)://host/v1#NAME, where NAME is the model's name on that server"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise TargetError(expected) from error
    if parts.username is not None or parts.password is not None:
        raise TargetError("an address without a user name or password; use api_key: env:NAME", secret=True)
    if not host or any(character.isspace() for character in text):
        raise TargetError(expected)
    if parts.query:
        raise TargetError("an address without a query (?...); secrets belong in api_key: env:NAME", secret=True)
    if not parts.fragment:
        raise TargetError(expected, f"{text.rstrip('#')}#NAME")
    base = f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"
    return Target("http", parts.fragment, base)


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
