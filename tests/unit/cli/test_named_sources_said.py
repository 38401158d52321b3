"""What the commands say, complete and check where the settings name several sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.commands import ran

from refnet.actions import check
from refnet.actions.cluster_databases import find_databases
from refnet.context import Context
from refnet.settings import Settings
from refnet.settings.sources import SourceSettings
from refnet.sources.check_result import OF_MACHINE, ok
from refnet.sources.database.source import Database
from refnet.store.source_records import ClusterRecord, SeenDatabases

Ran = Callable[..., tuple[int, str, str]]

SETTINGS = """
[databases.shop]
url = "postgresql://backup@localhost/shop?host=/nowhere"
[databases.wiki]
url = "postgresql://backup@localhost/wiki?host=/nowhere"
[folders.notes]
path = "{0}/notes"
[folders.docs]
path = "{0}/docs"
[clusters.main]
url = "postgresql://backup@localhost/postgres?host=/elsewhere"
"""


@pytest.fixture
def refnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Ran:
    """Run `refnet` in this process with two databases, two folders and a cluster."""
    for name in ("notes", "docs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.md").write_text(name)
    (tmp_path / "refnet.toml").write_text(SETTINGS.format(tmp_path))
    (tmp_path / "refnet.toml").chmod(0o600)
    for name in ("home", "backup_dir"):
        monkeypatch.setenv(f"REFNET_{name}".upper(), str(tmp_path / name))
    monkeypatch.setenv("REFNET_LOG_FOLDER", "none")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: ran([*arguments], monkeypatch, capsys)


@pytest.mark.parametrize("command", ["restore main --plan", "verify main", "show main"])
def test_a_cluster_where_one_source_is_needed_is_named_with_its_sources(
    refnet: Ran, tmp_path: Path, command: str
) -> None:
    ClusterRecord.at(tmp_path / "home", "main").write(SeenDatabases(("crm", "erp")))

    code, _, err = refnet(*command.split())

    assert code == 2
    assert "main is a cluster, not one source" in err
    assert "Its sources are: main-globals, main-crm, main-erp." in err


def test_a_recoverys_plan_lists_configured_sources_in_backup_order(
    refnet: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFNET_BACKUP_ORDER", "docs, databases, folders")
    assert refnet("backup", "notes", "docs", "--no-prove")[0] == 0

    code, plan, _ = refnet("recover", "--plan")

    assert code == 1  # as the run's: not every source is restored
    in_set = plan.split("From the set:\n")[1].split("To:\n")[0].splitlines()
    assert [line.split()[0] for line in in_set] == ["docs", "notes"]
    notes = [line for line in plan.splitlines() if line.startswith("note: ")]
    named = ("main-globals", "shop", "wiki")
    assert notes == [f"note: {one} is not restored: there is no artifact" for one in named]


def test_the_plan_of_a_backup_of_one_table_names_it(refnet: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "reached", lambda _: "shop on /nowhere")

    code, plan, _ = refnet("backup", "shop", "--table", "orders", "--plan")

    assert (code, plan.partition(" into ")[0]) == (
        0,
        "shop      would back up only orders of shop on /nowhere",
    )


def test_the_simulation_of_a_prune_leaves_out_what_is_not_configured(refnet: Ran) -> None:
    code, simulated, _ = refnet("prune", "--simulate", "30d")

    assert code == 0
    of = [line.partition(":")[0] for line in simulated.splitlines() if not line.startswith(" ")]
    assert of == ["main-globals", "shop", "wiki", "notes", "docs"]


def test_the_result_of_a_backup_is_aligned_with_the_longest_name(refnet: Ran, tmp_path: Path) -> None:
    with (tmp_path / "refnet.toml").open("a") as settings:
        settings.write(f'[folders.photographs_of_2026]\npath = "{tmp_path}/photographs"\n')
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "a.png").write_text("a")

    code, made, _ = refnet("backup", "notes", "photographs_of_2026")

    assert code == 0
    drilled = [line for line in refnet("drill")[1].splitlines() if not line.startswith("report: ")]
    assert {line[19] for line in drilled} == {" "}
    assert {line[:20].strip() for line in made.splitlines()} == {"notes", "photographs_of_2026", ""}
    assert {line[20:].partition("/")[0].partition(" ")[0] for line in made.splitlines()} == {"", "proven"}


def test_an_error_about_the_url_of_init_names_its_option(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REFNET_HOME", str(tmp_path / "home"))
    url = "postgresql://a@127.0.0.1:1/shop"

    code, _, err = ran(["init", "--database-url", url, "--backup-dir", "b", "--yes"], monkeypatch, capsys)

    assert code == 2
    assert err.splitlines()[1].endswith("fix host and port in --database-url.")


def test_a_database_is_not_restored_from_a_folder(refnet: Ran) -> None:
    assert refnet("backup", "notes", "--no-prove")[0] == 0
    assert "Give one of: notes." in refnet("restore", "docs", "--from", "shop", "--plan")[2]

    code, _, err = refnet("restore", "shop", "--from", "notes", "--plan")

    assert code == 2
    assert "--source: 'notes' is a folder, and shop is a database" in err
    assert "No database has an artifact yet." in err


def test_check_names_databases_on_their_rows_and_checks_the_machine_once(
    refnet: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checks(database: Database) -> Iterator[Any]:
        for what in (database.name, "restore", *OF_MACHINE):
            yield ok(what, "as it should be")

    monkeypatch.setattr(Database, "checks", checks)

    rows = [line.what for line in check.check().lines]

    wanted = ["shop", "shop restore", "programs", "proof", "wiki", "wiki restore"]
    assert [what for what in rows if what in {*wanted, "restore"}] == wanted


@pytest.mark.parametrize(
    ("exclude", "said"),
    [
        (("*",), "the cluster main has no database to back up: its exclude leaves out all 2 of its server"),
        (("s*",), ""),
        ((), ""),
    ],
)
def test_a_cluster_that_leaves_out_every_database_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, exclude: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(
        "refnet.sources.database.restore.previous_databases.databases_of_cluster", lambda *_: ["shop", "wiki"]
    )
    url = "postgresql://backup@db/postgres"
    main = SourceSettings("main", "clusters", url=url, exclude_databases=exclude)
    settings = Settings(home=tmp_path / "home", backup_dir=tmp_path / "backups", clusters={"main": main})

    found, failed = find_databases(Context(settings), record=False)

    assert [error.message for error in failed.values()] == ([said] if said else [])
    assert "main-globals" in found.settings.sources
