"""The record of a source's identity, and a handover that anybody who writes to the store may have made."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import documents

from refnet.catalog.identity import SourceId
from refnet.catalog.source_name import SourceName
from refnet.core.errors import RefnetError
from refnet.store.source_records import Identities, KnownSource

VAULT = SourceName.OBSIDIAN
RECORD = {"format": 1, "source": "obsidian", "id": "a" * 32, "number": 7}
TEXT = b'{"format": 1, "source": "obsidian", "id": "' + b"a" * 32 + b'", "number": 7}'


@fuzzed
@given(documents(RECORD, TEXT))
def test_a_record_is_read_or_refused_and_a_forged_handover_is_ignored(text: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        records = Identities.at(Path(folder) / "home", Path(folder) / "store")
        for place in (records.folder, records.handovers):
            place.mkdir(parents=True)
            (place / "obsidian.json").write_bytes(text)
        known = outcome(lambda: records.of(VAULT), RefnetError)
        (records.folder / "obsidian.json").unlink()
        handed = records.or_handed_over(VAULT)

    assert known in (None, handed)
    assert handed == KnownSource() or not handed.id or len(handed.id) == 32
    assert handed.whose is None or isinstance(handed.whose, SourceId)
