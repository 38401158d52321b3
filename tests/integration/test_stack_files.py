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
    for path in tmp_path.parents:  # as /var/backups is; a folder of pytest may be open to others
        assert path.stat().st_uid == 0
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
    assert len(made) == 11
    assert len(set(made.values())) == 10, "Prometheus has the token for metrics, and no other"
    assert made["prometheus_token"] == made["metrics_token"]
    assert "alerts reach nobody" in first.stdout
    settings = (clone / "refnet.toml").read_bytes()
    (clone / "secrets/notify_urls").write_bytes(b"json://127.0.0.1:9\n")
    made["notify_urls"] = b"json://127.0.0.1:9\n"
    second = prepare()
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    again = {path.name: path.read_bytes() for path in (clone / "secrets").iterdir() if path.is_file()}
    assert again == made
    assert (clone / "refnet.toml").read_bytes() == settings
    assert not any(secret.strip().decode() in first.stdout for secret in made.values())


def test_a_secret_is_readable_only_for_refnet_and_the_service_needing_it(clone: Path, prepare: Run) -> None:
    prepare()
    assert owners(clone / "secrets") == {
        "postgres_password": (10001, 999, 0o440),
        "database_url": (10001, 10001, 0o400),
        "redis_password": (10001, 10001, 0o400),
        "redis_users": (10001, 999, 0o440),
        "broker_url": (10001, 10001, 0o400),
        "notify_urls": (10001, 10001, 0o400),
        "web_token": (10001, 10001, 0o400),
        "metrics_token": (10001, 10001, 0o400),
        "prometheus_token": (10001, 65534, 0o440),
        "flower_password": (10001, 10001, 0o400),
        "grafana_password": (10001, 472, 0o440),
    }
    found = (clone / "secrets").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, 10001, 0o750)
    assert stat.S_IMODE((clone / "run").stat().st_mode) == 0o700, "nobody reaches PostgreSQL's socket"


def test_the_machines_settings_are_valid_and_name_the_stacks_folders(clone: Path, prepare: Run) -> None:
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


def test_prepare_returns_roots_files_and_leaves_previous_versions_to_root(clone: Path, prepare: Run) -> None:
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


def test_prepare_renews_a_prometheus_token_that_could_start_restores(clone: Path, prepare: Run) -> None:
    (clone / "secrets").mkdir()
    for name in ("web_token", "prometheus_token"):
        (clone / "secrets" / name).write_text("of-both\n")
    assert prepare().returncode == 0
    found = {name: (clone / "secrets" / name).read_text() for name in ("web_token", "prometheus_token")}
    assert found["web_token"] == "of-both\n"
    assert found["prometheus_token"] == (clone / "secrets/metrics_token").read_text() != "of-both\n"


@pytest.mark.parametrize("name", ["web_token", "database_url", "prometheus_token", "certs/tls.key"])
@pytest.mark.parametrize("kind", ["link", "second name", "FIFO", "folder"])
def test_prepare_refuses_what_a_container_put_in_place_of_a_secret(
    clone: Path, prepare: Run, name: str, kind: str
) -> None:
    precious = clone.parent / "precious"
    precious.write_text("of root")
    planted = clone / "secrets" / name
    planted.parent.mkdir(parents=True)
    os.chown(clone / "secrets", 10001, 10001)  # as an earlier version made it
    if kind == "link":
        planted.symlink_to(precious)
    elif kind == "second name":
        planted.hardlink_to(precious)
    elif kind == "FIFO":
        os.mkfifo(planted)
    else:
        planted.mkdir()
    refused = prepare()
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"prepare: {planted} ")
    assert len(refused.stderr.splitlines()) == 2
    assert (precious.read_text(), precious.stat().st_uid) == ("of root", 0)
    assert stat.S_IMODE(precious.stat().st_mode) == 0o644


@pytest.mark.parametrize("name", ["secrets", "secrets/certs", "backups"])
def test_prepare_enters_no_folder_through_a_link(clone: Path, prepare: Run, name: str) -> None:
    precious = clone.parent / "precious"
    precious.mkdir(mode=0o700)
    planted = clone.parent / name if name == "backups" else clone / name
    planted.parent.mkdir(exist_ok=True)
    planted.symlink_to(precious)
    refused = prepare()
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"prepare: {planted} is a link\n")
    assert (list(precious.iterdir()), precious.stat().st_uid) == ([], 0)
    assert stat.S_IMODE(precious.stat().st_mode) == 0o700


def test_prepare_follows_roots_links_in_roots_folders_and_no_others(clone: Path, prepare: Run) -> None:
    disk = clone.parent / "disk"
    disk.mkdir()
    (clone.parent / "link").symlink_to(disk)
    with (clone / ".env").open("a") as file:
        file.write(f"REFNET_VAULT_DIR={clone.parent}/link/vault\n")
    assert prepare().returncode == 0
    assert (disk / "vault/refnet").stat().st_uid == 10001
    os.chown(clone.parent / "link", 1234, 1234, follow_symlinks=False)
    assert f"{clone.parent}/link is a link" in prepare().stderr


def test_prepare_refuses_backup_files_with_a_second_name(clone: Path, prepare: Run) -> None:
    prepare()
    precious = clone.parent / "precious"
    precious.write_text("of root")
    (clone.parent / "backups/database").mkdir()
    (clone.parent / "backups/database/x").hardlink_to(precious)
    refused = prepare()
    assert refused.returncode == 1
    assert "backups/database/x has a second name" in refused.stderr
    assert precious.stat().st_uid == 0


@pytest.mark.parametrize("owner", [0, 1000])
def test_an_artifact_with_two_names_in_the_backup_folder_is_given_back(
    clone: Path, prepare: Run, owner: int
) -> None:
    """RefNet makes the second name where two artifacts have the same content."""
    prepare()
    artifacts = clone.parent / "backups/config"
    artifacts.mkdir()
    (artifacts / "first.tar.gz").write_text("of RefNet")
    (artifacts / "second.tar.gz").hardlink_to(artifacts / "first.tar.gz")
    os.chown(artifacts / "first.tar.gz", owner, owner)
    done = prepare()
    assert done.returncode == 0, done.stderr
    assert {path.stat().st_uid for path in (artifacts, *artifacts.iterdir())} == {10001}


@pytest.mark.parametrize("owner", [0, 1000])
@pytest.mark.parametrize("sign", [".refnet-store.json", "database/refnet_x.tar.evidence.jsonl"])
def test_a_saved_backup_folder_is_taken_over(clone: Path, prepare: Run, owner: int, sign: str) -> None:
    backups = clone.parent / "backups"
    (backups / "database").mkdir(parents=True)
    (backups / sign).write_text("{}")
    for path in (backups, *backups.rglob("*")):
        os.chown(path, owner, owner)
    done = prepare()
    assert done.returncode == 0, done.stderr
    assert f"{backups} belonged to user {owner}" in done.stdout
    assert {path.stat().st_uid for path in (backups, *backups.rglob("*"))} == {10001}


def test_a_clone_made_with_a_strict_umask_can_be_read_by_the_containers(clone: Path, prepare: Run) -> None:
    for path in (clone, *clone.rglob("*")):
        path.chmod(0o700 if path.is_dir() else path.stat().st_mode & 0o700)
    done = prepare()
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(clone.stat().st_mode) == 0o755
    mounted = [path for top in ("deploy", "monitoring") for path in (clone / top).rglob("*")]
    assert len(mounted) > 15
    for path in (*mounted, clone / "compose.yaml", clone / "refnet.toml"):
        assert stat.S_IMODE(path.stat().st_mode) in ({0o755} if path.is_dir() else {0o644, 0o755}), path


def test_the_address_of_alerts_is_asked_for_on_a_terminal(clone: Path) -> None:
    ours, theirs = os.openpty()
    os.write(ours, b"json://alerts.example/x\n")
    done = subprocess.run(
        [clone / "deploy/prepare"], stdin=theirs, capture_output=True, text=True, check=False
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0, done.stderr
    assert "Where do alerts go?" in done.stdout
    assert (clone / "secrets/notify_urls").read_text() == "json://alerts.example/x\n"


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
    os.chown(clone / "deploy/refnet.toml", 0, 0)
    os.chown(clone.parent, 1234, 1234)
    refused = prepare()
    os.chown(clone.parent, 0, 0)
    assert refused.returncode == 1
    assert f"{clone.parent} belongs to another user" in refused.stderr


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
