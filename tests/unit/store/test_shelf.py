"""What a folder is found to hold: entries, leftovers that are ours, and files that are somebody's own."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from refnet.catalog.artifact import Made
from refnet.catalog.catalog import Catalog
from refnet.catalog.manifest import Evidence, Level, Outcome
from refnet.catalog.source_name import SourceName
from refnet.core.errors import RefnetError
from refnet.store.local import LocalStore

NOW = datetime(2026, 11, 25, 17, 0, 1, tzinfo=UTC)
NAME = "refnet_20261125_170001.sql.gz"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A store with one artifact of the database."""
    store = LocalStore(tmp_path / "backups")
    with store.draft(SourceName.DATABASE) as draft:
        draft.out.write(b"SELECT 1;")
        draft.publish(Made(NOW, {}), NOW, 1.0)
    return store


@pytest.fixture
def folder(store: LocalStore) -> Path:
    return store.folder(SourceName.DATABASE)


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / f"{NAME}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def found(store: LocalStore) -> tuple[list[str], list[str], list[str]]:
    """The names of the entries, of the leftovers and of what is not listed."""
    return (
        [entry.name for entry in store.entries()],
        [leftover.name for leftover in store.leftovers()],
        [one.name for one in store.unlisted()],
    )


def test_an_old_scripts_artifact_is_not_listed_and_never_a_leftover(store: LocalStore, folder: Path) -> None:
    (folder / "refnet_20231201_020000.sql.gz").write_bytes(b"old")

    assert found(store) == ([NAME], [], ["refnet_20231201_020000.sql.gz"])
    assert store.unlisted()[0].why == "has no manifest"


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "notes.json", ".hidden", "refnet_20261125_170001.sql.gz.bak", "refnet_99999999_1.sql.gz"],
)
def test_what_is_no_artifact_is_left_alone(store: LocalStore, folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"{}")
    assert found(store) == ([NAME], [], [])


def test_folders_and_links_are_unreadable_and_the_lock_is_neither(store: LocalStore, folder: Path) -> None:
    odd = ["refnet_20261125_170002.sql.gz", "refnet_20261125_170003.sql.gz"]
    (folder / odd[0]).mkdir()
    (folder / odd[1]).symlink_to(folder / NAME)
    with store.lock(SourceName.DATABASE):
        assert found(store) == ([NAME], [], odd)
    assert found(store) == ([NAME], [], odd)
    assert [one.why for one in store.unlisted()] == ["is a folder", "is a link"]
    assert all(one.unreadable for one in store.unlisted())


def test_a_manifest_whose_artifact_is_gone_is_a_leftover(store: LocalStore, folder: Path) -> None:
    (folder / NAME).unlink()
    assert found(store) == ([], [f"{NAME}.json"], [])


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "refnet_20261125_170002.sql.gz"},
        {"source": "config"},
        {"source": "x"},
        {"created": "2026-11-25"},
    ],
)
def test_a_foreign_manifest_publishes_nothing(store: LocalStore, folder: Path, changes: Any) -> None:
    rewrite(folder, **changes)
    assert found(store) == ([], [], [NAME])


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", "{}"])
def test_a_manifest_that_cannot_be_read_publishes_nothing(store: LocalStore, folder: Path, text: str) -> None:
    (folder / f"{NAME}.json").write_text(text)
    assert found(store) == ([], [], [NAME])
    assert store.unlisted()[0].unreadable


def test_an_unreadable_manifest_is_listed_even_without_its_artifact(store: LocalStore, folder: Path) -> None:
    (folder / NAME).unlink()
    (folder / f"{NAME}.json").write_text("{")
    assert found(store) == ([], [], [f"{NAME}.json"])


def test_a_manifest_of_a_newer_refnet_is_not_ours_to_clean(store: LocalStore, folder: Path) -> None:
    rewrite(folder, format=4)
    assert found(store) == ([], [], [NAME])
    assert "format 4" in store.unlisted()[0].why


def test_an_artifact_of_another_size_is_damaged_and_never_the_newest(store: LocalStore, folder: Path) -> None:
    (folder / NAME).write_bytes(b"SELECT")

    (entry,) = store.entries()
    assert entry.damaged
    assert entry.evidence[-1].reasons == ("the file has 6 bytes, its manifest says 9",)
    assert Catalog.of(store.entries()).newest_complete(SourceName.DATABASE) is None


def test_what_stands_beside_nothing_is_a_leftover(store: LocalStore, folder: Path) -> None:
    for name in ("vault_20261125.tar.gz.files.json.gz", "vault_20261125.tar.gz.evidence.jsonl"):
        (folder / name).write_bytes(b"")
    assert found(store)[1] == ["vault_20261125.tar.gz.files.json.gz", "vault_20261125.tar.gz.evidence.jsonl"]


def test_a_hidden_file_of_a_dead_run_is_a_leftover_and_can_be_cleaned(
    store: LocalStore, folder: Path
) -> None:
    (folder / ".refnet-0123456789abcdef.part").write_bytes(b"half")

    (leftover,) = store.leftovers()
    assert (leftover.name, leftover.size) == (".refnet-0123456789abcdef.part", 4)
    store.clean(leftover)
    assert found(store) == ([NAME], [], [])


def test_a_hidden_file_of_a_living_run_is_none(store: LocalStore) -> None:
    with store.draft(SourceName.DATABASE) as draft:
        draft.out.write(b"x" * 2_000_000)
        assert store.leftovers() == ()


def test_what_a_hidden_manifest_names_is_half_deleted(store: LocalStore, folder: Path) -> None:
    store.record(store.entries()[0], Evidence(NOW, Level.INTACT, Outcome.PASSED, 1.0))
    (folder / f"{NAME}.json").rename(folder / ".refnet-00.json")

    assert found(store) == ([], [f"{NAME}.evidence.jsonl", NAME, ".refnet-00.json"], [])
    for leftover in store.leftovers():
        store.clean(leftover)
    assert found(store) == ([], [], [])


def test_a_hidden_manifest_claims_no_file_that_is_not_its_own(store: LocalStore, folder: Path) -> None:
    (folder / f"{NAME}.json").rename(folder / ".refnet-00.json")
    (folder / NAME).write_bytes(b"somebody else's, of another size")

    assert found(store)[1] == [".refnet-00.json"]


PROVEN = Evidence(NOW, Level.PROVEN, Outcome.PASSED, 1.0)


@pytest.mark.parametrize("harm", [b'{"at": "2026', b"\x00\x00\x00\n", b"\n", b"[]\n", b"\xff" * 40])
def test_a_line_of_evidence_that_cannot_be_read_may_have_been_any_verdict(
    store: LocalStore, folder: Path, harm: bytes
) -> None:
    store.record(store.entries()[0], PROVEN)
    assert store.entries()[0].state == "proven"
    with (folder / f"{NAME}.evidence.jsonl").open("ab") as file:
        file.write(harm)

    (entry,) = store.entries()
    assert (entry.state, entry.proven, entry.damaged) == ("could not verify", False, False)
    assert entry.evidence[-1].reasons == ("line 2 of the evidence cannot be read: a verdict is lost",)
    assert Catalog.of([entry]).newest_complete(SourceName.DATABASE) is entry


@pytest.mark.parametrize(
    ("level", "outcome", "state"),
    [
        (Level.INTACT, Outcome.PASSED, "intact"),
        (Level.PROVEN, Outcome.PASSED, "proven"),
        (Level.PROVEN, Outcome.FAILED, "damaged"),
        (Level.PROVEN, Outcome.UNVERIFIED, "could not verify"),
    ],
)
def test_after_a_lost_line_only_what_is_checked_again_counts(
    store: LocalStore, folder: Path, level: Level, outcome: Outcome, state: str
) -> None:
    store.record(store.entries()[0], PROVEN)
    with (folder / f"{NAME}.evidence.jsonl").open("ab") as file:
        file.write(PROVEN.to_json().encode()[:20])
    line = Evidence(NOW, level, outcome, 1.0)
    store.record(store.entries()[0], line)

    (entry,) = store.entries()
    assert (entry.evidence[0], entry.evidence[2]) == (PROVEN, line)
    assert entry.state == state


@pytest.mark.parametrize("how", ["wb", "ab"])
def test_evidence_of_another_artifact_does_not_count(store: LocalStore, folder: Path, how: str) -> None:
    with store.draft(SourceName.DATABASE) as draft:
        draft.out.write(b"SELECT 2;")
        other = draft.publish(Made(NOW + timedelta(days=1), {}), NOW + timedelta(days=1), 1.0).name
    one, two = store.entries()
    store.record(one, PROVEN)
    store.record(two, replace(PROVEN, level=Level.INTACT))
    with (folder / f"{other}.evidence.jsonl").open(how) as file:
        file.write((folder / f"{NAME}.evidence.jsonl").read_bytes())

    one, two = store.entries()
    assert (one.state, two.state) == ("proven", "could not verify")
    assert two.evidence[-1].reasons[0].endswith("of the evidence is of another artifact: a verdict is lost")
    store.record(two, PROVEN)
    assert store.entries()[1].state == "proven"


def test_evidence_without_a_digest_counts_only_for_artifacts_of_older_versions(
    store: LocalStore, folder: Path
) -> None:
    (folder / f"{NAME}.evidence.jsonl").write_text(PROVEN.to_json())
    assert store.entries()[0].state == "could not verify"
    rewrite(folder, binds_evidence=False)
    assert store.entries()[0].state == "proven"


def test_evidence_that_is_a_link_or_has_no_end_is_lost(store: LocalStore, folder: Path) -> None:
    path = folder / f"{NAME}.evidence.jsonl"
    elsewhere = folder / "elsewhere"
    elsewhere.write_text(PROVEN.to_json())
    path.symlink_to(elsewhere)
    assert store.entries()[0].state == "could not verify"
    with pytest.raises(RefnetError, match="is not a regular file"):
        store.record(store.entries()[0], PROVEN)

    path.unlink()
    path.write_bytes(b"")
    os.truncate(path, 1 << 40)
    assert store.entries()[0].state == "could not verify"


def test_the_folder_of_another_program_is_read_without_harm(tmp_path: Path) -> None:
    (tmp_path / "database").write_text("a file where a folder should be")
    with pytest.raises(RefnetError, match="is a file, not a folder"):
        LocalStore(tmp_path).entries()
