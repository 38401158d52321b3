"""What a hostile server answers: values as CSV are read back as they are, JSON that is not JSON is refused."""

from __future__ import annotations

import csv
import io
import json

from hypothesis import assume, example, given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import documents, texts

from refnet.cli.query import _cell, _checked, _plain_row

_ROW = {"id": 1, "name": "\x1b[31mred\u2028", "price": 1.1, "data": {"a": [None, True]}}


@fuzzed
@given(st.lists(texts, min_size=1, max_size=4))
@example(['"', ",", "\n", "\r\n", "", "\\."])
def test_values_come_back_from_csv(row: list[str]) -> None:
    assume(not any("\0" in value or len(value) > csv.field_size_limit() for value in row))
    line = ",".join(map(_cell, row))
    assert [*csv.reader(io.StringIO(f"{line}\n", newline=""))] == [row]


@fuzzed
@given(documents(_ROW, json.dumps(_ROW).encode()))
@example(b"[" * 100_000)
def test_the_json_of_a_row_prints_no_control_characters_or_is_refused(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    found = outcome(lambda: _checked(text))
    if found is not None:
        assert found.isprintable()
        assert json.loads(found) == json.loads(text)


@fuzzed
@given(texts)
def test_a_value_in_a_table_is_one_line_that_a_terminal_can_take(value: str) -> None:
    assert "".join(_plain_row([value, None])).isprintable()
