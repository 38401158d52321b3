"""The services of timers reach the stores: their folders, and the variables of their programs."""

from pathlib import Path

import pytest

from refnet.core.errors import RefnetError
from refnet.scheduling.service import service
from refnet.scheduling.units import files
from refnet.settings import FILE_NAME, Settings, load

NAS = '[stores.nas]\nurl = "file:///mnt/nas"\n'


def _loaded(folder: Path, text: str) -> Settings:
    (folder / FILE_NAME).write_text(text)
    return load({"REFNET_HOME": str(folder / "home")}, folder, root=False, cores=1)


def test_a_service_may_write_in_the_folder_of_a_store_and_runs_without_it(tmp_path: Path) -> None:
    found = service(
        _loaded(tmp_path, NAS + '[stores.x]\nurl = "rclone:x:y"\n'),
        user=None,
        configured=("database", "obsidian"),
    )
    text = files(_loaded(tmp_path, NAS).schedule, {"prune": ()}, found)[0].text
    assert (
        next(line for line in text.splitlines() if line.startswith("ReadWritePaths=")).count("-/mnt/nas") == 1
    )
    assert "/mnt/nas" not in next(line for line in text.splitlines() if line.startswith("RequiresMountsFor="))


def test_a_backup_may_write_in_the_folder_of_a_database_of_sqlite(tmp_path: Path) -> None:
    settings = _loaded(tmp_path, '[databases.app]\npath = "/srv/app/app.db"\n')
    found = service(settings, user=None, configured=("app",))
    tasks = {"app": ("app",), "drill": (), "prune": ()}
    units = {one.name: one.text for one in files(settings.schedule, tasks, found)}
    assert [name for name, text in units.items() if "-/srv/app" in text] == [
        "refnet-backup-app.service",
        "refnet-prune.service",
    ]


def test_a_service_has_the_variables_of_the_stores_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RCLONE_CONFIG", "/etc/rclone.conf")
    assert (
        "RCLONE_CONFIG"
        not in service(_loaded(tmp_path, ""), user=None, configured=("database", "obsidian")).environment
    )
    found = service(_loaded(tmp_path, NAS), user=None, configured=("database", "obsidian"))
    assert found.environment["RCLONE_CONFIG"] == "/etc/rclone.conf"


def test_a_credential_that_no_timer_sees_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    cloud = '[stores.cloud]\nurl = "s3://bucket"\n'
    with pytest.raises(RefnetError, match="AWS_SECRET_ACCESS_KEY is set only in this environment") as error:
        service(_loaded(tmp_path, cloud), user=None, configured=("database", "obsidian"))
    assert "stores.cloud.credentials_file" in error.value.hint
    assert service(
        _loaded(tmp_path, cloud + 'credentials_file = "/x"\n'), user=None, configured=("database", "obsidian")
    )
