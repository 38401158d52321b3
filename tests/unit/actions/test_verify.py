"""verify: the store's check first, then the source's; what was found is kept."""

from __future__ import annotations

import errno
import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.actions.conftest import Lab

from refnet.actions.backup import Options
from refnet.actions.backup import make as backup
from refnet.actions.verify import evidence_of, verify
from refnet.catalog.artifact import Finding, Made, OpenArtifact, Proof
from refnet.catalog.evidence import Fault
from refnet.catalog.manifest import Entry, Level, Outcome
from refnet.catalog.store import Store
from refnet.core.clock import Clock
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explained
from refnet.store.local import LocalStore


@pytest.fixture
def local(tmp_path: Path, lines: Any, now: Any, clock: Any) -> LocalStore:
    """A local store with one artifact that was never checked."""
    store = LocalStore(tmp_path / "backups")
    backup(Lab(store, None, Clock(now, clock, zone=None)), lines(), store, Options(prove=False))
    return store


def chosen(store: Store) -> OpenArtifact:
    (entry,) = store.entries()
    return store.artifact(entry)


@pytest.mark.parametrize("level", [Level.INTACT, Level.RESTORED, Level.PROVEN])
def test_a_whole_artifact_reaches_the_level_that_is_asked_for(
    local: LocalStore, lines: Any, now: Any, clock: Any, level: Level
) -> None:
    result = verify(Lab(None, lines(), Clock(now, clock)), chosen(local), level)

    assert result.exit is Exit.DONE
    assert result.proof.findings[0].what == "bytes of the file"
    assert next(iter(result.proof.seconds)) == "read the file"
    assert local.entries()[0].level is level


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [flip, cut])
def test_bytes_that_changed_are_damage_before_the_source_is_asked(
    local: LocalStore, lines: Any, now: Any, clock: Any, harm: Any
) -> None:
    entry = chosen(local)
    harm(local.path(local.entries()[0]))

    result = verify(Lab(None, lines(refuses=AssertionError("asked")), Clock(now, clock)), entry, Level.PROVEN)

    assert result.exit is Exit.DAMAGED
    assert result.proof.level is None
    assert local.entries()[0].state == "damaged"


class Failing(io.BytesIO):
    """A file on a disk that fails."""

    def read(self, *_: Any) -> bytes:
        raise OSError(errno.EIO, "Input/output error")


def refuses(code: int) -> Any:
    """Return how a file is opened on a network disk that is away."""

    def open_it() -> Any:
        with explained(Path("/net/backup.sql.gz")):
            raise OSError(code, os.strerror(code))

    return open_it


@pytest.mark.parametrize(
    "open_it", [Failing, refuses(errno.ESTALE), refuses(errno.EIO), refuses(errno.EACCES)]
)
def test_bytes_that_cannot_be_read_are_no_damage(
    local: LocalStore, lines: Any, now: Any, clock: Any, open_it: Any
) -> None:
    verify(Lab(None, lines(), Clock(now, clock)), chosen(local), Level.PROVEN)
    entry = replace(chosen(local), open=open_it)
    result = verify(Lab(None, lines(), Clock(now, clock)), entry, Level.INTACT)

    assert result.exit is Exit.UNVERIFIED
    assert result.proof.fault in {Fault.TRANSIENT, Fault.ENVIRONMENT}
    assert "bytes of the file: " in result.proof.reasons[0]
    assert local.entries()[0].proven


def test_bytes_that_could_not_be_read_once_are_read_again(
    local: LocalStore, lines: Any, now: Any, clock: Any
) -> None:
    entry = chosen(local)
    handles = iter([Failing()])
    once = replace(entry, open=lambda: next(handles, None) or entry.open())
    result = verify(Lab(None, lines(), Clock(now, clock)), once, Level.PROVEN)

    assert result.exit is Exit.DONE
    assert local.entries()[0].proven


def test_a_list_of_files_that_cannot_be_read_is_no_damage(
    local: LocalStore, lines: Any, now: Any, clock: Any
) -> None:
    entry = chosen(local)
    manifest = replace(entry.manifest, files_sha256="ab" * 32)
    result = verify(
        Lab(None, lines(), Clock(now, clock)),
        replace(entry, manifest=manifest, files=refuses(errno.EIO)),
        Level.INTACT,
    )

    assert (result.exit, result.proof.fault) == (Exit.UNVERIFIED, Fault.TRANSIENT)
    assert not local.entries()[0].damaged


def test_a_failing_disk_during_a_proof_says_nothing_about_the_artifact(
    local: LocalStore, lines: Any, now: Any, clock: Any
) -> None:
    entry = chosen(local)
    failing = lines()
    failing.prove = lambda *_: Failing().read()
    result = verify(Lab(None, failing, Clock(now, clock)), entry, Level.PROVEN)

    assert (result.exit, result.proof.fault) == (Exit.UNVERIFIED, Fault.TRANSIENT)
    assert not local.entries()[0].damaged


def test_an_artifact_that_is_deleted_while_it_is_verified_is_not_proven(
    local: LocalStore, lines: Any, now: Any, clock: Any
) -> None:
    entry = chosen(local)

    class Forgetting(lines):
        def prove(self, *args: Any) -> Proof:
            found = super().prove(*args)
            local.delete(entry.entry)
            return found

    result = verify(Lab(None, Forgetting(), Clock(now, clock)), entry, Level.PROVEN)

    assert (result.exit, result.proof.level) == (Exit.UNVERIFIED, None)
    assert "deleted during the check" in result.proof.reasons[-1]
    assert [path.name for path in local.folder(entry.source).iterdir() if "evidence" in path.name] == []


def test_a_damaged_artifact_that_proves_whole_again_is_no_longer_damaged(
    local: LocalStore, lines: Any, now: Any, clock: Any
) -> None:
    path = local.path(local.entries()[0])
    whole = path.read_bytes()
    flip(path)
    verify(Lab(None, lines(), Clock(now, clock)), chosen(local), Level.PROVEN)
    path.write_bytes(whole)
    verify(Lab(None, lines(), Clock(now, clock)), chosen(local), Level.PROVEN)

    assert local.entries()[0].proven


def test_a_list_of_files_that_is_not_the_manifests_is_damage(
    tmp_path: Path, lines: Any, now: Any, clock: Any
) -> None:
    store = LocalStore(tmp_path / "backups")

    class Listed(lines):
        def dump(self, *args: Any) -> Made:
            return replace(super().dump(*args), files=b"[]")

    backup(Lab(store, None, Clock(now, clock, zone=None)), Listed(), store, Options(prove=False))
    entry = store.entries()[0]
    flip(store.folder(entry.source) / f"{entry.name}.files.json.gz")

    result = verify(Lab(None, lines(), Clock(now, clock)), chosen(store), Level.INTACT)

    assert result.exit is Exit.DAMAGED
    assert any("list of files" in reason for reason in result.proof.reasons)


def test_an_unverified_proof_has_its_own_exit_code_and_keeps_the_level(
    local: LocalStore, lines: Any, now: Any, clock: Any
) -> None:
    result = verify(Lab(None, lines(reaches=Level.INTACT), Clock(now, clock)), chosen(local), Level.PROVEN)

    assert result.exit is Exit.UNVERIFIED
    assert local.entries()[0].state == "intact"
    assert local.entries()[0].evidence[-1].outcome is Outcome.UNVERIFIED
    assert local.entries()[0].evidence[-1].reasons == ("lines: no scratch place here",)


@pytest.mark.parametrize(("code", "ends"), [(Exit.FAILED, Exit.UNVERIFIED), (Exit.DAMAGED, Exit.DAMAGED)])
def test_an_aborted_proof_is_damage_only_if_the_artifact_is_to_blame(
    local: LocalStore, lines: Any, now: Any, clock: Any, code: Exit, ends: Exit
) -> None:
    source = lines(refuses=RefnetError("it broke off", "Mend it.", code))
    assert verify(Lab(None, source, Clock(now, clock)), chosen(local), Level.PROVEN).exit is ends


def test_a_file_without_a_manifest_is_judged_by_the_source_alone(
    local: LocalStore, lines: Any, now: Any, clock: Any
) -> None:
    held = replace(chosen(local), manifest=None, entry=None, record=None)
    result = verify(Lab(None, lines(), Clock(now, clock)), held, Level.INTACT)

    assert result.exit is Exit.DONE
    assert local.entries()[0].evidence == ()


def outcome_of(level: Level | None, *outcomes: Outcome, wanted: Level = Level.PROVEN) -> Proof:
    return Proof(wanted, level, tuple(Finding("it", outcome, "because") for outcome in outcomes))


PASSED, FAILED, UNVERIFIED = Outcome.PASSED, Outcome.FAILED, Outcome.UNVERIFIED


@pytest.mark.parametrize(
    ("proof", "lines_of_evidence", "damaged"),
    [
        (outcome_of(Level.PROVEN, PASSED), [(Level.PROVEN, PASSED)], False),
        (outcome_of(Level.INTACT, PASSED, wanted=Level.INTACT), [(Level.INTACT, PASSED)], False),
        (outcome_of(None, FAILED), [(Level.WRITTEN, FAILED)], True),
        (outcome_of(Level.WRITTEN, FAILED), [(Level.WRITTEN, PASSED), (Level.INTACT, FAILED)], True),
        (outcome_of(Level.RESTORED, FAILED), [(Level.RESTORED, PASSED), (Level.PROVEN, FAILED)], True),
        (outcome_of(Level.PROVEN, FAILED), [(Level.PROVEN, PASSED), (Level.PROVEN, FAILED)], True),
        (outcome_of(Level.INTACT, UNVERIFIED), [(Level.INTACT, PASSED), (Level.PROVEN, UNVERIFIED)], False),
        (outcome_of(None, UNVERIFIED), [(Level.PROVEN, UNVERIFIED)], False),
        (outcome_of(Level.PROVEN, UNVERIFIED), [(Level.PROVEN, PASSED)], False),
    ],
)
def test_evidence_says_what_was_reached_and_what_lies_beyond(
    proof: Proof, lines_of_evidence: list[tuple[Level, Outcome]], damaged: bool, local: LocalStore, now: Any
) -> None:
    evidence = evidence_of(proof, now(), 1.0)

    assert [(line.level, line.outcome) for line in evidence] == lines_of_evidence
    assert Entry(local.entries()[0].manifest, evidence).damaged is damaged
