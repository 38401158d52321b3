"""adopt: what older scripts made becomes part of the catalog, and nothing of it is lost."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.unit.actions.conftest import Lab

from refnet.actions.adopt import Adopted, adopt, plan
from refnet.actions.backup import Options
from refnet.actions.backup import make as backup
from refnet.catalog.artifact import Made
from refnet.catalog.evidence import Marks
from refnet.catalog.manifest import Evidence, Level, Outcome
from refnet.catalog.source_name import SourceName
from refnet.core.clock import Clock
from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings
from refnet.store.local import LocalStore

OLD = "refnet_20231201_020000.sql.gz"
TOKYO = ZoneInfo("Asia/Tokyo")
TOKYO_SETTINGS = Settings(schedule_timezone=ZoneInfo("Asia/Tokyo"))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "backups")


@pytest.fixture
def old(store: LocalStore, lines: Any) -> Path:
    """What an old script left in the backup folder, for everybody to read."""
    folder = store.folder(SourceName.DATABASE)
    folder.mkdir(parents=True)
    with (folder / OLD).open("wb") as out:
        lines().dump(out)
    return folder / OLD


@pytest.fixture
def take(store: LocalStore, lines: Any, now: Any, clock: Any) -> Callable[..., Adopted]:
    def run(path: Path, says: Made | None = None, **changes: Any) -> Adopted:
        prover = lines(says=says, **{"reaches": Level.INTACT} | changes)
        lab = Lab(store, prover, Clock(now, clock), TOKYO_SETTINGS)
        return adopt(lab, plan(lab, path))

    return run


def test_an_adopted_artifact_is_checked_and_listed_by_its_names_time(
    take: Any, store: LocalStore, old: Path
) -> None:
    data = old.read_bytes()
    assert take(old).exit is Exit.DONE

    (entry,) = store.entries()
    assert (entry.name, entry.created) == (OLD, datetime(2023, 11, 30, 17, 0, tzinfo=UTC))
    assert entry.state == "intact"
    assert entry.manifest.unchecked
    assert (old.read_bytes(), old.stat().st_mode & 0o777) == (data, 0o600)
    assert (store.unlisted(), store.leftovers()) == ((), ())


def test_a_file_elsewhere_is_copied_in_and_stays_where_it_is(
    take: Any, store: LocalStore, old: Path, tmp_path: Path
) -> None:
    elsewhere = Path(shutil.move(old, tmp_path / OLD))
    take(elsewhere)

    assert [entry.name for entry in store.entries()] == [OLD]
    assert elsewhere.exists()
    assert store.path(store.entries()[0]).read_bytes() == elsewhere.read_bytes()


def test_an_artifact_that_says_what_it_holds_is_believed(take: Any, store: LocalStore, old: Path) -> None:
    created = datetime(2023, 12, 1, 1, 59, tzinfo=UTC)
    take(old, says=Made(created, {"rows": 2}))

    assert (store.entries()[0].created, store.entries()[0].manifest.details) == (created, {"rows": 2})
    assert store.entries()[0].manifest.unchecked == ()


def test_an_artifact_from_elsewhere_brings_its_manifest(
    take: Any, store: LocalStore, tmp_path: Path, lines: Any, now: Any, clock: Any
) -> None:
    away = LocalStore(tmp_path / "away", flat=True)
    made = backup(Lab(away, None, Clock(now, clock, zone=UTC)), lines(), away, Options(prove=False)).manifest
    take(tmp_path / "away" / made.name)

    assert store.entries()[0].manifest == replace(made, seconds=0.0, number=None)


def test_a_damaged_one_is_taken_in_as_damaged(take: Any, store: LocalStore, old: Path) -> None:
    old.write_bytes(b"no archive at all")

    assert take(old).exit is Exit.DAMAGED
    assert store.entries()[0].damaged


@pytest.mark.parametrize("name", ["papers_backup.sql", "refnet_20231301_020000.sql.gz", "gone.sql.gz"])
def test_a_name_that_says_nothing_is_refused(take: Any, tmp_path: Path, name: str) -> None:
    if not name.startswith("gone"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(RefnetError, match="is not an artifact to adopt") as refused:
        take(tmp_path / name)
    assert refused.value.code is Exit.USAGE


def test_a_file_in_a_folder_of_another_user_is_told(
    take: Any, short_folder: Path, as_nobody: Callable[[Callable[[], object]], str]
) -> None:
    private = short_folder / "private for adoption"
    private.mkdir(mode=0o000)
    assert as_nobody(lambda: take(private / OLD)) == f"this user cannot access {private / OLD}"


def test_links_and_fifos_are_refused(take: Any, old: Path, tmp_path: Path) -> None:
    link = tmp_path / OLD
    link.symlink_to(old)
    fifo = tmp_path / "vault_20231201.tar.gz"
    subprocess.run(["mkfifo", str(fifo)], check=True)
    for path in (link, fifo):
        with pytest.raises(RefnetError, match="is not an artifact to adopt"):
            take(path)


def test_what_has_a_manifest_is_refused_and_stays_as_it_is(take: Any, store: LocalStore, old: Path) -> None:
    take(old)
    before = store.entries()
    with pytest.raises(RefnetError, match="has a manifest"):
        take(old)
    assert store.entries() == before


def test_a_manifest_that_cannot_be_read_is_moved_aside_and_made_again(
    take: Any, store: LocalStore, lines: Any, now: Any, clock: Any
) -> None:
    made = backup(Lab(store, lines(), Clock(now, clock, zone=UTC)), lines(), store, Options()).manifest
    path = store.path(store.entries()[0])
    broken = path.with_name(f"{path.name}.json")
    broken.write_bytes(b"X" + broken.read_bytes()[1:])
    assert [(one.name, one.adoptable) for one in store.unlisted()] == [(path.name, True)]

    assert take(path, says=Made(made.created, made.details)).exit is Exit.DONE

    (entry,) = store.entries()
    assert (entry.manifest.sha256, entry.created) == (made.sha256, made.created)
    assert entry.manifest.details == made.details
    assert entry.state == "intact", "what passed was about the manifest that is lost"
    assert path.with_name(f"{path.name}.json.damaged").read_bytes().startswith(b"X")
    assert (store.unlisted(), store.leftovers()) == ((), ())


def test_a_failure_is_remembered_although_the_manifest_is_lost(
    take: Any, store: LocalStore, lines: Any, now: Any, clock: Any
) -> None:
    backup(Lab(store, lines(), Clock(now, clock, zone=UTC)), lines(), store, Options())
    (entry,) = store.entries()
    store.record(entry, Evidence(now(), Level.PROVEN, Outcome.FAILED, 1.0))
    store.path(entry).with_name(f"{entry.name}.json").unlink()
    take(store.path(entry), says=Made(entry.created, {}))

    assert store.entries()[0].state == "damaged"


def test_a_manifest_of_a_newer_refnet_is_left_to_it(take: Any, store: LocalStore, old: Path) -> None:
    take(old)
    manifest = old.with_name(f"{OLD}.json")
    manifest.write_text(manifest.read_text().replace('"format": 3', '"format": 4'))
    before = manifest.read_bytes()
    with pytest.raises(RefnetError, match="format 4") as refused:
        take(old)
    assert "a newer RefNet" in refused.value.hint
    assert manifest.read_bytes() == before


def test_a_day_in_a_name_is_sharpened_by_the_first_check(
    store: LocalStore, lines: Any, now: Any, clock: Any
) -> None:
    backup(
        Lab(store, lines(), Clock(now, clock, zone=TOKYO)), lines(name=SourceName.CONFIG), store, Options()
    )
    (entry,) = store.entries()
    store.path(entry).with_name(f"{entry.name}.json").unlink()

    planned = plan(Lab(store, lines(), Clock(now, clock), TOKYO_SETTINGS), store.path(entry))

    assert entry.name == "config_20261126.tar.gz"
    assert planned.made.created == entry.evidence[0].at


def test_a_run_that_died_while_adopting_leaves_the_file_nobodys_leftover(
    take: Any, store: LocalStore, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is hidden beside it is cleaned; the artifact itself must never be."""
    take(old)
    manifest = old.with_name(f"{OLD}.json")
    manifest.rename(old.with_name(".refnet-0123456789abcdef.part"))
    old.with_name(f"{OLD}.evidence.jsonl").unlink()

    assert [leftover.name for leftover in store.leftovers()] == [".refnet-0123456789abcdef.part"]
    for leftover in store.leftovers():
        store.clean(leftover)
    assert [one.name for one in store.unlisted()] == [OLD]


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        (Marks(pinned=True, tags=("a",)).to_file(), Marks(pinned=True, tags=("a",))),
        (b"damaged", Marks(pinned=True)),
    ],
)
def test_marks_of_a_file_elsewhere_are_copied_and_damaged_ones_pin(
    take: Any, store: LocalStore, old: Path, tmp_path: Path, text: bytes, marks: Marks
) -> None:
    elsewhere = Path(shutil.move(old, tmp_path / OLD))
    elsewhere.with_name(f"{OLD}.marks.json").write_bytes(text)
    take(elsewhere)

    assert [entry.marks for entry in store.entries()] == [marks]


def test_an_artifact_that_lost_its_manifest_keeps_its_marks(take: Any, store: LocalStore, old: Path) -> None:
    old.with_name(f"{OLD}.marks.json").write_bytes(Marks(tags=("a",)).to_file())
    take(old)

    assert [entry.marks for entry in store.entries()] == [Marks(tags=("a",))]
