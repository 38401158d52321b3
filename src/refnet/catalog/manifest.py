"""Manifests, and the artifacts that they publish, as entries of a catalog. Without its manifest there is no artifact.

Times in manifests are UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any

from refnet.catalog.evidence import (
    MOST_SENTENCES,
    WORDS,
    Evidence,
    Level,
    Marks,
    Outcome,
    Sentences,
    Standing,
    Words,
    faulty,
    standing,
)
from refnet.catalog.identity import Identity, SourceId, Whose
from refnet.catalog.source_name import LONGEST, SourceName, kind_of_file, read_name
from refnet.core import checked
from refnet.core.formatting import plain
from refnet.core.records import Layout, Most, Named, Needed, Rare, Record, utc

__all__ = ["Entry", "Evidence", "Level", "Manifest", "Outcome", "Standing", "standing", "utc"]

#: The newest format of manifests that is read. Format 1: an artifact of files, or of a database by an older version. 2: of a
#: database, with content digests in its evidence instead of its index: versions that read format 1 alone refuse it. 3: with
#: the identity of its source and a number: older versions would order it by its time, and count another machine's as theirs.
FORMAT = 3
#: The largest number of an artifact.
MOST_NUMBERED = 10**12
#: The most servers that a database continues.
MOST_BEFORE = 20
#: An artifact dated later than this after now is dated in the future: the clocks of two machines differ.
AHEAD = timedelta(hours=2)

MANIFEST_SUFFIX = ".json"
FILES_SUFFIX = ".files.json.gz"
EVIDENCE_SUFFIX = ".evidence.jsonl"
MARKS_SUFFIX = ".marks.json"
HIDDEN_PREFIX = ".refnet-"
#: The finding of the comparison of restored rows with those that the source digested.
SOURCE_ROWS = "rows of the source"


class Compared(StrEnum):
    """The comparison of an artifact with its source while it was made."""

    NOT = ""
    #: The rows of each table, as the source counted them.
    COUNTED = "counted"
    #: The same, and a digest of each table's rows by the source, which a proof compares with the restored ones.
    DIGESTED = "digested"


#: The most names of unprotected data that a manifest keeps, and that one line names.
_KEPT, _NAMED = 20, 3


class Lacks(StrEnum):
    """Kinds of data that no source protects."""

    #: Entries of config_dir that config.entries does not list.
    FILES = "files"
    #: Databases of the server that no source names.
    DATABASES = "databases"


_ONE = {Lacks.FILES: "entry of config_dir", Lacks.DATABASES: "database of the server"}
_MANY = {Lacks.FILES: "entries of config_dir", Lacks.DATABASES: "databases of the server"}


@dataclass(frozen=True)
class Unprotected(Record):
    """Data of one kind that no source protects: counted by a backup, reported by check and metrics."""

    LAYOUT = Layout(more=True)

    kind: Lacks
    count: Annotated[int, checked.integer(0, (1 << 63) - 1)]
    #: The first ones.
    first: Sentences

    @classmethod
    def of(cls, kind: Lacks, names: Iterable[str]) -> Unprotected:
        found = tuple(names)
        return cls(kind, len(found), found[:_KEPT])

    @classmethod
    def read(cls, details: Mapping[str, Any]) -> Unprotected | None:
        """Read from the details of a valid manifest; None if not recorded."""
        found = details.get("unprotected")
        return cls.from_values(found) if found else None

    def __str__(self) -> str:
        what = _ONE[self.kind] if self.count == 1 else f"{self.count:,} {_MANY[self.kind]}"
        names = [plain(name) for name in self.first[:_NAMED]]
        more = f" and {self.count - len(names)} more" if self.count > len(names) else ""
        return f"{what if self.count != 1 else f'1 {what}'}: {', '.join(names)}{more}"


def _file_name(value: Any) -> str:
    name: str = _NAME_TEXT(value)
    if "/" in name or name in (".", ".."):
        raise ValueError("not a file name")
    return name


_NAME_TEXT = checked.text(255, shortest=1, errors="strict")
_Digest = Annotated[str, checked.text(64, shortest=64, like="[0-9a-f]*")]
_COUNT = checked.integer(0, (1 << 63) - 1)
_SENTENCES = checked.each(WORDS, MOST_SENTENCES)
#: The keys of `details` that RefNet reads; others are only displayed.
_KNOWN_DETAILS = checked.record(
    {},
    {
        **dict.fromkeys(("files", "folders", "links", "tables", "rows", "raw_bytes"), _COUNT),
        **dict.fromkeys(
            (
                "database",
                "server_version",
                "system_identifier",
                "folder",
                "state",
                "architecture",
                "collations",
            ),
            checked.or_none(WORDS),
        ),
        "settled": checked.flag,
        "unprotected": checked.or_none(Unprotected.from_values),
        "one_file_system": checked.or_none(checked.flag),
        "excluded": checked.or_none(
            checked.record(
                dict.fromkeys(("files", "folders", "bytes"), _COUNT), {"rules": _SENTENCES}, more=True
            )
        ),
        "shares_bytes_with": checked.or_none(_file_name),
        # of a base backup, see `cluster_base`
        "base": checked.or_none(checked.one_of(["full", "increment"])),
        "parent": checked.or_none(_file_name),
        **dict.fromkeys(("start_lsn", "end_lsn"), checked.or_none(checked.text(20))),
        "timeline": checked.or_none(checked.integer(1, (1 << 32) - 1)),
        "tablespaces": checked.or_none(_COUNT),
    },
    more=True,
)
_ANY_DETAILS = checked.mapping(WORDS, checked.free, 1000)


def _details(value: Any) -> dict[str, Any]:
    details: dict[str, Any] = _ANY_DETAILS(value)
    _KNOWN_DETAILS(details)
    return details


@dataclass(frozen=True)
class Manifest(Record):
    """The small JSON beside an artifact, written once."""

    LAYOUT = Layout(
        "a manifest", more=True, format=FORMAT, reads=f"formats up to {FORMAT}", indent=2, ascii=False
    )

    source: Annotated[SourceName, checked.text(LONGEST)]  # read with its name, which has its kind
    name: Annotated[str, _file_name]
    #: The time of the snapshot, by the clock of what was backed up.
    created: datetime
    #: In bytes.
    size: Annotated[int, _COUNT]
    #: In hex.
    sha256: _Digest
    #: The duration of the dump.
    seconds: Annotated[float, checked.seconds]
    partial: bool = False
    #: The digest of the list of files, if there is one.
    files_sha256: _Digest | None = None
    unchecked: Sentences = ()
    #: Of the source. `database`: server_version, system_identifier, database, tables, rows, raw_bytes. Files: files,
    #: raw_bytes, shares_bytes_with.
    details: Annotated[dict[str, Any], _details] = field(default_factory=dict)
    made_by: Words = ""
    #: The time of publication, by this machine's clock; None: an older RefNet, or adopted.
    published: datetime | None = None
    #: What is much less than in the artifact `shrunk_from`, the last one before it.
    shrunk: Sentences = ()
    shrunk_from: Words = ""
    compared: Compared = Compared.NOT
    #: Its place among the artifacts of that source; None: made by an older RefNet, fetched, adopted, or outside the catalog.
    number: Annotated[int, checked.integer(1, MOST_NUMBERED)] | None = None
    #: The servers whose database of the same name this one continues, the newest last.
    continues: Annotated[tuple[Annotated[str, checked.text(20, like="[0-9]+")], ...], Most(MOST_BEFORE)] = ()
    format: Needed[Annotated[int, checked.integer(1, FORMAT)]] = 1
    #: Every line of its evidence names its digest; False: some may be of an older RefNet, which recorded none.
    binds_evidence: Rare[bool] = False
    #: The random id of its source; "": a database, or unknown.
    identity_id: Annotated[str, checked.text(32, like="|[0-9a-f]{32}"), Named("identity")] = ""

    @property
    def whose(self) -> Whose | None:
        """Identity of its source; None: unknown."""
        if self.of_database:
            return self.identity
        return SourceId(self.identity_id) if self.identity_id else None

    @property
    def identity(self) -> Identity | None:
        """Identity of its database, if recorded; None for files."""
        return Identity.read(self.details) if self.of_database else None

    @property
    def of_database(self) -> bool:
        """Whether its source is a database."""
        return self.source.kind.row.by_name

    @property
    def is_unknown(self) -> bool:
        """Whether its source is a database without a recorded identity."""
        return self.of_database and self.identity is None

    @classmethod
    def _arguments(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Read the source's name; the kind of source is in the artifact's."""
        kind = kind_of_file(values["name"])
        values["source"] = checked.inside("source", lambda name: read_name(name, kind), values["source"])
        return values


@dataclass(frozen=True)
class Entry:
    """An artifact in the catalog: its manifest and what later checks found."""

    manifest: Manifest
    evidence: tuple[Evidence, ...] = ()
    marks: Marks = Marks()

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def source(self) -> SourceName:
        return self.manifest.source

    @property
    def created(self) -> datetime:
        return self.manifest.created

    @cached_property
    def made(self) -> datetime:
        """Start of its age: the later of `created` and `published`, as either clock may be wrong."""
        return max(self.created, self.published)

    @property
    def published(self) -> datetime:
        """The time of publication, by this machine's clock if known."""
        return self.manifest.published or self.manifest.created

    @cached_property
    def identity(self) -> Identity | None:
        """Identity of its database; None: files, or an unknown database."""
        return self.manifest.identity

    @cached_property
    def whose(self) -> Whose | None:
        """Identity of its source; None: unknown."""
        return self.manifest.whose

    def ahead(self, now: datetime) -> bool:
        """Whether it is dated in the future because a clock was wrong."""
        return self.made - now > AHEAD

    @cached_property
    def standing(self) -> Standing:
        """The result of all its evidence."""
        return standing(self.evidence)

    @property
    def damaged(self) -> bool:
        return self.standing.damaged

    @property
    def complete(self) -> bool:
        """Whether it is neither partial nor damaged."""
        return not self.manifest.partial and not self.damaged

    @property
    def level(self) -> Level:
        """Deepest level that still counts; `written` after publishing."""
        return self.standing.level

    @property
    def proven(self) -> bool:
        return self.level is Level.PROVEN and not self.damaged

    @property
    def proven_before(self) -> bool:
        """Whether its content was proven before it was encrypted; only in an encrypted backup folder."""
        return False

    @property
    def earlier(self) -> tuple[Evidence, ...]:
        """Evidence from the time of sending; only for a copy."""
        return ()

    @property
    def proven_at(self) -> datetime | None:
        """Time of the last proof (UTC); None if it no longer counts as proven."""
        return self.standing.proven_at

    @property
    def row_digests(self) -> str:
        """Digests of its tables from the last proof; "" if it no longer counts as proven."""
        recorded = (line.row_digests for line in reversed(self.evidence) if line.row_digests)
        return next(recorded, "") if self.proven else ""

    @property
    def gaps(self) -> tuple[str, ...]:
        """Sentences about what the last proof could not verify; empty if not proven."""
        passed = (one for one in reversed(self.evidence) if one.level is Level.PROVEN)
        last = next((one for one in passed if one.outcome is Outcome.PASSED), None)
        of_source = tuple(f"{one}: " for one in self.faulty)
        said = last.reasons if last and self.proven else ()
        return tuple(one for one in said if not one.startswith(of_source))

    @property
    def compared(self) -> Compared:
        """How it was compared with its source; digests count only after a proof."""
        digested = self.manifest.compared is Compared.DIGESTED
        is_known = self.proven and not any(one.startswith(SOURCE_ROWS) for one in self.gaps)
        return Compared.COUNTED if digested and not is_known else self.manifest.compared

    @cached_property
    def shrunk(self) -> bool:
        """Whether it contains much less than the previous artifact and was not accepted."""
        lines = (*self.earlier, *self.evidence)
        return bool(self.manifest.shrunk) and not any(line.accepts and not line.objects for line in lines)

    @cached_property
    def faulty(self) -> tuple[str, ...]:
        """Objects of its source that no server accepts, according to the last proof."""
        return faulty((*self.earlier, *self.evidence))

    @cached_property
    def accepted(self) -> frozenset[str]:
        """Objects in `faulty` that were accepted."""
        lines = (*self.earlier, *self.evidence)
        return frozenset(one for line in lines if line.accepts for one in line.objects)

    @property
    def unaccepted(self) -> tuple[str, ...]:
        """Objects in `faulty` that were not accepted."""
        return tuple(one for one in self.faulty if one not in self.accepted)

    @property
    def state(self) -> str:
        """State for display: `damaged`, `could not verify` if evidence was lost, or the level."""
        if self.damaged:
            return "damaged"
        return Outcome.UNVERIFIED.value if self.standing.unknown else self.level.value
