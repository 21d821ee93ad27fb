"""Files and batches in the published description, beside the gateway's own paths."""

from __future__ import annotations

from typing import Any, Final

from fairlead.batch.lines import ENDPOINTS
from fairlead.batch.service import LONGEST_KEEP_S, MOST_PAIRS, SHORTEST_KEEP_S, WINDOW
from fairlead.gateway.fields import nullable
from fairlead.gateway.openapi import TEXT, WHOLE, Document, answer_of, errors, extended, json_of, read, record

_STATES: Final = (
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
)  # fmt: skip
_TIME = nullable({"type": "integer", "description": "Seconds since 1970."})
_KEEP = {
    **record(
        {
            "anchor": {"const": "created_at"},
            "seconds": {"type": "integer", "minimum": SHORTEST_KEEP_S, "maximum": LONGEST_KEEP_S},
        },
        "anchor", "seconds",
    ),
    "description": "How long a file is kept.",
}  # fmt: skip
_FILE = record(
    {
        "id": TEXT, "object": {"const": "file"}, "bytes": WHOLE, "created_at": WHOLE, "expires_at": _TIME,
        "filename": TEXT, "purpose": {"enum": ["batch", "batch_output"]}, "status": TEXT,
        "status_details": nullable(TEXT),
    },
    "id", "object", "bytes", "created_at", "filename", "purpose",
)  # fmt: skip
_PROBLEM = record({"code": TEXT, "message": TEXT, "line": nullable(WHOLE), "param": nullable(TEXT)}, "code", "message")
_OWN = record(
    {
        "backend": nullable(TEXT),
        "estimate": nullable(record({"input_tokens": WHOLE, "output_tokens": WHOLE, "cost": nullable(WHOLE)})),
        "cost_nanos": nullable({"type": "integer", "description": "Nano-dollars, by what was counted."}),
        "note": nullable(TEXT),
    }
)
_BATCH = record(
    {
        "id": TEXT, "object": {"const": "batch"}, "endpoint": {"enum": list(ENDPOINTS)}, "model": nullable(TEXT),
        "errors": nullable(record({"object": {"const": "list"}, "data": {"type": "array", "items": _PROBLEM}})),
        "input_file_id": TEXT, "completion_window": TEXT, "status": {"enum": list(_STATES)},
        "output_file_id": nullable(TEXT), "error_file_id": nullable(TEXT), "created_at": WHOLE, "expires_at": _TIME,
        **{f"{state}_at": _TIME for state in _STATES if state != "validating"},
        "request_counts": record({"total": WHOLE, "completed": WHOLE, "failed": WHOLE}, "total", "completed", "failed"),
        "usage": nullable(record({"input_tokens": WHOLE, "output_tokens": WHOLE, "total_tokens": WHOLE})),
        "metadata": nullable({"type": "object", "additionalProperties": TEXT}),
        "fairlead": _OWN,
    },
    "id", "object", "endpoint", "input_file_id", "completion_window", "status", "created_at",
)  # fmt: skip


def _list_of(schema: str) -> Document:
    items = {"type": "array", "items": {"$ref": f"#/components/schemas/{schema}"}}
    ends = {"first_id": nullable(TEXT), "last_id": nullable(TEXT), "has_more": {"type": "boolean"}}
    return record({"object": {"const": "list"}, "data": items, **ends}, "object", "data", "has_more")


_SCHEMAS: Document = {
    "File": _FILE,
    "Files": _list_of("File"),
    "FileGone": record({"id": TEXT, "object": {"const": "file"}, "deleted": {"const": True}}, "id", "deleted"),
    "Batch": _BATCH,
    "Batches": _list_of("Batch"),
}  # fmt: skip


def _asked(name: str, **schema: Any) -> Document:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _act(name: str, summary: str, schema: str, *refusals: str, **extra: Any) -> Document:
    responses = {"200": answer_of(summary, json_of(schema)), **errors(*refusals, "401", "403", "405", "500")}
    return {"operationId": name, "summary": summary, "responses": responses, **extra}


_ID: Document = {
    "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}]
}
_FORM: Document = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": record(
                {
                    "purpose": {"const": "batch"},
                    "file": {"type": "string", "contentMediaType": "application/octet-stream"},
                    "expires_after[anchor]": {"const": "created_at"},
                    "expires_after[seconds]": _KEEP["properties"]["seconds"],
                },
                "purpose", "file",
            )
        }
    },
}  # fmt: skip
_WISH: Document = {
    "required": True,
    "content": {
        "application/json": {
            "schema": record(
                {
                    "input_file_id": TEXT,
                    "endpoint": {"enum": list(ENDPOINTS)},
                    "completion_window": {"const": WINDOW},
                    "metadata": nullable({"type": "object", "maxProperties": MOST_PAIRS, "additionalProperties": TEXT}),
                    "output_expires_after": nullable(_KEEP),
                },
                "input_file_id", "endpoint", "completion_window",
            )
        }
    },
}  # fmt: skip
_READS = ("400", "401", "403", "404", "500")
_PAGED = [_asked("limit", type="integer", minimum=1), _asked("after", type="string")]
_FILES_BY = [*_PAGED, _asked("purpose", type="string"), _asked("order", enum=["asc", "desc"])]
_PATHS: Document = {
    "/v1/files": {
        "post": _act(
            "createFile", "Upload the requests of a batch, one JSON object a line.", "File", "400", "413", "507",
            requestBody=_FORM,
        ),
        **read("listFiles", "The files of the caller's tenant.", json_of("Files"), *_READS, parameters=_FILES_BY),
    },
    "/v1/files/{id}": {
        **read("readFile", "One file.", json_of("File"), *_READS, **_ID),
        "delete": _act("deleteFile", "Delete a file.", "FileGone", "404", **_ID),
    },
    "/v1/files/{id}/content": read(
        "readContent", "What a file holds.", {"application/octet-stream": {}}, *_READS, **_ID
    ),
    "/v1/batches": {
        "post": _act(
            "createBatch", "Queue a file of requests.", "Batch", "400", "404", "413", "507", requestBody=_WISH
        ),
        **read("listBatches", "The batches of the caller's tenant.", json_of("Batches"), *_READS, parameters=_PAGED),
    },
    "/v1/batches/{id}": read("readBatch", "One batch.", json_of("Batch"), *_READS, **_ID),
    "/v1/batches/{id}/cancel": {
        "post": _act("cancelBatch", "End a batch; what is answered is kept.", "Batch", "404", "409", **_ID)
    },
}  # fmt: skip


def described(document: Document) -> Document:
    """The gateway's ``document`` with files and batches."""
    return extended(document, _PATHS, _SCHEMAS)
