"""A remote store with keys and an artifact, for tests."""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from tests.memory_bucket import MemoryBucket

from refnet.catalog import remote
from refnet.catalog.artifact import OpenArtifact, Progress, silent
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.object_names import PieceName
from refnet.catalog.remote import Copy, Piece, RemoteManifest, evidence_to_send
from refnet.catalog.remote_state import ranges
from refnet.catalog.source_name import SourceName
from refnet.store import cutting, known_blocks, remote_pieces
from refnet.store.buckets.bucket import Bucket
from refnet.store.copy_checks import fetch_back
from refnet.store.encryption import PrivateKey, encrypt
from refnet.store.keys import MachineKeys, Opener
from refnet.store.leases import is_name
from refnet.store.remote import RemoteStore
from refnet.store.remote_manifests import Trust
from refnet.store.sending import Sender, SentCopy, Sharing
from refnet.store.sending_pieces import Encrypter

NOW = datetime(2026, 11, 25, 17, 0, tzinfo=UTC)
PROOF = Evidence(NOW, Level.PROVEN, Outcome.PASSED, 1.5, row_digests="ab" * 16)


@dataclass
class Machine:
    """A machine with keys of its own, which sends to one bucket. `recovery` is on paper."""

    home: Path
    bucket: Bucket = field(default_factory=MemoryBucket)
    recovery: PrivateKey = field(default_factory=PrivateKey.new)
    #: Fingerprints of others.
    trusted: tuple[str, ...] = ()
    name: str = "cloud"
    ticks: int = 0
    sharing: Sharing = Sharing()

    @cached_property
    def keys(self) -> MachineKeys:
        keys = MachineKeys(self.home / "keys")
        keys.make_missing()
        return keys

    def now(self) -> datetime:
        self.ticks += 1
        return self.same()

    def same(self) -> datetime:
        """The time of the last `now`."""
        return NOW + timedelta(minutes=self.ticks)

    def store(self, *, key: bool = False, **trust: Any) -> RemoteStore:
        """The store as this machine opens it afresh; `key`: with the recovery key."""
        opener = Opener(self.keys.catalog(), (self.recovery,) if key else ())
        signers = frozenset((self.keys.signer().fingerprint, *self.trusted))
        trusted, home = Trust(opener, signers, **trust), self.home / "remote" / self.name
        found = RemoteStore(self.name, self.bucket, home, trusted)
        found.now = self.same
        return found

    def send(self, artifact: OpenArtifact, progress: Progress = silent) -> Copy:
        return self.sent(artifact, progress).copy

    def sent(self, artifact: OpenArtifact, progress: Progress = silent) -> SentCopy:
        assert artifact.entry
        encrypter = Encrypter((self.recovery.recipient,), self.keys)
        sender = Sender(self.store(), encrypter, self.now, self.sharing)
        return sender.send(artifact, artifact.entry, progress)

    def fetch_back(self, copy: Copy) -> Copy:
        return fetch_back(self.store(), copy, self.now, silent)


def objects(bucket: Bucket, prefix: str = "") -> list[str]:
    """Names of the objects in a bucket, but for those that say which runs are under way."""
    return [one.name for one in bucket.listed(prefix) if not is_name(one.name)]


def delete(store: RemoteStore, copy: Copy) -> None:
    """Delete a copy as prune does: its manifest first, then its pieces."""
    store.unpublish(copy)
    for _, act in store.delete_pieces([copy]):
        act()


def artifact(number: int, data: bytes, **changes: Any) -> OpenArtifact:
    """The artifact `number` of the database, proven; its bytes are `data`."""
    made = NOW + timedelta(days=number)
    manifest = Manifest(
        SourceName.DATABASE, f"refnet_{made:%Y%m%d_%H%M%S}.sql.gz", made, len(data), hashlib.sha256(data).hexdigest(), 1.0
    )  # fmt: skip
    manifest = replace(manifest, **changes)
    return OpenArtifact(
        manifest.source, manifest.name, lambda: io.BytesIO(data), manifest, entry=Entry(manifest, (PROOF,))
    )


def cut_small(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    """Let new content be cut into pieces of exactly `piece` bytes, the last one has the rest."""
    for module in (remote, remote_pieces, cutting):
        monkeypatch.setattr(module, "PIECE_BYTES", piece)
    for name in ("_MOST_BLOCK", "_LONG", "_LEAST_PIECE"):
        monkeypatch.setattr(cutting, name, piece)
    monkeypatch.setattr(cutting, "_BUFFER", 3 * piece)


def cut_finely(monkeypatch: pytest.MonkeyPatch, of: int = 32) -> None:
    """Let content be cut as usual, but into blocks and pieces of an `of`th of the usual size."""
    piece = remote.PIECE_BYTES // of
    for module in (remote, remote_pieces, cutting, known_blocks):
        monkeypatch.setattr(module, "PIECE_BYTES", piece)
    for name in ("_LEAST_BLOCK", "_MOST_BLOCK", "_LONG", "_LEAST_PIECE", "_BUFFER"):
        monkeypatch.setattr(cutting, name, max(1, getattr(cutting, name) // of))
    monkeypatch.setattr(cutting, "_CHOSEN", 256)


def send_format_1(machine: Machine, artifact: OpenArtifact) -> Copy:
    """Send a copy in format 1, as RefNet did before pieces were shared."""
    assert artifact.entry
    store, keys, id_ = machine.store(), machine.keys, secrets.token_hex(16)
    with artifact.open() as reader:
        data = reader.read()

    def sent(content: bytes, files: bool) -> Iterator[Piece]:
        for number, length in enumerate(remote.lengths(len(content))):
            part = content[number * remote.PIECE_BYTES :][:length]
            encrypted = encrypt(part, (machine.recovery.recipient,))
            name = PieceName(id_, number, files).named(secrets.token_hex(8))
            version = machine.bucket.put(name, encrypted)
            yield Piece(name, len(encrypted), hashlib.sha256(encrypted).hexdigest(), version)

    packed, head, signer = artifact.packed_files(), store.records.head(), keys.signer()
    there = [one.document.counter for one in store.entries()]
    document = RemoteManifest(
        id_, machine.name, artifact.entry.manifest, evidence_to_send(artifact.entry), tuple(sent(data, False)),
        tuple(sent(packed, True)) if packed else (), signer.line, head.counter + 1, head.sha256,
        ranges([*there, head.counter + 1]), machine.now(),
    )  # fmt: skip
    line = document.to_line()
    plaintext = line + keys.sign(line, remote.NAMESPACE).encode("ascii")
    data = encrypt(plaintext, (machine.recovery.recipient, keys.catalog().recipient))
    machine.bucket.put(document.object, data)
    signed = store.manifests.parse(data, document.object)
    store.records.keep_head(head.after(signed))
    return Copy(document.manifest, signed=signed)
