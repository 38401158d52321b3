"""adopt: give an artifact without a manifest a new one, so that list, monitor and prune see it.

It is made from what the artifact says of itself: the index of a database, the list of files beside an archive. Where
there is neither, other hands made it: its name says what it is and when it was made; a file's own times say nothing,
as a copy changes them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from refnet.errors import Exit, RefnetError
from refnet.files import explained
from refnet.recovery.model.artifact import Evidence, Level, Manifest, Outcome, SourceName, read_name
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.source import Made, OpenArtifact, Source
from refnet.recovery.stores import disk
from refnet.recovery.stores.local import LocalStore
from refnet.recovery.stores.open_artifacts import artifact_at, artifact_in
from refnet.recovery.verbs.choose import Chosen
from refnet.recovery.verbs.verify import Verified, keep, verify

_LOST = ("adopted with a new manifest: what passed before was checked against the one that is lost",)
#: What an artifact of a source, made at a moment, says of itself; None where it says nothing.
Describe = Callable[[SourceName, OpenArtifact, datetime], Made | None]
_FOREIGN = "made by another program: only its name says when, and nothing says what it should hold"


@dataclass(frozen=True)
class Adoption:
    """What adopting the file at `path` does.

    `made`: what the new manifest says, `told_by`: what said so. `wall`: the local time of the name. `inside`:
    whether the file lies in its place in the store already, else it is copied in. `broken`: why the manifest that
    lies there, which is moved aside, cannot be read, or ''.
    """

    path: Path
    source: SourceName
    wall: datetime
    made: Made
    told_by: str
    inside: bool
    broken: str


def plan(
    store: LocalStore,
    path: Path,
    describe: Describe,
    *,
    zone: ZoneInfo | None,
) -> Adoption:
    """What adopting the file at `path` would do; nothing is changed.

    Args:
        zone: whose local time the names of files hold; None: the machine's.

    RefnetError where the name says nothing, or where the file has a manifest already.
    """
    said = read_name(path.name)
    with explained(path):
        fits = not path.is_symlink() and path.is_file()
    if said is None or not fits:
        raise RefnetError(
            f"{path} is not an artifact to adopt",
            "Its name must be like refnet_YYYYMMDD_HHMMSS.sql.gz, config_YYYYMMDD.tar.gz or vault_YYYYMMDD.tar.gz.",
            Exit.USAGE,
        )
    source, wall = said
    inside = path.resolve().parent == store.folder(source).resolve()
    if inside:
        store.check_adoptable(source, path.name)
    held, broken = _held(path)
    created = wall.replace(tzinfo=zone) if zone else wall.astimezone()
    if inside:
        created = _sharper(created, store.first_check(source, path.name))
    told = None if inside else _told(held)
    made, told_by = (told, "the manifest beside it") if told else _of_itself(held, describe, source, created)
    return Adoption(path, source, wall, made, told_by, inside, broken)


def adopt(
    store: LocalStore,
    planned: Adoption,
    prover: Callable[[SourceName], Source],
    *,
    now: Callable[[], datetime],
    clock: Callable[[], float] = time.perf_counter,
) -> Verified:
    """Take the planned file into the catalog and check it as far as `intact`; a file elsewhere is copied in.

    What checks passed before the manifest was lost counts no more; what they found wrong still does.
    """
    source = planned.source
    with store.lock(source):
        manifest = _publish(store, planned)
        entry = Catalog.of(store.entries(source)).named(manifest.name)
        if entry and entry.evidence:
            keep(
                store,
                entry,
                (Evidence(now(), Level.WRITTEN, Outcome.UNVERIFIED, 0.0, reasons=_LOST, revokes=True),),
            )
        chosen = Chosen(source, store.artifact(entry) if entry else artifact_at(planned.path), entry, store)
        return verify(chosen, prover(source), Level.INTACT, now=now, clock=clock)


def _held(path: Path) -> tuple[OpenArtifact, str]:
    """The artifact at `path` with its manifest, if that can be read, and why it cannot."""
    try:
        return artifact_at(path), ""
    except RefnetError as error:
        if error.code is not Exit.DAMAGED:
            raise
        return artifact_in(path.parent, path.name, None), error.message


def _sharper(created: datetime, checked: datetime | None) -> datetime:
    """When an artifact was made whose name says `created`, which may be a day alone; it was first checked at `checked`."""
    midnight = (created.hour, created.minute, created.second) == (0, 0, 0)
    if checked and midnight and created <= checked < created + timedelta(days=1):
        return checked
    return created


def _of_itself(
    held: OpenArtifact, describe: Describe, source: SourceName, created: datetime
) -> tuple[Made, str]:
    """What the artifact `held` says of itself, and by what."""
    if described := describe(source, held, created):
        return described, "its own index" if described.files is None else "its list of files"
    return Made(created, {"adopted_from": str(held.path)}, unchecked=(_FOREIGN,)), "its name"


def _told(held: OpenArtifact) -> Made | None:
    """What a manifest beside a file elsewhere says, which then comes in with it."""
    manifest = held.manifest
    if manifest is None or manifest.name != held.name:
        return None
    details = {key: value for key, value in manifest.details.items() if key != "shares_bytes_with"}
    return Made(
        manifest.created,
        details,
        held.files(),
        manifest.unchecked,
        manifest.partial,
        published=manifest.published,
        shrunk=manifest.shrunk,
        shrunk_from=manifest.shrunk_from,
    )


def _publish(store: LocalStore, planned: Adoption) -> Manifest:
    source, path = planned.source, planned.path
    if planned.inside:
        return store.adopt(source, path.name, planned.made)
    with store.draft(source) as draft, explained(path), disk.open_regular(path) as reader:
        shutil.copyfileobj(reader, draft.out, disk.CHUNK)
        return draft.publish(planned.made, planned.wall, 0.0)
