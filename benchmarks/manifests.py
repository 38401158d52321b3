"""Made-up manifests of a remote store, each signed and encrypted as a copy's is: without pieces, only to be listed."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from refnet.catalog.manifest import Manifest
from refnet.catalog.object_names import SharedName
from refnet.catalog.remote import Piece, Range, RemoteManifest, lengths
from refnet.store.buckets.bucket import Bucket
from refnet.store.encryption import Recipient
from refnet.store.keys import MachineKeys
from refnet.store.sending_pieces import Encrypter

#: Bytes that encryption adds to a piece, about.
_ADDED = 5_000
_AT_ONCE = 4


def fill(bucket: Bucket, store: str, encrypter: Encrypter, newest: Manifest, count: int) -> None:
    """Put the manifests of `count` copies, one each hour until `newest`, into `bucket`, a store with a name."""
    previous = ""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        begun = []
        for number in range(1, count + 1):
            document = _document(store, encrypter, newest, count - number)
            document = replace(document, counter=number, present=((1, number),), previous=previous)
            plaintext, data = encrypter.manifest(document.to_line())
            previous = hashlib.sha256(plaintext).hexdigest()
            begun.append(threads.submit(bucket.put, document.object, data))
        for one in begun:
            one.result()


def encrypter(keys: Path, recipient: str) -> Encrypter:
    """Return what seals with the keys of the machine in a folder."""
    return Encrypter((Recipient(recipient),), MachineKeys(keys))


def _document(store: str, encrypter: Encrypter, newest: Manifest, hours: int) -> RemoteManifest:
    created = newest.created - timedelta(hours=hours)
    manifest = replace(newest, created=created, name=f"refnet_{created:%Y%m%d_%H%M%S}.sql.gz")
    id_ = f"{hours:032x}"
    parts, key, signer = lengths(newest.size), encrypter.key, encrypter.keys.signer().line
    pieces = tuple(
        Piece(SharedName(key, f"{number:032x}").named("0" * 16), size + _ADDED, "0" * 64, plain=size)
        for number, size in enumerate(parts)
    )
    ranges = tuple(Range(number, 0, size) for number, size in enumerate(parts))
    return RemoteManifest(
        id_, store, manifest, (), pieces, (), signer, 1, "", ((1, 1),), created, key, encrypter.digest, ranges
    )
