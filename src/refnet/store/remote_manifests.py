"""The manifests of a remote store: listed there, and fetched once.

REFNET_HOME caches each one encrypted, so that the next list fetches only new ones. Anyone who can write to the store can
forge objects: each is limited in size and decrypted, and its signature is checked before it is parsed. An untrusted one
is reported and hides no other.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from xxhash import xxh3_128_digest

from refnet.catalog.object_names import MANIFESTS, ManifestName, is_key_id, key_id
from refnet.catalog.remote import MANIFEST_OBJECT_BYTES, NAMESPACE, Signed
from refnet.catalog.source_name import SourceName, likely_kind, read_name
from refnet.catalog.store import Unlisted
from refnet.core.files import make_folder, open_file, read_regular, write_all
from refnet.core.formatting import size
from refnet.store import encryption
from refnet.store.age import DecryptionError, WrongKeyError
from refnet.store.buckets.bucket import Bucket, BucketError, BucketFailure, Stored, in_background
from refnet.store.keys import Opener

#: Folders that are listed, and manifests that are fetched, at once; and the bytes of those if they are more than one.
_AT_ONCE = 8
_BYTES_AT_ONCE = 16 << 20
#: A manifest that cannot be trusted is kept here if it is not larger, and all of them together: else a forger could
#: fill the disk.
_KEPT_UNTRUSTED, _KEPT_IN_ALL = 64 << 10, 16 << 20
#: Bytes of the XXH3 before an object in its file.
_SUM = 16


@dataclass(frozen=True)
class Trust:
    """Keys for reading a store, and trusted signers."""

    opener: Opener
    #: Fingerprints.
    signers: frozenset[str] = frozenset()
    #: Trust every signer; outputs name it.
    any_signer: bool = False

    def accepts(self, signer: str) -> bool:
        return self.any_signer or signer in self.signers


class _UnknownSignerError(ValueError):
    """A manifest signed by an untrusted key; the text is the fingerprint."""


#: A manifest, or why there is none.
_Read = Signed | Unlisted


@dataclass
class Manifests:
    """The manifests in `bucket`; `folder` caches the fetched ones."""

    bucket: Bucket
    folder: Path
    trust: Trust
    #: Read every version of each object, also of those that are deleted or replaced, where the bucket keeps them.
    versions: bool = False
    #: The folders of machines whose copies this one took over.
    taken: Callable[[], Collection[str]] = tuple
    #: By name, size and tag: what was read in this process.
    _known: dict[tuple[str, int, str], _Read] = field(default_factory=dict)
    #: Bytes of manifests that cannot be trusted, which may still be kept by this list.
    _left: int = 0

    def read(self) -> tuple[list[Signed], list[Unlisted]]:
        """List the store: trusted manifests, and everything else found."""
        listed = [*self._listed()]
        found: dict[str, _Read] = {}
        for one, read in self._all(listed):
            if not isinstance(found.get(one.name), Signed):  # of several versions, one that can be trusted
                found[one.name] = read
        self._known = {key: read for key, read in self._known.items() if key[0] in found}
        self._forget({self._file(one).name for one in listed})
        names = dict.fromkeys(one.name for one in listed)
        for name in self._replaced(found):
            del names[name]
        reads = [found[name] for name in names if name in found]
        return (
            [one for one in reads if isinstance(one, Signed)],
            [one for one in reads if isinstance(one, Unlisted)],
        )

    def _replaced(self, found: Mapping[str, _Read]) -> set[str]:
        """The objects of `found` in whose place other manifests stand, by signers that are trusted by name.

        One that can be read stays unless the other is of the same artifact in the same pieces.
        """
        hidden = set[str]()
        for one in found.values():
            if isinstance(one, Signed) and one.signer in self.trust.signers:
                for name in (earlier.object for earlier in one.document.replaces):
                    read = found.get(name)
                    if isinstance(read, Unlisted) or (read and read.document.same_content(one.document)):
                        hidden.add(name)
        return hidden

    def parse(self, data: bytes, name: str) -> Signed:
        """Parse the stored object `name`, of any signer; ValueError: why it cannot be trusted."""
        return Signed.read(self.trust.opener.manifest(data), name, _verified)

    def folders(self, of: str) -> tuple[str, ...]:
        """The folders `of` of the machines, and that of format 1, as far as they exist."""
        names = self.bucket.folders(deleted=self.versions)
        own = (of,) if of.rstrip("/") in names else ()
        return (*own, *(f"{name}/{of}" for name in names if is_key_id(name)))

    def readable(self) -> tuple[str, ...]:
        """The folders of manifests that the keys may open: without a recovery key, those of this machine and of format 1."""
        opener = self.trust.opener
        if opener.recovery or not opener.catalog:
            return self.folders(MANIFESTS)
        keys = (key_id(opener.catalog.recipient.text), *self.taken())
        return (MANIFESTS, *(f"{one}/{MANIFESTS}" for one in keys))

    def _listed(self) -> Iterator[Stored]:
        """Yield the manifests in all folders, a few of which are listed at once: anyone who can write can make thousands."""
        begun = deque[Future[list[Stored]]]()
        for folder in self.readable():
            if len(begun) >= _AT_ONCE:
                yield from begun.popleft().result()
            begun.append(in_background(self._listed_in, folder))
        for one in begun:
            yield from one.result()

    def _listed_in(self, folder: str) -> list[Stored]:
        """The manifests in `folder`; with versions every one, and the tag of each is the id of its version."""
        if not self.versions:
            return [*self.bucket.listed(folder)]
        there = (one for one in self.bucket.versions(folder) if not one.delete_marker)
        return [Stored(one.name, one.size, one.modified, one.id) for one in there]

    def _get(self, stored: Stored) -> bytes:
        version = stored.tag if self.versions else ""
        return self.bucket.get(stored.name, stored.size, version=version)

    def _all(self, listed: list[Stored]) -> Iterator[tuple[Stored, _Read]]:
        unknown, self._left = [], _KEPT_IN_ALL
        for one in listed:
            known = self._known.get(_key(one)) or self._without_reading(one)
            if known is None and (data := self._kept(one)):
                known = self._judged(one, data)
            if known:
                yield one, known
                self._kept_untrusted(one, known)
            else:
                unknown.append(one)
        for group in _groups(unknown):
            yield from self._read_group(group)

    def _read_group(self, group: list[Stored], *, again: bool = False) -> Iterator[tuple[Stored, _Read]]:
        """Fetch manifests; refetch untrusted ones once before rejecting."""
        doubtful = []
        for one, fetched in self._fetched(group):
            read = fetched if isinstance(fetched, Unlisted) else self._judged(one, fetched)
            if isinstance(read, Unlisted) and not again:
                doubtful.append(one)
                continue
            if isinstance(fetched, bytes) and (isinstance(read, Signed) or self._kept_untrusted(one, read)):
                self._keep(one, fetched)
            yield one, read
        if doubtful:
            yield from self._read_group(doubtful, again=True)

    def _kept_untrusted(self, stored: Stored, read: _Read) -> bool:
        """Whether to cache an untrusted manifest; counts its bytes."""
        kept = isinstance(read, Unlisted) and stored.size <= min(_KEPT_UNTRUSTED, self._left)
        self._left -= stored.size if kept else 0
        return kept

    def _without_reading(self, stored: Stored) -> Unlisted | None:
        if ManifestName.read(stored.name) is None:
            return _unlisted(stored, "is not the name of a manifest", "RefNet did not create it")
        if stored.size > MANIFEST_OBJECT_BYTES:
            return _unlisted(
                stored, f"has {size(stored.size)}, too much for a manifest", "RefNet did not create it"
            )
        return None

    def _fetched(self, group: list[Stored]) -> Iterator[tuple[Stored, bytes | Unlisted]]:
        begun = [(one, in_background(self._get, one)) for one in group]
        for one, future in begun:
            try:
                data = future.result()
            except BucketError as error:
                if error.kind is BucketFailure.MISSING:
                    continue  # deleted meanwhile
                if error.kind is not BucketFailure.DAMAGED:
                    raise
                yield one, _unlisted(one, "differs in size from the store's listing", "list it again")
            else:
                yield one, data

    def _judged(self, stored: Stored, data: bytes) -> _Read:
        """The manifest in `data` if trusted; the verdict is cached for this process."""
        found: _Read
        try:
            signed = Signed.read(self.trust.opener.manifest(data), stored.name, self._trusted)
            found = replace(signed, size=stored.size)
        except _UnknownSignerError as error:
            advice = f"if it is yours, name its key: --signer {error}, or encryption.signers"
            found = _unlisted(stored, f"is signed by an unknown key {error}", advice)
            found = replace(found, signer=str(error))
        except WrongKeyError:
            why, advice = (
                "is encrypted to other keys",
                "give the recovery key that opens it (--identity-file)",
            )
            found = replace(_unlisted(stored, why, advice, unreadable=True), needs_key=True)
        except (DecryptionError, ValueError) as error:
            newer = "is not supported" in str(error)
            advice = "a newer RefNet can read it" if newer else "send the artifact again: refnet copy"
            found = _unlisted(stored, f"cannot be read: {error}", advice, unreadable=True)
        self._known[_key(stored)] = found
        return found

    def _trusted(self, message: bytes, armored: str) -> tuple[str, str]:
        """The signer, if trusted; documents of other signers are not parsed."""
        line, fingerprint = _verified(message, armored)
        if not self.trust.accepts(fingerprint):
            raise _UnknownSignerError(fingerprint)
        return line, fingerprint

    def _file(self, stored: Stored) -> Path:
        tag = hashlib.sha256(stored.tag.encode()).hexdigest()[:16]
        return self.folder / f"{hashlib.sha256(stored.name.encode()).hexdigest()[:32]}.{tag}"

    def _kept(self, stored: Stored) -> bytes | None:
        """A cached object; None if its file is incomplete."""
        with suppress(OSError):
            data = read_regular(self._file(stored), MANIFEST_OBJECT_BYTES + _SUM)
            if len(data) == stored.size + _SUM and data[:_SUM] == xxh3_128_digest(data[_SUM:]):
                return data[_SUM:]
        return None

    def _keep(self, stored: Stored, data: bytes) -> None:
        """Cache an object, without flushing: a thousand files would take seconds."""
        make_folder(self.folder)
        with suppress(OSError):  # a full disk: it is fetched again
            handle = open_file(self._file(stored), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                write_all(handle, xxh3_128_digest(data) + data)
            finally:
                os.close(handle)

    def _forget(self, files: set[str]) -> None:
        """Remove cached files of deleted manifests."""
        with suppress(OSError):
            for path in self.folder.iterdir():
                if path.name not in files and not path.name.startswith("."):
                    path.unlink(missing_ok=True)


def _key(stored: Stored) -> tuple[str, int, str]:
    return stored.name, stored.size, stored.tag


def _groups(items: Iterable[Stored]) -> Iterator[list[Stored]]:
    """Split `items` into batches for parallel fetches."""
    group: list[Stored] = []
    for one in items:
        if group and (len(group) == _AT_ONCE or sum(one.size for one in (*group, one)) > _BYTES_AT_ONCE):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _verified(message: bytes, armored: str) -> tuple[str, str]:
    signer = encryption.verify(message, armored, NAMESPACE)
    return signer.line, signer.fingerprint


def source_of(name: str) -> SourceName:
    """Source in the name of a manifest's object, or `database`; its kind may differ."""
    named = ManifestName.read(name)
    with suppress(ValueError):
        return read_name(named.source, likely_kind(named.source)) if named else SourceName.DATABASE
    return SourceName.DATABASE


def _unlisted(stored: Stored, why: str, advice: str, *, unreadable: bool = False) -> Unlisted:
    return Unlisted(source_of(stored.name), stored.name, stored.size, why, advice, unreadable)
