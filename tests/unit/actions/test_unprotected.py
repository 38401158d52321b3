"""What no source protects is named at a backup, in its manifest, by check and as a metric; unless it is on purpose."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from refnet.actions import recovery_settings, unprotected
from refnet.actions.backup import Options, backup
from refnet.catalog.manifest import Entry, Lacks, Manifest, Unprotected
from refnet.catalog.source_name import Kind, SourceName
from refnet.context import Context
from refnet.settings import Settings
from refnet.settings.sources import SourceSettings
from refnet.sources.check_result import CheckState
from refnet.sources.database.restore import previous_databases
from refnet.sources.folder.source import Folder
from refnet.store import settings_copies

NO_PROOF = Options(prove=False)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = tmp_path / "config"
    (folder / "src").mkdir(parents=True)
    for name in ("compose.yaml", ".env", "old.bak", ".refnet-x", "two\nlines", "refnet.toml"):
        (folder / name).write_text(f"# {name!r}\n")
    (folder / "refnet.toml").chmod(0o600)
    return Settings(
        home=tmp_path / "home",
        backup_dir=tmp_path / "backups",
        config_dir=folder,
        config_entries=("compose.yaml", ".env"),
        file=folder / "refnet.toml",
    )


def test_entries_that_no_setting_names_are_not_protected(settings):
    assert list(unprotected.uncovered(settings)) == [".refnet-x", "old.bak", "src", "two\nlines"]


def test_what_is_left_out_on_purpose_is_not_named(settings):
    some = replace(settings, left_out_files=("*.bak", "src/", ".refnet-x"))

    assert list(unprotected.uncovered(some)) == ["two\nlines"]


def test_the_manifest_says_what_is_not_protected_in_one_line(settings):
    made = backup(Context(settings), SourceName.CONFIG, NO_PROOF)

    read = Manifest.from_json(made.manifest.to_json())
    lacks = Unprotected.read(read.details)
    assert lacks == Unprotected(Lacks.FILES, 4, (".refnet-x", "old.bak", "src", "two\nlines"))
    assert str(lacks) == "4 entries of config_dir: .refnet-x, old.bak, src and 1 more"


def test_check_warns_and_turns_ok_when_everything_is_on_purpose(settings):
    own = replace(settings, database_url=None)
    (warned,) = unprotected.check(own)
    assert (warned.state, "left_out.files" in warned.hint) == (CheckState.WARNING, True)

    (fine,) = unprotected.check(replace(own, left_out_files=("*",)))
    assert fine.state is CheckState.OK


def test_a_backup_stores_the_settings_file_and_check_reports_its_changes(settings):
    settings = replace(settings, left_out_files=("*",))
    backup(Context(settings), SourceName.CONFIG, NO_PROOF)
    _, content = settings_copies.newest(settings.backup_dir, None)
    assert content == settings.file.read_bytes()

    settings.file.write_text("jobs = 3\n")
    (line,) = unprotected.check(settings)
    assert "has changed since the last backup" in line.says


def test_check_warns_where_more_than_half_of_a_folder_is_excluded(settings, tmp_path):
    vault = tmp_path / "vault"
    (vault / "cache" / "deep").mkdir(parents=True)
    (vault / "cache" / "deep" / "big").write_bytes(bytes(6000))
    (vault / "note.md").write_bytes(bytes(4000))
    of_vault = replace(settings, vault_dir=vault, origins={"vault_dir": "here"}, exclude_obsidian=("cache/",))

    (line,) = Folder(of_vault, SourceName.OBSIDIAN).checks()
    assert (line.state, "exclude leaves out 5.9 KiB of 9.8 KiB" in line.says) == (CheckState.WARNING, True)

    (line,) = Folder(replace(of_vault, left_out_percent=60), SourceName.OBSIDIAN).checks()
    assert line.state is CheckState.OK


def test_a_database_that_another_source_names_is_protected(settings, monkeypatch):
    monkeypatch.setattr(previous_databases, "other_databases", lambda _target: ["shop", "wiki", "scratch_1"])
    shop = SourceSettings("shop", "databases", url="postgresql://backup@db:5432/shop")
    elsewhere = SourceSettings("elsewhere", "databases", url="postgresql://backup@other/wiki")
    named = replace(
        settings,
        database_url="postgresql://backup@db/refnet",
        sources={"shop": shop, "elsewhere": elsewhere},
        left_out_databases=("scratch_*",),
    )

    found = unprotected.of_source(named, SourceName.DATABASE)

    assert found == Unprotected(Lacks.DATABASES, 1, ("wiki",))

    alone = replace(
        named, database_url=None, config_dir=None, file=None, vault_dir=Path("/nowhere")
    )  # a server that named sources are alone on
    assert unprotected.of_source(alone, SourceName("shop", Kind.DATABASE)) == found
    assert ["wiki" in line.says for line in unprotected.check(alone)] == [
        True,
        False,
    ]  # `elsewhere` lacks shop
    cluster = SourceSettings("main", "clusters", url="postgresql://backup@db/postgres")
    covered = replace(alone, sources={"shop": shop}, clusters={"main": cluster})
    assert unprotected.of_source(covered, SourceName("shop", Kind.DATABASE)) is None


@pytest.fixture
def lost(settings, monkeypatch) -> tuple[Path, dict[SourceName, Entry]]:
    """A machine that has only a store: an artifact of a vault, and the settings of that time."""
    for name in ("REFNET_VAULT_DIR", "REFNET_CONFIG_DIR", "REFNET_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    at = datetime(2026, 11, 25, tzinfo=UTC)
    manifest = Manifest(SourceName.OBSIDIAN, "vault_20261125.tar.gz", at, 1, "0" * 64, 0.1, published=at)
    settings_copies.keep(
        settings.backup_dir, b'vault_dir = "/srv/notes"\njobs = 7\n', at + timedelta(seconds=1)
    )
    settings_copies.keep(settings.backup_dir, b"jobs = 9\n", at + timedelta(days=1))
    return settings.backup_dir, {SourceName.OBSIDIAN: Entry(manifest)}


def setup(store: Path, entries: dict[SourceName, Entry]) -> recovery_settings.Setup:
    environment = {"REFNET_HOME": str(store.parent / "empty"), "REFNET_BACKUP_DIR": str(store)}
    return recovery_settings.setup(recovery_settings.Machine(environment, store), entries)


def test_a_recovery_on_an_empty_machine_reads_the_settings_of_the_set(lost):
    store, entries = lost

    found = setup(store, entries)

    assert (found.settings.jobs, found.settings.vault_dir, found.own) == (7, Path("/srv/notes"), True)
    assert found.settings.backup_dir == store
    assert setup(store, {}).settings.jobs != 7


def test_settings_beside_the_artifacts_may_not_name_system_folders(lost):
    store, entries = lost
    settings_copies.keep(
        store, b'vault_dir = "/usr/share/notes"\n', datetime(2026, 11, 25, 0, 0, 2, tzinfo=UTC)
    )

    with pytest.raises(recovery_settings.RefnetError, match="is not restored to /usr/share/notes"):
        setup(store, entries).folder(SourceName.OBSIDIAN)


@pytest.mark.parametrize("content", [b"\xff", b"= 1", b"jobs = 0\n", b"[" * 5000])
def test_settings_that_cannot_be_used_are_a_note_and_the_recovery_goes_on(lost, content):
    store, entries = lost
    settings_copies.keep(store, content, datetime(2026, 11, 25, 0, 0, 2, tzinfo=UTC))

    found = setup(store, entries)

    assert found.settings.file is None
    assert "the settings in the backup folder cannot be used" in found.notes[0]


def test_a_vault_without_a_setting_returns_to_where_it_was_backed_up(lost):
    store, entries = lost
    settings_copies.remove(store)
    (old,) = entries.values()
    moved = Entry(replace(old.manifest, details={"folder": "/srv/my notes"}))

    found = setup(store, {SourceName.OBSIDIAN: moved})
    assert (found.folder(SourceName.OBSIDIAN), found.notes) == (Path("/srv/my notes"), ())

    system = Entry(replace(old.manifest, details={"folder": "/usr/share/notes"}))
    with pytest.raises(recovery_settings.RefnetError, match="is not restored to /usr/share/notes"):
        setup(store, {SourceName.OBSIDIAN: system}).folder(SourceName.OBSIDIAN)


def test_a_folder_restored_elsewhere_than_its_origin_is_a_warning(lost):
    store, entries = lost
    (old,) = entries.values()
    moved = Entry(replace(old.manifest, details={"folder": "/srv/my notes"}))
    assert setup(store, {SourceName.OBSIDIAN: moved}).notes == (
        "obsidian goes to /srv/notes; it was backed up from /srv/my notes",
    )
