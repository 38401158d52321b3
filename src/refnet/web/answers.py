"""The answers of the API: JSON, and each error as {error, hint}."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from fastapi import Response

from refnet.core.formatting import plain

#: The longest line of an error, in characters.
MOST_LINE = 500


def json_text(text: str, status: int = 200) -> Response:
    """Return an answer with the JSON `text`."""
    return Response(text, status, media_type="application/json")


def json_of(values: Any, status: int = 200) -> Response:
    """Return an answer with `values` as JSON; undecodable bytes of names are escaped."""
    return json_text(json.dumps(values) + "\n", status)


def failed(status: int, error: str, hint: str) -> Response:
    """Return an answer with an error."""
    return json_of({"error": plain(error)[:MOST_LINE], "hint": plain(hint)[:MOST_LINE]}, status)


def read_text(text: str) -> str:
    """Return a client's `text`; ValueError if it contains a control character."""
    if any(unicodedata.category(one) in {"Cc", "Cs"} for one in text):
        raise ValueError("contains a control character")
    return text
