"""RefNet's installer for tests, and the commands of a recovery page that install it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.utils import canonicalize_name
from tests.documents import ROOT

_HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def builder() -> ModuleType:
    """`deploy/installer/build.py`."""
    spec = importlib.util.spec_from_file_location(
        "build_installer", ROOT / "deploy" / "installer" / "build.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def built(folder: Path, python: str = _HERE) -> Path:
    """Build the installer of this clone in `folder`, for one Python and this machine.

    For the Python of the tests it needs no network: its wheels are packed again from what is installed. For another one it
    is built as `./dev package` does, and the test is skipped where the registry cannot be reached.
    """
    pytest.importorskip("hatchling", reason="hatchling builds the package")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (own,) = folder.glob("*.whl")
    if python == _HERE:
        module, wheels = builder(), folder / "wheels"
        wheels.mkdir()
        lines = module.wanted((ROOT / "requirements.lock").read_text())
        names = {canonicalize_name(re.split("[=;@ ]", one)[0]) for one in lines}
        found = [_packed(name, wheels) for name in sorted({*names, "pip"})]
        there = [one for one in found if one]
        return module.assemble(own, there, lines, folder, (python,), (platform.machine(),))
    command = [sys.executable, str(ROOT / "deploy" / "installer" / "build.py"), str(own), str(folder)]
    done = subprocess.run(
        [*command, "--python", python, "--machine", platform.machine()],
        check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"the wheels for Python {python} cannot be downloaded: {done.stderr[-300:]}")
    (installer,) = folder.glob("*.pyz")
    return installer


def _packed(name: str, folder: Path) -> Path | None:
    """The wheel of an installed distribution, made again; None if it is not installed: it is for another Python."""
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    *_, tag = re.findall(r"^Tag: (.+)$", found.read_text("WHEEL") or "", re.MULTILINE)
    wheel = folder / f"{found.metadata['Name'].replace('-', '_').replace('.', '_')}-{found.version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for one in found.files or ():
            if ".." not in one.parts and "__pycache__" not in one.parts and Path(one.locate()).is_file():
                archive.write(Path(one.locate()), str(one))
    return wheel


def commands(page: str) -> str:
    """The lines of the recovery page `page` (text) that fetch, check and install RefNet; "" if it has none."""
    section = page.partition("\nInstall RefNet from a store\n")[2].partition("\nRecover with RefNet\n")[0]
    return "\n".join(re.findall(r"^  (\S.*)$", section, re.MULTILINE))
