"""The proof of an archive of files: read, unpacked into an empty private folder, compared file by file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from refnet.recovery.model.artifact import Level, Outcome
from refnet.recovery.model.source import Finding, OpenArtifact, Progress, Proof, most_listed
from refnet.recovery.sources.files.contents import NoRoomError, Nowhere, limits, read_archive
from refnet.recovery.sources.files.listing import FileList, Kind
from refnet.recovery.sources.files.member_names import ArchiveError
from refnet.recovery.sources.files.tree import differences, read_tree
from refnet.recovery.sources.files.unpack import NamesMergeError, scratch_folder, unpack

_SHOWN = 20


def list_of(held: OpenArtifact) -> FileList | None:
    """The list of files of `held`, checked; None where it has none. ArchiveError where it is none."""
    text = held.files()
    return None if text is None else FileList.from_json(text, most_listed(held.manifest))


def prove(held: OpenArtifact, level: Level, scratch: Path, progress: Progress) -> Proof:
    """Check `held` up to `level`. Without a list of files, `intact` and `restored` pass and `proven` cannot."""
    proof = _Proof(held, level, progress)
    try:
        proof.run(scratch)
    except (NamesMergeError, NoRoomError) as error:
        proof.findings.append(Finding(proof.doing, Outcome.UNVERIFIED, f"in {scratch}: {error}"))
    except ArchiveError as error:
        proof.findings.append(Finding(proof.doing, Outcome.FAILED, str(error)))
    except OSError as error:
        proof.findings.append(Finding(proof.doing, Outcome.UNVERIFIED, f"in {scratch}: {error.strerror}"))
    return Proof(level, proof.reached, tuple(proof.findings), seconds=proof.seconds, rows=proof.rows)


class _Proof:
    """One check: what it is doing, what it found, how far it came."""

    def __init__(self, held: OpenArtifact, level: Level, progress: Progress) -> None:
        self.findings: list[Finding] = []
        self.reached: Level | None = None
        self.seconds: dict[str, float] = {}
        self.rows: tuple[dict[str, object], ...] = ()
        self.doing = "list of files"
        self._held = held
        self._level = level
        self._progress = progress

    def run(self, scratch: Path) -> None:
        with self._phase("list of files"):
            expected = list_of(self._held)
        if expected is None:
            self.findings.append(
                Finding(
                    "list of files",
                    Outcome.UNVERIFIED,
                    "the archive has none: nothing says what it should hold",
                )
            )
        if self._level.rank <= Level.INTACT.rank:
            with self._phase("every member reads"), self._held.open() as archive:
                files = read_archive(
                    archive, Nowhere(), expected=expected, limits=limits(expected), progress=self._progress
                )
            self._passed(Level.INTACT, "every member reads", files)
            return
        with scratch_folder(scratch) as root:
            with self._phase("unpacked into an empty folder"), self._held.open() as archive:
                files = unpack(archive, root, expected, progress=self._progress)
            self._passed(Level.RESTORED, "unpacked into an empty folder", files)
            if self._level is Level.PROVEN:
                self._compare(files, root, sure=expected is not None)

    def _compare(self, files: FileList, root: int, *, sure: bool) -> None:
        what = "SHA-256, mode and kind of every file"
        with self._phase(what):
            found = list(islice(differences(files, read_tree(root)), _SHOWN))
        if found:
            self.findings += [Finding(what, Outcome.FAILED, difference) for difference in found]
        elif sure:
            self._passed(Level.PROVEN, what, files)

    @contextmanager
    def _phase(self, what: str) -> Iterator[None]:
        self.doing = what
        begun = time.monotonic()
        yield
        self.seconds[what] = round(time.monotonic() - begun, 3)

    def _passed(self, level: Level, what: str, files: FileList) -> None:
        self.reached = level
        self.findings.append(Finding(what, Outcome.PASSED))
        self.rows = tuple(
            {
                "kind": str(kind),
                "count": files.count(kind),
                "bytes": sum(f.size for f in files.files if f.kind is kind),
            }
            for kind in Kind
            if files.count(kind)
        )
