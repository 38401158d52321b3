"""adopt: register existing artifacts and dumps in the catalog.

The new manifest is made from the artifact: the index of a database, or the list of files beside an archive. An artifact
without either was made by another program: its kind and time are taken from its name. The file's times are ignored,
because copying changes them.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from refnet import wiring
from refnet.actions import seal
from refnet.actions.proving import keep
from refnet.actions.verify import verify
from refnet.catalog.artifact import Made, OpenArtifact, Proof
from refnet.catalog.catalog import Catalog
from refnet.catalog.file_names import read_file_name
from refnet.catalog.manifest import MANIFEST_SUFFIX, Evidence, Level, Manifest, Outcome, utc
from refnet.catalog.marks import Marks
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained
from refnet.sources import kind_of
from refnet.store import disk
from refnet.store.local import LocalStore, new_manifest
from refnet.store.open_artifacts import artifact_at, artifact_in, listed_beside, marks_of
from refnet.store.scan import FolderScan

_LOST = ("adopted with a new manifest: earlier checks passed against the lost one",)
#: What is not checked of an artifact that RefNet did not make.
FOREIGN = (
    "made by another program: its time is from its name, or was given, and its content cannot be compared"
)


@dataclass(frozen=True)
class Adoption:
    """The plan to adopt the file at `path`."""

    path: Path
    source: SourceName
    #: The local time of the name.
    local: datetime
    #: The content of the new manifest.
    made: Made
    #: Where that content comes from.
    made_from: str
    #: True if the file is in the folder of the store; otherwise it is copied there.
    inside: bool
    #: Why the existing manifest cannot be read, so that it is renamed; "" if there is none.
    broken: str

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "name": self.path.name,
            "created": utc(self.made.created),
            "told_by": self.made_from,
            "details": self.made.details,
            "copied_in": not self.inside,
            "moved_aside": self.broken or None,
        }


@dataclass(frozen=True)
class Adopted:
    """An adopted artifact, and its first check."""

    chosen: OpenArtifact
    proof: Proof

    @property
    def exit(self) -> Exit:
        """DAMAGED if the check failed; one that could not run does not fail the adoption."""
        return Exit.DAMAGED if self.proof.outcome is Outcome.FAILED else Exit.DONE

    def to_json(self) -> dict[str, Any]:
        return {"source": self.chosen.source, "name": self.chosen.name, **self.proof.to_json()}


def plan(context: Context, path: Path) -> Adoption:
    """Plan the adoption of the file at `path`; changes nothing.

    RefnetError if the name is not that of an artifact, or the file has a manifest already.
    """
    zone = context.settings.schedule.zone
    said = read_file_name(path.name)
    with explained(path):
        fits = not path.is_symlink() and path.is_file()
    if said is None or not fits:
        raise RefnetError(
            f"{path} is not an artifact to adopt",
            "Its name must be like refnet_YYYYMMDD_HHMMSS.sql.gz, config_YYYYMMDD.tar.gz or vault_YYYYMMDD.tar.gz.",
            Exit.USAGE,
        )
    source, local = said
    store = _place(context, path, source)
    inside = path.resolve().parent == store.folder(source).resolve()
    if inside:
        _check_adoptable(store, source, path.name)
    artifact, broken = _opened(path, source)
    created = local.replace(tzinfo=zone) if zone else local.astimezone()
    if inside:
        created = _sharper(created, FolderScan.read(store.folder(source), source, {}).first_check(path.name))
    stated = None if inside else _stated(artifact)
    made, made_from = (stated, "the manifest beside it") if stated else _of_itself(source, path, created)
    return Adoption(path, source, local, made, made_from, inside, broken)


def adopt(context: Context, adoption: Adoption) -> Adopted:
    """Take the planned file into the catalog and check it up to `intact`; a file elsewhere is copied in.

    Checks that passed before the manifest was lost no longer count; those that failed still do.
    """
    source = adoption.source
    store = _place(context, adoption.path, source)
    with store.lock(source):
        others = frozenset(one.name for one in context.catalog.entries(source))
        manifest = _publish(store, adoption, others)
        entry = Catalog.of(store.entries(source)).named(manifest.name)
        if entry and not adoption.inside and (marks := marks_of(adoption.path)) != entry.marks:
            store.mark(entry, Marks(pinned=True) if marks.unreadable else marks)
        if entry and entry.evidence:
            now = context.clock.now()
            line = Evidence(now, Level.WRITTEN, Outcome.UNVERIFIED, 0.0, reasons=_LOST, revokes=True)
            keep(store.artifact(entry), (line,))
        return checked(context, store, source, manifest.name)


def checked(context: Context, store: LocalStore, source: SourceName, name: str) -> Adopted:
    """Check the adopted artifact `name` up to `intact`, and encrypt it if the settings say so."""
    entry = Catalog.of(store.entries(source)).named(name)
    adopted = store.artifact(entry) if entry else artifact_at(store.folder(source) / name, source)
    proof = verify(context, adopted, Level.INTACT).proof
    entry = Catalog.of(store.entries(source)).named(name)  # with its marks and evidence
    if entry and context.settings.encryption_local and not entry.damaged:
        seal.raised(context, seal.seal(context, store, entry))
    return Adopted(adopted, proof)


def _place(context: Context, path: Path, source: SourceName) -> LocalStore:
    """Store that contains `path`, else the store where artifacts are made."""
    places = (*wiring.plaintext(context.settings), context.local)
    return next((one for one in places if path.resolve().parent == one.folder(source).resolve()), places[-1])


def _opened(path: Path, source: SourceName) -> tuple[OpenArtifact, str]:
    """The artifact at `path`, and why its manifest cannot be read, or ""."""
    try:
        return artifact_at(path, source), ""
    except RefnetError as error:
        if error.code is not Exit.DAMAGED:
            raise
        return artifact_in(source, path.parent, path.name, None), error.message


def _sharper(created: datetime, checked: datetime | None) -> datetime:
    """Time of an artifact: `created` from its name, or the first check of that day if the name has only a date."""
    midnight = (created.hour, created.minute, created.second) == (0, 0, 0)
    if checked and midnight and created <= checked < created + timedelta(days=1):
        return checked
    return created


def _of_itself(source: SourceName, path: Path, created: datetime) -> tuple[Made, str]:
    """Manifest values taken from the artifact at `path`, and their origin."""
    artifact = artifact_in(source, path.parent, path.name, None)
    artifact = replace(artifact, files=partial(listed_beside, path))
    if described := kind_of(artifact.source).opened(artifact).describe(created):
        return described, "its own index" if described.files is None else "its list of files"
    return Made(created, {"adopted_from": str(path)}, unchecked=(FOREIGN,)), "its name"


def _stated(artifact: OpenArtifact) -> Made | None:
    """Values of the manifest beside a file outside of the store."""
    manifest = artifact.manifest
    if manifest is None or manifest.name != artifact.name:
        return None
    details = {key: value for key, value in manifest.details.items() if key != "shares_bytes_with"}
    return Made(
        manifest.created,
        details,
        artifact.files(),
        manifest.unchecked,
        manifest.partial,
        published=manifest.published,
        shrunk=manifest.shrunk,
        shrunk_from=manifest.shrunk_from,
    )


def _publish(store: LocalStore, adoption: Adoption, others: frozenset[str]) -> Manifest:
    source, path = adoption.source, adoption.path
    if adoption.inside:
        return _publish_in_place(store, source, path.name, adoption.made)
    with store.draft(source) as draft, explained(path), disk.open_regular(path) as reader:
        shutil.copyfileobj(reader, draft.out, disk.CHUNK)
        return draft.publish(adoption.made, adoption.local, 0.0, others)


def _publish_in_place(store: LocalStore, source: SourceName, name: str, made: Made) -> Manifest:
    """Publish the file `name` in the folder of `source`, which has no valid manifest.

    An unreadable manifest is renamed. A crash leaves the file unchanged: the new manifest's hidden name is not one
    of an intent (see scan.py). RefnetError if the catalog has the file already, or it cannot be adopted.
    """
    _check_adoptable(store, source, name)
    store.remember()
    folder = store.folder(source)
    _rename_damaged(folder / f"{name}{MANIFEST_SUFFIX}")
    with explained(folder / name), disk.open_cold(folder / name) as reader:
        sha256, size = disk.digest(reader)
        os.fchmod(reader.fileno(), 0o600)
    manifest = new_manifest(source, name, made, sha256, size)
    with disk.HiddenFile(folder, ".part") as file:
        file.write(manifest.to_json().encode())
        file.sync()
        disk.publish(file, f"{name}{MANIFEST_SUFFIX}")
    return manifest


def _check_adoptable(store: LocalStore, source: SourceName, name: str) -> None:
    """RefnetError if the file `name` in the folder of `source` cannot be adopted."""
    path = store.folder(source) / name
    found = next((one for one in store.unlisted(source) if one.name == name), None)
    if found is None:
        raise RefnetError(f"{path} has a manifest already", "`refnet list` shows it.")
    if not found.adoptable:
        raise RefnetError(f"{path} {found.why}", f"It is left unchanged: {found.advice}.")


def _rename_damaged(path: Path) -> None:
    """Rename the file `path`, if it exists, to a name that is never read."""
    names = (f"{path.name}.damaged{f'-{number}' if number > 1 else ''}" for number in range(1, 100))
    if os.path.lexists(path) and not any(disk.rename(path, path.with_name(name)) for name in names):
        raise RefnetError(f"{path} cannot be renamed", f"Remove the files {path.name}.damaged* there.")
