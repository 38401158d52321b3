"""What copies take in a store: shared pieces once, format 1 whole, and what the newest one added."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from tests.remote_copies import LISTED, LOCAL, NOW, VAULT, document, shared, signed

from refnet.catalog.object_names import SharedName
from refnet.catalog.remote import PIECE_BYTES, Copy, Piece, Range, RemoteManifest
from refnet.catalog.remote_state import StoreState
from refnet.catalog.source_name import SourceName
from refnet.catalog.store_sizes import Sizes, freed, sizes, total

#: What encryption adds to a piece.
ADDED = 216
MANIFEST = 1000


def _copy(made: RemoteManifest) -> Copy:
    return Copy(made.manifest, (), signed=replace(signed(made), size=MANIFEST))


def _night(number: int, *, last: int) -> Copy:
    """A copy of LOCAL that shares the pieces of the first, but for its end, which is in a piece of `last` bytes."""
    first = shared(number)
    name = SharedName(first.key, f"{number:032x}").named("a" * 16)
    end = Piece(name, last + ADDED, f"{number:064x}", plain=last)
    parts = (*first.ranges[:2], Range(2, 0, 7))
    return _copy(replace(first, pieces=(*first.pieces[:2], end), ranges=parts))


def test_a_first_copy_shares_nothing_and_takes_what_it_added() -> None:
    [found] = sizes([_copy(shared())]).values()
    taken = LOCAL.size + 3 * ADDED + MANIFEST
    assert found == Sizes(1, LOCAL.size, taken, taken, taken)
    assert found.shared == 0


def test_a_second_night_adds_its_own_pieces_alone() -> None:
    copies = [_copy(shared(1)), _night(2, last=7)]
    [found] = sizes(copies[::-1]).values()
    assert (found.copies, found.plain) == (2, 2 * LOCAL.size)
    assert found.newest == 7 + ADDED + MANIFEST
    assert found.stored == LOCAL.size + 3 * ADDED + MANIFEST + found.newest
    assert found.shared == 2 * (PIECE_BYTES + ADDED)
    assert found.to_json() == {
        "copies": 2,
        "plain_bytes": found.plain,
        "stored_bytes": found.stored,
        "shared_bytes": found.shared,
        "newest_bytes": found.newest,
    }


def test_a_piece_that_only_an_earlier_copy_filled_saves_nothing_once_that_is_gone() -> None:
    [found] = sizes([_night(2, last=PIECE_BYTES)]).values()
    assert found.alone < found.stored
    assert found.shared == 0


def test_copies_of_format_1_count_whole() -> None:
    copies = [_copy(document(1, local=VAULT)), _copy(document(2, local=VAULT))]
    [found] = sizes(copies).values()
    one = VAULT.size + ADDED + LISTED + MANIFEST
    assert found == Sizes(2, 2 * VAULT.size, 2 * one, 2 * one, one)


def test_a_list_of_files_is_stored_and_is_no_part_of_the_artifact() -> None:
    [found] = sizes([_copy(shared(local=VAULT))]).values()
    assert (found.plain, found.stored) == (VAULT.size, VAULT.size + LISTED + ADDED + MANIFEST)
    assert found.shared == 0


def test_a_piece_of_two_sources_counts_once_in_all_and_for_the_one_that_sent_it() -> None:
    local = replace(LOCAL, files_sha256=None)
    notes = replace(local, source=SourceName.OBSIDIAN, name="vault_20261125_170001.tar.gz")
    copies = [_copy(shared(1, local=notes)), _copy(shared(2, local=local)), _copy(document(3, local=local))]
    by_source = sizes(copies)
    assert [*by_source] == ["database", "obsidian"]
    whole = LOCAL.size + 3 * ADDED + MANIFEST
    assert by_source["obsidian"].newest == by_source["obsidian"].stored == whole
    assert by_source["database"].stored == 2 * whole
    found = total(copies, by_source)
    assert (found.copies, found.plain) == (3, 3 * LOCAL.size)
    assert (found.stored, found.alone, found.newest) == (2 * whole + MANIFEST, 3 * whole, 2 * whole)
    assert total([], {}) == Sizes()


def test_the_newest_is_the_one_that_was_sent_last() -> None:
    late = _copy(replace(shared(1), sent=NOW + timedelta(days=9)))
    [found] = sizes([late, _night(2, last=7)]).values()
    assert found.newest == 7 + ADDED + MANIFEST  # the end; the rest was sent before by the other one


def test_only_what_no_other_copy_names_is_freed() -> None:
    first, second, old = _copy(shared(1)), _night(2, last=7), _copy(document(3))
    assert freed([first], [second, old]) == 7 + ADDED + MANIFEST
    assert freed([first], [first]) == MANIFEST
    assert freed([old], [first, second]) == LOCAL.size + 3 * ADDED + MANIFEST
    everything = sizes([first, second])["database"].stored
    assert freed([first, second], [old]) == everything
    assert freed([], [first]) == 0


def test_the_state_of_a_store_has_the_sizes_of_its_copies() -> None:
    state = StoreState("cloud", frozenset([SourceName.DATABASE]), (_copy(shared()),))
    assert state.sizes == sizes(state.copies)
    assert state.total == replace(state.sizes["database"])
    empty = StoreState("cloud", frozenset())
    assert (dict(empty.sizes), empty.total) == ({}, Sizes())
