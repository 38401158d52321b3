"""What no setting names raises no alarm and runs nothing, whatever artifacts it has."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from refnet import wiring
from refnet.actions import unprotected
from refnet.actions.backup import Options, backup
from refnet.actions.choose import select
from refnet.actions.drill import prove
from refnet.actions.overview import overview_of
from refnet.context import Context
from refnet.core.errors import Exit
from refnet.recovery.model.source_name import Kind, SourceName
from refnet.settings import Settings
from refnet.settings.sources import SourceSettings

VAULT = SourceName.OBSIDIAN


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Only a vault: `schedule.database = off`."""
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / "a.md").write_text("text")
    return Settings(
        home=tmp_path / "home",
        backup_dir=tmp_path / "backups",
        vault_dir=tmp_path / "vault",
        origins={"vault_dir": "a test"},
        schedule_database=None,
    )


def test_a_database_that_nobody_configured_is_no_alarm_and_fails_no_drill(settings: Settings) -> None:
    context = Context(settings)
    backup(context, VAULT)

    found = prove(context, select(context, None))

    assert SourceName.DATABASE not in wiring.configured(settings)
    assert (found.exit, found.absent) == (Exit.DONE, ())
    assert not [check for check in overview_of(settings)().checks if check.source == SourceName.DATABASE]


def test_a_database_with_a_url_is_protected_although_its_schedule_is_off(settings: Settings) -> None:
    assert SourceName.DATABASE in wiring.configured(replace(settings, database_url="postgresql:///app"))
    assert SourceName.DATABASE in wiring.configured(Settings())


def test_a_vault_that_became_a_named_folder_leaves_no_ghost(settings: Settings, tmp_path: Path) -> None:
    backup(Context(settings), VAULT, Options(prove=False))
    folder = (tmp_path / "vault").rename(tmp_path / "notes")
    notes = SourceSettings("notes", "folders", path=folder)
    moved = replace(settings, vault_dir=tmp_path / "vault", origins={}, sources={"notes": notes})
    name = SourceName("notes", Kind.FOLDER)
    backup(Context(moved), name, Options(prove=False))

    found = overview_of(moved)()

    assert wiring.protected(moved) == (name,)
    assert {check.source for check in found.checks} == {None, name}
    assert found.unnamed == (VAULT,)


@pytest.mark.parametrize(("moved", "ghost"), [(False, True), (True, False)])
def test_a_vault_is_missed_if_it_was_at_the_default_path_and_not_if_its_setting_is_gone(
    settings: Settings, tmp_path: Path, moved: bool, ghost: bool
) -> None:
    backup(Context(settings), VAULT, Options(prove=False))
    (tmp_path / "vault").rename(tmp_path / "gone")
    default = tmp_path / ("default" if moved else "vault")

    found = wiring.configured(replace(settings, vault_dir=default, origins={}))

    assert (VAULT in found) is ghost


def test_a_server_whose_databases_a_cluster_backs_up_is_not_asked_for_others() -> None:
    member = SourceSettings("main-app", "databases", url="postgresql://db/app", cluster="main")
    cluster = SourceSettings("main", "clusters", url="postgresql://db/postgres")
    settings = Settings(sources={"main-app": member}, clusters={"main": cluster})

    assert unprotected._asked(settings) == ()


def test_a_source_that_is_added_later_begins_with_itself(settings: Settings, tmp_path: Path) -> None:
    backup(Context(settings), VAULT)
    journal = settings.home / "runs" / "journal.jsonl"
    began = datetime.now(UTC) - timedelta(days=200)
    old = json.loads(journal.read_text().splitlines()[0]) | {
        "id": "old",
        "started": began.isoformat(),
        "source": "config",
    }
    journal.write_text(json.dumps(old) + "\n" + journal.read_text())

    checks = overview_of(settings)().checks

    assert [(c.what, c.says) for c in checks if c.source == VAULT and c.what == "drill"] == [
        ("drill", "none yet; the first one is not due yet")
    ]
