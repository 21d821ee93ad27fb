"""The `model:` line."""

from __future__ import annotations

import pytest

from fairlead.spec.target import HOSTED, TargetError, read_target


@pytest.mark.parametrize(
    ("text", "kind", "name", "base_url", "external"),
    [
        ("extractive", "extractive", "extractive", "", False),
        ("mini", "mini", "mini", "", False),
        ("./models/qwen.Q4.gguf", "gguf", "qwen.Q4", "", False),
        ("openai:gpt-4.1-mini", "openai", "gpt-4.1-mini", "https://api.openai.com/v1", True),
        ("openai:ft:gpt-4.1:acme::id", "openai", "ft:gpt-4.1:acme::id", "https://api.openai.com/v1", True),
        ("anthropic:claude-haiku-5-5", "anthropic", "claude-haiku-5-5", "https://api.anthropic.com/v1", True),
        ("http://localhost:8000/v1#org/model", "http", "org/model", "http://localhost:8000/v1", False),
        ("http://127.0.0.1:8000/v1/#m", "http", "m", "http://127.0.0.1:8000/v1", False),
        ("http://[::1]:8000/v1#m", "http", "m", "http://[::1]:8000/v1", False),
        ("http://10.1.2.3/v1#m", "http", "m", "http://10.1.2.3/v1", False),
        ("http://vllm:8000/v1#m", "http", "m", "http://vllm:8000/v1", False),
        ("https://llm.internal/v1#m", "http", "m", "https://llm.internal/v1", False),
        ("https://API.Example.com/v1#m", "http", "m", "https://api.example.com/v1", True),
        (
            "gemini:gemini-3.5-flash",
            "openai",
            "gemini-3.5-flash",
            "https://generativelanguage.googleapis.com/v1beta/openai",
            True,
        ),
        ("groq:openai/gpt-oss-20b", "openai", "openai/gpt-oss-20b", "https://api.groq.com/openai/v1", True),
        ("azure:My-Res/chat", "openai", "chat", "https://my-res.openai.azure.com/openai/v1", True),
        (
            "azure:res/chat@2024-10-21",
            "openai",
            "chat",
            "https://res.openai.azure.com/openai/deployments/chat?api-version=2024-10-21",
            True,
        ),
        (
            "bedrock:eu-west-1/openai.gpt-oss-20b-1:0",
            "openai",
            "openai.gpt-oss-20b-1:0",
            "https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1",
            True,
        ),
        ("ollama:qwen3:8b", "openai", "qwen3:8b", "http://127.0.0.1:11434/v1", False),
        (
            "vllm+http://gpu.internal:8000/v1#Qwen/Qwen3-8B",
            "openai",
            "Qwen/Qwen3-8B",
            "http://gpu.internal:8000/v1",
            False,
        ),
        ("anthropic+https://proxy.example.com/v1#claude", "anthropic", "claude", "https://proxy.example.com/v1", True),
        ("vllm-serve:Qwen/Qwen3-8B", "vllm", "Qwen/Qwen3-8B", "", False),
        ("litellm:cohere/command-a", "litellm", "cohere/command-a", "", True),
        ("https://8.8.8.8/v1#m", "http", "m", "https://8.8.8.8/v1", True),
    ],
)
def test_reads(text: str, kind: str, name: str, base_url: str, external: bool) -> None:
    target = read_target(text)
    assert (target.kind, target.name, target.base_url, target.external) == (kind, name, base_url, external)


@pytest.mark.parametrize(
    ("text", "expected", "near"),
    [
        ("extractve", "openai:NAME", "extractive"),
        ("gpt-4.1-mini", "openai:NAME", "openai:gpt-4.1-mini"),
        ("qwen.gguf", "begins with ./", "./qwen.gguf"),
        ("/models/qwen.gguf", "begins with ./", "./models/qwen.gguf"),
        ("openai:", "model's name", "openai:gpt"),
        ("openai: gpt 4", "model's name", "openai:gpt"),
        ("hf:org/name", "not supported yet", ""),
        ("anthropic:", "the model's name", "anthropic:claude-haiku-5-5"),
        ("claude-haiku-5-5", "anthropic:", "anthropic:claude-haiku-5-5"),
        ("http://host/v1", "#NAME", "http://host/v1#NAME"),
        ("http://host/v1#", "#NAME", "http://host/v1#NAME"),
        ("http://#m", "#NAME", ""),
        ("http://2130706433/v1#m", "usual form", ""),
        ("http://134744072/v1#m", "usual form", ""),
        ("http://0x08080808/v1#m", "usual form", ""),
        ("http://0177.0.0.1/v1#m", "usual form", ""),
        ("http://127.1/v1#m", "usual form", ""),
        ("vllm+http://127.0.0.1./v1#m", "usual form", ""),
        ("http://host:99999/v1#m", "#NAME", ""),
        ("http://[::1/v1#m", "#NAME", ""),
        ("https://user:secret@host/v1#m", "env:NAME", ""),
        ("https://host/v1?key=secret#m", "env:NAME", ""),
        ("azure:chat", "a place and the model's name", "azure:RESOURCE/DEPLOYMENT"),
        ("azure:a.evil.example/x", "a place", ""),
        ("bedrock:eu-west-1/", "a place", ""),
        ("mistrall:x", "mistral:", "mistral:x"),
        ("vllm-serve:", "the model's name", "vllm-serve:Qwen"),
        ("vllm-serve:./", "./ and a folder", "vllm-serve:Qwen"),
        ("vllm-serve:--trust-remote-code", "the model's name", "vllm-serve:Qwen"),
        ("vlm+http://h/v1#m", "vllm", "vllm+http://h/v1#m"),
        ("litellm+http://h/v1#m", "one of openai", ""),
        ("vllm+http://h/v1", "#NAME", "http://h/v1#NAME"),
        ("ftp://host/v1#m", "openai:NAME", ""),
        ("http://host:99999/v1#m", "a number up to 65535", ""),
        ("http://169.254.169.254/v1#m", "credentials", ""),
        ("vllm+http://[::ffff:169.254.169.254]/v1#m", "credentials", ""),
        ("http://[fe80::1]/v1#m", "credentials", ""),
        ("http://[fd00:ec2::254]/v1#m", "credentials", ""),
        ("http://100.100.100.200/v1#m", "credentials", ""),
        ("http://0.0.0.0/v1#m", "credentials", ""),
        ("", "openai:NAME", ""),
    ],
)
def test_refuses(text: str, expected: str, near: str) -> None:
    with pytest.raises(TargetError) as caught:
        read_target(text)
    assert expected in caught.value.expected
    assert near in caught.value.near


@pytest.mark.parametrize(
    ("text", "name", "path"),
    [
        ("./models/tiny", "tiny", "./models/tiny"),
        ("/models/tiny/", "tiny", "/models/tiny/"),
        ("org/tiny", "org/tiny", ""),
    ],
)
def test_vllm_takes_a_folder_by_its_path(text: str, name: str, path: str) -> None:
    target = read_target(f"vllm-serve:{text}")
    assert (target.name, target.path) == (name, path)


@pytest.mark.parametrize("scheme", HOSTED)
def test_every_example_reads_and_names_its_provider(scheme: str) -> None:
    target = read_target(HOSTED[scheme].example)
    assert target.provider == scheme
    assert target.remote
    assert target.kind == HOSTED[scheme].kind
