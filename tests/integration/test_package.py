"""The wheel and the sdist: what they contain, and the command as it runs without a clone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from refnet import settings
from refnet.scheduling.systemd import Systemd
from refnet.settings import reading

ROOT = Path(__file__).parents[2]
pytest.importorskip("hatchling", reason="hatchling builds the package")


def _build(project: Path, folder: Path, *targets: str) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run([*command, *targets], cwd=project, check=True, capture_output=True)


def _files(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    _build(ROOT, folder)
    return folder


@pytest.fixture
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel in a folder of its own; its dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    (wheel,) = dist.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "--target", str(folder), str(wheel)], check=True, capture_output=True)
    return folder


@pytest.fixture
def environment(installed: Path, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / ".env").write_text("COLOR=green\n")
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(installed),  # precedes the clone, which the environment of the tests names
        "REFNET_HOME": str(tmp_path / "home"),
        "REFNET_BACKUP_DIR": str(tmp_path / "backups"),
        "REFNET_CONFIG_DIR": str(tmp_path / "config"),
        "REFNET_CONFIG_ENTRIES": ".env",
        "REFNET_LOG_FOLDER": "none",
    }


def _run(environment: dict[str, str], *command: str, code: int = 0) -> str:
    """Run `command` outside the clone; return its output, or its errors if it ends with another `code` than 0."""
    done = subprocess.run(
        command,
        env=environment,
        cwd=environment["REFNET_CONFIG_DIR"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    tree = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src" / "refnet").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    data = f"{'-'.join(wheel.name.split('-')[:2])}.data/data/share/"
    assert f"{data}doc/refnet/refnet.toml.example" in _files(wheel)
    assert {name for name in _files(wheel) if name.startswith("refnet/")} == tree


def test_the_sdist_makes_the_same_wheel(dist: Path, wheel: Path, tmp_path: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Debian's Python 3.11 has none
        archive.extractall(tmp_path)  # noqa: S202  # our own
    (project,) = tmp_path.iterdir()
    _build(project, tmp_path / "again", "-t", "wheel")
    (again,) = (tmp_path / "again").glob("*.whl")
    assert again.name == wheel.name
    assert _files(again) == _files(wheel)


def test_a_wheel_from_an_sdist_has_the_manual_page(tmp_path: Path) -> None:
    """./dev package makes it in `share`, before it builds."""
    clone = ("pyproject.toml", "README.md", "LICENSE", ".gitignore", "refnet.toml.example")
    for name in clone:
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "src" / "refnet").mkdir(parents=True)
    shutil.copy(ROOT / "src" / "refnet" / "__init__.py", tmp_path / "src" / "refnet")
    page = tmp_path / "share" / "man" / "man1" / "refnet.1"
    page.parent.mkdir(parents=True)
    page.write_text(".TH REFNET 1\n")
    _build(tmp_path, tmp_path / "sdist", "-t", "sdist")
    (sdist,) = (tmp_path / "sdist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Debian's Python 3.11 has none
        archive.extractall(tmp_path)  # noqa: S202  # our own
    _build(tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "dist", "-t", "wheel")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert any(name.endswith(".data/data/share/man/man1/refnet.1") for name in _files(wheel))


def test_the_installed_command_backs_up_proves_and_restores(
    installed: Path, wheel: Path, environment: dict[str, str]
) -> None:
    def refnet(*arguments: str) -> str:
        return _run(environment, str(installed / "bin" / "refnet"), *arguments)

    where = _run(environment, sys.executable, "-c", "import refnet; print(refnet.__file__)")
    assert Path(where.strip()).is_relative_to(installed)
    assert refnet("--version") == f"refnet {wheel.name.split('-')[1]}\n"
    assert "Back up:" in refnet("--help")
    assert environment["REFNET_HOME"] in refnet("settings")
    assert "proven" in refnet("backup", "config")
    assert "[Service]" in refnet("schedule", "install", "--plan", "--user")
    assert "report: " in refnet("drill", "config")
    kept = Path(environment["REFNET_CONFIG_DIR"], ".env")
    kept.write_text("COLOR=red\n")
    refnet("restore", "config", "--force")
    assert kept.read_text() == "COLOR=green\n"


def test_the_documents_list_the_extras_of_the_package() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    table = (ROOT / "docs" / "install.md").read_text().partition("## Extras")[2].partition("## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == sorted(
        extras, key=lambda name: table.index(f"| `{name}`")
    )


def test_the_documents_name_the_paths_that_root_uses() -> None:
    loaded = settings.load({}, Path("/"), root=True, cores=1, given=settings.Given(Path("/none"), {}))
    assert loaded.log_folder
    paths = [loaded.home, loaded.backup_dir, reading.SYSTEM_FILE, Systemd(user=False).folder / "refnet-*"]
    paths += [loaded.log_folder / f"refnet-{log}.log" for log in ("backup", "restore")]
    text = (ROOT / "docs" / "install.md").read_text()
    assert [path for path in paths if f"`{path}`" not in text] == []


def test_without_a_clone_the_hint_on_a_missing_extra_names_this_python(environment: dict[str, str]) -> None:
    code = "import sys; sys.modules['prometheus_client'] = None; from refnet.cli.main import run; run()"
    errors = _run(environment, sys.executable, "-c", code, "metrics", code=1)
    assert errors.splitlines()[1].strip() == f"Run: {sys.executable} -m pip install 'refnet[metrics]'"
