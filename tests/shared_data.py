"""Real data, where this machine has it beside the repository; a test that needs it is skipped elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml


def shared(name: str) -> Path:
    """The file or folder `name` of the folder `shared/data` beside the repository."""
    root = Path(__file__).parents[1]
    for folder in (root.parent, root.parent.parent):
        if (path := folder / "shared/data" / name).exists():
            return path
    pytest.skip(f"shared/data/{name} is not here")


def recorded_answers() -> list[tuple[str, Any]]:
    """The URL and the JSON body of each recorded answer of Semantic Scholar."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = []
    for file in sorted(shared("semantic_scholar").glob("*.yaml")):
        for one in yaml.load(file.read_text(encoding="utf-8"), loader)["interactions"]:  # noqa: S506  # a safe one
            response = one["response"]
            body = response["content"] if "content" in response else response["body"]["string"]
            found.append((one["request"]["uri"], json.loads(body)))
    return found


def recorded_paper() -> dict[str, Any]:
    """Turing's paper with 1,000 citations and 14 references."""
    found: dict[str, Any] = json.loads(shared("semantic_scholar/Paper.json").read_bytes())
    return found
