"""Made-up manifests of a remote store, each signed and encrypted as a copy's is: without pieces, only to be listed."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from refnet.catalog.manifest import Manifest
from refnet.catalog.remote import Piece, PieceName, RemoteManifest, lengths
from refnet.store.buckets.bucket import Bucket
from refnet.store.encryption import Recipient
from refnet.store.keys import MachineKeys
from refnet.store.sending import Encrypter

#: Bytes that encryption adds to a piece, about.
_ADDED = 5_000
_AT_ONCE = 4


def fill(bucket: Bucket, store: str, encrypter: Encrypter, newest: Manifest, count: int) -> None:
    """Put the manifests of `count` copies, one each hour until `newest`, into `bucket`, a store with a name."""
    previous, signer = "", encrypter.keys.signer().line
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        begun = []
        for number in range(1, count + 1):
            document = _document(store, signer, newest, count - number)
            document = replace(document, counter=number, present=((1, number),), previous=previous)
            plaintext, data = encrypter.manifest(document.to_line())
            previous = hashlib.sha256(plaintext).hexdigest()
            begun.append(threads.submit(bucket.put, document.object, data))
        for one in begun:
            one.result()


def encrypter(keys: Path, recipient: str) -> Encrypter:
    """Return what seals with the keys of the machine in a folder."""
    return Encrypter((Recipient(recipient),), MachineKeys(keys))


def _document(store: str, signer: str, newest: Manifest, hours: int) -> RemoteManifest:
    created = newest.created - timedelta(hours=hours)
    manifest = replace(newest, created=created, name=f"refnet_{created:%Y%m%d_%H%M%S}.sql.gz")
    id_ = f"{hours:032x}"
    pieces = tuple(
        Piece(PieceName(id_, number).named("0" * 16), size + _ADDED, "0" * 64)
        for number, size in enumerate(lengths(newest.size))
    )
    return RemoteManifest(id_, store, manifest, (), pieces, (), signer, 1, "", ((1, 1),), created)
