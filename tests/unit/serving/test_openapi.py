"""The OpenAPI document says what the server does: Schemathesis asks it whatever the document allows, and what not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import requests
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from small_server import RunningServer

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 10


def test_schemathesis(new_app: Callable[..., FastAPI]) -> None:
    statuses: Counter[int] = Counter()
    with RunningServer(new_app(hosts=["127.0.0.1"])) as server, requests.Session() as session:
        url = f"http://127.0.0.1:{server.port}"
        schema = schemathesis.openapi.from_dict(session.get(f"{url}/openapi.json").json())
        for result in schema.get_all_operations():
            operation = result.ok()
            known = {"path_parameters": {"name": "birds"}} if "{name}" in operation.path else {}
            cases = st.one_of(
                operation.as_strategy(generation_mode=GenerationMode.POSITIVE, **known),
                *(operation.as_strategy(generation_mode=mode) for mode in GenerationMode),
            )

            @seed(0)
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(cases)
            def ask(case: schemathesis.Case) -> None:
                response = case.call(base_url=url, session=session)
                statuses[response.status_code] += 1
                case.validate_response(response, checks=CHECKS)

            ask()
    assert {200, 404, 422} <= set(statuses), statuses
    assert sum(statuses.values()) > 30


def test_the_examples_of_the_document_are_answered(new_app: Callable[..., FastAPI]) -> None:
    with TestClient(new_app()) as client:
        paths = client.get("/openapi.json").json()["paths"]
        for path in ("/v1/packs/{name}/predict", "/v1/predict"):
            example = paths[path]["post"]["requestBody"]["content"]["application/json"]["example"]
            if "packs" in example:
                example = example | {"packs": ["birds", "cranes"]}
            assert client.post(path.format(name="birds"), json=example).status_code == 200
