"""The JSON Schema: what `check` takes it takes, and an editor sees help for every key."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from fairlead.spec import json_schema, parse
from fairlead.spec.yaml_source import read
from tests.spec.samples import FULL

VALIDATOR = jsonschema_rs.Draft202012Validator(json_schema())
EXAMPLE = Path(__file__).parents[2] / "examples" / "shop" / "fairlead.yaml"


def errors(data: Any) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(data)]


def template(name: str) -> Any:
    return read((files("fairlead.spec") / "templates" / name / "fairlead.yaml").read_bytes(), name).data


def test_takes_the_templates_and_the_full_file() -> None:
    assert errors(template("shop_support")) == []
    assert errors(template("blank")) == []
    assert errors(read(FULL, "f").data) == []
    if EXAMPLE.exists():
        assert errors(read(EXAMPLE.read_bytes(), "f").data) == []


def test_takes_the_canonical_form() -> None:
    assert errors(parse(FULL).content()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.update(colour="red"),
        lambda data: data["policy"]["privacy"].update(colour="red"),
        lambda data: data["objectives"][0].update(bound="0.6"),
        lambda data: data["objectives"][0].update(bound=0.6),
        lambda data: data["objectives"][0].update(bound=">= 1 parsec"),
        lambda data: data["objectives"][0].pop("bound"),
        lambda data: data.pop("live"),
        lambda data: data.update(risk="unacceptable"),
        lambda data: data.update(fairlead=2),
        lambda data: data.update(min_samples="200"),
        lambda data: data["variants"][2].update(api_key="hunter2"),
        lambda data: data["metrics"].update({"Not A Name": {}}),
        lambda data: data.update(variants=[]),
    ],
)
def test_refuses_what_check_refuses(full: dict[str, Any], damage: Callable[[dict[str, Any]], object]) -> None:
    damage(full)
    assert errors(full)


def test_describes_every_key() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for name, part in [("file", schema), *schema["$defs"].items()]:
        assert part["additionalProperties"] is False, name
        for key, field in part["properties"].items():
            assert len(field.get("description", "")) > 8, f"{name}.{key}"


def test_is_json() -> None:
    assert json.loads(json.dumps(json_schema())) == json_schema()
    assert yaml.safe_load(json.dumps(json_schema())) == json_schema()
