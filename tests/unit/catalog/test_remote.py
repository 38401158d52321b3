"""The manifests of copies: read back as written, and nothing trusted that contradicts itself."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.remote_copies import LOCAL, NOW, PROOF, changed, document, in_order, plaintext, signed, verified

from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.remote import (
    MOST_PIECES,
    PIECE_BYTES,
    Copy,
    ManifestName,
    PieceName,
    RemoteManifest,
    Signed,
    evidence_to_send,
    lengths,
)
from refnet.catalog.remote_state import Head, accepted, gaps, ranges, without
from refnet.catalog.source_name import Kind, SourceName

VAULT = Manifest(
    SourceName.OBSIDIAN,
    "vault_20261125.tar.gz",
    NOW,
    7,
    "ab" * 32,
    1.5,
    files_sha256="cd" * 32,
    details={"files": 3},
)
FAILED = Evidence(NOW, Level.WRITTEN, Outcome.FAILED, 1.0, reasons=("a piece is gone",))
READ = Evidence(NOW, Level.WRITTEN, Outcome.PASSED, 1.0)


@pytest.mark.parametrize("local", [LOCAL, VAULT, replace(LOCAL, size=0), replace(LOCAL, size=PIECE_BYTES)])
def test_what_is_written_is_read(local: Manifest) -> None:
    made = document(local=local)
    assert RemoteManifest.from_line(made.to_line()) == made
    assert made.to_line().isascii()
    assert made.to_line().count(b"\n") == 1


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


@pytest.mark.parametrize(
    "name",
    [
        "", "x", "data/", f"data/{'ab' * 16}/00000.age", f"data/{'AB' * 16}/00000-{'0' * 16}.age",
        f"data/{'ab' * 16}/../{'ab' * 16}/00000-{'0' * 16}.age", f"data/{'ab' * 16}/00000-{'0' * 16}.age\n",
        f"data/{'ab' * 16}/٠٠٠٠٠-{'0' * 16}.age", f"manifests/20260230T000000Z_shop_{'ab' * 16}.age",
        f"manifests/20261125T170001Z_{'a' * 41}_{'ab' * 16}.age", f"manifests/20261125T170001Z_../x_{'ab' * 16}.age",
        f"manifests/00011125T170001Z_shop_{'ab' * 16}.age", f"manifests/20261125T170001Z_shop_{'ab' * 15}.age",
    ],
)  # fmt: skip
def test_other_names_are_not_names_of_objects(name: str) -> None:
    assert PieceName.read(name) is None
    assert ManifestName.read(name) is None


def _pieces(made: RemoteManifest, number: int = 0, **values: Any) -> dict[str, Any]:
    found = [asdict(one) for one in made.pieces]
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
    ({"pieces": [asdict(one) for one in MADE.pieces[:2]]}, "as many pieces"),
    ({"pieces": []}, "as many pieces"),
    ({"pieces": [asdict(MADE.pieces[0])] * (MOST_PIECES + 1)}, "more than"),
    ({"files": [asdict(MADE.pieces[0])]}, "another copy"),
    ({"counter": 0}, "counter"),
    ({"counter": 1 << 53}, "counter"),
    ({"present": [[3, 2]]}, "ranges in order"),
    ({"present": [[1, 5], [4, 9]]}, "ranges in order"),
    ({"previous": "ab"}, "previous"),
    ({"signer": "ssh-rsa AAAA"}, "signer"),
    ({"format": 2}, "format 2 is not supported"),
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


def test_a_list_of_files_has_pieces_where_the_manifest_names_it() -> None:
    with pytest.raises(ValueError, match="list of files"):
        RemoteManifest.from_line(changed(document(local=VAULT), files=[]))
    more = replace(document(local=VAULT).files[0], size=PIECE_BYTES + (1 << 20))
    with pytest.raises(ValueError, match="size"):
        RemoteManifest.from_line(changed(document(local=VAULT), files=[asdict(more)]))


def test_keys_of_a_later_refnet_of_the_same_format_are_left_out() -> None:
    assert RemoteManifest.from_line(changed(MADE, colour="red")) == MADE


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
    head = Head(7, "ab" * 32, "SHA256:x", ((1, 2), (4, 4)), ((3, 7),), {"SHA256:y": ((1, 9),)})
    assert Head.from_json(head.to_json()) == head
    with pytest.raises(ValueError):
        Head.from_json(b'{"counter": 1}')
