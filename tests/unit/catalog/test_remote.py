"""The manifests of copies: read back as written, and nothing trusted that contradicts itself."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.remote_copies import (
    LISTED,
    LOCAL,
    MACHINE,
    NOW,
    PROOF,
    VAULT,
    changed,
    document,
    in_order,
    plaintext,
    shared,
    signed,
    verified,
)

from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.object_names import ManifestName, PieceName, SharedName, is_key_id, key_id
from refnet.catalog.remote import (
    MANIFEST_BYTES,
    MOST_ADDED,
    MOST_PIECES,
    MOST_RANGES,
    PIECE_BYTES,
    Copy,
    Range,
    RemoteManifest,
    Replaced,
    Signed,
    evidence_to_send,
    lengths,
    packed,
    unpacked,
)
from refnet.catalog.remote_state import Head, accepted, gaps, ranges, without
from refnet.catalog.source_name import Kind, SourceName

FAILED = Evidence(NOW, Level.WRITTEN, Outcome.FAILED, 1.0, reasons=("a piece is gone",))
READ = Evidence(NOW, Level.WRITTEN, Outcome.PASSED, 1.0)


@pytest.mark.parametrize("local", [LOCAL, VAULT, replace(LOCAL, size=PIECE_BYTES)])
def test_what_is_written_is_read(local: Manifest) -> None:
    for made in (document(local=local), shared(local=local)):
        assert RemoteManifest.from_line(made.to_line()) == made
        assert made.to_line().isascii()
        assert made.to_line().count(b"\n") == 1
        assert Signed.read(plaintext(made), made.object, verified).document == made


def test_an_empty_artifact_consists_of_no_piece_in_format_2() -> None:
    made = shared(local=replace(LOCAL, size=0), pieces=(), ranges=())
    assert RemoteManifest.from_line(made.to_line()) == made
    assert (made.artifact_parts, made.plain_lengths, made.objects, made.size) == ((), [], (), 0)


def test_both_formats_say_which_ranges_of_which_pieces_are_the_artifact() -> None:
    for made in (document(local=VAULT), document(), shared(local=VAULT), shared()):
        parts, plain = made.artifact_parts, made.plain_lengths
        assert sum(one.length for one in parts) == made.manifest.size
        assert all(one.start + one.length <= plain[one.piece] for one in parts)
        assert sum(one.size for one in made.objects) == made.size
    assert document().artifact_parts == shared().artifact_parts
    assert document().plain_lengths == shared().plain_lengths


@pytest.mark.parametrize(
    ("size", "parts"),
    [(0, [0]), (1, [1]), (PIECE_BYTES, [PIECE_BYTES]), (2 * PIECE_BYTES + 7, [PIECE_BYTES, PIECE_BYTES, 7])],
)
def test_an_artifact_is_cut_into_pieces(size: int, parts: list[int]) -> None:
    assert lengths(size) == parts


def test_names_of_objects_are_read_as_they_are_made() -> None:
    for name in (PieceName("ab" * 16, 7), PieceName("ab" * 16, 99_999, True)):
        assert PieceName.read(name.named("0123456789abcdef")) == name
    named = ManifestName(datetime(2026, 11, 25, 17, 0, 1, tzinfo=UTC), "a_shop-1", "ab" * 16)
    assert named.named() == f"manifests/20261125T170001Z_a_shop-1_{'ab' * 16}.age"
    assert ManifestName.read(named.named()) == named
    below = replace(named, key="cd" * 16)
    assert below.named() == f"{'cd' * 16}/{named.named()}"
    assert ManifestName.read(below.named()) == below
    shared_name = SharedName("cd" * 16, "ef" * 16)
    assert shared_name.named("0123456789abcdef") == f"{'cd' * 16}/pieces/{'ef' * 16}-0123456789abcdef.age"
    assert SharedName.read(shared_name.named("0123456789abcdef")) == shared_name


def test_the_folder_of_a_machine_is_made_of_the_public_part_of_its_key() -> None:
    assert key_id("age1xyz") == hashlib.sha256(b"age1xyz").hexdigest()[:32]
    assert is_key_id(key_id("age1xyz"))
    assert key_id("age1xyz") != key_id("age1xyy")
    assert not any(
        map(is_key_id, ("", "data", "manifests", "AB" * 16, "ab" * 15, "ab" * 16 + "\n", "٣" * 32))
    )


@pytest.mark.parametrize(
    "name",
    [
        "", "x", "data/", f"data/{'ab' * 16}/00000.age", f"data/{'AB' * 16}/00000-{'0' * 16}.age",
        f"data/{'ab' * 16}/../{'ab' * 16}/00000-{'0' * 16}.age", f"data/{'ab' * 16}/00000-{'0' * 16}.age\n",
        f"data/{'ab' * 16}/٠٠٠٠٠-{'0' * 16}.age", f"manifests/20260230T000000Z_shop_{'ab' * 16}.age",
        f"manifests/20261125T170001Z_{'a' * 41}_{'ab' * 16}.age", f"manifests/20261125T170001Z_../x_{'ab' * 16}.age",
        f"manifests/00011125T170001Z_shop_{'ab' * 16}.age", f"manifests/20261125T170001Z_shop_{'ab' * 15}.age",
        f"/manifests/20261125T170001Z_shop_{'ab' * 16}.age", f"{'ab' * 15}/manifests/20261125T170001Z_shop_{'ab' * 16}.age",
        f"{'AB' * 16}/manifests/20261125T170001Z_shop_{'ab' * 16}.age", f"{'ab' * 16}/pieces/", "pieces/",
        f"{'ab' * 16}/pieces/{'cd' * 16}.age", f"{'ab' * 16}/pieces/{'cd' * 16}-{'0' * 15}.age",
        f"{'ab' * 16}/pieces/{'cd' * 16}-{'0' * 16}.age\n", f"{'ab' * 16}/pieces/../{'cd' * 16}-{'0' * 16}.age",
        f"pieces/{'cd' * 16}-{'0' * 16}.age", f"{'ab' * 16}/{'ab' * 16}/pieces/{'cd' * 16}-{'0' * 16}.age",
    ],
)  # fmt: skip
def test_other_names_are_not_names_of_objects(name: str) -> None:
    assert PieceName.read(name) is None
    assert SharedName.read(name) is None
    assert ManifestName.read(name) is None


def _pieces(made: RemoteManifest, number: int = 0, **values: Any) -> dict[str, Any]:
    found = [one.values() for one in made.pieces]
    found[number] |= values
    return {"pieces": found}


MADE = document()
_REFUSED: list[tuple[dict[str, Any], str]] = [
    (_pieces(MADE, name=PieceName("ff" * 16, 0).named("0" * 16)), "another copy"),
    (_pieces(MADE, name=PieceName(MADE.id, 1).named("0" * 16)), "another place"),
    (_pieces(MADE, name=PieceName(MADE.id, 0, True).named("0" * 16)), "another copy"),
    (_pieces(MADE, name="manifests/x"), "not allowed|not between"),
    (_pieces(MADE, size=PIECE_BYTES), "another size"),
    (_pieces(MADE, size=PIECE_BYTES + (1 << 20)), "size: not an integer"),
    (_pieces(MADE, 2, size=7), "another size"),
    (_pieces(MADE, sha256="zz" * 32), "sha256"),
    (_pieces(MADE, version="a\nb"), "version"),
    ({"pieces": [one.values() for one in MADE.pieces[:2]]}, "as many pieces"),
    ({"pieces": []}, "as many pieces"),
    ({"pieces": [MADE.pieces[0].values()] * (MOST_PIECES + 1)}, "more than"),
    ({"files": [MADE.pieces[0].values()]}, "another copy"),
    ({"counter": 0}, "counter"),
    ({"counter": 1 << 53}, "counter"),
    ({"present": [[3, 2]]}, "ranges in order"),
    ({"present": [[1, 5], [4, 9]]}, "ranges in order"),
    ({"previous": "ab"}, "previous"),
    ({"signer": "ssh-rsa AAAA"}, "signer"),
    ({"format": 2}, "format"),
    ({"format": 3}, "format 3 is not supported"),
    ({"recipients": "ef" * 32}, "fields of different formats"),
    ({"ranges": [[0, 0, 1]]}, "fields of different formats"),
    ({"list_ranges": [[0, 0, 1]]}, "fields of different formats"),
    (_pieces(MADE, plain=PIECE_BYTES), "fields of different formats"),
    ({"format": True}, "format"),
    ({"sent": "2026-11-25T17:00:00"}, "time zone"),
    ({"manifest": {}}, "manifest"),
    ({"manifest": json.loads(LOCAL.to_json()) | {"name": "../../x.sql.gz"}}, "manifest"),
    ({"manifest": json.loads(LOCAL.to_json()) | {"name": ".bashrc.sql.gz"}}, "manifest: not the name"),
    ({"manifest": json.loads(LOCAL.to_json()) | {"size": 1 << 62}}, "as many pieces"),
    ({"evidence": [{}]}, "evidence"),
]


@pytest.mark.parametrize(("values", "why"), _REFUSED)
def test_a_manifest_that_contradicts_itself_is_refused(values: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        RemoteManifest.from_line(changed(MADE, **values))


SHARED = shared(local=replace(LOCAL, files_sha256="cd" * 32))
_LAST = SHARED.pieces[2]
_RANGES = [list(one) for one in SHARED.ranges]
_CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    (_pieces(SHARED, name=SharedName("34" * 16, "0" * 32).named("0" * 16)), "another machine"),
    (_pieces(SHARED, name=PieceName(SHARED.id, 0).named("0" * 16)), "another machine"),
    (_pieces(SHARED, name="manifests/x"), "not allowed|not between"),
    ({"key": "34" * 16}, "another machine"),
    ({"key": "34" * 15}, "key"),
    ({"key": "../" + "3" * 29}, "key"),
    (_pieces(SHARED, 1, name=SHARED.pieces[0].name), "a piece twice"),
    (_pieces(SHARED, size=PIECE_BYTES), "another size"),
    (_pieces(SHARED, size=PIECE_BYTES + MOST_ADDED + 1), "size: not an integer"),
    (_pieces(SHARED, 2, size=_LAST.plain), "another size"),
    (_pieces(SHARED, 2, size=_LAST.plain + MOST_ADDED + 1), "another size"),
    (_pieces(SHARED, 2, plain=0), "plain"),
    (_pieces(SHARED, 2, plain=_LAST.plain - 1), "beyond its piece"),
    (_pieces(SHARED, plain=PIECE_BYTES + 1), "plain"),
    (_pieces(SHARED, sha256="zz" * 32), "sha256"),
    (_pieces(SHARED, version="a\nb"), "version"),
    ({"pieces": [one.values() for one in SHARED.pieces[:2]]}, "piece that is not there"),
    ({"pieces": []}, "piece that is not there"),
    ({"pieces": [SHARED.pieces[0].values()] * (MOST_PIECES + 1)}, "more than"),
    ({"files": [document(local=VAULT).files[0].values()]}, "fields of different formats"),
    ({"recipients": ""}, "recipients"),
    ({"recipients": "EF" * 32}, "recipients"),
    ({"ranges": _RANGES[:2]}, "another size than the artifact"),
    ({"ranges": _RANGES[1:]}, "a piece without a range"),
    ({"ranges": []}, "a piece without a range"),
    ({"ranges": [*_RANGES, _RANGES[2]]}, "another size than the artifact"),
    ({"ranges": [*_RANGES[:2], [2, 0, 6]]}, "another size than the artifact"),
    ({"ranges": [*_RANGES[:2], [3, 0, 7]]}, "piece that is not there"),
    ({"ranges": [*_RANGES[:2], [MOST_PIECES, 0, 7]]}, "piece that is not there"),
    ({"ranges": [*_RANGES[:2], [MOST_PIECES + 1, 0, 7]]}, "ranges"),
    ({"ranges": [*_RANGES[:2], [-1, 0, 7]]}, "ranges"),
    ({"ranges": [*_RANGES[:2], [2, -1, 7]]}, "ranges"),
    ({"ranges": [*_RANGES[:2], [2, 0, 0]]}, "ranges"),
    ({"ranges": [*_RANGES[:2], [2, LISTED + 1, 7]]}, "beyond its piece"),
    ({"ranges": [*_RANGES[:2], [2, 0, LISTED + 8]]}, "beyond its piece"),
    ({"ranges": [*_RANGES[:2], [2, 0, 7, 0]]}, "ranges"),
    ({"ranges": [*_RANGES[:2], [2, 0]]}, "ranges"),
    ({"ranges": [*_RANGES[:2], [2, 0, True]]}, "ranges"),
    ({"ranges": [[0, 0, 1]] * (MOST_RANGES + 1)}, "more than"),
    ({"list_ranges": []}, "list of files"),
    ({"list_ranges": [[2, 8, LISTED]]}, "beyond its piece"),
    ({"list_ranges": [[3, 0, 1]]}, "piece that is not there"),
    ({"list_ranges": [[0, 0, PIECE_BYTES]] * 100}, "too large"),
    ({"manifest": json.loads(LOCAL.to_json())}, "list of files"),
    ({"manifest": json.loads(SHARED.manifest.to_json()) | {"size": LOCAL.size + 1}}, "another size than the artifact"),
    ({"format": 1}, "format"),
    ({"format": 3}, "format 3 is not supported"),
    ({"format": 0}, "format"),
    ({"format": True}, "format"),
    ({"counter": 0}, "counter"),
    ({"present": [[3, 2]]}, "ranges in order"),
    ({"evidence": [{}]}, "evidence"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "why"), _CONTRADICTIONS)
def test_a_manifest_of_shared_pieces_that_contradicts_itself_is_refused(
    values: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        RemoteManifest.from_line(changed(SHARED, **values))


@pytest.mark.parametrize(
    "missing", ["key", "recipients", "ranges", "list_ranges", "pieces", "files", "manifest"]
)
def test_a_manifest_of_shared_pieces_without_a_field_is_refused(missing: str) -> None:
    values = json.loads(SHARED.to_line())
    del values[missing]
    with pytest.raises(ValueError):
        RemoteManifest.from_line(json.dumps(values).encode() + b"\n")


def test_manifests_that_name_the_same_pieces_share_them_in_memory() -> None:
    """A hundred nights of a large folder name the same thousands of pieces a hundred times."""
    first, second = (RemoteManifest.from_line(shared(number).to_line()) for number in (1, 2))
    assert first.pieces == second.pieces == shared().pieces
    assert all(one is other for one, other in zip(first.pieces, second.pieces, strict=True))


@pytest.mark.parametrize("name", ["size", "plain"])
def test_a_piece_that_is_known_is_checked_as_a_new_one_is(name: str) -> None:
    """In Python 1, 1.0 and true are equal keys."""
    made = shared(local=replace(LOCAL, size=1))
    known = RemoteManifest.from_line(made.to_line())
    [values] = (one.values() for one in known.pieces)
    for value in (float(values[name]), values[name] == 1, str(values[name]), [values[name]], None):
        with pytest.raises(ValueError, match="pieces"):
            RemoteManifest.from_line(changed(made, pieces=[values | {name: value}]))


def test_a_range_may_be_used_several_times_and_parts_of_a_piece_by_nobody() -> None:
    local = replace(LOCAL, size=3 * 100 + 7)
    made = shared(
        local=local, ranges=(Range(0, 5, 100), Range(0, 5, 100), Range(0, 0, 7), Range(0, 205, 100))
    )
    [piece] = made.pieces
    assert piece.plain == local.size
    assert RemoteManifest.from_line(made.to_line()) == made


def test_a_list_of_files_has_pieces_where_the_manifest_names_it() -> None:
    with pytest.raises(ValueError, match="list of files"):
        RemoteManifest.from_line(changed(document(local=VAULT), files=[]))
    more = replace(document(local=VAULT).files[0], size=PIECE_BYTES + (1 << 20))
    with pytest.raises(ValueError, match="size"):
        RemoteManifest.from_line(changed(document(local=VAULT), files=[more.values()]))


def test_keys_of_a_later_refnet_of_the_same_format_are_left_out() -> None:
    for made in (MADE, SHARED):
        assert RemoteManifest.from_line(changed(made, colour="red")) == made


def _bomb() -> bytes:
    """A gzip member of a few KiB with more than a manifest may have."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    return b"".join(deflater.compress(zeros) for _ in range((MANIFEST_BYTES >> 20) + 1)) + deflater.flush()


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: whole[:-1],
        lambda whole: whole[:20],
        lambda whole: whole[:2],
        lambda whole: whole + b"\0",
        lambda whole: whole + gzip.compress(b""),
        lambda whole: gzip.compress(b"") + whole,
        lambda whole: whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:],
        lambda whole: whole[:30] + bytes([whole[30] ^ 1]) + whole[31:],
        lambda whole: whole + whole,
        lambda _: gzip.compress(b""),
        lambda _: _bomb(),
        packed,
    ],
    ids=["cut", "begun", "magic", "zero behind", "member behind", "member before", "crc", "flipped", "twice", "empty", "bomb", "in itself"],
)  # fmt: skip
def test_a_compressed_plaintext_is_one_whole_member(change: Callable[[bytes], bytes]) -> None:
    whole = plaintext(SHARED)
    assert Signed.read(whole, SHARED.object, verified).document == SHARED
    with pytest.raises(ValueError):
        Signed.read(change(whole), SHARED.object, verified)


def test_a_bomb_is_not_unpacked() -> None:
    with pytest.raises(ValueError, match="too large"):
        unpacked(_bomb())


def test_a_plaintext_of_the_largest_size_is_read() -> None:
    whole = bytes(MANIFEST_BYTES)
    assert unpacked(packed(whole)) == whole
    with pytest.raises(ValueError, match="too large"):
        unpacked(packed(whole + b"\0"))


def test_the_digest_of_a_manifest_is_that_of_its_plaintext_as_it_is_stored() -> None:
    """So `age -d OBJECT | sha256sum` gives what the next manifest says."""
    whole = plaintext(SHARED)
    assert signed(SHARED).sha256 == hashlib.sha256(whole).hexdigest()
    later = shared(2, previous=signed(SHARED).sha256)
    assert gaps([signed(SHARED), signed(later)], "cloud") == ()


def test_the_signature_is_checked_before_the_document_is_read() -> None:
    line = b"not JSON\n"
    with pytest.raises(ValueError, match="not one of this content"):
        Signed.read(line + b"ssh-ed25519 AAAAOURS 00", MADE.object, verified)


@pytest.mark.parametrize("text", [b"", b"{}", b"\n", b"{}\n\xff"])
def test_a_plaintext_without_a_signature_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        Signed.read(text, MADE.object, verified)


def test_a_manifest_is_refused_under_the_name_of_another() -> None:
    with pytest.raises(ValueError, match="another copy than its name"):
        Signed.read(plaintext(MADE), document(2).object, verified)
    with pytest.raises(ValueError, match="another key"):
        Signed.read(plaintext(MADE, "ssh-ed25519 AAAAEVIL"), MADE.object, verified)
    other = replace(LOCAL, source=SourceName("shop", Kind.DATABASE))
    with pytest.raises(ValueError, match="another copy than its name"):
        Signed.read(plaintext(replace(MADE, manifest=other)), MADE.object, verified)


@pytest.mark.parametrize(
    ("evidence", "state"),
    [
        ((), "sent"),
        ((READ,), "fetched"),
        ((PROOF,), "proven"),
        ((READ, FAILED), "damaged"),
        ((FAILED, READ), "fetched"),
    ],
)
def test_the_state_of_a_copy_is_what_was_checked_of_it_where_it_is(
    evidence: tuple[Evidence, ...], state: str
) -> None:
    copy = Copy(LOCAL, evidence, signed=signed(MADE))
    assert copy.state == state
    assert copy.proven == (state == "proven")
    assert copy.row_digests == ("" if state == "damaged" else PROOF.row_digests)


def test_what_was_accepted_before_it_was_sent_stays_accepted() -> None:
    local = replace(LOCAL, shrunk=("8 tables fewer",))
    accepted = replace(READ, accepts=True)
    entry = Entry(local, (PROOF, replace(PROOF, seconds=9.0), accepted))
    assert evidence_to_send(entry) == (replace(PROOF, seconds=9.0), accepted)
    assert Copy(local, signed=signed(document(local=local))).shrunk
    sent = document(local=local, evidence=evidence_to_send(entry))
    assert not Copy(local, signed=signed(sent)).shrunk


def test_a_proof_that_does_not_count_any_more_is_not_sent() -> None:
    assert evidence_to_send(Entry(LOCAL, (PROOF, FAILED))) == ()


@pytest.mark.parametrize(
    ("whole", "parts", "left"),
    [
        ([(1, 9)], [], [(1, 9)]), ([(1, 9)], [(1, 9)], []), ([(1, 9)], [(3, 4), (6, 6)], [(1, 2), (5, 5), (7, 9)]),
        ([(1, 2), (5, 9)], [(2, 5)], [(1, 1), (6, 9)]), ([(1, 1 << 53)], [(7, 7)], [(1, 6), (8, 1 << 53)]),
    ],
)  # fmt: skip
def test_ranges_are_subtracted(
    whole: list[tuple[int, int]], parts: list[tuple[int, int]], left: list[tuple[int, int]]
) -> None:
    assert list(without(tuple(whole), tuple(parts))) == left
    assert ranges([3, 1, 2, 7], [(4, 5)]) == ((1, 5), (7, 7))


def _head(found: list[Signed], **changes: Any) -> Head:
    return replace(Head(found[-1].document.counter, found[-1].sha256, found[-1].signer), **changes)


def test_a_whole_store_has_no_gaps() -> None:
    found = in_order(4)
    assert gaps(found, "cloud", _head(found)) == ()
    assert gaps(found, "another name", _head(found)) != ()
    assert gaps([], "cloud") == ()


def test_what_this_machine_deleted_is_no_gap() -> None:
    found = in_order(4)
    assert gaps(found[2:], "cloud", _head(found, deleted=((1, 2),))) == ()
    assert [one.counter for one in gaps(found[2:], "cloud", _head(found, deleted=((2, 2),)))] == [1]
    assert gaps([], "cloud", _head(found, deleted=((1, 4),))) == ()


def test_a_removed_manifest_is_a_gap() -> None:
    found = in_order(4)
    assert "missing: number 2" in gaps([found[0], *found[2:]], "cloud")[0].why
    older = gaps(found[:3], "cloud", _head(found))
    assert [one.counter for one in older] == [4]
    assert "no manifest of this machine" in gaps([], "cloud", _head(found))[0].why


def test_an_empty_store_is_a_gap_also_after_the_newest_copy_was_pruned() -> None:
    found = in_order(4)
    head = replace(_head(found, deleted=((3, 4),)), present=((1, 4),))
    [gap] = gaps([], "cloud", head)
    assert gap.why == "there is no manifest of this machine, which sent number 2"
    assert gaps([], "cloud", accepted([], "cloud", head)) == ()


def test_a_replaced_manifest_is_a_gap() -> None:
    found = in_order(3)
    other = signed(document(2, previous=found[0].sha256, sent=NOW))
    assert "does not continue" in gaps([found[0], other, found[2]], "cloud")[0].why
    assert any("two manifests have number 2" in one.why for one in gaps([*found, other], "cloud"))
    assert (
        "differs from the one that this machine sent"
        in gaps(found, "cloud", _head(found, sha256="ab" * 32))[0].why
    )


def test_a_manifest_that_was_deleted_and_is_put_back_is_a_gap() -> None:
    found = in_order(3)
    last = signed(document(3, previous=found[1].sha256, present=((2, 3),)))
    assert "was deleted and has reappeared" in gaps([*found[:2], last], "cloud")[0].why


def test_a_manifest_that_this_machine_deleted_and_that_is_put_back_is_a_gap_whatever_later_ones_name() -> (
    None
):
    found = in_order(4)
    head = _head(found).perhaps_deleted(found[1].signer, ((2, 2),))
    assert gaps(found, "cloud", head) == (), "a run was killed before the deletion"
    assert gaps([found[0], *found[2:]], "cloud", head) == (), "or after it"
    head = head.surely_deleted(2)
    assert gaps([found[0], *found[2:]], "cloud", head) == ()
    assert [one.why for one in gaps(found, "cloud", head)] == ["number 2 was deleted and has reappeared"]
    renewed = head.after(signed(document(1, signer="ssh-ed25519 AAAANEW")))
    assert renewed.deleted_of(found[0].signer) == ((2, 2),)
    assert gaps(found, "cloud", renewed)[0].why == "number 2 was deleted and has reappeared"


def test_what_was_accepted_as_missing_may_come_back() -> None:
    """The disk was not mounted."""
    found = in_order(4)
    head = replace(_head(found), present=((1, 4),))
    assert gaps(found, "cloud", accepted([], "cloud", head)) == ()
    assert gaps(found, "cloud", accepted(found[2:], "cloud", head)) == ()


def test_missing_copies_can_be_accepted_and_replaced_or_restored_cannot() -> None:
    found = in_order(5)
    head = _head(found, present=((1, 5),))
    for there in (found[3:], [found[1]], [], found[:4]):
        assert gaps(there, "cloud", head)
        assert gaps(there, "cloud", accepted(there, "cloud", head)) == ()
    taken = accepted(found[3:], "cloud", head)
    assert (taken.sent, taken.deleted) == (((4, 5),), ((1, 3),))
    assert [one.counter for one in gaps(found[4:], "cloud", taken)] == [4], "a later one is an alarm again"
    for wrong in ([*found, found[2]], [found[0], signed(document(2, previous="ab" * 32)), *found[2:]]):
        assert gaps(wrong, "cloud", accepted(wrong, "cloud", head))


def test_another_signers_copy_is_deletable_and_new_keys_forget_nothing() -> None:
    theirs = signed(document(7, signer="ssh-ed25519 AAAATHEY", present=((1, 7),)))
    found = [*in_order(2), theirs]
    assert gaps(found, "cloud", _head(found[:2]))
    head = _head(found[:2]).having_deleted(theirs.signer, ((1, 6),))
    assert gaps(found, "cloud", head) == () == gaps(found, "cloud", accepted(found, "cloud", head))
    assert gaps(found, "other", head) != ()
    renewed = head.having_deleted(head.signer, ((1, 1),)).after(
        signed(document(1, signer="ssh-ed25519 AAAANEW"))
    )
    assert [renewed.deleted_of(one.signer) for one in found[1:]] == [((1, 1),), ((1, 6),)]
    assert renewed.after(found[1]).deleted == ((1, 1),)


def test_each_signer_has_an_order_of_its_own() -> None:
    theirs = signed(document(7, signer="ssh-ed25519 AAAATHEY", present=((7, 7),)))
    assert gaps([*in_order(2), theirs], "cloud") == ()


def test_a_range_of_all_counters_costs_nothing() -> None:
    huge = signed(document(5, present=((1, (1 << 53) - 1),)))
    assert [one.counter for one in gaps([huge], "cloud")] == [1]


def test_the_record_of_a_head_is_read_as_written() -> None:
    head = Head(7, "ab" * 32, "SHA256:x", ((1, 2), (4, 4)), ((3, 7),), {"SHA256:y": ((1, 9),)}, ((2, 2),))
    assert Head.from_json(head.to_json()) == head
    with pytest.raises(ValueError):
        Head.from_json(b'{"counter": 1}')


EARLIER = Replaced(shared().object, "SHA256:THEY", 7)


def test_a_copy_that_was_taken_over_names_its_earlier_manifests() -> None:
    made = shared(2, replaces=(EARLIER,))
    assert RemoteManifest.from_line(made.to_line()) == made
    assert b'"replaces"' not in shared(2).to_line()


@pytest.mark.parametrize(
    "named",
    [
        [EARLIER.object.replace(MACHINE, "34" * 16), "SHA256:THEY", 7],
        [EARLIER.object.replace("database", "notes"), "SHA256:THEY", 7],
        [EARLIER.object.partition("/")[2], "SHA256:THEY", 7],
        [shared().pieces[0].name, "SHA256:THEY", 7],
        [EARLIER.object, "THEY", 7],
        [EARLIER.object, "SHA256:THEY", 0],
        [EARLIER.object, "SHA256:THEY"],
        ["x" * 500, "SHA256:THEY", 7],
    ],
)
def test_a_manifest_that_replaces_anything_but_manifests_of_its_source_is_refused(named: list[Any]) -> None:
    line = json.loads(shared(2).to_line()) | {"replaces": [named]}
    with pytest.raises(ValueError, match="not a manifest of a copy"):
        RemoteManifest.from_line(json.dumps(line).encode() + b"\n")


def test_no_manifest_of_format_1_replaces_another() -> None:
    line = json.loads(document(2).to_line()) | {"replaces": [[*EARLIER]]}
    with pytest.raises(ValueError, match="different formats"):
        RemoteManifest.from_line(json.dumps(line).encode() + b"\n")


def test_a_counter_whose_manifest_was_taken_over_is_not_missing() -> None:
    first, second = in_order(2)
    gone = replace(first.document, id="f" * 32, counter=1, previous="", present=((1, 1),))
    named = Replaced(first.document.object, second.signer, first.document.counter)
    mine = Signed(replace(gone, replaces=(named,)), "ef" * 32, "SHA256:NEW")
    assert [one.counter for one in gaps([second], "cloud")] == [1]
    assert gaps([second, mine], "cloud") == ()
