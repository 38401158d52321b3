"""A remote store with keys and an artifact, for tests."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.memory_bucket import MemoryBucket

from refnet.catalog.artifact import OpenArtifact, Progress, silent
from refnet.catalog.manifest import Entry, Evidence, Level, Manifest, Outcome
from refnet.catalog.remote import Copy
from refnet.catalog.source_name import SourceName
from refnet.store.buckets.bucket import Bucket
from refnet.store.copy_checks import fetch_back
from refnet.store.encryption import PrivateKey
from refnet.store.keys import MachineKeys, Opener
from refnet.store.remote import RemoteStore
from refnet.store.remote_manifests import Trust
from refnet.store.sending import Encrypter, Sender

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

    @cached_property
    def keys(self) -> MachineKeys:
        keys = MachineKeys(self.home / "keys")
        keys.make_missing()
        return keys

    def now(self) -> datetime:
        self.ticks += 1
        return NOW + timedelta(minutes=self.ticks)

    def store(self, *, key: bool = False, **trust: Any) -> RemoteStore:
        """The store as this machine opens it afresh; `key`: with the recovery key."""
        opener = Opener(self.keys.catalog(), (self.recovery,) if key else ())
        signers = frozenset((self.keys.signer().fingerprint, *self.trusted))
        return RemoteStore(
            self.name, self.bucket, self.home / "remote" / self.name, Trust(opener, signers, **trust)
        )

    def send(self, artifact: OpenArtifact, progress: Progress = silent) -> Copy:
        assert artifact.entry
        encrypter = Encrypter((self.recovery.recipient,), self.keys)
        return Sender(self.store(), encrypter, self.now).send(artifact, artifact.entry, progress).copy

    def fetch_back(self, copy: Copy) -> Copy:
        return fetch_back(self.store(), copy, self.now, silent)


def delete(store: RemoteStore, copy: Copy) -> None:
    """Delete a copy as prune does: its manifest first, then its pieces."""
    store.unpublish(copy)
    store.delete_pieces(copy, store.published())


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
