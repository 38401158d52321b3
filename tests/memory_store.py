"""A store in memory; nothing persists."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Container, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import BinaryIO

from refnet.catalog.artifact import Made, OpenArtifact
from refnet.catalog.evidence import Marks
from refnet.catalog.manifest import Entry, Evidence, Manifest
from refnet.catalog.source_name import SourceName, artifact_names
from refnet.catalog.store import Leftover
from refnet.core.errors import Exit, RefnetError


class MemoryStore:
    """Artifacts as bytes by name. A test puts leftovers into `left`, and damage into `contents`."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.manifests: dict[str, Manifest] = {}
        self.evidence: dict[str, list[Evidence]] = {}
        self.marks: dict[str, Marks] = {}
        self.left: list[Leftover] = []
        self._locked: set[SourceName] = set()

    def entries(self, source: SourceName | None = None) -> tuple[Entry, ...]:
        return tuple(
            Entry(manifest, tuple(self.evidence.get(name, ())), self.marks.get(name, Marks()))
            for name, manifest in self.manifests.items()
            if source in {None, manifest.source}
        )

    @contextmanager
    def draft(self, source: SourceName) -> Iterator[MemoryDraft]:
        yield MemoryDraft(self, source)

    def artifact(self, entry: Entry) -> OpenArtifact:
        name = entry.name

        def open_it() -> BinaryIO:
            if name not in self.contents:
                raise RefnetError(f"{name} is not there", "See `refnet list`.")
            return io.BytesIO(self.contents[name])

        return OpenArtifact(
            entry.source, name, open_it, entry.manifest, lambda: self.files.get(name),
            entry=entry, record=partial(self.record, entry),
        )  # fmt: skip

    def record(self, entry: Entry, *evidence: Evidence) -> None:
        self.evidence.setdefault(entry.name, []).extend(evidence)

    def mark(self, entry: Entry, marks: Marks) -> None:
        self.marks[entry.name] = marks

    def delete(self, entry: Entry) -> None:
        for part in (self.manifests, self.evidence, self.marks, self.files, self.contents):
            part.pop(entry.name, None)

    def leftovers(self, source: SourceName | None = None) -> tuple[Leftover, ...]:
        return tuple(leftover for leftover in self.left if source in {None, leftover.source})

    def entries_and_leftovers(
        self, source: SourceName | None = None
    ) -> tuple[tuple[Entry, ...], tuple[Leftover, ...]]:
        return self.entries(source), self.leftovers(source)

    def clean(self, leftover: Leftover) -> None:
        if leftover in self.left:
            self.left.remove(leftover)

    @contextmanager
    def lock(self, source: SourceName) -> Iterator[None]:
        if source in self._locked:
            raise RefnetError(
                f"another run of RefNet is running for {source} (this process)",
                "Wait until it has ended, then retry.",
                Exit.LOCKED,
            )
        self._locked.add(source)
        try:
            yield
        finally:
            self._locked.discard(source)

    def free_bytes(self) -> int | None:
        return None


class MemoryDraft:
    """An artifact that is being written in a MemoryStore."""

    def __init__(self, store: MemoryStore, source: SourceName) -> None:
        self.out: BinaryIO = io.BytesIO()
        self._store = store
        self._source = source

    def publish(
        self, made: Made, local: datetime, seconds: float, others: Container[str] = frozenset()
    ) -> Manifest:
        store = self._store
        shared = made.details.get("shares_bytes_with")
        self.out.seek(0)
        data = store.contents[shared] if shared else self.out.read()
        names = artifact_names(self._source, local, partial=made.partial)
        name = next((one for one in names if one not in store.contents and one not in others), None)
        if name is None:
            raise RefnetError("every name of this second is taken", "Retry in a second.")
        manifest = Manifest(
            source=self._source,
            name=name,
            created=made.created,
            published=made.published,
            shrunk=made.shrunk,
            shrunk_from=made.shrunk_from,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            seconds=seconds,
            partial=made.partial,
            files_sha256=None if made.files is None else hashlib.sha256(made.files).hexdigest(),
            unchecked=made.unchecked,
            details=made.details,
        )
        store.contents[name] = data
        if made.files is not None:
            store.files[name] = made.files
        store.manifests[name] = manifest
        return manifest
