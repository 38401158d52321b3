"""Which settings the units in a folder belong to."""

from __future__ import annotations

from pathlib import Path

import pytest

from refnet.catalog.schedule import Schedule, TaskName
from refnet.scheduling import places
from refnet.scheduling.install import name_for
from refnet.scheduling.systemd import Owner, installed, others, own
from refnet.scheduling.units import Service, files
from refnet.settings import Settings
from refnet.settings.times import parse_when
from refnet.tasks import configuration

ODD = 'a "b" 100% \\x $y;'


def written(units: Path, home: Path, instance: str = "", *, file: Path | None = None) -> None:
    """Write the units of an installation, as `schedule install` does."""
    service = Service(
        program=("/bin/true",),
        folder=file.parent if file else home,
        user=None,
        writable=(home, home / "backups"),
        logs=Path("/var/log"),
        beside=(),
        seen=(),
        environment={"REFNET_HOME": str(home)} | ({"REFNET_CONFIG": str(file)} if file else {}),
        own_server=True,
        instance=instance,
    )
    schedule = Schedule(dict.fromkeys(TaskName, parse_when("daily 02:00")))
    units.mkdir(exist_ok=True)
    for one in files(schedule, dict.fromkeys(TaskName, ()), service):
        (units / one.name).write_text(one.text)


def test_each_installations_owner_folders_and_units_are_read(tmp_path: Path) -> None:
    units, home, file = tmp_path / "units", tmp_path / ODD, tmp_path / "c" / "shop.toml"
    written(units, home)
    written(units, home, "shop", file=file)
    plain, shop = installed(units)
    assert (plain.instance, plain.owner) == ("", Owner(home, home / "refnet.toml"))
    assert (shop.instance, shop.owner) == ("shop", Owner(home, file))
    assert plain.writable == {home, home / "backups"}
    assert plain.units | shop.units == {path.name for path in units.iterdir()}
    assert "refnet-backup@shop.timer" in shop.units
    assert own([plain, shop], Owner(home, file)) == (plain, shop)  # nobody has written the other file


def test_units_belong_to_other_settings_only_while_those_exist(tmp_path: Path) -> None:
    units, home = tmp_path / "units", tmp_path / "home"
    written(units, home)
    mine = Owner(tmp_path / "mine", tmp_path / "mine" / "refnet.toml")
    found = installed(units)
    assert (own(found, mine), others(found, mine)) == ((), ())
    home.mkdir()
    assert others(found, mine) == found
    (home / "refnet.toml").write_text("")
    assert others(found, Owner(home, tmp_path / "refnet.toml")) == found


def test_the_units_of_settings_that_moved_are_still_their_own(tmp_path: Path) -> None:
    written(tmp_path / "units", tmp_path)
    found = installed(tmp_path / "units")
    assert own(found, Owner(tmp_path, Path("/etc/refnet/refnet.toml"))) == found


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00" * 99, b'[Service]\nEnvironment="REFNET_HOME=/x\n', b"x" * 100_000]
)
def test_a_unit_that_is_not_refnets_belongs_to_nobody(tmp_path: Path, content: bytes) -> None:
    for name in (
        "refnet-backup-offsite.service",
        "refnet-backup@x.service",
        "refnet-backup@X.service",
    ):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "refnet-prune@x.service").symlink_to("/dev/zero")
    assert installed(tmp_path) == ()
    assert installed(tmp_path / "missing") == ()


def test_a_plain_unit_without_a_mark_is_everybodys(tmp_path: Path) -> None:
    (tmp_path / "refnet-prune.service").write_text("[Service]\nExecStart=/bin/true\n")
    (found,) = installed(tmp_path)
    assert found.owner is None
    assert own([found], Owner(tmp_path, tmp_path)) == (found,)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("/etc/shop/refnet.toml", "shop"),
        ("/etc/refnet/Wiki 2.toml", "wiki-2"),
        ("/etc/refnet/refnet.toml", "second"),
        ("/srv/店/refnet.toml", "second"),
        ("/srv/2026/refnet.toml", "second"),
    ],
)
def test_the_name_that_is_suggested_comes_from_the_path_of_the_settings(file: str, name: str) -> None:
    assert name_for(Settings(file=Path(file))) == name


@pytest.mark.parametrize(
    ("instance", "queue", "folder"), [("", "celery", "beat"), ("shop", "celery@shop", "beat@shop")]
)
def test_each_instance_has_a_queue_and_a_beat_of_its_own(
    instance: str, queue: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFNET_HOME", str(tmp_path))
    monkeypatch.setenv("REFNET_SCHEDULE_TIMEZONE", "UTC")
    if instance:
        monkeypatch.setenv("REFNET_INSTANCE", instance)
    found = configuration()
    assert found["task_default_queue"] == queue
    assert found["beat_schedule_filename"] == str(tmp_path / folder / "schedule")
    assert places.beat_lock(tmp_path, instance).parent == tmp_path / folder
