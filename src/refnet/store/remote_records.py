"""This machine's records of a remote store, in REFNET_HOME/remote/NAME.

- `head.json`: the newest manifest that this machine sent.
- `evidence/SHA256.jsonl`: the checks of the copy whose manifest has that digest, so that no other manifest can claim them;
  `marks/SHA256.json`, of the store `local`, likewise.
- `read_back.json`: when each piece was last read back, for a drill's period, and its lock; `opened.json`: what a drill opened
  that did not end; `locks.json`: until when the locks of pieces last that were extended. These three have a seal, a keyed hash:
  times that another program wrote are not believed. `blocks/SOURCE`: see `known_blocks.py`.
- `accepted.json`: manifests that cannot be read, and that `refnet store accept` accepted.
- `intents.json`: see `leases.py`.
- `sending/ARTIFACT.jsonl`: the journal of a copy being sent, and `ARTIFACT.sealed` once its manifest is made.

In a journal, a line is flushed before each piece is sent. So after a crash every piece in the store is recorded here, but a recorded
piece may be missing there: the next run lists the store.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Annotated

from refnet.catalog.evidence import MARKS_BYTES, Evidence, Marks
from refnet.catalog.manifest import Manifest
from refnet.catalog.object_names import ANY_PIECE, ManifestName, SharedName
from refnet.catalog.remote import MANIFEST_OBJECT_BYTES, MOST_PIECES, Copy, Piece, Signed
from refnet.catalog.remote_state import READ_BACK_WITHIN, Head, is_stale
from refnet.catalog.store import Unlisted
from refnet.core import checked
from refnet.core.errors import RefnetError
from refnet.core.files import explain, explained, make_folder, read_regular, replace_file, sync_folder
from refnet.core.locks import locked
from refnet.core.records import Layout, Most, Record
from refnet.store import disk
from refnet.store.cutting import Cutting
from refnet.store.scan import evidence_in
from refnet.store.source_records import KeptMarks

#: Format 1 is of copies that share nothing: such a journal is begun again.
_FORMAT = 2
_JOURNAL, _MANIFEST = ".jsonl", ".sealed"
#: The largest record of a head, in bytes.
_HEAD_BYTES = 4 << 20
#: The largest journal, in bytes: that of an artifact of the most pieces, begun a few times.
_MOST = 128 << 20
#: What a drill that did not end has opened, and when.
_OPENED = "opened.json"
#: When pieces were read back, until when their locks were extended, the largest size of each in bytes, and the most pieces,
#: of all copies.
_READ_BACK, _LOCKS, _TIMES_BYTES, _MOST_TIMES = "read_back.json", "locks.json", 64 << 20, 4 * MOST_PIECES
#: Manifests that were accepted although they cannot be read, and its largest size, in bytes.
_ACCEPTED, _ACCEPTED_BYTES = "accepted.json", 64 << 20
_MOST_ACCEPTED = 100_000
#: The end of the year 9999.
_LAST_SECOND = 253_402_300_799
_DIGEST = checked.text(64, shortest=64, like="[0-9a-f]*")
_HEAD = checked.record(
    {"format": checked.integer(1, _FORMAT), "id": checked.text(32, like="[0-9a-f]{32}"), "of": _DIGEST},
    more=True,
)


@dataclass(frozen=True)
class _Times(Record):
    """A time for each of some pieces of a store."""

    LAYOUT = Layout(longest=_TIMES_BYTES, format=1)

    #: The name of its file: it is no other record.
    of: Annotated[str, checked.text(20)]
    #: By name, in seconds since 1970.
    pieces: Annotated[
        Mapping[
            Annotated[str, checked.text(100, like=ANY_PIECE)],
            Annotated[int, checked.integer(0, _LAST_SECOND)],
        ],
        Most(_MOST_TIMES),
    ]


@dataclass(frozen=True)
class _Accepted(Record):
    """Manifests that cannot be read, and that name nothing: a person said so."""

    LAYOUT = Layout(longest=_ACCEPTED_BYTES, format=1)

    #: Names of objects.
    manifests: Annotated[tuple[Annotated[str, checked.text(500)], ...], Most(_MOST_ACCEPTED)] = ()


@dataclass(frozen=True)
class RemoteRecords:
    """What this machine knows of one store: its head, the checks and marks of copies, and copies that are on the way."""

    #: REFNET_HOME/remote/NAME; created when something is written.
    home: Path
    #: Seals the times of pieces; None: there is no key, and no time is kept or believed.
    cutting: Cutting | None

    def head(self) -> Head:
        """This machine's record of the last manifest sent; RefnetError if damaged."""
        path = self.home / "head.json"
        try:
            return Head.from_json(read_regular(path, _HEAD_BYTES, owner=os.geteuid()))
        except FileNotFoundError:
            return Head()
        except ValueError as error:
            hint = "Another program wrote it. Move it away; RefNet then takes the newest manifest in the store as the newest."
            raise RefnetError(f"{path} cannot be used: {error}", hint) from error
        except OSError as error:
            raise explain(error, path) from error

    def keep_head(self, head: Head) -> None:
        """Record the last manifest sent, durably."""
        path = self.home / "head.json"
        make_folder(self.home)
        with explained(path):
            replace_file(path, head.to_json().encode())

    def copies(self, manifests: Iterable[Signed], now: datetime) -> list[Copy]:
        """The copies of `manifests` with what is known of them at `now`."""
        pieces, found = self.read_back(), list[Copy]()
        kept = {one.sha256: one.marks for one in KeptMarks(self.home.parent / "marks.json").read()}
        for one in manifests:
            evidence, document, marks = self.evidence(one), one.document, self.marks(one)
            stale = is_stale(document, evidence, pieces, now)
            marks = kept.get(document.manifest.sha256, marks) if marks == Marks() else marks
            found.append(Copy(document.manifest, evidence, marks, signed=one, stale=stale))
        return found

    @property
    def has_marks(self) -> bool:
        """Whether this machine marked some copy."""
        return any(True for _ in (self.home / "marks").glob("[!.]*.json"))

    def evidence(self, signed: Signed) -> tuple[Evidence, ...]:
        """Checks of the copy whose manifest is `signed`."""
        path = self._evidence(signed)
        return evidence_in(path, signed.document.sent) if path.exists() else ()

    def add_evidence(self, signed: Signed, evidence: Iterable[Evidence]) -> None:
        """Append checks of a copy durably."""
        path = self._evidence(signed)
        make_folder(path.parent)
        with explained(path):
            disk.append_lines(path, "".join(line.to_json() for line in evidence))
        sync_folder(path.parent)

    def marks(self, signed: Signed) -> Marks:
        """Marks of a copy; unreadable ones count as a pin."""
        path = self._marks_file(signed)
        try:
            return Marks.from_file(read_regular(path, MARKS_BYTES, owner=os.geteuid()))
        except FileNotFoundError:
            return Marks()
        except (OSError, ValueError) as error:
            return Marks(unreadable=str(error))

    def keep_marks(self, signed: Signed, data: bytes) -> None:
        """Store the marks of a copy durably; b"": no marks."""
        path = self._marks_file(signed)
        make_folder(path.parent)
        with explained(path):
            replace_file(path, data) if data else path.unlink(missing_ok=True)
        sync_folder(path.parent)

    def forget(self, signed: Signed) -> None:
        """Remove the checks and marks of a deleted copy."""
        for path in (self._evidence(signed), self._marks_file(signed)):
            with explained(path):
                path.unlink(missing_ok=True)

    def sending(self) -> frozenset[str]:
        """Ids of copies that runs of this machine began but did not finish, and names of their pieces."""
        return begun(self.home / "sending")

    def accepted(self) -> frozenset[str]:
        """Manifests that cannot be read and were accepted, by name; damaged: none."""
        with suppress(OSError, ValueError):
            text = read_regular(self.home / _ACCEPTED, _ACCEPTED_BYTES, owner=os.geteuid())
            return frozenset(_Accepted.from_json(text).manifests)
        return frozenset()

    def unaccepted(self, unlisted: Iterable[Unlisted]) -> tuple[Unlisted, ...]:
        """Those of `unlisted` that nobody accepted."""
        known = self.accepted()
        return tuple(one for one in unlisted if one.name not in known)

    def accept(self, manifests: Iterable[str]) -> None:
        """Accept manifests that cannot be read, durably; RefnetError if there are too many."""
        found = _Accepted(tuple(sorted({*self.accepted(), *manifests})))
        if len(found.manifests) > _MOST_ACCEPTED:
            raise RefnetError(
                f"{len(found.manifests):,} manifests cannot be read, and at most {_MOST_ACCEPTED:,} can be accepted",
                "Delete them with a client of the store; until then no piece is deleted.",
            )
        make_folder(self.home)
        with explained(self.home / _ACCEPTED):
            replace_file(self.home / _ACCEPTED, found.to_json().encode())

    def read_back(self) -> dict[str, datetime]:
        """When pieces, by name, were last read back and compared, to the second; damaged: none."""
        times = self._times(_READ_BACK)
        moments = {at: datetime.fromtimestamp(at, UTC) for at in {*times.values()}}  # of many pieces each
        return {name: moments[at] for name, at in times.items()}

    def add_read_back(self, now: datetime, passed: Iterable[str], failed: Iterable[str]) -> None:
        """Record that the pieces `passed` were read back at `now`, and the pieces `failed` were not as they were sent.

        Times that are of no use any more are dropped: those from too long ago, and those after `now`, by a clock that was wrong.
        """
        self._add_times(_READ_BACK, now, passed, failed)

    def _add_times(self, file: str, now: datetime, passed: Iterable[str], failed: Iterable[str] = ()) -> None:
        at, least = int(now.timestamp()), (now - READ_BACK_WITHIN).timestamp()
        make_folder(self.home)
        with locked(self.home / "read_back.lock"):  # copies of several sources are read back at once
            known = {name: one for name, one in self._times(file).items() if least <= one <= at}
            for name in passed:
                known[name] = at
            for name in failed:
                known.pop(name, None)
            self._keep_times(file, known)

    def opened(self, since: datetime) -> frozenset[str]:
        """Names of pieces that a drill which did not end opened since then."""
        return frozenset(name for name, at in self._times(_OPENED).items() if at >= since.timestamp())

    def add_opened(self, now: datetime, passed: Iterable[str]) -> None:
        """Record that a drill opened the pieces `passed`, so that the next one continues it."""
        self._add_times(_OPENED, now, passed)

    def forget_opened(self) -> None:
        """Forget what a drill opened: it ended."""
        with explained(self.home / _OPENED):
            (self.home / _OPENED).unlink(missing_ok=True)

    def locked_until(self, now: datetime) -> dict[str, datetime]:
        """Until when pieces, by name, are locked whose locks this machine extended; none that ended before `now`."""
        found = {name: datetime.fromtimestamp(at, UTC) for name, at in self._times(_LOCKS).items()}
        return {name: until for name, until in found.items() if until > now}

    def keep_locked_until(self, pieces: Mapping[str, datetime]) -> None:
        """Replace the record of until when the locks of pieces were extended."""
        make_folder(self.home)
        self._keep_times(_LOCKS, {name: int(at.timestamp()) for name, at in pieces.items()})

    def _times(self, file: str) -> Mapping[str, int]:
        with suppress(OSError, ValueError):
            if self.cutting:
                text = self.cutting.opened(read_regular(self.home / file, _TIMES_BYTES, owner=os.geteuid()))
                found = _Times.from_json(text)
                return found.pieces if found.of == file else {}
        return {}

    def _keep_times(self, file: str, pieces: Mapping[str, int]) -> None:
        if len(pieces) > _MOST_TIMES:
            pieces = dict(sorted(pieces.items(), key=itemgetter(1))[-_MOST_TIMES:])
        if self.cutting:
            with explained(self.home / file):
                text = _Times(file, pieces).to_json().encode()
                replace_file(self.home / file, self.cutting.sealed(text))

    def _marks_file(self, signed: Signed) -> Path:
        return self.home / "marks" / f"{signed.sha256}.json"

    def _evidence(self, signed: Signed) -> Path:
        return self.home / "evidence" / f"{signed.sha256}.jsonl"


@dataclass
class SendingJournal:
    """The journal of one copy."""

    #: Without an ending.
    path: Path
    #: Of the copy.
    id: str
    #: By name; the last line of each counts.
    pieces: dict[str, Piece] = field(default_factory=dict)
    #: An earlier run began it.
    continues: bool = False

    @classmethod
    def open(cls, folder: Path, manifest: Manifest, recipients: str) -> SendingJournal:
        """Continue the journal of the artifact of `manifest`, or begin one.

        Continues only with the same bytes and the same `recipients` (a digest), so that all pieces match.
        """
        of = _digest(manifest, recipients)
        path = folder / manifest.name
        lines = _lines(path.with_name(path.name + _JOURNAL))
        with suppress(ValueError, IndexError):
            head = _HEAD(checked.document(lines[0]))
            if (head["of"], head["format"]) == (of, _FORMAT):
                return cls(path, head["id"], {one.name: one for one in _pieces(lines[1:])}, continues=True)
        return cls._begun(path, of, {})

    @classmethod
    def _begun(cls, path: Path, of: str, pieces: dict[str, Piece]) -> SendingJournal:
        made = cls(path, secrets.token_hex(16), pieces)
        make_folder(path.parent)
        head = {"format": _FORMAT, "id": made.id, "of": of, "name": path.name}
        lines = (json.dumps(one) + "\n" for one in (head, *(piece.values() for piece in pieces.values())))
        with explained(made._file):
            replace_file(made._file, "".join(lines).encode())
        return made

    def renewed(self) -> SendingJournal:
        """The journal of another copy with the same pieces, in place of this one, whose lease was ended."""
        head = _HEAD(checked.document(_lines(self._file)[0]))
        return self._begun(self.path, head["of"], self.pieces)

    def reopen(self) -> None:
        """Remove the manifest of a copy that is not published after all."""
        with explained(self.path):
            self.manifest_file.unlink(missing_ok=True)
        sync_folder(self.path.parent)

    @property
    def _file(self) -> Path:
        return self.path.with_name(self.path.name + _JOURNAL)

    @property
    def manifest_file(self) -> Path:
        """The encrypted manifest; it exists once all pieces are in the store."""
        return self.path.with_name(self.path.name + _MANIFEST)

    def add(self, piece: Piece) -> None:
        """Write a line durably: before the piece is sent, and once more when its version is known."""
        self.pieces[piece.name] = piece
        with explained(self._file):
            disk.append_lines(self._file, json.dumps(piece.values()) + "\n")

    def complete(self, name: str, manifest: bytes) -> None:
        """Record the manifest's object durably, before it is sent: after a crash, the same bytes are sent again."""
        with explained(self.manifest_file):
            replace_file(self.manifest_file, name.encode("ascii") + b"\n" + manifest)

    def remove(self) -> None:
        """Remove the journal: the copy is published or abandoned."""
        with explained(self.path):
            self.manifest_file.unlink(missing_ok=True)
            self._file.unlink(missing_ok=True)
        sync_folder(self.path.parent)


def completed(folder: Path) -> list[tuple[SendingJournal, str, bytes]]:
    """Journals in `folder` with a finished manifest: with the name and bytes of its object."""
    found = []
    for path in sorted(folder.glob(f"[!.]*{_MANIFEST}")):
        with suppress(OSError, ValueError):
            name, end, data = read_regular(path, MANIFEST_OBJECT_BYTES + 500).partition(b"\n")
            named = ManifestName.read(name.decode("ascii"))
            if named and end:
                journal = SendingJournal(path.with_name(path.name.removesuffix(_MANIFEST)), named.id)
                found.append((journal, name.decode("ascii"), data))
    return found


def begun(folder: Path) -> frozenset[str]:
    """Ids of copies with a journal in `folder`, and names of their pieces."""
    found = {journal.id for journal, _, _ in completed(folder)}
    for path in folder.glob(f"[!.]*{_JOURNAL}"):
        lines = _lines(path)
        with suppress(ValueError, IndexError):
            found.add(_HEAD(checked.document(lines[0]))["id"])
            found.update(one.name for one in _pieces(lines[1:]))
    return frozenset(found)


def _digest(manifest: Manifest, recipients: str) -> str:
    values = [manifest.name, manifest.size, manifest.sha256, manifest.files_sha256, recipients]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _lines(path: Path) -> list[bytes]:
    try:
        return read_regular(path, _MOST, owner=os.geteuid()).splitlines()
    except OSError:
        return []


def _pieces(lines: list[bytes]) -> Iterator[Piece]:
    """Yield the piece of each line; truncated lines are skipped."""
    for line in lines:
        with suppress(ValueError):
            piece = Piece.from_json(line)
            if SharedName.read(piece.name) and piece.plain:
                yield piece
