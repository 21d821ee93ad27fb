"""Files and batches as OpenAI's API shows them. What is ours beyond it stands under ``fairlead``."""

from __future__ import annotations

from typing import Any

from fairlead.records import Batch, StoredFile

_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


def show_file(file: StoredFile) -> dict[str, Any]:
    """A file object."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": _seconds(file.time),
        "expires_at": _seconds(file.expires),
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def show_batch(batch: Batch) -> dict[str, Any]:
    """A batch object. Money is nano-dollars."""
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model or None,
        "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
        "input_file_id": batch.input_file,
        "completion_window": batch.window,
        "status": batch.status,
        "output_file_id": batch.output_file or None,
        "error_file_id": batch.error_file or None,
        "created_at": _seconds(batch.time),
        "expires_at": _seconds(batch.expires),
        **{f"{name}_at": _seconds(batch.times.get(name)) for name in _TIMES},
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "usage": {
            "input_tokens": batch.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": batch.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": batch.input_tokens + batch.output_tokens,
        },
        "metadata": batch.metadata or None,
        "fairlead": {
            "backend": batch.backend or None,
            "estimate": batch.estimate or None,
            "cost_nanos": batch.cost,
            "note": batch.note or None,
        },
    }


def _seconds(time: int | None) -> int | None:
    return None if time is None else time // 1_000_000
