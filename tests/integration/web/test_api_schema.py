"""The API against its own description, by schemathesis: every answer fits the schema of its route and status.

Few examples of each route: the suite must stay quick.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.serving import Served, serving

EXAMPLES = 5
_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def answering(environment: dict[str, str]) -> Iterator[Served]:
    """One whose crawls find no provider."""
    dead = dict.fromkeys(
        ("REFNET_CRAWL_SEMANTIC_SCHOLAR_URL", "REFNET_CRAWL_OPENALEX_URL"), "http://127.0.0.1:1"
    )
    with serving(environment | dead) as found:
        yield found


@pytest.fixture(scope="module")
def described(answering: Served) -> Any:
    loaded = schemathesis.openapi.from_dict(answering.ask("/openapi.json").json)
    loaded.config.update(base_url=f"http://127.0.0.1:{answering.port}")
    return loaded


def test_every_answer_fits_its_schema(described: Any) -> None:
    """Without schemathesis's plugin of pytest, which the current pytest does not load."""
    for found in described.get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode:

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                derandomize=True,
                database=None,
                phases=(Phase.generate,),
                suppress_health_check=[*HealthCheck],
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def fits(case: schemathesis.Case) -> None:
                case.call_and_validate(checks=_CHECKS)

            with suppress(Unsatisfiable):  # nothing can be wrong in a route without parameters
                fits()


def test_every_route_of_the_api_names_the_schema_of_its_answers(answering: Served) -> None:
    found = answering.ask("/openapi.json").json
    for path, methods in found["paths"].items():
        for method, one in methods.items():
            answers = {status: said.get("content", {}) for status, said in one["responses"].items()}
            assert {"400", "401", "403", "404", "503"} < answers.keys(), path
            assert "422" not in answers
            good = next(content for status, content in answers.items() if status.startswith("2"))
            assert path == "/metrics" or good["application/json"]["schema"].get("$ref"), (method, path)


def test_answers_with_rows_fit_too(answering: Served, described: Any) -> None:
    """Random parameters find few rows: the lists as they are, and the paper that has everything."""
    wanted = {"seeds": ["10.1/never"], "depth": 0}
    said = answering.ask("/api/crawls", "POST", json.dumps(wanted).encode(), Content_Type="application/json")
    assert said.json["by"] == "process"
    number = said.json["id"]
    for path, values in (
        ("/api/papers", {}), ("/api/papers/{id}", {"id": 1}), ("/api/papers/{id}", {"id": 2}), ("/api/jobs", {}),
        ("/api/crawls", {}), ("/api/crawls/{id}", {"id": number}), ("/api/backups", {}), ("/health", {}),
    ):  # fmt: skip
        case = described[path]["GET"].Case(path_parameters=values)
        case.call_and_validate(checks=_CHECKS)
