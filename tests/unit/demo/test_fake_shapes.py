"""The fields of the fake's answers have the names and types of the published description and of recorded answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.shared_data import shared

from refnet.demo.fake_answers import ScholarAnswers
from refnet.demo.fake_faults import Faults
from refnet.demo.fake_graph import FakeGraph

GRAPH = FakeGraph(80, 700)
ANSWERS = ScholarAnswers(GRAPH, Faults())
#: The types of OpenAPI; any value may be null, as recorded answers have it.
TYPES = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}


@pytest.fixture(scope="module")
def recorded() -> Path:
    return shared("semantic_scholar")


@pytest.fixture(scope="module")
def described(recorded: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((recorded / "openapi.json").read_text())["definitions"]
    return found


def fields(described: Mapping[str, Any], name: str) -> str:
    return ",".join(described[name]["properties"])


def conforms(value: Any, schema: Mapping[str, Any], described: Mapping[str, Any]) -> None:
    """Assert that `value` is what `schema` describes."""
    for part in (schema, *schema.get("allOf", ())):
        if "$ref" in part:
            conforms(value, described[part["$ref"].rpartition("/")[2]], described)
    if value is None or "type" not in schema:
        return
    assert isinstance(value, TYPES[schema["type"]]), (value, schema)
    assert schema["type"] != "integer" or not isinstance(value, bool)
    for name, one in value.items() if isinstance(value, dict) and "properties" in schema else ():
        assert name in schema["properties"], name
        conforms(one, schema["properties"][name], described)
    for one in value if isinstance(value, list) else ():
        conforms(one, schema.get("items", {}), described)


@pytest.mark.parametrize("number", [0, 30, 41, 79])
def test_papers_and_pages_conform_to_the_description(described: Mapping[str, Any], number: int) -> None:
    key = GRAPH.paper_id(number)
    wanted = {"fields": fields(described, "FullPaper")}
    paper = ANSWERS.answer("GET", key, wanted, b"").body
    assert set(paper) == set(described["FullPaper"]["properties"])
    conforms(paper, described["FullPaper"], described)
    batch = ANSWERS.answer("POST", "batch", wanted, json.dumps({"ids": [key, "MAG:1"]}).encode()).body
    assert batch == [paper, None]
    for name, end in (("Reference", "references"), ("Citation", "citations")):
        both = {
            "fields": f"{fields(described, 'BasePaper')},contexts,intents,contextsWithIntent,isInfluential"
        }
        page = ANSWERS.answer("GET", f"{key}/{end}", both, b"").body
        conforms(page, described[f"{name}Batch"], described)
        assert all(set(one) == set(described[name]["properties"]) for one in page["data"])


def test_a_recorded_reference_has_the_same_fields_and_types(recorded: Path) -> None:
    for name, end in (("Reference", "citedPaper"), ("Citation", "citingPaper")):
        real = json.loads((recorded / f"{name}.json").read_text())
        wanted = ",".join([*real[end], *(one for one in real if one != end)])
        place = f"{GRAPH.paper_id(40)}/{'references' if name == 'Reference' else 'citations'}"
        ours = ANSWERS.answer("GET", place, {"fields": wanted}, b"").body["data"]
        assert all(set(one) == set(real) and set(one[end]) == set(real[end]) for one in ours)
        for field, value in real[end].items():
            types = {type(one[end][field]) for one in ours} - {type(None)}
            assert value is None or types <= {type(value)}, field
