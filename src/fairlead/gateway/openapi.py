"""The gateway's own OpenAPI description: hand-made, with the request bodies taken from the table that checks them."""

from __future__ import annotations

import functools
from typing import Any

from fairlead import __version__
from fairlead.gateway.fields import BODIES, Record, nullable
from fairlead.gateway.surfaces import DIALECTS
from fairlead.providers.base import Operation

Document = dict[str, Any]
TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
_HEADERS = {
    "x-request-id": {
        "description": "The request's id: the client's own x-request-id where it is sane, else a fresh UUIDv7.",
        "schema": TEXT,
    }
}
_ERRORS: dict[str, str] = {
    "400": "The body or a parameter cannot be used; `param` names it.",
    "401": "No valid API key.",
    "403": "The key lacks the scope.",
    "404": "No such model, file, batch or path.",
    "405": "The path does not take this method; see Allow.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body is not declared as plain JSON.",
    "409": "The upstream reports a conflict, or the batch has ended.",
    "429": "Too many requests; see Retry-After.",
    "500": "Something inside Fairlead failed; the log has the reason under the request id.",
    "502": "The upstream cannot be reached, refused, or broke off.",
    "503": "Not ready, or the upstream is overloaded; see Retry-After.",
    "504": "No answer before the deadline.",
    "507": "The disk of the server, or the room of the tenant's files, is full.",
}


def record(properties: Document, *required: str) -> Document:
    """The schema of an object."""
    return {"type": "object", "properties": properties, "required": list(required)}


_USAGE = record(
    {"prompt_tokens": WHOLE, "completion_tokens": WHOLE, "total_tokens": WHOLE}, "prompt_tokens", "total_tokens"
)
_SCHEMAS: Document = {
    "Error": record(
        {
            "error": record(
                {
                    "message": TEXT,
                    "type": TEXT,
                    "param": nullable(TEXT),
                    "code": nullable(TEXT),
                    "request_id": TEXT,
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
    "ChatCompletion": record(
        {
            "id": TEXT,
            "object": {"const": "chat.completion"},
            "created": WHOLE,
            "model": TEXT,
            "choices": {
                "type": "array",
                "items": record(
                    {
                        "index": WHOLE,
                        "finish_reason": nullable(TEXT),
                        "message": record({"role": TEXT, "content": nullable(TEXT)}, "role"),
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
    "Completion": record(
        {
            "id": TEXT,
            "object": {"const": "text_completion"},
            "created": WHOLE,
            "model": TEXT,
            "choices": {
                "type": "array",
                "items": record({"index": WHOLE, "text": TEXT, "finish_reason": nullable(TEXT)}, "index", "text"),
            },
            "usage": nullable(_USAGE),
        },
        "choices",
    ),
    "Embeddings": record(
        {
            "object": {"const": "list"},
            "model": TEXT,
            "data": {
                "type": "array",
                "items": record(
                    {
                        "object": {"const": "embedding"},
                        "index": WHOLE,
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
    "Response": record(
        {
            "id": TEXT,
            "object": {"const": "response"},
            "created_at": WHOLE,
            "status": TEXT,
            "model": TEXT,
            "output": {"type": "array", "items": record({"id": TEXT, "type": TEXT}, "id", "type")},
            "usage": nullable(record({"input_tokens": WHOLE, "output_tokens": WHOLE, "total_tokens": WHOLE})),
        },
        "id",
        "status",
        "output",
    ),
    "Message": record(
        {
            "id": TEXT,
            "type": {"const": "message"},
            "role": {"const": "assistant"},
            "model": TEXT,
            "content": {"type": "array", "items": record({"type": TEXT}, "type")},
            "stop_reason": nullable(TEXT),
            "stop_sequence": nullable(TEXT),
            "usage": record({"input_tokens": WHOLE, "output_tokens": WHOLE}, "input_tokens", "output_tokens"),
        },
        "id",
        "content",
        "usage",
    ),
    "MessageError": record(
        {
            "type": {"const": "error"},
            "error": record({"type": TEXT, "message": TEXT}, "type", "message"),
            "request_id": TEXT,
        },
        "type",
        "error",
    ),
    "Model": record(
        {"id": TEXT, "object": {"const": "model"}, "created": WHOLE, "owned_by": TEXT},
        "id",
        "object",
        "created",
        "owned_by",
    ),
    "Models": record(
        {"object": {"const": "list"}, "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}}},
        "object",
        "data",
    ),
    "Ready": record({"status": TEXT, "waiting_for": {"type": "array", "items": TEXT}}, "status"),
}


def answer_of(description: str, media: Document) -> Document:
    """A response with ``media``, a content type to what it holds."""
    return {"description": description, "headers": _HEADERS, "content": media}


def json_of(schema: str) -> Document:
    """The media of one of the document's schemas, by its name."""
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def errors(*statuses: str, shape: str = "Error") -> Document:
    """The responses of these statuses."""
    return {status: answer_of(_ERRORS[status], json_of(shape)) for status in statuses}


def _header(name: str, description: str) -> Document:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": TEXT}


def _infer(operation: Operation, name: str, summary: str, answer: str, *, streams: bool) -> Document:
    return _ask(BODIES[operation], name, summary, answer, streams=streams)


def _ask(body: Record, name: str, summary: str, answer: str, *, streams: bool, error: str = "Error") -> Document:
    media = json_of(answer)
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
                "200": answer_of("The answer; with `stream`, server-sent events.", media),
                **errors(
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


def read(name: str, summary: str, answer: Document, *refusals: str, public: bool = False, **extra: Any) -> Document:
    """A GET with its HEAD; ``refusals`` are the statuses it may answer with besides 200 and 405."""
    method = {
        "operationId": name,
        "summary": summary,
        "responses": {"200": answer_of(summary, answer), **errors(*refusals, "405")},
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


def extended(document: Document, paths: Document, schemas: Document) -> Document:
    """``document`` with what a service behind the gateway adds to it."""
    parts = document["components"]
    return {
        **document,
        "paths": {**document["paths"], **paths},
        "components": {**parts, "schemas": {**parts["schemas"], **schemas}},
    }


@functools.cache
def describe() -> Document:
    """The gateway's own document, OpenAPI 3.1. Treat it as read-only."""
    name_in_path = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    not_ready = {"503": answer_of("Not ready.", json_of("Ready"))}
    ready = read("readReadiness", "Whether every model can answer.", json_of("Ready"), public=True)
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
            "/v1/models": read("listModels", "The models a request may name.", json_of("Models"), "401", "403"),
            "/v1/models/{model}": read(
                "readModel", "One model.", json_of("Model"), "401", "403", "404", parameters=[name_in_path]
            ),
            "/healthz": read("readHealth", "Whether the process lives.", json_of("Ready"), public=True),
            "/readyz": ready,
            "/metrics": read(
                "readMetrics", "Metrics for Prometheus (scope admin).", {"text/plain": {"schema": TEXT}}, "401", "403"
            ),
            "/openapi.json": read(
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
