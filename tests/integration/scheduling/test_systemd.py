"""The units as systemd takes them: verified, and run by a real one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.documents import DOCUMENTS, blocks

from refnet.catalog.schedule import Schedule, TaskName
from refnet.catalog.source_name import SourceName
from refnet.scheduling.units import Service, files
from refnet.settings.times import parse_when, parse_zone
from refnet.store.local import LocalStore

from .conftest import REFNET, Booted

TIMES = {
    TaskName.DATABASE: "daily 02:00",
    TaskName.CONFIG: "sunday 03:00",
    TaskName.OBSIDIAN: "daily 01:00",
    TaskName.PRUNE: "daily 04:00",
    TaskName.DRILL: "monthly 1 05:00",
    TaskName.MONITOR: "hourly :45",
    TaskName.UPDATE: "monday 07:00",
}


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if not found:
        pytest.skip("this machine has no systemd-analyze")
    return found


def _written(folder: Path, user: str | None, instance: str = "") -> list[str]:
    schedule = Schedule({task: parse_when(text) for task, text in TIMES.items()}, parse_zone("Asia/Tokyo"))
    odd = Path('/srv/a "b" 100% $x')
    service = Service(
        program=("/bin/true", 'an "odd" 100% $word;'),
        folder=Path("/"),
        user=user,
        writable=(Path("/var/lib"), odd),
        logs=Path("/var/log"),
        beside=(odd,),
        seen=(odd,),
        environment={"REFNET_HOME": str(odd)},
        own_server=True,
        vault_to_come=odd,
        instance=instance,
        vault=odd,
    )
    written = files(schedule, dict.fromkeys(TaskName, ()), service)
    for file in written:
        (folder / file.name).write_text(file.text)
    return [str(folder / file.name) for file in written]


@pytest.mark.parametrize(("user", "instance"), [("daemon", ""), (None, "shop")])
def test_systemd_finds_no_fault_with_the_units(analyze: str, tmp_path: Path, user: str | None, instance: str):
    paths = _written(tmp_path, user, instance)
    scope = ["--user"] if user is None else []
    done = subprocess.run(
        [analyze, *scope, "verify", *paths],
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert len(paths) == 14


def test_systemd_finds_no_fault_with_the_units_in_the_documents(analyze: str, tmp_path: Path):
    units = dict.fromkeys(unit for document in DOCUMENTS for unit in blocks(document, "ini"))
    assert len(units) == 2  # a translation has the same
    for unit in units:
        path = tmp_path / Path(unit.splitlines()[0]).name
        path.write_text(unit.replace("/opt/refnet/.venv/bin/refnet", REFNET).replace("USER", "daemon"))
        done = subprocess.run([analyze, "verify", path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_systemd_reckons_the_next_run_as_we_do(analyze: str):
    now = datetime.now(UTC)
    for text in TIMES.values():
        when = parse_when(text)
        said = subprocess.run(
            [analyze, "calendar", when.on_calendar(parse_zone("Asia/Tokyo"))],
            env=os.environ | {"TZ": "UTC", "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        line = next(line for line in said.splitlines() if "(in UTC)" in line or "Next elapse" in line)
        utc = next((line for line in said.splitlines() if "(in UTC)" in line), line)
        found = datetime.strptime(utc.split(":", 1)[1].strip(), "%a %Y-%m-%d %H:%M:%S UTC").replace(
            tzinfo=UTC
        )
        assert found == when.next_due(now, parse_zone("Asia/Tokyo"))


def test_the_tries_of_a_backup_are_forgotten_before_the_next_is_due():
    def seconds(text: str) -> int:
        schedule = Schedule({task: parse_when(text) for task in TaskName})
        service = Service(("/bin/true",), Path("/"), "daemon", (), None, (), (), {}, own_server=False)
        unit = next(
            file for file in files(schedule, {TaskName.DATABASE: ()}, service) if "service" in file.name
        )
        return int(unit.text.partition("StartLimitIntervalSec=")[2].split()[0])

    assert 3 * 300 < seconds("hourly :15") < 3600
    assert seconds("daily 02:00") == 12 * 3600


def test_the_services_are_shut_in(analyze: str, tmp_path: Path):
    service = next(path for path in _written(tmp_path, "daemon") if path.endswith("refnet-backup.service"))
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=50", service],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


#: PrivateTmp= and systemd's own mount of /tmp hide a clone there.
_seen_by_systemd = pytest.mark.skipif(
    any(Path(REFNET).is_relative_to(hidden) for hidden in ("/tmp", "/var/tmp")),
    reason="this clone lies where systemd hides it",
)


@_seen_by_systemd
def test_a_real_systemd_runs_a_proven_backup_as_an_ordinary_user(systemd: Booted, folders: tuple[Path, Path]):
    home, backups = folders
    told = {"REFNET_HOME": str(home), "REFNET_BACKUP_DIR": str(backups)}
    installed = systemd.run(REFNET, "schedule", "install", "--as", "daemon", **told)
    assert installed.returncode == 0, installed.stderr
    assert "started refnet-backup.timer" in installed.stdout
    assert "nothing to do" in systemd.run(REFNET, "schedule", "install", "--as", "daemon", **told).stdout
    as_daemon = ("runuser", "-u", "daemon", "--", REFNET)
    for command in (("postgres", "start"), ("postgres", "stop")):
        made = systemd.run(*as_daemon, *command, **told)
        assert made.returncode == 0, made.stderr

    ran = systemd.run("systemctl", "start", "refnet-backup.service")
    assert ran.returncode == 0, systemd.run("journalctl", "--no-pager", "-u", "refnet-backup.service").stdout
    (entry,) = LocalStore(backups).entries(SourceName.DATABASE)
    assert entry.proven
    assert (backups / "database" / entry.name).owner() == "daemon"
    shown = systemd.run(
        "systemctl", "show", "refnet-backup.service", "-p", "ProtectSystem,NoNewPrivileges,PrivateTmp"
    )
    assert set(shown.stdout.split()) == {"ProtectSystem=strict", "NoNewPrivileges=yes", "PrivateTmp=yes"}
    running = systemd.run(*as_daemon, "postgres", "status", "--json", **told)
    assert json.loads(running.stdout)["running"]  # the embedded server outlives the run that started it
    (home / "vault").mkdir()
    (home / "vault" / "note.md").write_text("as short as can be\n")
    often = ["refnet-backup-obsidian"] * 5  # what went well by hand does not use up the tries of the night
    for unit in ("refnet-prune", "refnet-drill", "refnet-monitor", *often):
        ran = systemd.run("systemctl", "start", f"{unit}.service")
        assert ran.returncode == 0, ran.stderr

    seen = json.loads(systemd.run(REFNET, "schedule", "show", "--json", **told).stdout)
    assert (seen["in_force"], seen["warnings"]) == (["systemd"], [])
    due = next(task for task in seen["tasks"] if task["task"] == "database")
    scheduled = parse_when("daily 02:00").next_due(datetime.now(UTC), None)
    assert due["by"] == "systemd"
    assert timedelta(0) <= datetime.fromisoformat(due["next"]) - scheduled <= timedelta(minutes=10)

    later = told | {"REFNET_SCHEDULE_DATABASE": "daily 22:00"}
    assert "these differ from the settings" in systemd.run(REFNET, "schedule", "show", **later).stdout
    assert systemd.run(REFNET, "schedule", "install", "--as", "daemon", **later).returncode == 0
    seen = json.loads(systemd.run(REFNET, "schedule", "show", "--json", **later).stdout)
    due = next(task for task in seen["tasks"] if task["task"] == "database")
    scheduled = parse_when("daily 22:00").next_due(datetime.now(UTC), None)
    assert timedelta(0) <= datetime.fromisoformat(due["next"]) - scheduled <= timedelta(minutes=10)

    removed = systemd.run(REFNET, "schedule", "remove", **told)
    assert removed.returncode == 0, removed.stderr
    assert "refnet" not in systemd.run("systemctl", "list-timers", "--all").stdout
    assert "no scheduler is active" in systemd.run(REFNET, "schedule", "show", **told).stdout
    assert systemd.run(*as_daemon, "postgres", "stop", **told).returncode == 0


def test_init_installs_the_timers_when_asked_to(systemd: Booted, folders: tuple[Path, Path]) -> None:
    home, backups = folders
    file = home.parent / "refnet.toml"
    environment = {"REFNET_HOME": str(home), "REFNET_LOG_FOLDER": "none"}
    environment |= {
        "ANSWERS": f"\nnone\nnone\nnone\nnone\nnone\n{backups}\nmonday 04:00\ny\ny\n",
        "C": f"{REFNET} --config {file} init",
    }
    assert systemd.run(REFNET, "postgres", "start", **environment).returncode == 0
    asked = systemd.run("sh", "-c", 'printf "$ANSWERS" | script -qec "$C" /dev/null', **environment)
    systemd.run(REFNET, "postgres", "stop", **environment)
    assert "Install systemd timers" in asked.stdout, asked.stderr
    assert "proven" in asked.stdout
    assert 'database = "monday 04:00"' in file.read_text()
    refused = (
        "units that run as root are not installed" in asked.stdout
    )  # where others can write this checkout
    assert refused or "started refnet-backup.timer" in asked.stdout, asked.stdout


@_seen_by_systemd
def test_a_real_systemd_keeps_the_timers_of_two_instances(systemd: Booted, folders: tuple[Path, Path]):
    home, backups = folders
    first = {"REFNET_HOME": str(home), "REFNET_BACKUP_DIR": str(backups)}
    second = {"REFNET_HOME": str(home.with_name("shop")), "REFNET_BACKUP_DIR": str(backups)}
    install = (REFNET, "schedule", "install", "--as", "daemon")
    assert systemd.run(*install, **first).returncode == 0
    assert "--as daemon --instance" in systemd.run(*install, **second).stderr
    done = systemd.run(*install, "--instance", "shop", **second)
    assert "started refnet-backup@shop.timer" in done.stdout, done.stderr
    shown = _schedule(systemd, second)
    assert (shown["in_force"], shown["warnings"]) == (["systemd, instance shop"], [])
    assert {task["by"] for task in shown["tasks"]} == {"systemd, instance shop"}
    assert systemd.run(REFNET, "schedule", "remove", **second).returncode == 0
    active = systemd.run("systemctl", "list-timers", "--no-legend", "refnet*").stdout
    assert active.count("refnet-backup.timer") == 1
    assert "@shop" not in active
    assert _schedule(systemd, first)["in_force"] == ["systemd"]


def _schedule(systemd: Booted, told: dict[str, str]) -> dict[str, Any]:
    done = systemd.run(REFNET, "schedule", "show", "--json", **told)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
