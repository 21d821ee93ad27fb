"""Files and batches in /openapi.json: in step with what is served, and true of what is answered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from openai import OpenAI
from schemathesis.generation import GenerationMode

from fairlead.batch import described
from fairlead.batch.http import PREFIXES
from fairlead.gateway import openapi
from tests.batch.batch_harness import Place, chat, jsonl, opened, submit, wait
from tests.gateway.gateway_harness import serving

DOCUMENT = described(openapi.describe())
PATHS: dict[str, Any] = {path: DOCUMENT["paths"][path] for path in DOCUMENT["paths"] if path.startswith(PREFIXES)}
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
CHECKS: Any = [
    schemathesis.checks.not_a_server_error,
    *schemathesis.checks.CHECKS.get_by_names(["status_code_conformance", "content_type_conformance"]),
    schemathesis.checks.CHECKS.get_one("response_schema_conformance"),
]


@pytest.fixture(name="url", scope="module")
def url_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with opened(tmp_path_factory.mktemp("described") / "data") as store, serving(Place(store)) as url:
        yield url


def test_every_path_is_described_with_its_methods_and_no_other(url: str) -> None:
    assert set(PATHS) == {
        "/v1/files", "/v1/files/{id}", "/v1/files/{id}/content",
        "/v1/batches", "/v1/batches/{id}", "/v1/batches/{id}/cancel",
    }  # fmt: skip
    for path, methods in PATHS.items():
        allowed = httpx.request("TRACE", url + path.replace("{id}", "x"), timeout=30).headers["allow"]
        assert {method.upper() for method in methods} == set(allowed.split(", ")), path


def test_it_is_what_the_server_says_of_itself(url: str) -> None:
    assert httpx.get(f"{url}/openapi.json", timeout=30).json() == DOCUMENT
    assert set(openapi.describe()["paths"]) < set(DOCUMENT["paths"]), "beside the gateway's own, which stays as it is"


def test_references_lead_somewhere_and_every_schema_is_used() -> None:
    used = set(re.findall(r"#/components/schemas/(\w+)", str(DOCUMENT)))
    assert used == set(DOCUMENT["components"]["schemas"])


def fits(answer: httpx.Response, name: str) -> dict[str, Any]:
    """The body, which must be what the description says of ``name``, field by field."""
    shown: dict[str, Any] = answer.json()
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    jsonschema_rs.validator_for(schema).validate(shown)
    properties = DOCUMENT["components"]["schemas"][name].get("properties", {})
    assert set(shown) <= set(properties), "it says nothing that is not described"
    return shown


def test_what_is_answered_is_as_described(url: str) -> None:
    with OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
        good = wait(client, submit(client, [chat("a")], metadata={"team": "north"}))
        bad = wait(client, submit(client, b"no line\n"))
        file = client.files.create(file=("in.jsonl", jsonl([chat("b")])), purpose="batch")
    with httpx.Client(base_url=url, timeout=30) as web:
        for batch in (good, bad):
            fits(web.get(f"/v1/batches/{batch.id}"), "Batch")
        fits(web.get("/v1/batches", params={"limit": 1}), "Batches")
        fits(web.get(f"/v1/files/{good.output_file_id}"), "File")
        fits(web.get("/v1/files"), "Files")
        fits(web.delete(f"/v1/files/{file.id}"), "FileGone")
        fits(web.post(f"/v1/batches/{good.id}/cancel"), "Error")
        fits(web.get("/v1/files/nobody"), "Error")


POSITIVE = [(path, method) for path, methods in PATHS.items() for method in methods if method != "head"]


@pytest.mark.parametrize(("path", "method"), POSITIVE)
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_whatever_is_sent_the_answer_is_as_described(url: str, path: str, method: str, mode: GenerationMode) -> None:
    operation = SCHEMA[path][method]

    @given(operation.as_strategy(generation_mode=mode))
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    def send(case: schemathesis.Case[Any]) -> None:
        case.validate_response(case.call(base_url=url, timeout=60), checks=CHECKS)

    send()
