"""The units and the messages of sources by name."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from refnet.catalog.schedule import TaskName
from refnet.catalog.source_name import STANDARD, Kind, SourceName
from refnet.core.errors import RefnetError
from refnet.scheduling.beat import beat_schedule
from refnet.scheduling.units import Service, UnitState, files, judge, scheduled, wal_file, wal_service
from refnet.settings import Settings, load
from refnet.settings.times import parse_when
from refnet.sources import kind_of
from refnet.store.source_records import SeenDatabases
from refnet.tasks import backup_source
from refnet.wiring import configured, with_clusters

SHOP, NOTES = SourceName("shop", Kind.DATABASE), SourceName("notes", Kind.FOLDER)
TEXT = """
[databases.shop]
url = "postgresql:///shop"
schedule = "hourly :15"
[databases.wiki]
url = "postgresql:///wiki"
schedule = "off"
[folders.notes]
path = "/srv/notes"
[schedule]
obsidian = "daily 23:00"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "refnet.toml").write_text(TEXT)
    (tmp_path / "refnet.toml").chmod(0o600)
    return load({"REFNET_HOME": str(tmp_path)}, tmp_path, root=False, cores=2)


def test_a_source_has_its_own_time_or_that_of_its_kinds_standard_one(settings: Settings) -> None:
    schedule = settings.schedule
    assert str(schedule.times["shop"]) == "hourly :15"
    assert str(schedule.times["notes"]) == "daily 23:00"
    assert schedule.off == ("wiki",)
    asked = {*STANDARD, TaskName.UPDATE}  # no table names these, so nothing plans them
    others = [one for one in TaskName if one not in asked]
    assert [*schedule.times] == [*others, "shop", "notes"]


def test_each_source_that_is_configured_and_on_has_a_service_and_a_timer(settings: Settings) -> None:
    schedule = settings.schedule
    tasks = scheduled(schedule, {SHOP, NOTES, SourceName("wiki", Kind.DATABASE)})
    assert [*tasks] == ["prune", "drill", "monitor", "shop", "notes"]
    service = Service(("refnet",), Path("/"), None, (), None, (), (), {}, own_server=False, instance="a")
    made = {file.name: file.text for file in files(schedule, tasks, service)}
    assert len(made) == 2 * len(tasks)
    assert "OnCalendar=*-*-* *:15:00\n" in made["refnet-backup-shop@a.timer"]
    assert "ExecStart=refnet backup shop --if-older 30min\n" in made["refnet-backup-shop@a.service"]
    assert "Description=RefNet: back up notes (instance a)\n" in made["refnet-backup-notes@a.service"]


def test_an_update_of_the_network_writes_into_the_vault(settings: Settings) -> None:
    schedule = replace(
        settings, schedule_update=parse_when("monday 07:00"), origins={"schedule.update": "x"}
    ).schedule
    service = Service(
        ("refnet",), Path("/"), None, (Path("/h"),), None, (), (), {}, own_server=False, vault=Path("/v")
    )
    made = {one.name: one.text for one in files(schedule, scheduled(schedule, ()), service)}
    assert "ExecStart=refnet crawl --update\n" in made["refnet-update.service"]
    assert "ReadWritePaths=/h -/v\n" in made["refnet-update.service"]
    assert "-/v" not in made["refnet-monitor.service"]
    assert "OnCalendar=Mon *-*-* 07:00:00\n" in made["refnet-update.timer"]


@pytest.mark.parametrize(("user", "target"), [(None, "default.target"), ("backup", "multi-user.target")])
def test_the_service_that_receives_wal_runs_always_and_has_no_timer(user: str | None, target: str) -> None:
    service = Service(("refnet",), Path("/"), user, (), None, (), (), {}, own_server=True, instance="a")
    made = wal_file(service)
    lines = made.text.splitlines()
    assert made.name == wal_service("a") == "refnet-wal@a.service"
    assert {"ExecStart=refnet wal run", "Type=exec", "Restart=always", f"WantedBy={target}"} <= {*lines}
    assert {"StartLimitIntervalSec=0", "RestartPreventExitStatus=2"} <= {*lines}
    assert "KillMode=process" not in lines  # pg_receivewal ends with it
    assert judge(made.text, made) is UnitState.SAME


def test_sources_of_one_kind_and_time_share_a_task_and_a_cluster_is_one(tmp_path: Path) -> None:
    (tmp_path / "refnet.toml").write_text(
        'database_url = "postgresql:///refnet"\n'
        + "".join(f'[databases.{one}]\nurl = "postgresql:///{one}"\n' for one in ("shop", "wiki", "late"))
        + 'schedule = "daily 05:00"\n'
        + "".join(f'[folders.{one}]\npath = "/srv/{one}"\n' for one in ("notes", "mail"))
        + '[clusters.main]\nurl = "postgresql://db/postgres"\nschedule = "hourly :20"\n'
    )
    (tmp_path / "refnet.toml").chmod(0o600)
    read = load({"REFNET_HOME": str(tmp_path)}, tmp_path, root=False, cores=2)
    settings = with_clusters(read, {"main": SeenDatabases(("crm", "erp"))})
    schedule, there = settings.schedule, configured(settings)
    assert schedule.interval("main-crm") == timedelta(hours=1)  # the monitor's limit
    runs = schedule.runs(there)
    assert runs == {
        "database": ("database", "shop", "wiki"),
        "late": ("late",),
        "notes": ("notes", "mail"),
        "main": ("main",),
    }
    service = Service(("refnet",), Path("/"), None, (), None, (), (), {}, own_server=False)
    made = {file.name: file.text for file in files(schedule, scheduled(schedule, there), service)}
    assert {name for name in made if name.startswith("refnet-backup") and name.endswith(".timer")} == {
        "refnet-backup.timer",
        "refnet-backup-late.timer",
        "refnet-backup-notes.timer",
        "refnet-backup-main.timer",
    }
    assert "ExecStart=refnet backup database shop wiki --if-older 60min\n" in made["refnet-backup.service"]
    assert "ExecStart=refnet backup main --if-older 30min\n" in made["refnet-backup-main.service"]
    assert "OnCalendar=*-*-* *:20:00\n" in made["refnet-backup-main.timer"]
    sent = beat_schedule(schedule, dict.fromkeys(there, 9))
    assert sent["daily-database-backup"]["args"] == ("shop", "wiki")
    assert {name: one["args"] for name, one in sent.items() if name.startswith("backup-")} == {
        "backup-late": ("late",),
        "backup-notes": ("notes", "mail"),
        "backup-main": ("main",),
    }


def test_beat_sends_each_configured_source_by_its_name(settings: Settings) -> None:
    schedule = settings.schedule
    known = (*STANDARD, SHOP, NOTES, SourceName("wiki", Kind.DATABASE))
    priorities = {one: kind_of(one).priority for one in known}
    standard = beat_schedule(schedule, {one: priorities[one] for one in STANDARD})
    named = beat_schedule(schedule, priorities)
    assert named.keys() - standard.keys() == {"backup-shop", "backup-notes"}
    assert named["backup-shop"]["args"] == ("shop",)
    assert named["backup-shop"]["task"] == "refnet.tasks.backup_source"
    assert [named[f"backup-{one}"]["options"]["priority"] for one in (SHOP, NOTES)] == [9, 7]


def test_a_message_backs_up_its_source_or_says_that_no_settings_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("# a\n")
    (tmp_path / "refnet.toml").write_text(f'[folders.notes]\npath = "{tmp_path / "notes"}"\n')
    for name, value in {"HOME": tmp_path, "BACKUP_DIR": tmp_path / "backups", "LOG_FOLDER": "none"}.items():
        monkeypatch.setenv(f"REFNET_{name}", str(value))
    monkeypatch.chdir(tmp_path)
    made = backup_source.apply(args=("notes",)).get()
    assert (made["outcome"], made["level"]) == ("done", "proven")
    (tmp_path / "mail").mkdir()
    with (tmp_path / "refnet.toml").open("a") as file:
        file.write(f'[folders.mail]\npath = "{tmp_path / "mail"}"\n')
    both = backup_source.apply(args=("notes", "mail")).get()["sources"]
    assert {name: one["outcome"] for name, one in both.items()} == {"notes": "done", "mail": "done"}
    with pytest.raises(RefnetError, match="the source shop is not configured"):
        backup_source.apply(args=("shop",)).get()


def test_a_message_for_the_roles_of_a_cluster_backs_up_roles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "refnet.toml").write_text('[clusters.main]\nurl = "postgresql:///postgres"\n')
    monkeypatch.setenv("REFNET_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    asked = list[SourceName]()
    monkeypatch.setattr("refnet.tasks._backup", lambda _task, name: asked.append(name))
    backup_source.apply(args=("main-globals",)).get()
    assert [(one, one.kind) for one in asked] == [("main-globals", Kind.GLOBALS)]
