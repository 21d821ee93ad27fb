"""What each provider documents of its wire format, as data: answers, streams and errors in its own words.

Written from the public references (November 2026); no recording of a live call. ``whole`` and ``stream`` tell the same
answer. ``text``, ``thought``, ``cached`` and ``finish`` are what a client of the OpenAI protocol must read in it.
"""

from __future__ import annotations

from typing import Any

import msgspec

TOLD = {"prompt_tokens": 30, "completion_tokens": 7, "total_tokens": 37}
CACHED = {**TOLD, "prompt_tokens_details": {"cached_tokens": 24}}


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's format. ``stream`` holds chunks, or text for lines that are none, as comments."""

    whole: dict[str, Any]
    stream: list[dict[str, Any] | str]
    error: tuple[int, Any, str]
    text: str = "It is on its way."
    thought: str = ""
    cached: int = 0
    finish: str = "stop"


def whole(message: dict[str, Any], finish: str = "stop", usage: dict[str, Any] | None = None, **more: Any) -> Any:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    head = {"id": "c-1", "object": "chat.completion", "created": 1_790_000_000, "model": "m"}
    return {**head, "choices": [choice], "usage": usage or TOLD, **more}


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1_790_000_000, "model": "m"}
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {**head, "choices": choices, **more}


SAID = {"content": "It is on its way."}
FIRST = {"role": "assistant", "content": ""}
PIECES = [chunk({"content": "It is "}), chunk({"content": "on its way."})]
DETAILS = [{"type": "reasoning.text", "text": "Let me see."}]
WRONG = {"error": {"message": "bad", "type": "invalid_request_error", "param": "x", "code": "c"}}

WIRES: dict[str, Wire] = {
    "openai": Wire(
        whole=whole({**SAID, "refusal": None, "annotations": []}, usage=CACHED, service_tier="default"),
        stream=[chunk({**FIRST, "refusal": None}), *PIECES, chunk({}, "stop"), chunk(None, usage=CACHED)],
        error=(400, WRONG, "bad"),
        cached=24,
    ),
    "azure": Wire(
        whole=whole(SAID, usage=CACHED, prompt_filter_results=[{"prompt_index": 0, "content_filter_results": {}}]),
        stream=[
            chunk(None, prompt_filter_results=[{"prompt_index": 0}]),
            chunk(FIRST), *PIECES, chunk({}, "stop"), chunk(None, usage=CACHED),
        ],
        error=(429, {"error": {"code": "429", "message": "over the call rate limit"}}, "over the call rate limit"),
        cached=24,
    ),
    "bedrock": Wire(
        whole=whole({**SAID, "refusal": None}),
        stream=[chunk(FIRST), *PIECES, chunk({}, "stop"), chunk(None, usage=TOLD)],
        error=(400, {"message": "The provided model identifier is invalid."}, "model identifier is invalid"),
    ),
    "gemini": Wire(
        whole=whole(SAID, usage=TOLD),
        stream=[
            chunk({"role": "assistant", "content": "It is "}),
            chunk({"content": "on its way."}, "stop", usage=TOLD),
        ],
        error=(400, [{"error": {"code": 400, "message": "Unknown name", "status": "INVALID"}}], "Unknown name"),
    ),
    "mistral": Wire(
        whole=whole({
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "Let me see."}]},
                {"type": "text", "text": "It is on its way."},
            ],
            "tool_calls": None, "prefix": False,
        }),
        stream=[
            chunk(FIRST),
            chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Let me see."}]}]}),
            *PIECES, chunk({"content": ""}, "stop", usage=TOLD),
        ],
        error=(
            422,
            {"object": "error", "type": "invalid_request_error",
             "message": {"detail": [{"loc": ["body", "x"], "msg": "Extra inputs are not permitted"}]}},
            "Extra inputs",
        ),
        thought="Let me see.",
    ),
    "groq": Wire(
        whole=whole({**SAID, "reasoning": "Let me see."}, usage={**CACHED, "queue_time": 0.01}, x_groq={"id": "r"}),
        stream=[
            chunk(FIRST, x_groq={"id": "r"}), chunk({"reasoning": "Let me "}), chunk({"reasoning": "see."}),
            *PIECES, chunk({}, "stop", x_groq={"id": "r", "usage": TOLD}), chunk(None, usage=CACHED),
        ],
        error=(400, WRONG, "bad"),
        thought="Let me see.",
        cached=24,
    ),
    "together": Wire(
        whole=whole({**SAID, "tool_calls": [], "reasoning": "Let me see."}, "eos", prompt=[]),
        stream=[
            chunk({"role": "assistant", "content": "", "reasoning": "Let me see."}),
            *PIECES, chunk({"content": ""}, "eos", usage=TOLD),
        ],
        error=(422, {"error": {"message": "bad", "type": "invalid_request_error", "param": None, "code": None}}, "bad"),
        thought="Let me see.",
    ),
    "deepseek": Wire(
        whole=whole(
            {**SAID, "reasoning_content": "Let me see."},
            usage={**TOLD, "prompt_cache_hit_tokens": 24, "prompt_cache_miss_tokens": 6},
        ),
        stream=[
            ": keep-alive", chunk({**FIRST, "reasoning_content": "Let me see."}), *PIECES,
            chunk({"content": ""}, "stop"),
            chunk(None, usage={**TOLD, "prompt_cache_hit_tokens": 24, "prompt_cache_miss_tokens": 6}),
        ],
        error=(402, {"error": {"message": "Insufficient Balance", "type": "unknown_error", "code": "x"}}, "Balance"),
        thought="Let me see.",
        cached=24,
    ),
    "openrouter": Wire(
        whole=whole(
            {**SAID, "reasoning": "Let me see.", "reasoning_details": DETAILS},
            usage={**CACHED, "cost": 0.0001}, provider="P",
        ),
        stream=[
            ": OPENROUTER PROCESSING",
            chunk({**FIRST, "reasoning": "Let me see.", "reasoning_details": DETAILS}),
            *PIECES, chunk({"content": ""}, "stop"), chunk({"role": "assistant", "content": ""}, usage=CACHED),
        ],
        error=(402, {"error": {"code": 402, "message": "Insufficient credits"}, "user_id": "u"}, "credits"),
        thought="Let me see.",
        cached=24,
    ),
    "vllm": Wire(
        whole=whole(
            {**SAID, "reasoning": "Let me see.", "tool_calls": []}, usage=CACHED, prompt_logprobs=None,
            kv_transfer_params=None,
        ),
        stream=[
            chunk(FIRST), chunk({"reasoning": "Let me see."}), *PIECES, chunk({"content": ""}, "stop"),
            chunk(None, usage=CACHED),
        ],
        error=(400, {"error": {"message": "bad", "type": "BadRequestError", "param": None, "code": 400}}, "bad"),
        thought="Let me see.",
        cached=24,
    ),
    "sglang": Wire(
        whole=whole({**SAID, "reasoning_content": "Let me see.", "tool_calls": None}, usage=CACHED),
        stream=[
            chunk(FIRST), chunk({"reasoning_content": "Let me see.", "content": None}), *PIECES, chunk({}, "stop"),
            chunk(None, usage=CACHED),
        ],
        error=(400, {"object": "error", "message": "bad", "type": "BadRequest", "param": None, "code": 400}, "bad"),
        thought="Let me see.",
        cached=24,
    ),
    "ollama": Wire(
        whole=whole({**SAID, "reasoning": "Let me see."}, system_fingerprint="fp_ollama"),
        stream=[
            chunk({"role": "assistant", "content": "", "reasoning": "Let me see."}), *PIECES,
            chunk({"role": "assistant", "content": ""}, "stop"), chunk(None, usage=TOLD),
        ],
        error=(404, {"error": {"message": "model 'x' not found", "type": "api_error", "param": None}}, "not found"),
        thought="Let me see.",
    ),
    "llamacpp": Wire(
        whole=whole(SAID, usage=CACHED, timings={"prompt_n": 6, "predicted_per_second": 40.0}),
        stream=[chunk({"role": "assistant", "content": None}), *PIECES, chunk({}, "stop"), chunk(None, usage=CACHED)],
        error=(400, {"error": {"code": 400, "message": "bad", "type": "invalid_request_error"}}, "bad"),
        cached=24,
    ),
    "http": Wire(
        whole=whole(SAID),
        stream=[chunk(FIRST), *PIECES, chunk({}, "stop"), chunk(None, usage=TOLD)],
        error=(400, WRONG, "bad"),
    ),
}  # fmt: skip
