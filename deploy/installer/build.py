"""Build RefNet's installer: one Python file with the wheels of the lock, and pip's own, that needs no package registry.

The same wheels give the same file. The registry's client is pip, with the hashes of requirements.lock.

Usage: python deploy/installer/build.py WHEEL FOLDER [--python 3.13] [--machine x86_64]
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import re
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

#: What the installer is made for.
PYTHONS, MACHINES = ("3.11", "3.12", "3.13", "3.14"), ("x86_64", "aarch64")
#: What backups and recoveries use. PostgreSQL's programs are the system's; the network of papers would make the file three
#: times as large.
EXTRAS = ("cloud", "metrics", "notify", "web")
_LOCK = Path(__file__).parents[2] / "requirements.lock"
_PIP = "pip==26.3 --hash=sha256:f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
#: The versions of glibc that a wheel may ask for: pip takes a wheel by the name of its tag alone. Debian 12 has 2.36.
_GLIBC = range(17, 37)


def locked(lock: str) -> dict[str, list[str]]:
    """Name → the lines of the lock for it, each `NAME==VERSION ; MARKER --hash=…`."""
    found: dict[str, list[str]] = {}
    for line in lock.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            found.setdefault(canonicalize_name(line.partition("==")[0]), []).append(" ".join(line.split()))
    return found


def needed(lines: dict[str, list[str]], root: Iterable[Requirement]) -> set[str]:
    """Names of the lock that the requirements `root` bring, on any of the Pythons and machines."""
    todo, names, seen = list(root), set[str](), set[tuple[str, tuple[str, ...]]]()
    while todo:
        one = todo.pop()
        name = canonicalize_name(one.name)
        key = name, tuple(sorted(one.extras))
        if name not in lines or key in seen:
            continue
        seen.add(key)
        names.add(name)
        try:
            more = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # it is not for this Python
            continue
        todo += [found for found in map(Requirement, more) if applies(found, one.extras or {""})]
    return names


def applies(one: Requirement, extras: Iterable[str]) -> bool:
    """Whether a requirement counts on one of the Pythons and machines."""
    return one.marker is None or any(
        one.marker.evaluate({**environment(python, machine), "extra": extra})
        for extra in extras
        for python in PYTHONS
        for machine in MACHINES
    )


def environment(python: str, machine: str) -> dict[str, str]:
    """What markers ask for; of a Python its first release, which needs the most."""
    return {
        "python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine,
        "sys_platform": "linux", "os_name": "posix", "platform_system": "Linux",
        "implementation_name": "cpython", "platform_python_implementation": "CPython",
    }  # fmt: skip


def download(lines: list[str], folder: Path, python: str, machine: str) -> None:
    """Fetch the wheels of `lines` for one Python and machine."""
    wanted = []
    for line in lines:
        requirement = Requirement(line.partition(" --hash")[0])
        if requirement.marker is None or requirement.marker.evaluate(environment(python, machine)):
            # pip would ask the markers of this Python
            wanted.append(
                f"{requirement.name}{requirement.specifier} {' '.join(re.findall(r'--hash=[^ ]+', line))}"
            )
    tag = f"cp{python.replace('.', '')}"
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--require-hashes", "--only-binary", ":all:", "--python-version", python, "--implementation", "cp",
        "--abi", tag, "--abi", "abi3", "--abi", "none",
        *(word for minor in _GLIBC for word in ("--platform", f"manylinux_2_{minor}_{machine}")),
        "--platform", f"manylinux2014_{machine}", "--dest", str(folder), "--requirement", "/dev/stdin",
    ]  # fmt: skip
    subprocess.run(command, input="\n".join(wanted), text=True, check=True)


def listed(wheels: Iterable[Path], lines: list[str]) -> str:
    """The list that pip installs from: names and markers of the lock, with the hashes of these wheels alone."""
    sums: dict[tuple[str, str], list[str]] = {}
    for wheel in wheels:
        name, version = wheel.name.split("-")[:2]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        sums.setdefault((canonicalize_name(name), version), []).append(f" --hash=sha256:{digest}")
    text = []
    for line in lines:
        head = line.partition(" --hash")[0]
        requirement = Requirement(head)
        (version,) = (one.version for one in requirement.specifier)
        if found := sums.get((canonicalize_name(requirement.name), version)):
            text.append(head + "".join(found))
    return "\n".join(sorted(text)) + "\n"


def write(target: Path, files: dict[str, bytes]) -> None:
    """Write the installer: in order, without times, so that it is the same file every time."""
    with target.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w") as archive:
            for name in sorted(files):
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.external_attr = (stat.S_IFREG | 0o644) << 16
                entry.create_system = 3
                archive.writestr(entry, files[name])  # stored: wheels are compressed


def wanted(lock: str) -> list[str]:
    """The lines of the lock that RefNet needs with the extras of the installer."""
    lines = locked(lock)
    root = [
        one
        for one in map(Requirement, importlib.metadata.requires("refnet") or [])
        if applies(one, ("", *EXTRAS))
    ]
    return [line for name in sorted(needed(lines, root)) for line in lines[name]]


def assemble(
    own: Path,
    wheels: list[Path],
    lines: list[str],
    folder: Path,
    pythons: Sequence[str],
    machines: Sequence[str],
) -> Path:
    """Write the installer of RefNet's wheel `own` into `folder`, from the `wheels` of `lines` and of pip; return it."""
    version = own.name.split("-")[1]
    itself = f"refnet=={version} --hash=sha256:{hashlib.sha256(own.read_bytes()).hexdigest()}\n"
    facts = {"version": version, "pythons": pythons, "machines": machines}
    files = {
        "__main__.py": (Path(__file__).parent / "install.py").read_bytes(),
        "facts.json": json.dumps(facts, sort_keys=True).encode(),
        "list.txt": (listed(wheels, lines) + itself).encode(),
        **{f"wheels/{one.name}": one.read_bytes() for one in (*wheels, own)},
    }
    span = pythons[0] if len(pythons) == 1 else f"{pythons[0]}-{pythons[-1]}"
    target = folder / f"refnet-{version}-linux-{'-'.join(machines)}-python{span}.pyz"
    write(target, files)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", choices=PYTHONS, help="for this Python alone")
    parser.add_argument("--machine", choices=MACHINES, help="for this machine alone")
    given = parser.parse_args()
    pythons, machines = (
        (given.python,) if given.python else PYTHONS,
        (given.machine,) if given.machine else MACHINES,
    )
    lines = wanted(_LOCK.read_text())
    with tempfile.TemporaryDirectory() as work:
        for python in pythons:
            for machine in machines:
                download([*lines, _PIP], Path(work), python, machine)
        target = assemble(given.wheel, sorted(Path(work).iterdir()), lines, given.folder, pythons, machines)
    print(f"{hashlib.sha256(target.read_bytes()).hexdigest()}  {target.name}")


if __name__ == "__main__":
    main()
