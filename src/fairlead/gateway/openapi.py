"""The gateway's own OpenAPI description: hand-made, with the request bodies taken from the table that checks them."""

from __future__ import annotations

import functools
from typing import Any

from fairlead import __version__
from fairlead.gateway.fields import BODIES, Record, nullable
from fairlead.gateway.surfaces import DIALECTS
from fairlead.providers.base import Operation

Document = dict[str, Any]
_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}
_HEADERS = {
    "x-request-id": {
        "description": "The request's id: the client's own x-request-id where it is sane, else a fresh UUIDv7.",
        "schema": _TEXT,
    }
}
_ERRORS: dict[str, str] = {
    "400": "The body or a parameter cannot be used; `param` names it.",
    "401": "No valid API key.",
    "403": "The key lacks the scope.",
    "404": "No such model or path.",
    "405": "The path does not take this method; see Allow.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body is not declared as plain JSON.",
    "409": "The upstream reports a conflict.",
    "429": "Too many requests; see Retry-After.",
    "500": "Something inside Fairlead failed; the log has the reason under the request id.",
    "502": "The upstream cannot be reached, refused, or broke off.",
    "503": "Not ready, or the upstream is overloaded; see Retry-After.",
    "504": "No answer before the deadline.",
}


def _object(properties: Document, *required: str) -> Document:
    return {"type": "object", "properties": properties, "required": list(required)}


_USAGE = _object(
    {"prompt_tokens": _WHOLE, "completion_tokens": _WHOLE, "total_tokens": _WHOLE}, "prompt_tokens", "total_tokens"
)
_SCHEMAS: Document = {
    "Error": _object(
        {
            "error": _object(
                {
                    "message": _TEXT,
                    "type": _TEXT,
                    "param": nullable(_TEXT),
                    "code": nullable(_TEXT),
                    "request_id": _TEXT,
                },
                "message",
                "type",
                "param",
                "code",
                "request_id",
            )
        },
        "error",
    ),
    "ChatCompletion": _object(
        {
            "id": _TEXT,
            "object": {"const": "chat.completion"},
            "created": _WHOLE,
            "model": _TEXT,
            "choices": {
                "type": "array",
                "items": _object(
                    {
                        "index": _WHOLE,
                        "finish_reason": nullable(_TEXT),
                        "message": _object({"role": _TEXT, "content": nullable(_TEXT)}, "role"),
                        "logprobs": nullable({"type": "object"}),
                    },
                    "index",
                    "message",
                ),
            },
            "usage": nullable(_USAGE),
        },
        "choices",
    ),
    "Completion": _object(
        {
            "id": _TEXT,
            "object": {"const": "text_completion"},
            "created": _WHOLE,
            "model": _TEXT,
            "choices": {
                "type": "array",
                "items": _object({"index": _WHOLE, "text": _TEXT, "finish_reason": nullable(_TEXT)}, "index", "text"),
            },
            "usage": nullable(_USAGE),
        },
        "choices",
    ),
    "Embeddings": _object(
        {
            "object": {"const": "list"},
            "model": _TEXT,
            "data": {
                "type": "array",
                "items": _object(
                    {
                        "object": {"const": "embedding"},
                        "index": _WHOLE,
                        "embedding": {
                            "anyOf": [
                                {"type": "array", "items": {"type": "number"}},
                                {"type": "string", "contentEncoding": "base64"},
                            ]
                        },
                    },
                    "index",
                    "embedding",
                ),
            },
            "usage": nullable(_USAGE),
        },
        "data",
    ),
    "Response": _object(
        {
            "id": _TEXT,
            "object": {"const": "response"},
            "created_at": _WHOLE,
            "status": _TEXT,
            "model": _TEXT,
            "output": {"type": "array", "items": _object({"id": _TEXT, "type": _TEXT}, "id", "type")},
            "usage": nullable(_object({"input_tokens": _WHOLE, "output_tokens": _WHOLE, "total_tokens": _WHOLE})),
        },
        "id",
        "status",
        "output",
    ),
    "Message": _object(
        {
            "id": _TEXT,
            "type": {"const": "message"},
            "role": {"const": "assistant"},
            "model": _TEXT,
            "content": {"type": "array", "items": _object({"type": _TEXT}, "type")},
            "stop_reason": nullable(_TEXT),
            "stop_sequence": nullable(_TEXT),
            "usage": _object({"input_tokens": _WHOLE, "output_tokens": _WHOLE}, "input_tokens", "output_tokens"),
        },
        "id",
        "content",
        "usage",
    ),
    "MessageError": _object(
        {
            "type": {"const": "error"},
            "error": _object({"type": _TEXT, "message": _TEXT}, "type", "message"),
            "request_id": _TEXT,
        },
        "type",
        "error",
    ),
    "Model": _object(
        {"id": _TEXT, "object": {"const": "model"}, "created": _WHOLE, "owned_by": _TEXT},
        "id",
        "object",
        "created",
        "owned_by",
    ),
    "Models": _object(
        {"object": {"const": "list"}, "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}}},
        "object",
        "data",
    ),
    "Ready": _object({"status": _TEXT, "waiting_for": {"type": "array", "items": _TEXT}}, "status"),
}


def _answer(description: str, media: Document) -> Document:
    return {"description": description, "headers": _HEADERS, "content": media}


def _json(schema: str) -> Document:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _errors(*statuses: str, shape: str = "Error") -> Document:
    return {status: _answer(_ERRORS[status], _json(shape)) for status in statuses}


def _header(name: str, description: str) -> Document:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": _TEXT}


def _infer(operation: Operation, name: str, summary: str, answer: str, *, streams: bool) -> Document:
    return _ask(BODIES[operation], name, summary, answer, streams=streams)


def _ask(body: Record, name: str, summary: str, answer: str, *, streams: bool, error: str = "Error") -> Document:
    media = _json(answer)
    if streams:
        media["text/event-stream"] = {}  # OpenAPI 3.1 has no words for what one event holds
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            "parameters": [
                _header("x-request-id", "An id of your own, up to 128 of A-Z a-z 0-9 . _ : -"),
                _header("x-request-timeout", "Seconds this request may take, below the server's own limit."),
                _header("x-conversation-id", "The conversation the request belongs to, as it shall be recorded."),
            ],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": body.schema}},
            },
            "responses": {
                "200": _answer("The answer; with `stream`, server-sent events.", media),
                **_errors(
                    "400",
                    "401",
                    "403",
                    "404",
                    "405",
                    "408",
                    "409",
                    "413",
                    "415",
                    "429",
                    "500",
                    "502",
                    "503",
                    "504",
                    shape=error,
                ),
            },
        }
    }


def _read(name: str, summary: str, answer: Document, *errors: str, public: bool = False, **extra: Any) -> Document:
    method = {
        "operationId": name,
        "summary": summary,
        "responses": {"200": _answer(summary, answer), **_errors(*errors, "405")},
        **({"security": []} if public else {}),
        **extra,
    }
    return {
        "get": method,
        "head": {
            **method,
            "operationId": f"{name}Head",
            "responses": {
                status: {key: value for key, value in response.items() if key != "content"}
                for status, response in method["responses"].items()
            },
        },
    }


@functools.cache
def describe() -> Document:
    """The whole document, OpenAPI 3.1. Treat it as read-only."""
    name_in_path = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    not_ready = {"503": _answer("Not ready.", _json("Ready"))}
    ready = _read("readReadiness", "Whether every model can answer.", _json("Ready"), public=True)
    ready["get"]["responses"].update(not_ready)
    ready["head"]["responses"].update({"503": {"description": "Not ready.", "headers": _HEADERS}})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fairlead gateway",
            "version": __version__,
            "description": "The OpenAI and Anthropic protocols in front of the models of one use case.",
        },
        "security": [{"key": []}],
        "paths": {
            "/v1/chat/completions": _infer("chat", "chat", "Answer a conversation.", "ChatCompletion", streams=True),
            "/v1/completions": _infer("completion", "complete", "Continue a text.", "Completion", streams=True),
            "/v1/embeddings": _infer("embedding", "embed", "Turn texts into vectors.", "Embeddings", streams=False),
            "/v1/responses": _ask(
                DIALECTS["/v1/responses"].body,
                "respond",
                "Answer in OpenAI's Responses API.",
                "Response",
                streams=True,
            ),
            "/v1/messages": _ask(
                DIALECTS["/v1/messages"].body,
                "createMessage",
                "Answer in Anthropic's Messages API.",
                "Message",
                streams=True,
                error="MessageError",
            ),
            "/v1/models": _read("listModels", "The models a request may name.", _json("Models"), "401", "403"),
            "/v1/models/{model}": _read(
                "readModel", "One model.", _json("Model"), "401", "403", "404", parameters=[name_in_path]
            ),
            "/healthz": _read("readHealth", "Whether the process lives.", _json("Ready"), public=True),
            "/readyz": ready,
            "/metrics": _read(
                "readMetrics", "Metrics for Prometheus (scope admin).", {"text/plain": {"schema": _TEXT}}, "401", "403"
            ),
            "/openapi.json": _read(
                "readDescription",
                "This description.",
                {"application/json": {"schema": {"type": "object"}}},
                public=True,
            ),
        },
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "fl-..."}},
        },
    }
