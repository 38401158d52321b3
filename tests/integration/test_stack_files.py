"""`deploy/`: what deploy/prepare makes, and what Prometheus says of its file."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from refnet.settings import Settings, load

ROOT = Path(__file__).parents[2]
_COPIED = ("compose.yaml", ".env.example", "deploy", "monitoring")
Run = Callable[[], subprocess.CompletedProcess[str]]


def in_force(clone: Path) -> Settings:
    return load({"REFNET_HOME": str(clone / "home")}, clone, root=True, cores=1)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    if os.geteuid():
        pytest.skip("deploy/prepare gives files to users: it needs root")
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in _COPIED:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 0, 0)
    backups = f"REFNET_BACKUP_DIR={tmp_path / 'backups'}\n"
    (folder / ".env").write_text((folder / ".env.example").read_text() + backups)
    return folder


@pytest.fixture
def prepare(clone: Path) -> Run:
    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run([clone / "deploy/prepare"], capture_output=True, text=True, check=False)

    return run


def owners(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = {path.name: path.stat() for path in folder.iterdir() if path.is_file()}
    return {name: (one.st_uid, one.st_gid, stat.S_IMODE(one.st_mode)) for name, one in found.items()}


def test_prepare_makes_what_is_missing_and_keeps_what_is_there(clone: Path, prepare: Run) -> None:
    first = prepare()
    assert first.returncode == 0, first.stderr
    made = {path.name: path.read_bytes() for path in (clone / "secrets").iterdir() if path.is_file()}
    assert len(made) == 9
    assert len(set(made.values())) == 8, "only Prometheus's token is RefNet's"
    settings = (clone / "refnet.toml").read_bytes()
    second = prepare()
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    again = {path.name: path.read_bytes() for path in (clone / "secrets").iterdir() if path.is_file()}
    assert again == made
    assert (clone / "refnet.toml").read_bytes() == settings
    assert not any(secret.strip().decode() in first.stdout for secret in made.values())


def test_a_secret_is_readable_for_refnet_and_the_one_service_that_needs_it(clone: Path, prepare: Run) -> None:
    prepare()
    assert owners(clone / "secrets") == {
        "postgres_password": (10001, 999, 0o440),
        "database_url": (10001, 10001, 0o400),
        "redis_password": (10001, 10001, 0o400),
        "redis_users": (10001, 999, 0o440),
        "broker_url": (10001, 10001, 0o400),
        "web_token": (10001, 10001, 0o400),
        "prometheus_token": (10001, 65534, 0o440),
        "flower_password": (10001, 10001, 0o400),
        "grafana_password": (10001, 472, 0o440),
    }
    assert stat.S_IMODE((clone / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((clone / "run").stat().st_mode) == 0o700, "nobody reaches PostgreSQL's socket"


def test_the_settings_of_the_machine_are_valid_and_name_the_folders_of_the_stack(
    clone: Path, prepare: Run
) -> None:
    prepare()
    settings = in_force(clone)
    assert settings.config_dir == clone
    assert settings.backup_dir == clone.parent / "backups"
    assert settings.vault_dir == clone / "vault/refnet"
    assert settings.vault_dir.stat().st_uid == 10001
    assert settings.database_url == f"postgresql://refnet@/refnet?host={clone}/run/postgresql"
    inside = tomllib.loads((clone / "deploy/refnet.toml").read_text())
    assert {one.rstrip("?") for one in inside["config"]["entries"]} == set(settings.config_entries)
    assert settings.recover_services == "compose"


def test_prepare_refuses_a_folder_of_somebody_else(clone: Path, prepare: Run) -> None:
    backups = clone.parent / "backups"
    backups.mkdir()
    (backups / "letter").write_text("mine")
    os.chown(backups, 1234, 1234)
    refused = prepare()
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"prepare: {backups} has content and belongs to user 1234\n")
    assert (backups / "letter").stat().st_uid == 0


def test_prepare_gives_back_what_root_wrote_and_leaves_previous_versions_to_root(
    clone: Path, prepare: Run
) -> None:
    prepare()
    lock, kept = clone.parent / "backups/.refnet-lock", clone / "vault/.refnet-obsidian-1/kept"
    lock.write_text("")
    kept.mkdir(parents=True)
    assert prepare().returncode == 0
    assert lock.stat().st_uid == 10001
    assert kept.stat().st_uid == kept.parent.stat().st_uid == 0, "else `refnet undo` of root refuses it"


def test_prepare_gives_nothing_away_through_a_link_that_a_container_made(clone: Path, prepare: Run) -> None:
    prepare()
    precious = clone.parent / "precious"
    precious.mkdir()
    (clone / "vault/refnet").rmdir()
    (clone / "vault/refnet").symlink_to(precious)
    os.chown(clone / "vault/refnet", 10001, 10001, follow_symlinks=False)
    (clone.parent / "backups/link").symlink_to(precious)
    refused = prepare()
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"prepare: {clone}/vault/refnet is a link\n")
    assert precious.stat().st_uid == 0


@pytest.mark.parametrize("value", ["/x y", "$(touch /tmp/x)", '/x"', ""])
def test_prepare_takes_only_plain_paths(clone: Path, prepare: Run, value: str) -> None:
    with (clone / ".env").open("a") as file:
        file.write(f"REFNET_VAULT_DIR={value}\n")
    refused = prepare()
    assert refused.returncode == 1
    assert "REFNET_VAULT_DIR is not plain" in refused.stderr
    assert not (clone / "secrets").exists()


def test_prepare_refuses_a_clone_that_another_user_can_change(clone: Path, prepare: Run) -> None:
    os.chown(clone / "deploy/refnet.toml", 1234, 1234)
    refused = prepare()
    assert refused.returncode == 1
    assert "deploy/refnet.toml does not belong to root" in refused.stderr


def test_prometheus_accepts_its_file_with_the_rules(tmp_path: Path) -> None:
    if not (program := shutil.which("promtool")):
        pytest.skip("promtool is not installed")
    shutil.copy(ROOT / "monitoring/rules.yml", tmp_path)
    token = tmp_path / "token"
    token.write_text("x" * 20)
    text = (ROOT / "deploy/prometheus.yml").read_text().replace("/run/secrets/prometheus_token", str(token))
    (tmp_path / "prometheus.yml").write_text(text)
    said = subprocess.run(
        [program, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
