"""The JSON Schema of ``fairlead.yaml``, for editors: completion, help and red lines while one types."""

from __future__ import annotations

from typing import Any

from fairlead.spec.model import UseCase

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FILE_NAME = "fairlead.schema.json"
MODELINE = f"# yaml-language-server: $schema={FILE_NAME}"


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12). It knows every key, type and range; rules across keys are ``check``'s."""
    schema = UseCase.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": DIALECT, **schema, "title": "Fairlead use case"}
