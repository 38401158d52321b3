"""Foreign dumps converted to SQL for the backup folder: `zcat FILE | psql` restores it."""

from __future__ import annotations

import bz2
import lzma
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from isal import igzip

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.proof_run import ProofOptions
from refnet.sources.database.artifact.foreign_dump import ForeignDump
from refnet.sources.database.artifact.sqlgz import INFLATE_ERROR
from refnet.sources.database.proof.foreign_proof import unprivileged

_CHUNK = 1 << 20
#: Bytes of a line that are kept until its end comes.
_LINE = 4096
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_READERS: dict[bytes, Callable[..., Any]] = {
    _GZIP: igzip.open,
    b"\xfd7zXZ": lzma.LZMAFile,
    b"BZh": bz2.BZ2File,
}
_CONNECT = re.compile(
    rb"\\connect (?:-reuse-previous=on )?(?:\"dbname='((?:[^'\\]|\\.)*)'\"|\"((?:[^\"]|\"\")*)\"|(\S+))\s*"
)
_BEGIN, _END = b"--\n-- PostgreSQL database dump\n--\n\n", b"-- PostgreSQL database dump complete"
_RESTRICT = re.compile(rb"\\restrict (\w+)\s*")


@contextmanager
def opened(path: Path, source: SourceName, temporary: Path) -> Iterator[ForeignDump]:
    """Open the dump at `path` during the block; a compressed one is unpacked into the folder `temporary`.

    RefnetError if it is not a dump, or cannot be unpacked here.
    """
    if path.is_dir():
        yield ForeignDump(
            OpenArtifact(source, path.name, lambda: (path / "toc.dat").open("rb"), None, path=path)
        )
        return
    with tempfile.TemporaryFile(dir=temporary) as out:
        with path.open("rb") as file, _explained(path):
            packed = _unpack(file, path, out)
        name = Path(f"/proc/self/fd/{out.fileno()}") if packed else path
        yield ForeignDump(
            OpenArtifact(source, path.name, lambda: name.open("rb"), None, path=None if packed else path)
        )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn errors of a compressed file into RefnetErrors; gzip and bzip2 give no system error."""
    try:
        yield
    except (EOFError, lzma.LZMAError, ValueError, INFLATE_ERROR) as error:
        raise _damaged(path, str(error)) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(path, str(error)) from None


def _unpack(file: IO[bytes], path: Path, out: IO[bytes]) -> bool:
    """Decompress `file` to `out`; False if it can be read without unpacking."""
    head = file.read(8)
    file.seek(0)
    if head.startswith(_ZSTD):
        _unpack_zstd(file, path, out)
        return True
    if not (read := next((read for magic, read in _READERS.items() if head.startswith(magic)), None)):
        return False
    with read(file) as text:
        inner = text.read(512)
        if head.startswith(_GZIP) and not (inner.startswith(b"PGDMP") or inner[257:262] == b"ustar"):
            return False
        out.write(inner)
        shutil.copyfileobj(text, out, _CHUNK)
        out.flush()
    return True


def _unpack_zstd(file: IO[bytes], path: Path, out: IO[bytes]) -> None:
    if not (program := shutil.which("zstd")):
        raise RefnetError(
            f"{path} is compressed with zstd, and the program zstd is not installed",
            "Install it (Debian: zstd), or unpack the file.",
            Exit.USAGE,
        )
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    done = subprocess.run([program, "-dcq"], stdin=file, stdout=out, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise _damaged(path, done.stderr.decode(errors="replace").strip()[:200])


def _damaged(path: Path, why: str) -> RefnetError:
    return RefnetError(
        f"{path} is damaged or cut short: {why}", "Get another copy of the dump.", Exit.DAMAGED
    )


def sql_of(dump: ForeignDump, options: ProofOptions, database: str, temporary: Path) -> Iterator[bytes]:
    """Yield the SQL of `dump`; for a dump by pg_dumpall only that of `database`."""
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
    """Yield the SQL of `database` from a dump by pg_dumpall; RefnetError listing its databases if missing."""
    seen: list[str] = []
    for current, line in _databases(pieces):
        if not line:
            seen.append(current)
        if current == database:
            yield line or _BEGIN
    if database not in seen:
        others = ", ".join(sorted({*seen} - {"template1"})[:10])
        raise RefnetError(
            f"{name} has no database {database[:100]}",
            f"It has: {others or 'none'}. The setting url of the source names the database.",
            Exit.USAGE,
        )


def _databases(pieces: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    r"""Yield (database, line) for each line; b"" marks a database's beginning.

    The text ends with `\unrestrict` and the key of its first command, which no object can contain; in a dump by older
    programs with its last comment. Until then a line like `\connect` is text, of a function for example.
    """
    current, key, begins = "", b"", True
    inside = is_new = False
    for line in _lines(pieces):
        if key and line.rstrip() == b"\\unrestrict " + key:
            inside, key = False, b""
        elif begins and not key and (is_new or not inside) and (restrict := _RESTRICT.fullmatch(line)):
            key = restrict[1]
        elif begins and not key and not inside and (connect := _CONNECT.fullmatch(line)):
            current, inside, is_new = _name(connect), True, True
            yield current, b""
        elif inside:
            yield current, line
            is_new &= line.startswith((b"--", b"\n", b"\r"))
            inside = bool(key) or not (begins and line.startswith(_END))
        begins = line.endswith(b"\n")


def _name(connect: re.Match[Any]) -> str:
    quoted, named, plain = connect.groups()
    if quoted is not None:
        text = re.sub(rb"\\(.)", rb"\1", quoted)
    else:
        text = named.replace(b'""', b'"') if named is not None else plain
    return text.decode(errors="replace")


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a text; lines longer than 4 KiB may be split."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line + b"\n" for line in lines)
        if len(rest) > _LINE:
            yield rest
            rest = b""
    if rest:
        yield rest
