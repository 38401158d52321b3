"""Foreign dumps as SQL, so that the backup folder keeps each like an artifact: `zcat FILE | psql` restores it."""

from __future__ import annotations

import bz2
import lzma
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

from isal import igzip

from refnet.errors import Exit, RefnetError
from refnet.recovery.model.source import OpenArtifact
from refnet.recovery.model.source_name import SourceName
from refnet.recovery.sources.database.artifact.foreign_dump import ForeignDump
from refnet.recovery.sources.database.artifact.sqlgz import INFLATE_ERROR
from refnet.recovery.sources.database.restore.foreign_proof import unprivileged
from refnet.recovery.sources.proof_run import ProofOptions

_CHUNK = 1 << 20
#: Bytes of a line that are kept until its end comes.
_LINE = 4096
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_CONNECT = re.compile(
    rb"\\connect (?:-reuse-previous=on )?(?:\"dbname='((?:[^'\\]|\\.)*)'\"|\"((?:[^\"]|\"\")*)\"|(\S+))\s*"
)
_BEGIN, _END = b"--\n-- PostgreSQL database dump\n--\n\n", b"-- PostgreSQL database dump complete"
_RESTRICT = (b"\\restrict ", b"\\unrestrict ")


@contextmanager
def opened(path: Path, source: SourceName, temporary: Path) -> Iterator[ForeignDump]:
    """Open the dump at `path` while the block runs, unpacked into the folder `temporary` where it is compressed.

    RefnetError if it is not a dump, or cannot be unpacked here.
    """
    if path.is_dir():
        yield ForeignDump(
            OpenArtifact(source, path.name, lambda: (path / "toc.dat").open("rb"), None, path=path)
        )
        return
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        if (text := _unpacking(file, path, temporary, stack)) is None:
            yield ForeignDump(OpenArtifact(source, path.name, lambda: path.open("rb"), None, path=path))
            return
        out = stack.enter_context(tempfile.NamedTemporaryFile(dir=temporary, prefix=".refnet-adopt-"))
        try:
            shutil.copyfileobj(text, out, _CHUNK)
            out.flush()
        except (EOFError, lzma.LZMAError, ValueError, INFLATE_ERROR) as error:
            raise _damaged(path, str(error)) from None
        name = Path(out.name)
        stack.callback(text.close)
        yield ForeignDump(OpenArtifact(source, path.name, lambda: name.open("rb"), None))


def _unpacking(file: IO[bytes], path: Path, temporary: Path, stack: ExitStack) -> IO[bytes] | None:
    """Return what reads the compressed `file`; None if it can be read as it is."""
    head = file.read(8)
    file.seek(0)
    if head.startswith(_GZIP):
        found = cast("IO[bytes]", igzip.open(file))  # type: ignore[no-untyped-call]
        inner = found.read(512)
        found.seek(0)
        return found if inner.startswith(b"PGDMP") or inner[257:262] == b"ustar" else None
    if head.startswith(b"\xfd7zXZ"):
        return cast("IO[bytes]", lzma.open(file))
    if head.startswith(b"BZh"):
        return cast("IO[bytes]", bz2.open(file))
    return _of_zstd(file, path, temporary, stack) if head.startswith(_ZSTD) else None


def _of_zstd(file: IO[bytes], path: Path, temporary: Path, stack: ExitStack) -> IO[bytes]:
    if not (program := shutil.which("zstd")):
        raise RefnetError(
            f"{path} is compressed with zstd, and the program zstd is not installed",
            "Install it (Debian: zstd), or unpack the file.",
            Exit.USAGE,
        )
    out = stack.enter_context(tempfile.TemporaryFile(dir=temporary))  # noqa: SIM115
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    done = subprocess.run([program, "-dcq"], stdin=file, stdout=out, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise _damaged(path, done.stderr.decode(errors="replace").strip()[:200])
    out.seek(0)
    return out


def _damaged(path: Path, why: str) -> RefnetError:
    return RefnetError(f"{path} is damaged or cut short: {why}", "Take another copy of it.", Exit.DAMAGED)


def sql_of(dump: ForeignDump, options: ProofOptions, database: str, temporary: Path) -> Iterator[bytes]:
    """Yield the SQL of `dump`; of a dump by pg_dumpall, that of `database` alone."""
    if not dump.is_archive:
        yield from one_database(dump.text(), database, dump.name) if dump.is_of_cluster else dump.text()
        return
    with tempfile.TemporaryFile(dir=temporary) as out:
        with unprivileged(options.binaries(dump.proof_major, server=False)) as (programs, user):
            dump.write_sql(out, programs, user)
        out.seek(0)
        while piece := out.read(_CHUNK):
            yield piece


def one_database(pieces: Iterable[bytes], database: str, name: str) -> Iterator[bytes]:
    """Yield the SQL of `database` in a dump by pg_dumpall; RefnetError if it has none, with those that it has."""
    seen: list[str] = []
    current, ended = "", False
    for line in _lines(pieces):
        if connect := _CONNECT.fullmatch(line):
            current, ended = _name(connect), False
            seen.append(current)
            if current == database:
                yield _BEGIN
        elif current == database and not ended and not line.startswith(_RESTRICT):
            yield line
            ended = line.startswith(_END)
    if database not in seen:
        others = ", ".join(sorted({*seen} - {"template1"})[:10])
        raise RefnetError(
            f"{name} has no database {database[:100]}",
            f"It has: {others or 'none'}. The setting url of the source names the database.",
            Exit.USAGE,
        )


def _name(connect: re.Match[Any]) -> str:
    quoted, named, plain = connect.groups()
    if quoted is not None:
        text = re.sub(rb"\\(.)", rb"\1", quoted)
    else:
        text = named.replace(b'""', b'"') if named is not None else plain
    return text.decode(errors="replace")


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a text; the end of one that is longer than 4 KiB may come as more than one."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line + b"\n" for line in lines)
        if len(rest) > _LINE:
            yield rest
            rest = b""
    if rest:
        yield rest
