"""`refnet schedule` where no systemd runs, as in a container."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests import forked

from refnet.core.errors import Exit
from refnet.core.locks import locked
from refnet.scheduling import places


@dataclass(frozen=True)
class Home:
    """A user's home whose manager does not run."""

    folder: Path

    @property
    def units(self) -> Path:
        return self.folder / "config" / "systemd" / "user"

    def schedule(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run("schedule", *arguments, **more)

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        own = {n: v for n, v in os.environ.items() if not n.startswith(("REFNET_", "XDG_", "SUDO_"))}
        told = {
            "REFNET_HOME": str(self.folder / "home"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_RUNTIME_DIR": str(self.folder),
        }
        return forked.text(*arguments, environment=own | told | more, folder=self.folder)

    def edit(self, name: str) -> Path:
        path = self.units / name
        path.write_text(path.read_text().replace("02:00:00", "23:00:00"))
        return path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def _contents(home: Home) -> dict[str, str]:
    return {path.name: path.read_text() for path in home.units.iterdir()}


def test_a_plan_shows_every_file_and_writes_none(home: Home):
    done = home.schedule("install", "--user", "--plan")
    assert done.returncode == 0
    for name in ("refnet-backup", "refnet-backup-obsidian", "refnet-prune", "refnet-drill", "refnet-monitor"):
        assert f"write   {home.units / name}.timer" in done.stdout
    assert "OnCalendar=*-*-* 02:00:00" in done.stdout
    assert "ProtectSystem=strict" in done.stdout
    assert not home.units.exists()
    files = json.loads(home.schedule("install", "--user", "--plan", "--json").stdout)["files"]
    assert len(files) == 10  # the configuration is not configured


def test_units_are_written_and_what_is_left_to_do_is_said(home: Home):
    done = home.schedule("install", "--user")
    assert done.returncode == 0, done.stderr
    assert "cannot reach systemctl --user" in done.stdout
    assert "systemctl --user enable --now refnet-backup-obsidian.timer refnet-backup.timer" in done.stdout
    timer = (home.units / "refnet-backup.timer").read_text()
    assert {"Persistent=true", "RandomizedDelaySec=600", "WantedBy=timers.target"} <= set(timer.splitlines())
    assert "User=" not in (home.units / "refnet-backup.service").read_text()
    assert (home.folder / "home").stat().st_mode & 0o077 == 0
    before = _contents(home)
    assert home.schedule("install", "--user").returncode == 0
    assert _contents(home) == before
    shown = home.schedule("show")
    assert "cannot reach systemctl --user" in shown.stdout


def test_without_a_user_bus_nothing_is_installed_and_the_remedy_is_named(home: Home):
    done = home.schedule("install", "--user", XDG_RUNTIME_DIR="", DBUS_SESSION_BUS_ADDRESS="")
    assert done.returncode == Exit.FAILED
    wrong, remedy = done.stderr.splitlines()
    assert "no systemd user bus" in wrong
    assert f"export XDG_RUNTIME_DIR=/run/user/{os.geteuid()}" in remedy
    assert "loginctl enable-linger" in remedy
    assert list(home.folder.iterdir()) == []


def test_a_unit_that_was_edited_by_hand_is_left_alone(home: Home):
    home.schedule("install", "--user")
    edited = home.edit("refnet-backup.timer")
    before = _contents(home)
    for command in (["install", "--user"], ["remove", "--user"]):
        done = home.schedule(*command, REFNET_SCHEDULE_PRUNE="daily 06:00")
        assert done.returncode == Exit.CONFIRM
        assert str(edited) in done.stderr
        assert len(done.stderr.splitlines()) == 2
        assert _contents(home) == before
    assert home.schedule("install", "--user", "--force").returncode == 0
    assert "02:00:00" in edited.read_text()


def test_a_unit_of_somebody_else_under_our_name_is_left_alone(home: Home):
    home.units.mkdir(parents=True)
    (home.units / "refnet-prune.service").write_text("[Service]\nExecStart=/bin/true\n")
    assert home.schedule("install", "--user").returncode == Exit.CONFIRM
    assert [path.name for path in home.units.iterdir()] == ["refnet-prune.service"]


def test_a_changed_schedule_renews_what_was_not_edited(home: Home):
    home.schedule("install", "--user")
    done = home.schedule(
        "install", "--user", REFNET_SCHEDULE_DATABASE="daily 22:15", REFNET_SCHEDULE_TIMEZONE="Asia/Tokyo"
    )
    assert done.returncode == 0
    assert "OnCalendar=*-*-* 22:15:00 Asia/Tokyo" in (home.units / "refnet-backup.timer").read_text()


def test_a_source_that_is_not_configured_any_more_loses_its_units(home: Home):
    config = home.folder / "configuration"
    config.mkdir()
    home.schedule("install", "--user", REFNET_CONFIG_DIR=str(config))
    timer = home.units / "refnet-backup-config.timer"
    assert "OnCalendar=Sun *-*-* 03:00:00" in timer.read_text()
    home.schedule("install", "--user")
    assert not timer.exists()


def test_a_task_that_is_switched_off_is_shown_and_loses_its_units(home: Home):
    home.schedule("install", "--user")
    off = {"REFNET_SCHEDULE_DRILL": "off"}
    shown = home.schedule("show", **off)
    assert "drill     off          -" in shown.stdout
    assert "switched off, but still installed: refnet-drill.timer (`refnet schedule install`)" in shown.stdout
    assert json.loads(home.schedule("show", "--json", **off).stdout)["off"] == ["drill"]
    home.schedule("install", "--user", **off)
    assert not {"refnet-drill.timer", "refnet-drill.service"} & {*_contents(home)}
    assert "still installed" not in home.schedule("show", **off).stdout


@pytest.fixture
def shop(home: Home) -> Path:
    """A second settings file, of a REFNET_HOME of its own; the units of the first are installed."""
    backups = home.folder / "backups"
    assert home.schedule("install", "--user", REFNET_BACKUP_DIR=str(backups)).returncode == 0
    file = home.folder / "shop" / "refnet.toml"
    file.parent.mkdir()
    file.write_text(f'home = "{file.parent}"\nbackup_dir = "{backups}"\n')
    return file


def test_a_second_settings_file_never_replaces_the_units_of_the_first(home: Home, shop: Path):
    before, named = _contents(home), {"REFNET_CONFIG": str(shop), "REFNET_HOME": ""}
    refused = home.schedule("install", "--user", **named)
    assert refused.returncode == Exit.USAGE
    wrong, remedy = refused.stderr.splitlines()
    assert f"({home.folder / 'home' / 'refnet.toml'}) belong to other settings" in wrong
    assert f"`refnet --config {shop} schedule install --user --instance shop`" in remedy
    assert home.schedule("remove", "--user", **named).returncode == Exit.USAGE
    assert _contents(home) == before


def test_an_instance_has_its_own_units_and_is_found_without_its_name(home: Home, shop: Path):
    before, named = _contents(home), {"REFNET_CONFIG": str(shop), "REFNET_HOME": ""}
    done = home.schedule("install", "--user", "--instance", "shop", **named)
    assert done.returncode == 0, done.stderr
    assert "enable --now refnet-backup-obsidian@shop.timer refnet-backup@shop.timer" in done.stdout
    both = _contents(home)
    assert {name: both[name] for name in before} == before
    assert len(both) == 2 * len(before)
    service = both["refnet-backup@shop.service"]
    assert "Description=RefNet: back up the database (instance shop)\n" in service
    assert "Environment=REFNET_INSTANCE=shop\n" in service
    assert "cannot reach" in home.schedule("install", "--user", **named).stdout
    assert _contents(home) == both
    assert "differ from the settings" not in home.schedule("show", **named).stdout
    assert f"also on this machine: the units of instance shop ({shop})\n" in home.schedule("show").stdout
    home.schedule("remove", "--user", **named)
    assert _contents(home) == before


def test_a_new_name_of_an_instance_replaces_its_units(home: Home):
    home.schedule("install", "--user")
    done = home.schedule("install", "--user", REFNET_INSTANCE="main")
    assert done.returncode == 0, done.stderr
    assert {name for name in _contents(home) if "@main." not in name} == set()


def test_two_instances_on_one_store_wait_for_each_other_and_check_warns(home: Home, shop: Path):
    config, first = home.folder / "config", {"REFNET_HOME": str(home.folder / "home")}
    second = {"REFNET_CONFIG": str(shop), "REFNET_HOME": ""}
    own = {n: v for n, v in os.environ.items() if not n.startswith(("REFNET_", "XDG_"))}
    more = {
        "REFNET_CONFIG_DIR": str(config),
        "REFNET_CONFIG_ENTRIES": "systemd/",
        "XDG_CONFIG_HOME": str(config),
        "REFNET_BACKUP_DIR": str(home.folder / "backups"),
        "REFNET_LOG_FOLDER": "none",
    }
    backup = ("backup", "config", "--no-prove")
    runs = [forked.Heard(backup, own | more | each, home.folder) for each in (first, second, first, second)]
    ended = [(run.communicate(300), run.returncode)[1] for run in runs]
    assert 0 in ended
    assert {*ended} <= {Exit.DONE, Exit.LOCKED}
    store = home.folder / "backups" / "config"
    assert len([*store.glob("*.tar.gz")]) == len([*store.glob("*.tar.gz.json")]) == ended.count(0)
    done = forked.text("check", environment=own | more | second, folder=home.folder)
    told = f"is also written by the units without an instance ({home.folder}/home/refnet.toml)"
    assert told.replace(" ", "") in "".join(done.stdout.split())  # a long path is broken over lines


@pytest.mark.parametrize("name", ["Shop", "../x", "a b", "@", "a" * 41, "1"])
def test_a_name_of_an_instance_that_no_unit_can_have_is_refused(home: Home, name: str):
    for command in ("install", "remove"):
        done = home.schedule(command, "--user", "--instance", name)
        assert done.returncode == Exit.USAGE
        assert done.stderr.startswith("refnet: --instance must be ")
    assert list(home.folder.iterdir()) == []


def test_every_source_of_the_settings_has_units_which_go_with_it(home: Home):
    file, named = home.folder / "refnet.toml", {"REFNET_BACKUP_DIR": str(home.folder / "backups")}
    standard = '[databases.shop]\nurl = "postgresql:///shop"\nschedule = "hourly :15"\n'
    file.write_text(f'{standard}[folders.notes]\npath = "{home.folder / "notes"}"\n')
    done = home.schedule("install", "--user", **named)
    assert done.returncode == 0, done.stderr
    assert "OnCalendar=*-*-* *:15:00" in (home.units / "refnet-backup-shop.timer").read_text()
    assert f" {home.folder}" in _contents(home)["refnet-prune.service"].partition("ReadWritePaths=")[2]
    shown = home.schedule("show", **named).stdout
    assert "shop     hourly :15" in shown
    assert "notes    daily 01:00" in shown
    assert not {"database", "obsidian"} & {*shown.split()}  # no setting names them beside shop
    only = home.run("restore", "shop", "--only", "x", "--plan", **named)
    assert only.returncode == Exit.USAGE
    assert "--only is for folders only; shop is a database" in only.stderr
    file.write_text(standard)
    shown = home.schedule("show", **named).stdout
    assert "these differ from the settings: refnet-backup-notes.timer (`refnet schedule install`)" in shown
    home.schedule("install", "--user", **named)
    assert {name for name in _contents(home) if "notes" in name} == set()
    assert "differ from the settings" not in home.schedule("show", **named).stdout


def test_a_cluster_with_wal_has_a_service_that_goes_with_it(home: Home):
    file = home.units.parent / "wal.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    text = '[clusters.main]\nurl = "postgresql://backup@/postgres?host=/nowhere"\n'
    file.write_text(f"{text}wal = true\n")
    file.chmod(0o600)
    named = {"REFNET_CONFIG": str(file)}
    done = home.schedule("install", "--user", **named)
    assert done.returncode == 0, done.stderr
    assert "refnet-wal.service" in done.stdout.splitlines()[-1]  # to enable
    assert "Restart=always" in (home.units / "refnet-wal.service").read_text()
    (home.units / "refnet-wal.service").unlink()
    assert "without the service refnet-wal.service" in home.schedule("show", **named).stdout
    home.schedule("install", "--user", **named)
    file.write_text(text)
    assert home.schedule("install", "--user", **named).returncode == 0
    assert not (home.units / "refnet-wal.service").exists()


def test_remove_takes_away_what_install_wrote_and_nothing_else(home: Home):
    home.schedule("install", "--user")
    (home.units / "other.service").write_text("[Service]\n")
    assert home.schedule("remove", "--user", "--plan").returncode == 0
    assert (home.units / "refnet-backup.timer").exists()
    done = home.schedule("remove", "--user")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in home.units.iterdir()] == ["other.service"]
    assert "nothing to do" in home.schedule("remove", "--user").stdout


def test_a_secret_of_the_environment_is_not_put_into_a_unit(home: Home):
    done = home.schedule("install", "--user", REFNET_DATABASE_URL="postgresql://u:hunter2@h/d")
    assert done.returncode == Exit.USAGE
    assert "REFNET_DATABASE_URL" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout
    assert not home.units.exists()


def test_the_units_have_the_variables_of_libpq_that_the_shell_has(home: Home):
    given = {"PGPASSFILE": "mine/pass", "PGSSLROOTCERT": "system", "PGSERVICEFILE": "/srv/services.conf"}
    done = home.schedule("install", "--user", **given)
    assert done.returncode == 0, done.stderr
    for unit in home.units.glob("*.service"):
        text = unit.read_text()
        for name, value in (given | {"PGPASSFILE": f"{home.folder}/mine/pass"}).items():
            assert f'"{name}={value}"' in text or f"Environment={name}={value}\n" in text, text
    assert "the units lack variables" not in home.schedule("show", **given).stdout
    shown = home.schedule("show", **given, PGOPTIONS="-c jit=off").stdout
    assert (
        "warning: the units lack variables of this environment: PGOPTIONS (`refnet schedule install`)"
        in shown
    )


def test_a_password_of_libpq_s_environment_is_refused(home: Home):
    done = home.schedule("install", "--user", PGPASSWORD="hunter2")
    assert done.returncode == Exit.USAGE
    assert "PGPASSWORD is set only in this environment" in done.stderr
    assert "PGPASSFILE" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout
    assert not home.units.exists()


def test_timers_beside_a_beat_are_refused_and_two_schedulers_are_told(home: Home):
    lock = places.beat_lock(home.folder / "home")
    lock.parent.mkdir(parents=True)
    with locked(lock):
        done = home.schedule("install", "--user")
        assert done.returncode == Exit.LOCKED
        assert len(done.stderr.splitlines()) == 2
        shown = json.loads(home.schedule("show", "--json").stdout)
    assert shown["in_force"] == ["Celery's beat"]
    assert shown["warnings"] == ["Celery's beat runs without a worker: its tasks stay queued"]
    assert {task["by"] for task in shown["tasks"]} == {"Celery's beat"}


def test_where_nothing_runs_by_itself_that_is_said(home: Home):
    done = home.schedule("show")
    assert done.returncode == 0
    assert "no scheduler is active" in done.stdout
    assert done.stdout.count("  none\n") == 5


def test_a_schedule_that_cannot_be_read_names_its_key(home: Home):
    for command in (["show"], ["install", "--user"]):
        done = home.schedule(*command, REFNET_SCHEDULE_MONITOR="every minute")
        assert done.returncode == Exit.USAGE
        assert "REFNET_SCHEDULE_MONITOR" in done.stderr


def test_a_user_that_does_not_exist_is_an_error(home: Home):
    done = home.schedule("install", "--plan", "--as", "nobody-of-that-name")
    assert done.returncode == Exit.USAGE
    assert "no user 'nobody-of-that-name'" in done.stderr


def test_units_know_the_compose_file_the_settings_file_and_secret_files(home: Home) -> None:
    """What the folder or the shell of the install says alone, a timer would not know."""
    (home.folder / "compose.yaml").write_text("services: {}\n")
    named, secret = home.folder / "named.toml", home.folder / "url"
    named.write_text("jobs = 1\n")
    secret.write_text("postgresql://me:hunter2@localhost/x\n")
    secret.chmod(0o600)
    done = home.schedule("install", "--user", REFNET_CONFIG=str(named), REFNET_DATABASE_URL_FILE=str(secret))
    assert done.returncode == 0, done.stderr
    unit = (home.units / "refnet-backup-config.service").read_text()
    for told in (
        f"REFNET_CONFIG_DIR={home.folder}",
        f"REFNET_CONFIG={named}",
        f"REFNET_DATABASE_URL_FILE={secret}",
    ):
        assert f"Environment={told}\n" in unit
    assert "hunter2" not in unit
