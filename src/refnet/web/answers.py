"""The answers of the API: JSON, and each error as {error, hint}."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from fastapi import Response

from refnet.core.formatting import plain

#: The characters of a line of an error at most.
MOST_LINE = 500


def json_text(text: str, status: int = 200) -> Response:
    """Return `text`, which is JSON, as an answer."""
    return Response(text, status, media_type="application/json")


def json_of(values: Any, status: int = 200) -> Response:
    """Return `values` as an answer; the bytes of names that are not UTF-8 are escaped."""
    return json_text(json.dumps(values) + "\n", status)


def failed(status: int, error: str, hint: str) -> Response:
    """Return an error as an answer."""
    return json_of({"error": plain(error)[:MOST_LINE], "hint": plain(hint)[:MOST_LINE]}, status)


def read_text(text: str) -> str:
    """Return `text` of a client; ValueError if it contains a control character, which no name or word has."""
    if any(unicodedata.category(one) in {"Cc", "Cs"} for one in text):
        raise ValueError("contains a control character")
    return text
