"""What this machine keeps of copies that are on the way and of pieces, whatever a crash or another program left of it."""

from __future__ import annotations

import json
import tempfile
from datetime import timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import damaged, documents, lines
from tests.remote_copies import LOCAL, MACHINE, NOW
from xxhash import xxh3_128_digest

from refnet.catalog.object_names import SharedName
from refnet.catalog.remote import Piece
from refnet.store import leases
from refnet.store.cutting import Cutting
from refnet.store.known_blocks import KnownBlocks, PieceCuts, Place
from refnet.store.remote_records import RemoteRecords, SendingJournal, _Times, begun, completed

PIECES = [
    Piece(SharedName(MACHINE, f"{number:032x}").named("0" * 16), 316, "ab" * 32, plain=100)
    for number in range(3)
]
USABLE = {one.name: one for one in PIECES}
PLACES = {bytes([n]) * 16: Place(PIECES[n % 3].name, n // 3 * 25, 25) for n in range(12)}


def _written() -> list[str]:
    """The lines of a journal with two pieces."""
    with tempfile.TemporaryDirectory() as folder:
        journal = SendingJournal.open(Path(folder), LOCAL, "")
        for number in range(2):
            name = SharedName(MACHINE, f"{number:032x}").named("0" * 16)
            journal.add(Piece(name, 300, "ab" * 32, plain=84))
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
        assert all(SharedName.read(one.name) and one.plain for one in journal.pieces.values())
        assert begun(folder) >= {*journal.pieces}
        assert begun(folder) >= {journal.id}


KEY = Cutting(bytes(32))


def _blocks_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        blocks = KnownBlocks(Path(folder) / "blocks" / "database", KEY)
        blocks.write(PLACES)
        return blocks.path.read_bytes()


WRITTEN = _blocks_file()


@fuzzed
@given(damaged(WRITTEN), st.booleans())
def test_the_blocks_of_a_copy_are_in_pieces_that_it_may_share_or_are_none(text: bytes, sealed: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        blocks = KnownBlocks(Path(name) / "blocks", KEY)
        blocks.path.write_bytes(KEY.sealed(text[:-16]) if sealed else text)
        found = outcome(lambda: [*blocks.read(USABLE).items()] or True)
    for hash_, place in found if isinstance(found, list) else ():
        assert len(hash_) == 16
        assert place.piece in USABLE
        assert place.start + place.length <= USABLE[place.piece].plain
    assert text == WRITTEN or sealed or found is True


TIMES = _Times("read_back.json", {one: int(NOW.timestamp()) for one in USABLE}).to_json()


@fuzzed
@given(documents(json.loads(TIMES), TIMES.encode()), st.booleans())
def test_when_pieces_were_read_back_is_a_time_or_is_not_known(text: bytes, sealed: bool) -> None:
    since, new = NOW - timedelta(days=30), min(USABLE)
    with tempfile.TemporaryDirectory() as name:
        records = RemoteRecords(Path(name), KEY)
        (Path(name) / "read_back.json").write_bytes(KEY.sealed(text) if sealed else text)
        found = outcome(records.read_back)
        assert isinstance(found, dict)
        assert sealed or not found
        records.add_read_back(NOW, [new], [])
        kept = {name: at for name, at in found.items() if since <= at <= NOW}
        (Path(name) / "locks.json").write_bytes(KEY.sealed(text))
        assert records.locked_until(since) == {}
        records.keep_locked_until(found)
        assert records.locked_until(since) == {name: at for name, at in found.items() if at > since}
        assert records.read_back() == kept | {new: NOW.replace(microsecond=0)}


CUTS = {"ab" * 16: (5, 7), "cd" * 16: (1 << 22,)}


def _cuts_file() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        cuts = PieceCuts(Path(name) / "cuts")
        cuts.add(CUTS)
        return cuts.path.read_bytes()


@fuzzed
@given(damaged(_cuts_file()), st.booleans())
def test_cuts_are_read_or_not_known(text: bytes, summed: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        cuts = PieceCuts(Path(name) / "cuts")
        cuts.path.write_bytes(text[:-16] + xxh3_128_digest(text[:-16]) if summed else text)
        found = outcome(cuts.read)
        assert isinstance(found, dict)
        assert all(len(bytes.fromhex(one)) == 16 for one in found)
        cuts.add(CUTS)
        assert cuts.read().keys() >= CUTS.keys()


INTENTS = {"format": 1, "intents": {MACHINE: "ab" * 16, "cd" * 16: "ef" * 16}}


@fuzzed
@given(documents(INTENTS, json.dumps(INTENTS).encode()))
def test_the_intents_of_a_killed_prune_end_or_are_not_known(text: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "intents.json").write_bytes(text)
        made: list[str] = []
        outcome(lambda: leases.end_killed(Path(name), made.append))
        assert not (Path(name) / "intents.json").exists()
        assert all(map(leases.is_name, made))
