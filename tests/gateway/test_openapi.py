"""The published description: in step with what is served, and true under fuzzing."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode

from fairlead.gateway import gateway as served
from fairlead.gateway import openapi
from fairlead.gateway.fields import BODIES
from fairlead.gateway.surfaces import DIALECTS
from fairlead.providers.scripted import Script, Scripted
from tests.gateway.gateway_harness import build, route, serving

POSTED = (*served.OPERATIONS, *DIALECTS)


def test_every_path_served_is_described_and_no_other() -> None:
    described = {path for path in openapi.describe()["paths"] if "{" not in path}
    assert described == {*served.OPERATIONS, *served.READS, *DIALECTS}
    assert [path for path in openapi.describe()["paths"] if "{" in path] == ["/v1/models/{model}"]


def test_every_described_method_is_served_and_no_other() -> None:
    with serving(build().gateway) as url:
        for path, methods in openapi.describe()["paths"].items():
            real = path.replace("{model}", "support")
            allowed = httpx.request("TRACE", url + real).headers["allow"]
            assert {method.upper() for method in methods} == set(allowed.split(", ")), path


def test_request_bodies_are_those_that_are_checked() -> None:
    for path, operation in served.OPERATIONS.items():
        content = openapi.describe()["paths"][path]["post"]["requestBody"]["content"]
        assert content == {"application/json": {"schema": BODIES[operation].schema}}
    for path, dialect in DIALECTS.items():
        content = openapi.describe()["paths"][path]["post"]["requestBody"]["content"]
        assert content == {"application/json": {"schema": dialect.body.schema}}


def test_references_lead_somewhere_and_every_schema_is_used() -> None:
    document = openapi.describe()
    used = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert used == set(document["components"]["schemas"])
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate({key: value for key, value in schema.items() if "$ref" not in str(value)})


def test_it_is_served_as_it_is() -> None:
    with serving(build().gateway) as url:
        assert httpx.get(f"{url}/openapi.json").json() == openapi.describe()


def with_known_models(document: dict[str, Any]) -> dict[str, Any]:
    """The description narrowed to models that exist, so that the fuzzer gets past the 404."""
    document = copy.deepcopy(document)
    for path in POSTED:
        schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        schema["properties"]["model"] = {"type": "string", "enum": ["support", "refusing", "breaking"]}
    return document


SCHEMA = schemathesis.openapi.from_dict(with_known_models(openapi.describe()))
CHECKS: Any = [
    schemathesis.checks.not_a_server_error,
    *schemathesis.checks.CHECKS.get_by_names(
        ["status_code_conformance", "content_type_conformance", "response_headers_conformance"]
    ),
    schemathesis.checks.CHECKS.get_one("response_schema_conformance"),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    upstreams = {
        "support": Scripted(script=Script(text="It is on its way.")),
        "refusing": Scripted(script=Script(status=429, message="slow down", retry_after="1")),
        "breaking": Scripted(script=Script(status=422, message="no")),
    }
    routes = {name: route(upstream, name) for name, upstream in upstreams.items()}
    with serving(build(upstreams["support"], routes=routes).gateway) as base:
        yield base


PATHS = openapi.describe()["paths"]
VALID = [(path, method, GenerationMode.POSITIVE) for path, methods in PATHS.items() for method in methods]
INVALID = [(path, "post", GenerationMode.NEGATIVE) for path in POSTED]


@pytest.mark.parametrize(("path", "method", "mode"), [*VALID, *INVALID])
def test_whatever_is_sent_the_answer_is_as_described(url: str, path: str, method: str, mode: GenerationMode) -> None:
    operation = SCHEMA[path][method]

    @given(operation.as_strategy(generation_mode=mode))
    @settings(max_examples=25 if method == "post" else 5, deadline=None, suppress_health_check=list(HealthCheck))
    def send(case: schemathesis.Case[Any]) -> None:
        answer = case.call(base_url=url, timeout=60)
        case.validate_response(answer, checks=CHECKS)

    send()
