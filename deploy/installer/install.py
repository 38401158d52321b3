"""RefNet's installer: a Python file with RefNet, its dependencies and pip in it. It needs Python and no network.

It installs into a new folder beside DIR and then swaps the two, so that DIR has the old version or the new one. A killed
run may leave DIR.new or DIR.old; the next one finishes its work.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NoReturn

#: Where root installs RefNet, and the link to its command.
_FOLDER, _LINK = Path("/opt/refnet"), Path("/usr/local/bin/refnet")
_LAUNCHER = """\
#!{python} -I
import sys
from refnet.__main__ import run
sys.exit(run())
"""
#: The longest first line of a script that Linux reads, in bytes.
_LONGEST = 127


def fail(what: str, hint: str) -> NoReturn:
    """End with a message of two lines."""
    sys.exit(f"refnet installer: {what}\n    {hint}")


def main() -> None:
    """Install what this file contains."""
    with zipfile.ZipFile(sys.argv[0]) as archive:
        facts = json.loads(archive.read("facts.json"))
        what = f"RefNet {facts['version']} for Linux with glibc on {' or '.join(facts['machines'])}, Python {', '.join(facts['pythons'])}"
        parser = argparse.ArgumentParser(
            prog=f"python3 {Path(sys.argv[0]).name}", description=f"Install {what}. It needs no network."
        )
        parser.add_argument(
            "--prefix",
            metavar="DIR",
            type=Path,
            help=f"the folder to install into; default, as root: {_FOLDER}, with the link {_LINK}",
        )
        asked = parser.parse_args().prefix
        python = f"{sys.version_info[0]}.{sys.version_info[1]}"
        if (
            python not in facts["pythons"]
            or platform.machine() not in facts["machines"]
            or platform.libc_ver()[0] != "glibc"
        ):
            fail(f"this is Python {python} on {platform.machine()}", f"This file installs {what}.")
        if not asked and os.geteuid() != 0:
            fail(
                f"only root can write {_FOLDER}",
                "Run it as root, or name a folder: --prefix ~/.local/lib/refnet",
            )
        folder = (asked or _FOLDER).expanduser()
        folder = folder.parent.resolve() / folder.name
        if len(f"#!{folder}/bin/python3 -I") > _LONGEST or any(one.isspace() for one in str(folder)):
            fail(f"{folder} is too long, or has a space", "Name another folder: --prefix DIR")
        os.umask(0o022)
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fail(f"another installer runs in {folder.parent}", "Wait until it ends.")
        new, old = (folder.with_name(f"{folder.name}.{end}") for end in ("new", "old"))
        for one in (folder, new, old):
            check_own(one)
        if not asked and os.path.lexists(_LINK) and not _LINK.is_symlink():
            fail(f"{_LINK} exists and is not a link", "Move it away, and run this again.")
        if (
            folder.exists()
        ):  # else a run was killed during the swap: the old version stays until the new one is there
            shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(new, ignore_errors=True)
        build(archive, new, folder)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    command = folder / "bin" / "refnet"
    if not asked:
        hidden = _LINK.with_name(f".{_LINK.name}.new")
        hidden.unlink(missing_ok=True)
        hidden.symlink_to(command)
        hidden.replace(_LINK)
        command = _LINK
    print(f"installed {what.partition(' for ')[0]} in {folder}; the command is {command}")


def check_own(folder: Path) -> None:
    """End if `folder` is anything but an installation of RefNet, or of Python packages, of this user."""
    if not os.path.lexists(folder):
        return
    mine = not folder.is_symlink() and folder.is_dir() and folder.stat().st_uid == os.geteuid()
    if not mine or (any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file()):
        fail(
            f"{folder} exists and is not an installation of RefNet of this user",
            "Name another folder: --prefix DIR",
        )


def build(archive: zipfile.ZipFile, new: Path, folder: Path) -> None:
    """Install into `new` what is to lie in `folder`: an environment of Python, as `python3 -m venv` makes it."""
    base = Path(sys.executable).resolve()
    packages = new / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    wheels = new / "wheels"
    for one in (new, new / "bin", wheels):
        one.mkdir()
    (new / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    (new / "bin" / "python3").symlink_to(base)
    for name in archive.namelist():
        if name.startswith("wheels/") and name.endswith(("any.whl", f"{platform.machine()}.whl")):
            (wheels / Path(name).name).write_bytes(archive.read(name))
    (wheels / "list").write_bytes(archive.read("list.txt"))
    (pip,) = wheels.glob("pip-*.whl")
    command = [
        sys.executable, "-I", str(pip / "pip"), "--isolated", "--quiet", "--disable-pip-version-check", "install",
        "--no-index", "--no-deps", "--no-cache-dir", "--require-hashes", "--find-links", str(wheels),
        "--only-binary", ":all:", "--no-warn-script-location", "--root-user-action", "ignore",
        "--target", str(packages), "-r", str(wheels / "list"),
    ]  # fmt: skip
    if subprocess.run(command, check=False).returncode:
        fail("pip, which is in this file, could not install it: see above", f"{folder} was not changed.")
    shutil.rmtree(wheels)
    shutil.rmtree(
        packages / "bin", ignore_errors=True
    )  # its scripts name this Python, which finds no packages
    if (packages / "share").exists():
        (packages / "share").rename(new / "share")
    launcher = new / "bin" / "refnet"
    launcher.write_text(_LAUNCHER.format(python=folder / "bin" / "python3"))
    launcher.chmod(0o755)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        fail(str(error), "Nothing else was changed. Run it again.")
