"""The JSON Schema of ``fairlead.yaml``, for editors: completion, help and red lines while one types."""

from __future__ import annotations

from typing import Any

from fairlead.spec.model import UseCase

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FILE_NAME = "fairlead.schema.json"


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12). It knows every key, type and range; rules across keys are ``check``'s."""
    schema = UseCase.model_json_schema(by_alias=True, mode="validation")
    for part in [schema, *schema["$defs"].values()]:
        for field in part["properties"].values():
            _complete(field, schema["$defs"])
    return {"$schema": DIALECT, **schema, "title": "Fairlead use case"}


def _complete(field: dict[str, Any], parts: dict[str, Any]) -> None:
    """Pydantic leaves out a description that equals the part's own, and lets names through that match no pattern."""
    if "description" not in field:
        field["description"] = parts[field["$ref"].rsplit("/", 1)[-1]]["description"]
    if "patternProperties" in field:
        field["additionalProperties"] = False
