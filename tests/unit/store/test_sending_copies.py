"""A copy is sent from one store to another as it is encrypted: no recovery key, the same recipients, the same proof."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from tests.memory_bucket import MemoryBucket
from tests.remote_store import PROOF, Machine, artifact, cut_small

from refnet.catalog import remote
from refnet.catalog.artifact import silent
from refnet.catalog.manifest import Evidence, Level, Outcome
from refnet.core.errors import Exit, RefnetError
from refnet.store import sending
from refnet.store.encryption import PrivateKey
from refnet.store.sending import Sender
from refnet.store.sending_pieces import Encrypter

PIECE = 64 << 10
DATA = random.Random(1).randbytes(3 * PIECE + 7)


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_small(monkeypatch, PIECE)


@pytest.fixture
def local(tmp_path: Path) -> Machine:
    return Machine(tmp_path, name="local")


def _sent(local: Machine, away: Machine) -> sending.SentCopy:
    """Send the only copy in `local` to `away`, of the same machine; new recipients are in force by now."""
    [copy] = local.store().entries()
    encrypter = Encrypter((PrivateKey.new().recipient,), local.keys)
    return Sender(away.store(), encrypter, local.now).send_copy(local.store(), copy, silent)


def test_the_bytes_are_the_same_and_the_key_of_the_first_opens_them(local: Machine) -> None:
    first = local.send(artifact(1, DATA))
    away = replace(local, bucket=MemoryBucket(), name="away")
    assert not first.proven_before
    assert local.fetch_back(first).proven_before
    sent = _sent(local, away)
    assert sent.is_new
    assert [one.sha256 for one in sent.copy.document.pieces] == [one.sha256 for one in first.document.pieces]
    assert sent.copy.document.evidence == (PROOF,)
    assert sent.copy.id != first.id
    assert not _sent(local, away).is_new
    copy = away.fetch_back(sent.copy)
    assert copy.state == "fetched"
    assert not copy.proven_before
    keys = away.store().trust.opener
    store = away.store()
    store.trust = replace(store.trust, opener=replace(keys, recovery=(local.recovery,)))
    with store.artifact(copy).open() as reader:
        assert reader.read() == DATA


def test_a_damaged_one_is_not_sent(local: Machine) -> None:
    first = local.send(artifact(1, DATA))
    away = replace(local, bucket=MemoryBucket(), name="away")
    assert isinstance(local.bucket, MemoryBucket)
    name = first.document.pieces[1].name
    local.bucket.contents[name] = [replace(one, data=bytes(9)) for one in local.bucket.contents[name]]
    with pytest.raises(RefnetError) as caught:
        _sent(local, away)
    assert caught.value.code is Exit.DAMAGED
    assert away.store().entries() == ()


def test_a_copy_that_is_damaged_here_takes_no_proof_along(local: Machine) -> None:
    first = local.send(artifact(1, DATA))
    failed = Evidence(local.now(), Level.WRITTEN, Outcome.FAILED, 0.0)
    assert remote.evidence_to_send(replace(first, evidence=(failed,))) == ()
    assert remote.evidence_to_send(first) == (PROOF,)
