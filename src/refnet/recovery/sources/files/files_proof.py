"""Prove an archive of files: read it, unpack it into an empty private folder, compare it file by file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from refnet.recovery.model.artifact import Level, Outcome
from refnet.recovery.model.source import Finding, OpenArtifact, Progress, Proof, most_listed
from refnet.recovery.sources.files.contents import NoSpaceError, NullSink, limits, read_archive
from refnet.recovery.sources.files.listing import FileList, Kind
from refnet.recovery.sources.files.member_names import ArchiveError
from refnet.recovery.sources.files.tree import differences, read_tree
from refnet.recovery.sources.files.unpack import NamesMergeError, scratch_folder, unpack

_SHOWN = 20


def list_of(artifact: OpenArtifact) -> FileList | None:
    """Return the checked list of files of `artifact`; None if it has none. ArchiveError if the list is not valid."""
    text = artifact.files()
    return None if text is None else FileList.from_json(text, most_listed(artifact.manifest))


def prove(artifact: OpenArtifact, level: Level, scratch: Path, progress: Progress) -> Proof:
    """Check `artifact` up to `level`. Without a list of files, `intact` and `restored` can pass, `proven` cannot."""
    proof = _Proof(artifact, level, progress)
    try:
        proof.run(scratch)
    except (NamesMergeError, NoSpaceError) as error:
        proof.findings.append(Finding(proof.phase, Outcome.UNVERIFIED, f"in {scratch}: {error}"))
    except ArchiveError as error:
        proof.findings.append(Finding(proof.phase, Outcome.FAILED, str(error)))
    except OSError as error:
        proof.findings.append(Finding(proof.phase, Outcome.UNVERIFIED, f"in {scratch}: {error.strerror}"))
    return Proof(level, proof.reached, tuple(proof.findings), seconds=proof.seconds, rows=proof.rows)


class _Proof:
    """The state of one proof."""

    def __init__(self, artifact: OpenArtifact, level: Level, progress: Progress) -> None:
        self.findings: list[Finding] = []
        self.reached: Level | None = None
        self.seconds: dict[str, float] = {}
        self.rows: tuple[dict[str, object], ...] = ()
        self.phase = "list of files"
        self._artifact = artifact
        self._level = level
        self._progress = progress

    def run(self, scratch: Path) -> None:
        with self._timed("list of files"):
            expected = list_of(self._artifact)
        if expected is None:
            self.findings.append(
                Finding("list of files", Outcome.UNVERIFIED, "the archive has none to be compared with")
            )
        if self._level.rank <= Level.INTACT.rank:
            with self._timed("every member reads"), self._artifact.open() as archive:
                files = read_archive(
                    archive, NullSink(), expected=expected, limits=limits(expected), progress=self._progress
                )
            self._passed(Level.INTACT, "every member reads", files)
            return
        with scratch_folder(scratch) as root:
            with self._timed("unpacked into an empty folder"), self._artifact.open() as archive:
                files = unpack(archive, root, expected, progress=self._progress)
            self._passed(Level.RESTORED, "unpacked into an empty folder", files)
            if self._level is Level.PROVEN:
                self._compare(files, root, has_list=expected is not None)

    def _compare(self, files: FileList, root: int, *, has_list: bool) -> None:
        what = "SHA-256, mode and kind of every file"
        with self._timed(what):
            found = list(islice(differences(files, read_tree(root)), _SHOWN))
        if found:
            self.findings += [Finding(what, Outcome.FAILED, difference) for difference in found]
        elif has_list:
            self._passed(Level.PROVEN, what, files)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        self.phase = what
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
