"""Records of sources in REFNET_HOME: what a backup cannot know from the source itself.

- The identity: a random id, and the number of the last artifact, which carries both. A restore or a recovery into a home
  that has no identity of the source takes over that of the artifact. If another installation makes the next backup, such
  as a container after a recovery of the machine, it finds the identity in the store: a handover, which that backup uses up.
- The lineage of a database that continues one of another server. After a disk failure it is on a new cluster, while older
  artifacts name the old one, and would belong to an unknown database. The backup folder has these records too, for every
  machine and container that reads it, until a manifest says so.
- The pins and tags that came with a recovery, of artifacts that are not in the backup folder: a prune of the stores keeps them.
- The databases of a cluster, so that commands know them without asking its server.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

from refnet.catalog.evidence import MOST_MARKED, MarksOf, RecoveredMarks
from refnet.catalog.identity import Identity, SourceId
from refnet.catalog.manifest import HIDDEN_PREFIX, MOST_BEFORE, MOST_NUMBERED
from refnet.catalog.source_name import SourceName, member_name, wrong_name
from refnet.core import checked
from refnet.core.errors import RefnetError
from refnet.core.files import explained, make_folder, read_regular, replace_file
from refnet.core.records import Layout, Most, Needed, Rare, Record
from refnet.store import disk

#: The folder of handovers in a store.
HANDOVERS = f"{HIDDEN_PREFIX}handovers"
#: The format of the records.
_FORMAT = 1
#: The largest record of a source, in bytes.
_SOURCE_BYTES = 4 << 10


@dataclass(frozen=True)
class KnownSource(Record):
    """The record of a source."""

    LAYOUT = Layout(more=True)

    #: 32 hex digits; "": none yet.
    id: Needed[Annotated[str, checked.text(32, like="|[0-9a-f]{32}")]] = ""
    #: Of the last artifact that was made here; 0: none was.
    number: Needed[Annotated[int, checked.integer(0, MOST_NUMBERED)]] = 0
    #: It is not backed up any more, and somebody accepted that; the next artifact ends it.
    accepted: Rare[bool] = False

    @property
    def whose(self) -> SourceId | None:
        return SourceId(self.id) if self.id else None


@dataclass(frozen=True)
class Identities:
    """The records in REFNET_HOME, a file per source, and the handovers in the store."""

    folder: Path
    handovers: Path

    @classmethod
    def at(cls, home: Path, store: Path) -> Self:
        """Return the records of a REFNET_HOME, and the handovers in the backup folder `store`."""
        return cls(home / "identities", store / HANDOVERS)

    def of(self, source: str) -> KnownSource:
        """The record of `source`; RefnetError if it is damaged."""
        path = self.folder / f"{source}.json"
        try:
            return _read(path, os.geteuid())
        except FileNotFoundError:
            return KnownSource()
        except (OSError, ValueError) as error:
            raise RefnetError(
                f"{path} is not the record of a source",
                f"Remove it: the next restore takes over the identity of its artifact, the next backup of {source} makes a new one.",
            ) from error

    def names(self) -> tuple[str, ...]:
        """Return the names of the sources that have a record; RefnetError if the folder cannot be read."""
        with explained(self.folder):
            found = os.listdir(self.folder) if self.folder.is_dir() else []  # noqa: PTH208  # names alone
        names = (one.removesuffix(".json") for one in found if one.endswith(".json"))
        return tuple(one for one in names if not wrong_name(one))

    def is_accepted(self, source: str) -> bool:
        """Whether it was accepted that `source` is gone."""
        with suppress(RefnetError):  # `of` reports it where it is needed
            return self.of(source).accepted
        return False

    def accept(self, source: str) -> None:
        """Record that `source` is gone on purpose."""
        self._write(self.folder / f"{source}.json", replace(self.of(source), accepted=True))

    def or_handed_over(self, source: SourceName) -> KnownSource:
        """The record of `source`, else the handover of a recovery to the next backup."""
        known = self.of(source)
        if known.id:
            return known
        handed = self._handed_over(source)
        return KnownSource(handed.id, max(known.number, handed.number))

    def made(self, source: SourceName, known: KnownSource) -> None:
        """Record `known` before its artifact is published, and remove its handover."""
        self._write(self.folder / f"{source}.json", known)
        if known.id and self._handed_over(source).id == known.id:
            with suppress(OSError):  # root wrote it, and this is the containers' user
                (self.handovers / f"{source}.json").unlink()

    def reach(self, source: SourceName, number: int) -> None:
        """Raise the next number of `source` above `number`."""
        known = self.of(source)
        if number > known.number:
            self._write(self.folder / f"{source}.json", replace(known, number=number))

    def take_over(self, source: SourceName, whose: SourceId, number: int = 0) -> bool:
        """Continue the identity `whose` of a restored artifact, unless this home already has one for `source`.

        Args:
            number: the largest known number of its artifacts.
        """
        known = self.of(source)
        if known.id:
            return False
        known = KnownSource(whose.id, max(number, known.number))
        self._write(self.folder / f"{source}.json", known)
        self._write(self.handovers / f"{source}.json", known)
        return True

    def _handed_over(self, source: SourceName) -> KnownSource:
        try:
            return _read(self.handovers / f"{source}.json", None)
        except (OSError, ValueError):
            return KnownSource()

    def _write(self, path: Path, known: KnownSource) -> None:
        values = {"format": _FORMAT, "source": path.stem, **known.values()}
        disk.write_record(path, json.dumps(values).encode() + b"\n")


def new_id() -> str:
    """Return a new random id."""
    return secrets.token_hex(16)


def _read(path: Path, owner: int | None) -> KnownSource:
    return KnownSource.from_json(read_regular(path, _SOURCE_BYTES, owner=owner))


#: The most databases of a server that RefNet names.
MOST_DATABASES = 5_000
#: The largest record of a database that continues another one, in bytes.
_LINEAGE_BYTES = 16 << 10
_SYSTEM = checked.text(20, like="[0-9]+")
_LINEAGE = checked.record(
    {"system": checked.or_none(_SYSTEM), "before": checked.each(_SYSTEM, MOST_BEFORE)}, more=True
)


@dataclass(frozen=True)
class Continued(Record):
    """A record: a database, and the clusters whose database of the same name it continues, the newest last."""

    LAYOUT = Layout(longest=_LINEAGE_BYTES, more=True)

    database: Annotated[str, checked.text(256, shortest=1)]
    system: Annotated[str, _SYSTEM]
    before: Annotated[tuple[Annotated[str, _SYSTEM], ...], Most(MOST_BEFORE)]

    @property
    def identity(self) -> Identity:
        return Identity(self.database, self.system)


@dataclass(frozen=True)
class Lineage:
    """The records in `folder`, a file per database."""

    folder: Path
    #: Whose files are read; None: anybody's.
    owner: int | None = field(default_factory=os.geteuid)

    @classmethod
    def at(cls, home: Path) -> Self:
        """Return the records of a REFNET_HOME."""
        return cls(home / "lineage")

    @classmethod
    def in_store(cls, root: Path) -> Self:
        """The records in the backup folder `root`; anyone who can write there can also write manifests."""
        return cls(root / f"{HIDDEN_PREFIX}lineage", None)

    def before(self, identity: Identity) -> tuple[str, ...]:
        """Clusters whose database of the same name `identity` continues; empty without a valid record."""
        try:
            text = read_regular(self._file(identity), _LINEAGE_BYTES, owner=self.owner)
            values = _LINEAGE(checked.document(text))
        except (OSError, ValueError):
            return ()
        return tuple(values["before"]) if values["system"] == identity.system else ()

    def add(self, identity: Identity, origin: Identity | None) -> None:
        """Record that `identity` was restored from `origin`, if that has the same name on another server."""
        if origin is None or origin.database != identity.database:
            return
        if None in (origin.system, identity.system) or origin.system == identity.system:
            return
        known = dict.fromkeys((*self.before(origin), *self.before(identity)))
        earlier = [one for one in known if one not in {origin.system, identity.system}]
        before = (*earlier, str(origin.system))[-MOST_BEFORE:]
        self._write(Continued(identity.database, str(identity.system), before))

    def _write(self, one: Continued) -> None:
        disk.write_record(
            self._file(one.identity), json.dumps({"format": _FORMAT, **one.values()}).encode() + b"\n"
        )

    def all(self) -> tuple[Continued, ...]:
        """The records that can be read, at most MOST_DATABASES of them."""
        found = list[Continued]()
        for path in sorted(self.folder.glob("[!.]*.json"))[:MOST_DATABASES]:
            with suppress(OSError, ValueError):
                one = Continued.from_json(read_regular(path, _LINEAGE_BYTES, owner=self.owner))
                if path == self._file(one.identity):
                    found.append(one)
        return tuple(found)

    def keep(self, one: Continued) -> None:
        """Keep a record of another home, unless there is one of this database."""
        if not self.before(one.identity):
            self._write(one)

    def _file(self, identity: Identity) -> Path:
        key = f"{identity.system}\0{identity.database}".encode(errors="surrogatepass")
        return self.folder / f"{hashlib.sha256(key).hexdigest()[:32]}.json"


@dataclass(frozen=True)
class KeptMarks:
    """The marks that came with a recovery, in one file: most of its artifacts are in a remote store alone."""

    file: Path

    @classmethod
    def in_home(cls, home: Path) -> Self:
        """Those of a REFNET_HOME."""
        return cls(home / "remote" / "marks.json")

    def read(self) -> tuple[MarksOf, ...]:
        """The marks; empty without a valid file."""
        with suppress(OSError, ValueError):
            text = read_regular(self.file, RecoveredMarks.LAYOUT.longest, owner=os.geteuid())
            return RecoveredMarks.from_json(text).marks
        return ()

    def keep(self, marks: Iterable[MarksOf]) -> None:
        """Add `marks`; of an artifact that is known already, those that are known stay."""
        known = {one.sha256: one for one in (*marks, *self.read())}
        self._write(known.values())

    def forget(self, sha256: str) -> None:
        """Forget those of an artifact: it was marked here."""
        marks = self.read()
        if any(one.sha256 == sha256 for one in marks):
            self._write(one for one in marks if one.sha256 != sha256)

    def _write(self, marks: Iterable[MarksOf]) -> None:
        disk.write_record(self.file, RecoveredMarks(tuple(marks)[-MOST_MARKED:]).to_json().encode())


#: The largest record of a cluster, in bytes.
_CLUSTER_BYTES = 1 << 20
_Databases = Annotated[
    tuple[Annotated[str, checked.text(256, shortest=1, errors="strict")], ...], Most(MOST_DATABASES)
]


@dataclass(frozen=True)
class SeenDatabases(Record):
    """The databases of a cluster when its server answered last."""

    LAYOUT = Layout(longest=_CLUSTER_BYTES, format=1, indent=2)

    databases: Needed[_Databases] = ()
    #: Those that were there before, until a user accepts that they are gone.
    gone: Rare[_Databases] = ()

    def members(self, cluster: str) -> Mapping[str, str]:
        """Source name → database, in order; includes gone databases."""
        return {member_name(cluster, one): one for one in (*self.gone, *self.databases)}

    @classmethod
    def _arguments(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Drop repeated names; a database that is there is not gone."""
        databases = tuple(dict.fromkeys(values["databases"]))
        gone = tuple(one for one in dict.fromkeys(values.get("gone", ())) if one not in databases)
        return {"databases": databases, "gone": gone}


@dataclass(frozen=True)
class ClusterRecord:
    """The record of one cluster."""

    file: Path

    @classmethod
    def at(cls, home: Path, cluster: str) -> Self:
        """Return the record of `cluster` in a REFNET_HOME."""
        return cls(home / "clusters" / f"{cluster}.json")

    def read(self) -> SeenDatabases:
        """The databases seen last; empty without a valid record."""
        try:
            return SeenDatabases.from_json(read_regular(self.file, _CLUSTER_BYTES, owner=os.geteuid()))
        except (OSError, ValueError):
            return SeenDatabases()

    def write(self, seen: SeenDatabases) -> None:
        """Replace the record, if it changes."""
        if seen == self.read():
            return
        make_folder(self.file.parent)
        with explained(self.file):
            replace_file(self.file, seen.to_json().encode())
