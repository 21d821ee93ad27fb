"""Translating a request for servers that differ."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from fairlead.providers.base import Call, CallContext, Operation
from fairlead.providers.dialect import (
    DIALECTS,
    GENERIC,
    LLAMA_CPP,
    LLAMA_CPP_ADAPTED,
    LLAMA_CPP_OWN,
    OPENVINO,
    VLLM,
    Dialect,
    Untranslatable,
    short_id,
    translate,
)
from fairlead.providers.facts import FACTS

SYSTEM = {"role": "system", "content": "Be kind."}
ASKED = {"role": "user", "content": "Can I send it back?"}
DOCUMENTS = [{"id": "returns", "title": "Returns", "text": "Within 30 days."}, {"id": "ship", "text": "In two days."}]


def sent(dialect: Dialect, operation: Operation = "chat", **body: Any) -> dict[str, Any]:
    call = Call(operation=operation, body=body, stream=True, deadline=0, context=CallContext())
    before = orjson.dumps(call.body)
    result: dict[str, Any] = orjson.loads(translate(dialect, "real-name", call))
    assert orjson.dumps(call.body) == before, "the caller's body was changed"
    return result


def test_the_upstreams_own_name_goes_out() -> None:
    assert sent(GENERIC, model="alias", messages=[ASKED])["model"] == "real-name"


def test_unknown_fields_pass_untouched() -> None:
    strange: dict[str, Any] = {
        "grammar": "root ::= x",
        "nested": {"a": [1, None, "é"]},
        "lora": [{"id": 0, "scale": 0.5}],
    }
    assert {key: sent(GENERIC, messages=[ASKED], **strange)[key] for key in strange} == strange


def test_passages_are_written_at_the_end_of_the_instructions() -> None:
    messages = sent(GENERIC, messages=[SYSTEM, ASKED], documents=DOCUMENTS)["messages"]
    assert messages[1:] == [ASKED]
    assert messages[0]["role"] == "system"
    assert messages[0]["content"].startswith("Be kind.")
    assert messages[0]["content"].endswith("[1] Within 30 days.\n[2] In two days.")


@pytest.mark.parametrize("first", [ASKED, {"role": "system", "content": [{"type": "text", "text": "Be kind."}]}])
def test_without_instructions_to_end_the_passages_get_their_own(first: dict[str, Any]) -> None:
    messages = sent(GENERIC, messages=[first], documents=DOCUMENTS)["messages"]
    assert messages[1:] == [first]
    assert messages[0]["role"] == "system"
    assert "[1] Within 30 days." in messages[0]["content"]


def test_passages_are_written_out_for_a_server_that_would_take_them_and_show_them_to_no_model() -> None:
    body = sent(VLLM, messages=[ASKED], documents=DOCUMENTS)
    assert "documents" not in body
    assert "[1] Within 30 days." in body["messages"][0]["content"]


@pytest.mark.parametrize("documents", [[], None])
def test_no_passages_no_message(documents: Any) -> None:
    body = sent(GENERIC, messages=[ASKED], documents=documents)
    assert body["messages"] == [ASKED]
    assert "documents" not in body


def test_fields_are_renamed_and_dropped_as_the_dialect_says() -> None:
    assert sent(LLAMA_CPP, messages=[ASKED], max_completion_tokens=5)["max_tokens"] == 5
    odd = Dialect(drop=frozenset({"seed"}), stream_usage=False)
    assert sent(odd, messages=[ASKED], seed=1, stream_options={"include_usage": True}).keys() == {"messages", "model"}


def test_marks_of_another_provider_stay_here() -> None:
    marked = {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "x"}
    messages = [
        {"role": "system", "content": [marked]},
        {"role": "assistant", "content": "Yes.", "thinking_blocks": [thought]},
    ]
    plain = [
        {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "assistant", "content": "Yes."},
    ]
    assert sent(GENERIC, messages=messages)["messages"] == plain
    kept = sent(Dialect(marks=True), messages=messages)["messages"]
    assert kept[0] == messages[0]
    assert "thinking_blocks" not in kept[1]
    assert "thinking" not in sent(GENERIC, messages=plain, thinking={"type": "enabled"})


@pytest.mark.parametrize("dialect", [LLAMA_CPP_OWN, LLAMA_CPP_ADAPTED, OPENVINO])
def test_a_model_that_reads_text_alone_is_never_sent_anything_else(dialect: Dialect) -> None:
    words = [{"type": "text", "text": "a"}]
    assert sent(dialect, messages=[{"role": "user", "content": words}])["messages"][0]["content"] == words
    for part, said in (
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}, "not images"),
        ({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}, "not sound"),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AA=="}}, "not files"),
    ):
        with pytest.raises(Untranslatable, match=said) as caught:
            sent(dialect, messages=[{"role": "user", "content": [*words, part]}])
        assert caught.value.param == "messages"
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]
    assert sent(LLAMA_CPP, messages=image)["messages"] == image, "a server of one's own may have a projector"


def test_a_field_a_server_refuses_is_refused_by_name_unless_it_asks_for_nothing() -> None:
    with pytest.raises(Untranslatable) as caught:
        sent(DIALECTS["groq"], messages=[ASKED], n=2)
    assert caught.value.param == "n"
    assert "n" not in sent(DIALECTS["groq"], messages=[ASKED], n=1, logprobs=False)


@pytest.mark.parametrize("identifier", ["call_1", "", "toolu_01ABC", "9nEoTfmnF", "x" * 80])
def test_ids_of_tool_calls_are_the_same_wherever_they_stand(identifier: str) -> None:
    call = {"id": identifier, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    told = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": identifier, "content": "x"}]
    messages = sent(DIALECTS["mistral"], messages=told)["messages"]
    made = messages[0]["tool_calls"][0]["id"]
    assert made == messages[1]["tool_call_id"] == short_id(identifier)
    assert len(made) == 9
    assert made.isalnum()


def test_a_grammar_reaches_servers_under_their_own_name() -> None:
    assert sent(DIALECTS["sglang"], messages=[ASKED], grammar="g")["ebnf"] == "g"
    assert sent(VLLM, messages=[ASKED], grammar="g")["structured_outputs"] == {"grammar": "g"}
    for name, dialect in DIALECTS.items():
        if name != "http" and not FACTS[name].grammar:
            with pytest.raises(Untranslatable, match="does not take grammar"):
                sent(dialect, messages=[ASKED], grammar="g")
    both = sent(VLLM, messages=[ASKED], grammar="g", structured_outputs={"backend": "b"})
    assert both["structured_outputs"] == {"backend": "b", "grammar": "g"}


@pytest.mark.parametrize("provider", ["vllm", "sglang", "ollama", "llamacpp"])
@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data"}},
        {"type": "image_url", "image_url": "https://example.com/a.png"},
        {"type": "video_url", "video_url": {"url": "file:///etc/passwd"}},
        {"type": "audio_url", "audio_url": {"url": " data:audio/wav;base64,AA"}},
        {"type": "image_url", "image_url": {"url": None}},
        {"type": "image_url"},
    ],
)
def test_an_engine_of_ones_own_is_sent_to_no_address(provider: str, part: dict[str, Any]) -> None:
    def asking(content: Any) -> Call:
        messages = [{"role": "user", "content": "Hello"}, {"role": "user", "content": content}]
        return Call(operation="chat", body={"messages": messages}, stream=False, deadline=0.0, context=CallContext())

    with pytest.raises(Untranslatable, match="data: URL") as refused:
        translate(DIALECTS[provider], "m", asking([{"type": "text", "text": "What is it?"}, part]))
    assert refused.value.param == "messages"
    fine = [
        {"type": "image_url", "image_url": {"url": "DATA:image/png;base64,AA"}},
        {"type": "text", "text": "http://x"},
    ]
    assert translate(DIALECTS[provider], "m", asking(fine))
    assert translate(DIALECTS["openai"], "m", asking([part])), "a provider fetches from outside"
