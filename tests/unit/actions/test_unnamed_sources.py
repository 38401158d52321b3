"""What nothing names is not run, and is critical if it was backed up here, until that is accepted."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from refnet import wiring
from refnet.actions import init, marks, unprotected
from refnet.actions.backup import Options, backup
from refnet.actions.choose import select
from refnet.actions.drill import prove
from refnet.actions.overview import overview_reader
from refnet.catalog.identity import SourceId
from refnet.catalog.monitoring import Status
from refnet.catalog.source_name import Kind, SourceName
from refnet.context import Context
from refnet.core.errors import Exit
from refnet.settings import Settings
from refnet.settings.sources import SourceSettings
from refnet.telemetry.notify import findings

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
    assert not [check for check in overview_reader(settings)().checks if check.source == SourceName.DATABASE]


def test_a_database_with_a_url_is_protected_although_its_schedule_is_off(settings: Settings) -> None:
    assert SourceName.DATABASE in wiring.configured(replace(settings, database_url="postgresql:///app"))
    assert SourceName.DATABASE not in wiring.configured(settings)


def _says(settings: Settings) -> list[str]:
    """What the monitor says of sources that are gone."""
    return [
        f"{one.source} {one.status}: {one.says}"
        for one in overview_reader(settings)().checks
        if one.what == "gone"
    ]


def test_a_vault_that_became_a_named_folder_is_critical_until_accepted(
    settings: Settings, tmp_path: Path
) -> None:
    backup(Context(settings), VAULT, Options(prove=False))
    folder = (tmp_path / "vault").rename(tmp_path / "notes")
    notes = SourceSettings("notes", "folders", path=folder)
    moved = replace(settings, vault_dir=tmp_path / "vault", origins={}, sources={"notes": notes})
    name = SourceName("notes", Kind.FOLDER)
    backup(Context(moved), name, Options(prove=False))

    assert (wiring.protected(moved), backup(Context(moved), VAULT)) == ((name,), None)
    assert _says(moved) == [
        (
            "obsidian critical: the settings no longer name it: set vault_dir, or restore it elsewhere"
            " (`refnet restore obsidian --to`), `refnet accept obsidian` if that is intended"
        )
    ]
    assert overview_reader(moved)().unnamed == ()
    planned = marks.plan_gone(Context(moved), "obsidian")
    assert planned
    assert marks.accept_gone(Context(moved), planned).to_json() == {
        "source": "obsidian",
        "gone": "obsidian",
        "accepted": True,
    }
    assert (_says(moved), marks.plan_gone(Context(moved), "obsidian")) == ([], None)
    assert overview_reader(moved)().unnamed == (VAULT,)
    assert {check.source for check in overview_reader(moved)().checks} == {None, name}


def test_a_source_that_comes_back_and_goes_again_is_critical_again(settings: Settings) -> None:
    backup(Context(settings), VAULT, Options(prove=False))
    without = replace(settings, left_out=frozenset({"obsidian"}))
    for _ in range(2):
        assert [*wiring.gone(without)] == [VAULT]
        wiring.identities(settings).accept(VAULT)
        assert not wiring.gone(without)
        backup(Context(settings), VAULT, Options(prove=False))


@pytest.mark.parametrize(("moved", "why"), [(False, "vault no longer exists"), (True, "no longer exists")])
def test_a_default_vault_that_disappeared_is_critical_and_not_run(
    settings: Settings, tmp_path: Path, moved: bool, why: str
) -> None:
    backup(Context(settings), VAULT, Options(prove=False))
    (tmp_path / "vault").rename(tmp_path / "gone")
    now = replace(settings, vault_dir=tmp_path / ("default" if moved else "vault"), origins={})

    assert VAULT not in wiring.configured(now)
    assert why in _says(now)[0]
    assert "`refnet restore obsidian` brings it back" in _says(now)[0]


def test_a_named_folder_gone_from_the_settings_is_critical_by_journal(
    settings: Settings, tmp_path: Path
) -> None:
    name, notes = (
        SourceName("notes", Kind.FOLDER),
        SourceSettings("notes", "folders", path=tmp_path / "vault"),
    )
    named = replace(settings, origins={}, sources={"notes": notes})
    backup(Context(named), name, Options(prove=False))
    (settings.home / "identities" / "notes.json").unlink()

    assert [*wiring.gone(settings)] == [name]
    assert "notes critical: the settings no longer name it" in _says(settings)[0]
    other = replace(settings, home=tmp_path / "home2")  # another machine with this backup folder
    assert not wiring.gone(other)


def test_a_removed_source_is_a_message_and_having_no_sources_a_warning(
    settings: Settings,
) -> None:
    backup(Context(settings), VAULT, Options(prove=False))
    without = replace(settings, left_out=frozenset({"obsidian"}))
    checks = overview_reader(without)().checks
    found = findings(checks, wiring.journal(settings).history())
    assert "vault_dir is none: set vault_dir" in (found["obsidian gone"] or "")
    wiring.identities(settings).accept(VAULT)
    told = {one.what: one for one in overview_reader(without)().checks}
    assert "gone" not in told
    assert (told["sources"].status, "nothing is backed up" in told["sources"].says) == (Status.WARNING, True)
    assert "sources" not in {one.what for one in overview_reader(settings)().checks}


@pytest.mark.parametrize("answer", ["none", "own"])
def test_an_answer_of_init_holds_for_the_server_that_refnet_makes_itself(
    short_home: Path, answer: str
) -> None:
    draft = init.start(
        {"REFNET_HOME": str(short_home / "home"), "REFNET_CONFIG": str(short_home / "a.toml")}, short_home
    )
    question = replace(init.QUESTIONS[0], check=lambda _: ())
    draft, _ = draft.answered(question, answer)
    (short_home / "home" / "postgres" / "data").mkdir(parents=True)
    (short_home / "home" / "postgres" / "data" / "PG_VERSION").write_text("17\n")
    assert (SourceName.DATABASE in wiring.configured(draft.settings)) is (answer == "own")
    added = replace(
        draft, table={**draft.table, "folders.notes.path": "/srv/notes"}
    )  # a table ends the defaults
    assert (SourceName.DATABASE in wiring.configured(added.settings)) is (answer == "own")
    assert "none" not in added.text()


def test_a_cluster_answers_for_what_its_settings_leave_out(settings: Settings) -> None:
    wiring.identities(settings).accept("main-old")
    wiring.identities(settings).take_over(SourceName("main-old", Kind.FOLDER), SourceId("0" * 32))
    cluster = SourceSettings("main", "clusters", url="postgresql://db/postgres")
    assert [*wiring.gone(settings)] == ["main-old"]
    assert not wiring.gone(replace(settings, clusters={"main": cluster}))


def test_a_hint_names_what_is_true_of_the_source(settings: Settings) -> None:
    cluster = SourceSettings("main", "clusters", url="postgresql://db/postgres")
    with_cluster = replace(settings, clusters={"main": cluster})
    hints = {
        SourceName("main-wiki", Kind.DATABASE): "The cluster main had no such database",
        SourceName("shop", Kind.DATABASE): "Add [databases.shop]",
        SourceName.CONFIG: "Set REFNET_CONFIG_DIR.",
        SourceName.DATABASE: "REFNET_DATABASE_URL=postgresql://",
    }
    for name, hint in hints.items():
        assert hint in wiring.not_configured(with_cluster, name).hint
    left_out = replace(settings, left_out=frozenset({"config"}))
    assert wiring.not_configured(left_out, SourceName.CONFIG).hint == "config_dir is none: set it."


def test_a_server_backed_up_as_a_cluster_is_not_asked_for_more_databases() -> None:
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

    checks = overview_reader(settings)().checks

    assert [(c.what, c.says) for c in checks if c.source == VAULT and c.what == "drill"] == [
        ("drill", "none yet; the first one is not due yet")
    ]
