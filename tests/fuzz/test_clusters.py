"""The record of a cluster's databases: each name that is read becomes the name of a source."""

from __future__ import annotations

import json

from hypothesis import given
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import documents

from refnet.store.source_records import SeenDatabases

RECORD = SeenDatabases(("shop", "wiki talk"), ("lost",)).to_json()


@fuzzed
@given(documents(json.loads(RECORD), RECORD.encode()))
def test_a_record_is_read_or_refused(text: bytes) -> None:
    seen = outcome(lambda: SeenDatabases.from_json(text), ValueError)
    if seen:
        assert len(seen.members("main")) == len(seen.databases) + len(seen.gone)
