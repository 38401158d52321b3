"""What ARTIFACT on a command line means."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.unit.actions.conftest import NOW, Lab

from refnet.actions import choose as choosing
from refnet.actions.backup import Options
from refnet.actions.backup import make as backup
from refnet.actions.choose import absence, choose, choose_one, of_others, select
from refnet.actions.verify import keep
from refnet.catalog.artifact import Made
from refnet.catalog.catalog import parse_time
from refnet.catalog.identity import Identity
from refnet.catalog.manifest import Evidence, Level, Outcome
from refnet.catalog.source_name import STANDARD, Kind, SourceName
from refnet.context import Context
from refnet.core.clock import Clock
from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings
from refnet.store.local import LocalStore

NAME = "refnet_20261125_170001.sql.gz"
TOKYO = ZoneInfo("Asia/Tokyo")


@pytest.fixture
def local(tmp_path: Path, lines: Any, now: Any, clock: Any) -> LocalStore:
    store = LocalStore(tmp_path / "backups")
    backup(Lab(store, None, Clock(now, clock, zone=UTC)), lines(), store, Options(prove=False))
    return store


def test_a_listed_name_is_the_artifact_of_the_catalog(local: LocalStore) -> None:
    chosen = choose_one(local, NAME)

    assert chosen.entry is not None
    assert chosen.path == local.path(chosen.entry)


def test_the_path_of_a_listed_artifact_is_that_artifact(
    local: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "backups")
    for path in (f"{tmp_path}/backups/database/{NAME}", f"backups/database/{NAME}", f"link/database/{NAME}"):
        chosen = choose_one(local, path)
        assert chosen.entry is not None
        assert chosen.path == local.path(chosen.entry)


def test_an_artifact_elsewhere_keeps_its_evidence_beside_it(local: LocalStore, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    for suffix in ("", ".json"):
        shutil.copy(tmp_path / "backups" / "database" / f"{NAME}{suffix}", away)

    chosen = choose_one(local, str(away / NAME))

    assert chosen.entry is not None
    assert chosen.path == away / NAME
    assert keep(chosen, (Evidence(NOW, Level.INTACT, Outcome.PASSED, 1.0),)) == ""
    assert (away / f"{NAME}.evidence.jsonl").exists()


def test_a_renamed_artifact_still_has_its_manifest(local: LocalStore, tmp_path: Path) -> None:
    for suffix in ("", ".json"):
        shutil.copy(tmp_path / "backups" / "database" / f"{NAME}{suffix}", tmp_path / f"safe{suffix}")

    chosen = choose_one(local, str(tmp_path / "safe"))

    assert chosen.entry is None
    assert chosen.manifest == local.entries()[0].manifest


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("refnet_20231201_020000.sql.gz", SourceName.DATABASE),
        ("config_20231203.tar.gz", SourceName.CONFIG),
        ("vault_20231201.tar.gz", SourceName.OBSIDIAN),
        ("notes.tgz", SourceName.OBSIDIAN),
        ("dump.sql", SourceName.DATABASE),
    ],
)
def test_a_file_without_a_manifest_is_taken_for_what_its_name_says(
    local: LocalStore, tmp_path: Path, name: str, source: SourceName
) -> None:
    (tmp_path / name).write_bytes(b"")
    chosen = choose_one(local, str(tmp_path / name))

    assert (chosen.source, chosen.entry, chosen.manifest) == (source, None, None)


def test_a_command_may_know_better_what_a_foreign_file_is(local: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "settings.tar.gz").write_bytes(b"")
    assert choose_one(local, str(tmp_path / "settings.tar.gz"), SourceName.CONFIG).source == SourceName.CONFIG


def test_an_artifact_of_another_source_is_refused_whatever_says_so(local: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "config_20231203.tar.gz").write_bytes(b"")
    for named in (NAME, str(tmp_path / "config_20231203.tar.gz")):
        with pytest.raises(RefnetError, match="not of obsidian") as refused:
            choose_one(local, named, SourceName.OBSIDIAN)
        assert refused.value.code is Exit.USAGE


def test_what_is_no_file_is_told(local: LocalStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(RefnetError, match=f"'{path}' is not a file") as refused:
            choose_one(local, str(path))
        assert refused.value.code is Exit.USAGE


def test_a_name_that_no_file_can_have_is_not_there(local: LocalStore) -> None:
    with pytest.raises(RefnetError, match="does not exist"):
        choose_one(local, f"/{'x' * 300}")
    with pytest.raises(RefnetError, match="there is no artifact"):
        choose_one(local, "~nobody-of-that-name/x")


def test_a_file_in_a_folder_of_another_user_is_told(
    local: LocalStore, short_folder: Path, as_nobody: Callable[[Callable[[], object]], str]
) -> None:
    private = short_folder / "private"
    private.mkdir(mode=0o000)
    path = private / "vault_20261125.tar.gz"
    assert as_nobody(lambda: choose_one(local, str(path))) == f"this user cannot access {path}"


def test_what_is_not_there_is_a_usage_error(local: LocalStore) -> None:
    with pytest.raises(RefnetError, match=r"refnet_1\.sql\.gz") as refused:
        choose_one(local, "refnet_1.sql.gz")
    assert refused.value.code is Exit.USAGE


def test_a_manifest_that_is_none_is_told(local: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "dump.sql.gz").write_bytes(b"")
    (tmp_path / "dump.sql.gz.json").write_text("[]")
    with pytest.raises(RefnetError, match="not a manifest") as refused:
        choose_one(local, str(tmp_path / "dump.sql.gz"))
    assert refused.value.code is Exit.DAMAGED


def test_the_newest_of_each_source_is_chosen_where_none_is_named(local: LocalStore) -> None:
    assert [one.name for one in choose(local, STANDARD)] == [NAME]
    with pytest.raises(RefnetError, match="no complete artifact"):
        choose(local, [SourceName.CONFIG])


def test_an_older_artifact_is_not_chosen_in_silence(
    local: LocalStore, lines: Any, now: Any, clock: Any
) -> None:
    later = lines(created=NOW + timedelta(hours=1))
    backup(Lab(local, None, Clock(now, clock, zone=UTC)), later, local, Options(prove=False))
    older, newer = local.entries()
    local.record(newer, Evidence(NOW, Level.INTACT, Outcome.FAILED, 1.0))

    (chosen,) = choose(local, [SourceName.DATABASE])
    assert chosen.name == older.name
    assert chosen.notes == (
        f"not chosen: {newer.name} is newer, and damaged; `refnet verify {newer.name}` checks it again",
    )
    (before,) = choose(local, [SourceName.DATABASE], NOW + timedelta(minutes=1))
    assert before.notes == ()


def test_a_url_of_another_database_is_named_even_for_all_sources(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "backups")
    details = {"database": "refnet", "system_identifier": "7712237444966459991"}
    with store.draft(SourceName.DATABASE) as draft:
        draft.out.write(b"")
        draft.publish(Made(created=NOW, details=details), NOW, 1.0)

    with pytest.raises(RefnetError, match=r"of the database shop; the store has artifacts of refnet$"):
        choose(store, STANDARD, targets={SourceName.DATABASE: Identity("shop", "1")})

    assert absence(store, SourceName.DATABASE).endswith("that the settings name, only of others")
    assert absence(store, SourceName.CONFIG) == "there is no complete artifact"


def test_a_time_before_the_first_artifact_gets_the_time_that_finds_it(
    lines: Any, now: Any, clock: Any, tmp_path: Path
) -> None:
    store = LocalStore(tmp_path / "backups")
    made = datetime(2026, 11, 25, 17, 0, 1, 400_000, tzinfo=UTC)
    for created in (made, made + timedelta(days=1)):
        backup(
            Lab(store, None, Clock(now, clock, zone=UTC)), lines(created=created), store, Options(prove=False)
        )

    with pytest.raises(RefnetError, match="at or before 2026-11-26 02:00 JST") as refused:
        choose(store, [SourceName.DATABASE], datetime(2026, 11, 26, 2, 0, tzinfo=TOKYO))

    assert NAME in refused.value.hint
    said = re.findall(r"--at '(.*)'", refused.value.hint)
    assert [one.name for one in choose(store, [SourceName.DATABASE], parse_time(*said, TOKYO))] == [NAME]


def test_a_time_before_any_artifact_of_a_source_suggests_a_backup(local: LocalStore) -> None:
    with pytest.raises(RefnetError, match="no complete artifact") as refused:
        choose(local, [SourceName.CONFIG], datetime(2020, 1, 1, tzinfo=UTC))
    assert "refnet backup" in refused.value.hint


def test_a_selection_that_fails_for_now_can_be_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RefnetError("no free connection", "Retry.", transient=True)

    monkeypatch.setattr(choosing, "newest_of", fail)

    with pytest.raises(RefnetError) as caught:
        select(Context(Settings()), None)

    assert (caught.value.code, caught.value.transient) == (Exit.UNVERIFIED, True)


def test_the_remedy_for_another_database_names_the_setting_of_the_source() -> None:
    others = (Identity("wiki", "1"),)
    assert (
        "Set the url of shop to"
        in of_others(Identity("shop", "1"), others, SourceName("shop", Kind.DATABASE)).hint
    )
    assert "Set REFNET_DATABASE_URL to" in of_others(Identity("shop", "1"), others).hint
