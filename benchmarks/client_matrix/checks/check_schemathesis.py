"""Schemathesis: requests made from the OpenAPI document, right ones and wrong ones, for every operation in it."""

from __future__ import annotations

import os
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

AUTHORIZATION = {"Authorization": f"Bearer {os.environ['QUIRE_KEY']}"}
EXAMPLES = 60

api = schemathesis.openapi.from_url(f"{os.environ['QUIRE_URL']}/openapi.json", headers=AUTHORIZATION)


@api.hook
def map_body(_context: Any, body: Any) -> Any:
    """Name the right model in half of the bodies, which no random name would be."""
    if isinstance(body, dict) and isinstance(body.get("model"), str) and len(body["model"]) % 2 == 0:
        return {**body, "model": os.environ["QUIRE_MODEL"]}
    return body


@schemathesis.check
def answers_or_refuses_in_shape(_ctx: Any, response: Any, _case: Any) -> None:
    """No 5xx, and every error as OpenAI's."""
    assert response.status_code < 500, f"{response.status_code}: {response.text[:300]}"
    if response.status_code >= 400:
        error = response.json()["error"]
        assert isinstance(error["message"], str)
        assert error["message"]
        assert isinstance(error["type"], str)
        assert error["param"] is None or isinstance(error["param"], str)
        assert error["code"] is None or isinstance(error["code"], str)
        assert response.headers["x-request-id"]


@api.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_errors_and_answers_of_every_operation_are_as_documented(case: schemathesis.Case) -> None:
    case.call_and_validate(
        headers=AUTHORIZATION,
        timeout=500,
        checks=[
            answers_or_refuses_in_shape,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )
