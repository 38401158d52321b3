"""A throwaway server for tests and measurements."""

import atexit
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

from refnet.core.files import explained
from refnet.postgres.account import account
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.scratch import SETTINGS, prepared

#: The data folders that initdb has made in this process, by the folder of its programs, its superuser, and `kept`.
_made: dict[tuple[Path, str, bool], Path] = {}
_POLYNOMIAL = 0x82F63B78  # CRC-32C
#: Where a page at the beginning of a file of the WAL has the identifier of its system.
_IN_PAGE = slice(24, 32)


@contextmanager
def throwaway(
    binaries: Binaries,
    *,
    base: Path,
    superuser: str = "refnet",
    settings: Mapping[str, str] | None = None,
    kept: bool = False,
) -> Iterator[Cluster]:
    """Start a server like a live one, without isolation; never for untrusted dumps.

    kept: its segments of WAL have 16 MiB, and not 4.
    """
    with ExitStack() as stack:
        user = account()
        with explained(base):
            folders = prepared(binaries, base, user, stack)
            cluster = Cluster(folders.data, folders.socket, user, folders.programs, superuser)
            _fill(cluster, (binaries.folder, superuser, kept))
        stack.callback(cluster.stop, signal.SIGQUIT)
        cluster.start({**SETTINGS, **(settings or {})})
        stack.callback(cluster.stop, signal.SIGQUIT, cluster.pid())
        yield cluster


def _fill(cluster: Cluster, key: tuple[Path, str, bool]) -> None:
    """Copy what initdb makes once in a process: it takes ten times as long as a copy."""
    if key not in _made:
        memory = "/dev/shm"  # noqa: S108
        place = memory if os.access(memory, os.W_OK) else None
        folder = Path(tempfile.mkdtemp(prefix="rn-initdb-", dir=place))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)
        replace(cluster, data=folder / "data").create(kept=key[-1])
        _made[key] = folder / "data"
    subprocess.run(["/bin/cp", "-a", f"{_made[key]}/.", cluster.data], check=True)
    identify(cluster.data)


def identify(data: Path) -> None:
    """Give the system in a data folder an identifier of its own, as initdb does."""
    control = data / "global" / "pg_control"
    content = bytearray(control.read_bytes())
    end, old, new = _checksum_at(bytes(content)), content[:8], secrets.token_bytes(7) + b"\x01"
    content[:8] = new
    content[end : end + 4] = _crc32c(bytes(content[:end]))
    control.write_bytes(content)
    for segment in (data / "pg_wal").glob("0*"):
        with segment.open("r+b") as file:
            page = bytearray(file.read(_IN_PAGE.stop))
            if page[_IN_PAGE] == old:
                page[_IN_PAGE] = new
                file.seek(0)
                file.write(page)


@cache
def _checksum_at(content: bytes) -> int:
    """Where the checksum of what comes before it is."""
    return next(n for n in range(8, len(content), 4) if content[n : n + 4] == _crc32c(content[:n]))


def _crc32c(content: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
    return (crc ^ 0xFFFFFFFF).to_bytes(4, "little")
