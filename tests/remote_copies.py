"""Manifests of copies for tests, signed by keys that exist in the test alone."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from refnet.catalog.manifest import Evidence, Level, Manifest, Outcome
from refnet.catalog.object_names import PieceName, SharedName
from refnet.catalog.remote import PIECE_BYTES, Piece, Range, RemoteManifest, Signed, lengths, packed
from refnet.catalog.source_name import SourceName

NOW = datetime(2026, 11, 25, 17, 0, 1, 250_000, tzinfo=UTC)
KEY = "ssh-ed25519 AAAAOURS"
#: The folder of the machine's objects.
MACHINE = "12" * 16
#: Bytes of a list of files.
LISTED = 300
LOCAL = Manifest(
    SourceName.DATABASE,
    "refnet_20261125_170001.sql.gz",
    NOW,
    2 * PIECE_BYTES + 7,
    "ab" * 32,
    1.5,
    unchecked=("論文",),
    details={"database": "wiki", "tables": 8},
    format=2,
)
#: An artifact with a list of files.
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
PROOF = Evidence(NOW, Level.PROVEN, Outcome.PASSED, 1.5, "18.6", row_digests="ab" * 16)


def document(number: int = 1, *, local: Manifest = LOCAL, **changes: Any) -> RemoteManifest:
    """The manifest of the copy `number` of its signer, in format 1."""
    id_ = f"{number:032x}"
    count = len(lengths(local.size))
    sizes = [part + 216 for part in lengths(local.size)]
    pieces = tuple(Piece(PieceName(id_, n).named("0" * 16), sizes[n], "cd" * 32) for n in range(count))
    files = (
        (Piece(PieceName(id_, 0, True).named("1" * 16), 300, "ef" * 32, "v1"),) if local.files_sha256 else ()
    )
    made = RemoteManifest(
        id_,
        "cloud",
        local,
        (PROOF,),
        pieces,
        files,
        KEY,
        number,
        "",
        ((1, number),),
        NOW + timedelta(hours=number),
    )
    return replace(made, **changes)


def shared(number: int = 1, *, local: Manifest = LOCAL, **changes: Any) -> RemoteManifest:
    """The manifest of the copy `number` of its signer, in format 2: its list of files is in the last piece."""
    parts = lengths(local.size)
    ranges = tuple(Range(n, 0, length) for n, length in enumerate(parts))
    listed = (Range(len(parts) - 1, parts[-1], LISTED),) if local.files_sha256 else ()
    plain = [*parts[:-1], parts[-1] + (LISTED if listed else 0)]
    pieces = tuple(
        Piece(SharedName(MACHINE, f"{n:032x}").named("0" * 16), size + 216, f"{n:064x}", plain=size)
        for n, size in enumerate(plain)
    )
    made = replace(
        document(number, local=replace(local, files_sha256=None)),
        manifest=local,
        pieces=pieces,
        key=MACHINE,
        recipients="ef" * 32,
        ranges=ranges,
        list_ranges=listed,
    )
    return replace(made, **changes)


def verified(message: bytes, signature: str) -> tuple[str, str]:
    """A signature for tests: the key, a space, and the digest of the message."""
    key, _, digest = signature.rpartition(" ")
    if digest != hashlib.sha256(message).hexdigest():
        raise ValueError("the signature is not one of this content")
    return key, f"SHA256:{key[-4:]}"


def plaintext(made: RemoteManifest, key: str = "") -> bytes:
    """The plaintext of its object: compressed in format 2."""
    line = made.to_line()
    whole = line + f"{key or made.signer} {hashlib.sha256(line).hexdigest()}".encode()
    return packed(whole) if made.key else whole


def signed(made: RemoteManifest) -> Signed:
    return Signed.read(plaintext(made), made.object, verified)


def in_order(count: int) -> list[Signed]:
    """The manifests 1 to `count`, each with the digest of the one before."""
    made: list[Signed] = []
    for number in range(1, count + 1):
        made.append(signed(document(number, previous=made[-1].sha256 if made else "")))
    return made


def changed(made: RemoteManifest, **values: Any) -> bytes:
    """The line of `made` with other values in its JSON."""
    return json.dumps(json.loads(made.to_line()) | values).encode() + b"\n"
