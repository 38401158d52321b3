"""The manifests of copies, the names of their objects, and the record of the newest one."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import damaged, documents, texts
from tests.remote_copies import LOCAL, MACHINE, NOW, document, plaintext, shared, verified

from refnet.catalog.manifest import Outcome
from refnet.catalog.monitoring_stores import (
    RecoveryDrilled,
    StoreCheck,
    Tried,
    Verdict,
    watch_checks,
    watch_drills,
)
from refnet.catalog.object_names import ManifestName, PieceName, SharedName
from refnet.catalog.remote import RemoteManifest, Replaced, Signed, lengths, packed, unpacked
from refnet.catalog.remote_state import Head, gaps
from refnet.store.deletions import Deletions
from refnet.store.keys import Opener
from refnet.store.remote_manifests import Trust

MADE = document()
_EARLIER = Replaced(shared().object, "SHA256:THEY", 7)
SHARED = shared(local=replace(LOCAL, files_sha256="cd" * 32), replaces=(_EARLIER,))
PLAINTEXT = plaintext(SHARED)
HEAD = Head(
    7,
    "ab" * 32,
    "SHA256:OURS",
    ((1, 2), (4, 4)),
    ((5, 7),),
    {"SHA256:THEY": ((1, 3),)},
    ((6, 6),),
    (MACHINE,),
).to_json()
CHECK = StoreCheck("cloud", "s3://b", NOW, (Tried("delete", Verdict.ALARM, "accepted"),)).to_json()

DRILLED = RecoveryDrilled("cloud", "s3://b", NOW, Outcome.FAILED, "the settings").to_json()


@fuzzed
@given(documents(json.loads(MADE.to_line()), MADE.to_line()))
def test_a_manifest_of_a_copy_is_read_or_refused(text: bytes) -> None:
    found = outcome(lambda: RemoteManifest.from_line(text), ValueError)
    if found:
        assert RemoteManifest.from_line(found.to_line()) == found
        assert all(one.name.startswith(f"data/{found.id}/") for one in (*found.pieces, *found.files))
        assert len(found.pieces) == len(lengths(found.manifest.size))
        assert ManifestName.read(found.object)
        outcome(lambda: gaps([Signed(found, "ab" * 32, "SHA256:OURS")], "cloud", Head.from_json(HEAD)))


@fuzzed
@given(documents(json.loads(SHARED.to_line()), SHARED.to_line()))
def test_a_manifest_of_shared_pieces_is_read_or_refused(text: bytes) -> None:
    found = outcome(lambda: RemoteManifest.from_line(text), ValueError)
    if found and found.key:
        assert RemoteManifest.from_line(found.to_line()) == found
        assert all(one.name.startswith(f"{MACHINE}/pieces/") for one in found.pieces)
        assert sum(one.length for one in found.artifact_parts) == found.manifest.size
        parts = (*found.artifact_parts, *found.list_ranges)
        assert all(one.start + one.length <= found.pieces[one.piece].plain for one in parts)
        named = [
            ManifestName.read(one) for one in (found.object, *(earlier.object for earlier in found.replaces))
        ]
        assert {one and one.key for one in named} == {MACHINE}
        outcome(lambda: gaps([Signed(found, "ab" * 32, "SHA256:OURS")], "cloud", Head.from_json(HEAD)))


DELETED = json.dumps(Deletions("cloud", ((1, 3), (7, 7)), NOW.replace(microsecond=0)).values())


@fuzzed
@given(documents(json.loads(DELETED), DELETED.encode()))
def test_a_record_of_deletions_is_read_or_refused(text: bytes) -> None:
    found = outcome(lambda: Deletions.from_json(text), ValueError)
    if found:
        assert Deletions.from_json(json.dumps(found.values())) == found
        recorded = {("SHA256:OURS", found.store): found.deleted}
        outcome(lambda: gaps([Signed(MADE, "ab" * 32, "SHA256:OURS")], "cloud", None, recorded))
    signed = text + b"\n-----BEGIN SSH SIGNATURE-----\n"
    trust = Trust(Opener(), any_signer=True)
    assert outcome(lambda: Deletions.read(signed, trust), ValueError) is None, "it is not signed"


@fuzzed
@given(damaged(PLAINTEXT))
def test_a_compressed_plaintext_is_read_or_refused(data: bytes) -> None:
    found = outcome(lambda: Signed.read(data, SHARED.object, verified), ValueError)
    assert found is None or found.document == SHARED


@fuzzed
@given(st.one_of(st.binary(max_size=300), damaged(packed(bytes(5000)))))
def test_what_is_packed_is_unpacked_or_refused(data: bytes) -> None:
    assert outcome(lambda: unpacked(packed(data))) == data or not data
    outcome(lambda: unpacked(data), ValueError)


@fuzzed
@given(st.one_of(*(documents(json.loads(one.to_line()), one.to_line()) for one in (MADE, SHARED))))
def test_an_unsigned_manifest_is_refused(text: bytes) -> None:
    assert outcome(lambda: Signed.read(text, MADE.object, verified), ValueError) is None


@fuzzed
@given(texts)
def test_a_name_of_an_object_is_read_or_is_none(text: str) -> None:
    assert outcome(lambda: PieceName.read(text)) is None
    assert outcome(lambda: SharedName.read(text)) is None
    assert outcome(lambda: ManifestName.read(text)) is None


@fuzzed
@given(documents(json.loads(HEAD), HEAD.encode()))
def test_the_record_of_a_head_is_read_or_refused(text: bytes) -> None:
    head = outcome(lambda: Head.from_json(text), ValueError)
    if head:
        assert Head.from_json(head.to_json()) == head


@fuzzed
@given(documents(json.loads(CHECK), CHECK.encode()))
def test_the_record_of_a_check_of_a_store_is_read_or_refused(text: bytes) -> None:
    found = outcome(lambda: StoreCheck.from_json(text), ValueError)
    if found:
        assert StoreCheck.from_json(found.to_json()) == found
        [said] = watch_checks({"cloud": found}, NOW)
        assert said.says.isprintable() or not said.says.isascii()


@fuzzed
@given(documents(json.loads(DRILLED), DRILLED.encode()))
def test_the_record_of_a_drilled_recovery_is_read_or_refused(text: bytes) -> None:
    found = outcome(lambda: RecoveryDrilled.from_json(text), ValueError)
    if found:
        assert RecoveryDrilled.from_json(found.to_json()) == found
        [said] = watch_drills({"cloud": found}, NOW)
        assert said.says.isprintable() or not said.says.isascii()
