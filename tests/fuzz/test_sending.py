"""The journal of a copy that is on the way, whatever a crash or another program left of it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import lines
from tests.remote_copies import LOCAL

from refnet.catalog.remote import Piece, PieceName
from refnet.store.remote_records import SendingJournal, Sent, begun, completed


def _written() -> list[str]:
    """The lines of a journal with two pieces."""
    with tempfile.TemporaryDirectory() as folder:
        journal = SendingJournal.open(Path(folder), LOCAL, "")
        for number in range(2):
            name = PieceName(journal.id, number).named("0" * 16)
            journal.add(Sent(Piece(name, 300, "ab" * 32), "cd" * 16))
        return (Path(folder) / f"{LOCAL.name}.jsonl").read_text().splitlines()


@fuzzed
@given(lines(_written()), st.binary(max_size=200))
def test_a_journal_of_a_copy_is_continued_or_begun_again(text: bytes, other: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / f"{LOCAL.name}.jsonl").write_bytes(text)
        (folder / f"{LOCAL.name}.sealed").write_bytes(other)
        assert outcome(lambda: completed(folder) or True)
        assert outcome(lambda: begun(folder) or True)
        journal = outcome(lambda: SendingJournal.open(folder, LOCAL, ""))
        assert journal
        assert all(one.piece.name.startswith(f"data/{journal.id}/") for one in journal.pieces.values())
        assert begun(folder) >= {journal.id}
