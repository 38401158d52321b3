"""Runs `child.py` as another user, behind isolation layers, in a private folder."""

from __future__ import annotations

import errno
import json
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from refnet.catalog.artifact import Deviation
from refnet.catalog.evidence import Sentences
from refnet.core import checked
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explain, explained, read_regular, resolved
from refnet.core.records import Layout, Most, Record
from refnet.postgres.account import Account
from refnet.postgres.binaries import Binaries
from refnet.postgres.scratch_resources import free_account, new_folder
from refnet.postgres.walls import Enclosure, ServerFolders, enclosure
from refnet.sources.contents import AnswerLimits

#: Bytes of a child's memory, and of its answer; seconds of a child, and the bytes of a database for each more.
_MEMORY, _ANSWER, _SECONDS, _PACE = 2 << 30, 256 << 20, 600.0, 1 << 20
_TEXT, _NUMBER = checked.text(1 << 20), checked.integer(0, (1 << 63) - 1)
_DIGEST = checked.text(64, like="([0-9a-f]{64})?")
_SOURCE = files(__package__).joinpath("child.py").read_text(encoding="utf-8")
_RIGHTS = "Run it as root or as the owner of the file, who must be able to write in its folder."
_HINTS = {
    "SQLITE_BUSY": "A program has locked it for a long time. Retry, or let the program use WAL mode.",
    "SQLITE_FULL": "Free space in REFNET_HOME, then retry.",
    "SQLITE_CANTOPEN": _RIGHTS,
    "SQLITE_READONLY": _RIGHTS,
    "SQLITE_AUTH": "Give one query that only reads.",
    "SQLITE_ERROR": "Give one query that only reads; `refnet show ARTIFACT --tables` lists the tables.",
    "SQLITE_INTERRUPT": "It took too long: ask for less, or give it more --seconds.",
}


@dataclass(frozen=True)
class SqliteTable(Record):
    """A table of a database."""

    schema: ClassVar[str] = "main"
    #: Bytes as text, which nobody counts.
    raw: ClassVar[int] = 0

    name: Annotated[str, _TEXT]
    rows: Annotated[int, _NUMBER]
    #: Of its rows, in their order; "": one is too large to be read.
    sha256: Annotated[str, _DIGEST]

    @property
    def qualified(self) -> str:
        return self.name


_Tables = Annotated[tuple[SqliteTable, ...], Most(1_000_000)]


@dataclass(frozen=True)
class SqliteContents(Record):
    """The tables of a database, and a digest of all definitions: the list beside an artifact."""

    LAYOUT = Layout("a list of tables", longest=256 << 20, format=1)

    tables: _Tables
    schema: Annotated[str, _DIGEST]
    #: The source digested its rows; else it counted them, and the digests are those of the copy.
    digested: bool = False

    @property
    def totals(self) -> dict[str, Any]:
        return {"tables": len(self.tables), "rows": sum(one.rows for one in self.tables)}

    def differences(self, after: SqliteContents) -> Iterator[tuple[str, Deviation, str]]:
        """Yield each table that differs, how, and why."""
        old, new = ({one.name: one for one in side.tables} for side in (self, after))
        for name in sorted({*old, *new}):
            one, other = old.get(name), new.get(name)
            if one is None or other is None:
                yield name, Deviation.MISSING if one else Deviation.EXTRA, "missing" if one else "more"
            elif one.rows != other.rows:
                yield name, Deviation.CHANGED, f"{one.rows:,} rows, then {other.rows:,}"
            elif one.sha256 and other.sha256 and one.sha256 != other.sha256:
                yield name, Deviation.CHANGED, "other content of the same number of rows"
        if self.schema != after.schema:
            yield "(schema)", Deviation.CHANGED, "other definitions"


@dataclass(frozen=True)
class CheckedDatabase(Record):
    """Result of a check."""

    #: What integrity_check says; the rest is empty then.
    wrong: Sentences = ()
    #: Tables whose indexes need what a program brings along.
    unchecked: Sentences = ()
    #: Violated foreign keys: `KEY: WHY`.
    keys: Sentences = ()
    tables: _Tables = ()
    schema: Annotated[str, _DIGEST] = ""


@dataclass(frozen=True)
class QueryRows(Record):
    """The answer to a query."""

    columns: Annotated[tuple[str, ...], checked.several(_TEXT, 100_000)]
    #: Numbers, texts and null; bytes as \\xHEX.
    rows: Annotated[list[list[Any]], checked.each(checked.each(lambda value: value, 100_000), 1 << 31)]
    #: There are more.
    cut: bool


_Answer = TypeVar("_Answer", bound=Record)


class _Python(Binaries):
    """This interpreter, in the role of a server's programs for the isolation layers."""

    def tool(self, _name: str) -> Path:
        return resolved(sys.executable)

    @property
    def parts(self) -> tuple[Path, ...]:
        return (self.folder, Path(sys.base_prefix))


@dataclass(frozen=True)
class _Folders(ServerFolders):
    """The folders of a child: its private one, and that of a live database."""

    live: Path | None = None

    @property
    def writable(self) -> tuple[Path, ...]:
        return (self.data, *([self.live] if self.live else []))


@dataclass(frozen=True)
class Box:
    """A private folder in which the child runs, for the database in it or for a live one."""

    folders: _Folders
    way: Enclosure
    #: What the database is called.
    name: str

    @property
    def database(self) -> Path:
        """The file of a snapshot, or of an unpacked artifact."""
        return self.folders.data / "database"

    def live(self, path: Path, *, copy: bool = False, digests: bool = True) -> SqliteContents:
        """Read the tables of the live database `path`, with row `digests` if asked; copy the same moment to `database`."""
        found, to = database_file(path), str(self.database) if copy else ""
        about = {"path": str(path), "inode": found.st_ino, "copy": to, "digests": digests}
        return self._run("live", found.st_size, SqliteContents, **about)

    def check(self, size: int) -> CheckedDatabase:
        """Check the file `database`."""
        return self._run("check", size, CheckedDatabase)

    def query(self, size: int, sql: str, most: AnswerLimits) -> QueryRows:
        """Query the file `database`."""
        return self._run(
            "query", size, QueryRows, sql=sql, rows=most.rows, bytes=most.bytes, seconds=most.seconds
        )

    def _run(self, verb: str, size: int, kind: type[_Answer], **more: Any) -> _Answer:
        """The child's result for a database of `size` bytes; RefnetError if SQLite rejects it."""
        answer, seconds = self.folders.data / "answer", _SECONDS + size / _PACE
        job = {
            "verb": verb,
            "path": str(self.database),
            "answer": str(answer),
            "inode": 0,
            "seconds": seconds,
        }
        job |= {"memory": _MEMORY, **more}
        command = [str(self.folders.programs.tool("")), "-I", "-S", "-c", _SOURCE, json.dumps(job)]
        streams = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
        code = 0
        try:
            code, *_ = self.way.run(command, seconds + 60, **streams)
            if code in {errno.ENOSPC, errno.EDQUOT}:  # of the child, which could not write its answer
                raise explain(OSError(code, os.strerror(code)), answer)
            found = checked.document(read_regular(answer, _ANSWER), _ANSWER)
        except subprocess.TimeoutExpired:
            raise self._refused(f"not read within {seconds:.0f} s") from None
        except FileNotFoundError:
            raise self._refused(f"the process that reads it ended with {code}") from None
        except (OSError, ValueError) as error:
            raise self._refused(str(error)) from None
        if said := found.get("error"):
            raise self._refused(str(said), str(found.get("code")))
        try:
            return kind.from_values(found)
        except ValueError as error:
            raise self._refused(f"its reader says {error}") from None

    def _refused(self, why: str, code: str = "") -> RefnetError:
        """Error about an unreadable database; `code`: SQLite's, such as SQLITE_NOTADB."""
        damaged = code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))
        hint = next(
            (hint for start, hint in _HINTS.items() if code.startswith(start)), "Check it with sqlite3."
        )
        exit_code = Exit.DAMAGED if damaged else Exit.FAILED
        return RefnetError(f"{self.name}: {why}", hint, exit_code, transient=code.startswith("SQLITE_BUSY"))


@contextmanager
def box(base: Path, name: str, live: Path | None = None) -> Iterator[Box]:
    """Open a box below `base`, as the owner of the file `live`, else as an unprivileged user."""
    with ExitStack() as stack:
        with explained(live or base):
            user = _owner(live) if live or os.geteuid() else stack.enter_context(free_account())
        with explained(base):
            folder, program = new_folder(base, user, stack), resolved(sys.executable)
            python = _Python(program.parent, 0, ".".join(map(str, sys.version_info[:3])), "python")
            folders = _Folders(folder, folder, python, live.parent if live else None)
            way = enclosure(folders, user)
        yield Box(folders, way, name)


def _owner(live: Path | None) -> Account:
    """Owner of `live` for root, else this user."""
    uid, gid = os.geteuid(), os.getegid()
    if live is None or uid or not (found := live.lstat()).st_uid:
        return Account(f"#{uid}", uid, gid, other=False)
    try:
        gid = pwd.getpwuid(found.st_uid).pw_gid
    except KeyError:  # of a container
        gid = found.st_gid
    return Account(f"#{found.st_uid}", found.st_uid, gid, other=True)


def database_file(path: Path) -> os.stat_result:
    """Status of the database `path`; RefnetError if it is not a regular file, or is reached by a link."""
    with explained(path):
        found = path.lstat()
    refuse_links(path)
    if not stat.S_ISREG(found.st_mode):
        raise RefnetError(f"{path} is not a regular file", "Set the path of the database.")
    return found


def refuse_links(path: Path) -> None:
    """Raise RefnetError if `path` contains a link, which another user may have placed there."""
    if (real := os.path.realpath(path)) != str(path):
        raise RefnetError(
            f"{path} is reached by a symbolic link; the file is {real}", "Set the path of the file itself."
        )
