"""adopt: give an artifact that other hands made a manifest, so that list, monitor and prune see it.

Its name says what it is and when it was made; a file's own times say nothing, as a copy changes them. An artifact
of RefNet that lost its manifest tells more, by its own index.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from refnet.errors import Exit, RefnetError
from refnet.recovery.model.artifact import Level, Manifest, SourceName, read_name
from refnet.recovery.model.catalog import Catalog
from refnet.recovery.model.source import Held, Made, Source
from refnet.recovery.stores import disk
from refnet.recovery.stores.held import held_at
from refnet.recovery.stores.local import LocalStore
from refnet.recovery.verbs.choose import Chosen
from refnet.recovery.verbs.verify import Verified, verify

_FOREIGN = "made by another program: only its name says when, and nothing says what it should hold"


def adopt(
    store: LocalStore,
    path: Path,
    describe: Callable[[SourceName, Held], Made | None],
    prover: Callable[[SourceName], Source],
    *,
    now: Callable[[], datetime],
    zone: ZoneInfo | None,
    clock: Callable[[], float] = time.perf_counter,
) -> Verified:
    """Take the file at `path` into the catalog and check it as far as `intact`; a file elsewhere is copied in.

    Args:
        describe: what an artifact's own index says of it; None where it has none.
        zone: whose local time the names of files hold; None: the machine's.

    RefnetError where the name says nothing, or where the file has a manifest already.
    """
    said = read_name(path.name)
    with disk.explained(path):
        fits = not path.is_symlink() and path.is_file()
    if said is None or not fits:
        raise RefnetError(
            f"{path} is not an artifact to adopt",
            "Its name must be like refnet_YYYYMMDD_HHMMSS.sql.gz, config_YYYYMMDD.tar.gz or vault_YYYYMMDD.tar.gz.",
            Exit.USAGE,
        )
    source, wall = said
    created = wall.replace(tzinfo=zone) if zone else wall.astimezone()
    held = held_at(path)
    made = (
        _told(held)
        or describe(source, held)
        or Made(created, {"adopted_from": str(path)}, unchecked=(_FOREIGN,))
    )
    with store.lock(source):
        manifest = _publish(store, source, path, made, wall)
        entry = Catalog.of(store.entries(source)).named(manifest.name)
        chosen = Chosen(source, store.held(entry) if entry else held_at(path), entry, store)
        return verify(chosen, prover(source), Level.INTACT, now=now, clock=clock)


def _told(held: Held) -> Made | None:
    """What a manifest beside a file elsewhere says, which then comes in with it."""
    manifest = held.manifest
    if manifest is None:
        return None
    details = {key: value for key, value in manifest.details.items() if key != "shares_bytes_with"}
    return Made(
        manifest.created,
        details,
        held.files(),
        manifest.unchecked,
        manifest.partial,
        published=manifest.published,
    )


def _publish(store: LocalStore, source: SourceName, path: Path, made: Made, wall: datetime) -> Manifest:
    if path.resolve().parent == store.folder(source).resolve():
        return store.adopt(source, path.name, made)
    with store.draft(source) as draft, disk.explained(path), path.open("rb") as reader:
        shutil.copyfileobj(reader, draft.out, disk.CHUNK)
        return draft.publish(made, wall, 0.0)
