"""A part of `./dev bench --offsite-files`: a folder as a store that lists 100,000 pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from random import Random

from benchmarks import bars, files
from benchmarks.bars import Bar, Table
from benchmarks.manifests import encrypter
from benchmarks.offsite import private_file
from benchmarks.turns import say, take_turns
from benchmarks.ways import Result
from refnet.catalog.manifest import Manifest
from refnet.catalog.object_names import PIECES, SharedName
from refnet.catalog.remote import Piece, Range, RemoteManifest
from refnet.core.files import make_folder
from refnet.store.buckets.folder import FolderBucket
from refnet.store.encryption import PrivateKey
from refnet.store.keys import MachineKeys
from refnet.store.local import LocalStore
from refnet.store.sending_pieces import Encrypter

#: Pieces in the store, and copies; each piece is of one copy, and has so many bytes.
_PIECES, _COPIES, _PLAIN = 100_000, 20, 64
_MOST_MB = 200
_STORE = "pieces"
_NAME = f"refnet %s, {_PIECES:,} pieces in the store"
#: In this order: the drill records that it read every piece back, and the others read that.
COMMANDS = {
    "drill": (f"drill --store {_STORE}", True),
    "list": (f"list --store {_STORE}", False),
    "store stats": ("store stats", False),
    "verify": (f"verify obsidian --store {_STORE}", True),
    "copy": (f"copy obsidian --store {_STORE}", False),
    "prune": (f"prune obsidian --store {_STORE} --yes", False),
}
#: The drill has no limit of its own.
_LIMITED = tuple(_NAME % one for one in COMMANDS if one != "drill")


@dataclass(frozen=True, kw_only=True)
class Bench(files.Bench):
    """A small vault, and the store."""

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def make(self, pieces: int = _PIECES, copies: int = _COPIES) -> None:
        """Write keys and settings, and fill the store; only the newest of its copies is of an artifact that was made."""
        home, key, each = self.folder / self.home, PrivateKey.new(), pieces // copies
        self.vault.mkdir(parents=True)
        (self.vault / "picture").write_bytes(Random(1).randbytes(each * _PLAIN))  # noqa: S311  # not secret
        self.refnet("backup", "obsidian", "--no-prove")
        private_file(self.folder / "recovery.key", f"{key.revealed()}\n")
        MachineKeys(home / "keys").make_missing()
        settings = f'retention.obsidian = "keep-last=2"\n[stores.{_STORE}]\nurl = "file://{self.store}"\n'
        settings += f'[encryption]\nrecipients = ["{key.recipient.text}"]\n'
        private_file(home / "refnet.toml", settings)
        own = encrypter(home / "keys", key.recipient.text)
        make_folder(self.store / own.key / PIECES)
        bucket, previous = FolderBucket(self.store), ""
        for document in self._documents(own, each, copies):
            plaintext, data = own.manifest(replace(document, previous=previous).to_line())
            bucket.put(document.object, data)
            previous = hashlib.sha256(plaintext).hexdigest()

    def _documents(self, own: Encrypter, each: int, copies: int) -> Iterator[RemoteManifest]:
        store, numbers = LocalStore(self.backups), count()
        entry = max(store.entries(), key=lambda one: one.created)

        def piece(text: bytes) -> Piece:
            data = own.piece(text)
            name = SharedName(own.key, f"{next(numbers):032x}").named("0" * 16)
            (self.store / name).write_bytes(data)
            return Piece(name, len(data), hashlib.sha256(data).hexdigest(), plain=len(text))

        listed, data = piece(store.artifact(entry).packed_files() or b""), self.artifact().read_bytes()
        step = -(-len(data) // each)
        for counter in range(1, copies + 1):
            manifest = _earlier(entry.manifest, copies - counter)
            pieces = (listed, *(piece(data[at : at + step]) for at in range(0, len(data), step)))
            parts = tuple(Range(number, 0, one.plain) for number, one in enumerate(pieces))
            yield RemoteManifest(
                f"{counter:032x}", _STORE, manifest, (), pieces, (), own.keys.signer().line, counter, "",
                ((1, counter),), manifest.created, own.key, own.digest, parts[1:], parts[:1],
            )  # fmt: skip


def _earlier(newest: Manifest, days: int) -> Manifest:
    created = newest.created - timedelta(days=days)
    return replace(newest, created=created, name=f"vault_{created:%Y%m%d_%H%M%S}.tar.gz") if days else newest


def way(command: str, key: bool) -> Callable[[Bench], Result]:
    """Return a command, with the recovery key if it needs it."""

    def one(bench: Bench) -> Result:
        if command.startswith("copy"):  # of a new artifact, so that it lists what it may share
            (bench.vault / "note.md").write_text("a note\n")
            replace(bench, home="without a store").refnet("backup", "obsidian", "--no-prove")
        more = ("--identity-file", str(bench.folder / "recovery.key")) if key else ()
        return Result(bench.refnet(*command.split(), *more))

    return one


def measure(folder: Path) -> Table:
    """Fill a store in a new `folder`, and run each command once, sampled."""
    folder.mkdir()
    say(f"writing {_PIECES:,} pieces")
    (bench := Bench(folder=folder, sample=True)).make()
    return take_turns({_NAME % name: way(*one) for name, one in COMMANDS.items()}, 0, lambda _: bench)


def promises() -> tuple[Bar, ...]:
    """Return the promise for such a store."""
    what = f"{bars.MEMORY}, {_PIECES:,} pieces in the store"
    return (
        Bar(what, _LIMITED, lambda t: max(t[way].peak for way in _LIMITED) / 1e6, ceiling=_MOST_MB, unit="MB"),
    )  # fmt: skip
