"""adopt: register existing artifacts and dumps of other programs in the catalog.

The new manifest is made from the artifact: the index of a database, or the list of files beside an archive. An artifact
without either was made by another program: its kind and time are taken from its name. The file's times are ignored,
because copying changes them.

With --source, a dump of another program becomes an artifact of a database that the settings name. It is kept as gzipped
SQL, whatever its format was. RefNet restores it like any artifact; its content was not recorded, so a proof reaches at
most `restored`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import Any

from isal import isal_zlib

from refnet import wiring
from refnet.actions import seal
from refnet.actions.cluster_databases import with_member
from refnet.actions.verify import keep, verify
from refnet.catalog.artifact import Made, OpenArtifact, Proof
from refnet.catalog.catalog import Catalog, parse_time
from refnet.catalog.evidence import Marks
from refnet.catalog.manifest import MANIFEST_SUFFIX, Evidence, Level, Manifest, Outcome, utc
from refnet.catalog.source_name import SourceName, read_file_name
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import NotRegularError, explained, make_folder
from refnet.servers import ActsOn
from refnet.sources import kind_of, source_of
from refnet.sources.database.artifact import foreign_text
from refnet.sources.database.artifact.foreign_dump import ForeignDump
from refnet.sources.database.artifact.own_artifact import open_database
from refnet.store import disk
from refnet.store.local import LocalStore, new_manifest
from refnet.store.open_artifacts import artifact_at, artifact_in, listed_beside, marks_of
from refnet.store.scan import FolderScan

_LOST = ("adopted with a new manifest: earlier checks passed against the lost one",)
#: What is not checked of an artifact that RefNet did not make.
_FOREIGN = (
    "made by another program: its time is from its name, or was given, and its content cannot be compared"
)
_DATE = re.compile(r"(?<!\d)(20\d\d)-?(\d\d)-?(\d\d)(?:[T_ -]?(\d\d)[:-]?(\d\d)(?:[:-]?(\d\d))?)?(?!\d)")
_WITHOUT = "Adopt it without --source, by the name that RefNet gave it."
_GIVE = "Give its time: --at 2026-11-25T02:00."


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
        return _checked(context, store, source, manifest.name)


def _checked(context: Context, store: LocalStore, source: SourceName, name: str) -> Adopted:
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
        return artifact_in(source, path, None), error.message


def _sharper(created: datetime, checked: datetime | None) -> datetime:
    """Time of an artifact: `created` from its name, or the first check of that day if the name has only a date."""
    midnight = (created.hour, created.minute, created.second) == (0, 0, 0)
    if checked and midnight and created <= checked < created + timedelta(days=1):
        return checked
    return created


def _of_itself(source: SourceName, path: Path, created: datetime) -> tuple[Made, str]:
    """Manifest values taken from the artifact at `path`, and their origin."""
    artifact = artifact_in(source, path, None)
    artifact = replace(artifact, files=partial(listed_beside, path))
    if described := kind_of(artifact.source).opened(artifact).describe(created):
        return described, "its own index" if described.files is None else "its list of files"
    return Made(created, {"adopted_from": str(path)}, unchecked=(_FOREIGN,)), "its name"


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


@dataclass(frozen=True)
class ForeignAdoption:
    """The plan to adopt the dump at `path`."""

    path: Path
    source: SourceName
    created: datetime
    #: Where that time comes from.
    told_by: str
    #: Of the dump: plain, custom, and so on.
    format: str

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "name": self.path.name,
            "created": utc(self.created),
            "told_by": self.told_by,
            "details": {"format": self.format},
            "copied_in": True,
            "moved_aside": None,
        }


def plan_foreign(context: Context, path: Path, source: SourceName, at: str | None) -> ForeignAdoption:
    """Plan the adoption of the dump at `path` for `source`; changes nothing.

    at: its time; None: from its name.
    """
    if not kind_of(source).takes_dumps:
        raise RefnetError(
            f"{source} is not a database",
            "Archives of folders and of roles are adopted by their names, without --source.",
            Exit.USAGE,
        )
    with explained(path):
        if not path.exists():
            raise RefnetError(f"{path} does not exist", "Give the path of a dump.", Exit.USAGE)
        if not (path.is_file() or path.is_dir()):
            raise NotRegularError(path)
        if os.path.realpath(path.parent) == os.path.realpath(context.local.folder(source)):
            raise RefnetError(f"{path} is in the backup folder already", _WITHOUT, Exit.USAGE)
        if path.is_file() and _is_own(path, source):
            raise RefnetError(f"{path} is an artifact of RefNet", _WITHOUT, Exit.USAGE)
        created, told_by = _time(path, at, context.settings.schedule.zone)
        if created > context.clock.now():
            raise RefnetError(
                f"the time of {path} is in the future: {created:%Y-%m-%d %H:%M}, from {told_by}",
                _GIVE,
                Exit.USAGE,
            )
        with foreign_text.opened(path, source, _temporary(context)) as dump:
            form = "by pg_dumpall" if not dump.is_archive and dump.is_of_cluster else str(dump.format)
    return ForeignAdoption(path, source, created, told_by, form)


def _is_own(path: Path, source: SourceName) -> bool:
    stored = OpenArtifact(source, path.name, lambda: path.open("rb"), None, path=path)
    return not isinstance(open_database(stored), ForeignDump)


def _time(path: Path, at: str | None, zone: tzinfo | None) -> tuple[datetime, str]:
    """Time of the dump, and where it comes from; the file's times are ignored, because copying changes them.

    A date without a time means its beginning.
    """
    if at:
        moment = parse_time(at, zone)
        is_date = len(at) <= len("2026-11-25")
        return moment.replace(hour=0, minute=0, second=0, microsecond=0) if is_date else moment, "--at"
    if found := _DATE.search(path.name):
        numbers = [int(one or 0) for one in found.groups()]
        try:
            local = datetime(*numbers)  # type: ignore[arg-type]  # noqa: DTZ001
        except ValueError:
            local = None
        if local:
            return local.replace(tzinfo=zone) if zone else local.astimezone(), "its name"
    raise RefnetError(f"the name of {path} does not say when it was made", _GIVE, Exit.USAGE)


def _temporary(context: Context) -> Path:
    make_folder(context.settings.home)
    return context.settings.home


def adopt_foreign(context: Context, adoption: ForeignAdoption) -> Adopted:
    """Take the planned dump into the catalog, as SQL, and check it up to `intact`."""
    source, path = adoption.source, adoption.path
    settings = with_member(context, source).settings
    options = source_of(settings, source).proof_options(context.progress)
    database = ActsOn.of(settings, source).database
    details = {"adopted_from": str(path), "format": adoption.format}
    made = Made(adoption.created, details, unchecked=(_FOREIGN,))
    zone = context.settings.schedule.zone
    local = adoption.created.astimezone(zone).replace(tzinfo=None)
    store = context.local
    with (
        store.lock(source),
        explained(path),
        foreign_text.opened(path, source, _temporary(context)) as dump,
    ):
        others = frozenset(one.name for one in context.catalog.entries(source))
        with store.draft(source) as draft:
            for piece in _gzipped(foreign_text.sql_of(dump, options, database, _temporary(context))):
                draft.out.write(piece)
            manifest = draft.publish(made, local, 0.0, others)
        return _checked(context, store, source, manifest.name)


def _gzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    deflater = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31)
    for piece in pieces:
        yield deflater.compress(piece)
    yield deflater.flush()
