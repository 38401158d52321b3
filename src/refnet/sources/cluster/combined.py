"""A drill's second road for increments: PostgreSQL's pg_combinebackup combines the chain, and both data folders are compared.

pg_combinebackup reads files of the backup, so it runs inside the walls, as a user that owns nothing else.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from refnet.catalog.artifact import Finding
from refnet.catalog.evidence import Fault
from refnet.catalog.manifest import Outcome
from refnet.core.errors import RefnetError
from refnet.core.formatting import plural, size
from refnet.postgres.scratch import new_cluster
from refnet.proof_run import ProofOptions
from refnet.sources.cluster.data_folder import CONFIGURATION, FROM_BACKUP, Piece, unpack, unpack_as_it_is

_WHAT = "increments (pg_combinebackup)"
_SECONDS = 24 * 3600.0
#: Written by RefNet, or by pg_combinebackup, for themselves.
_OWN = CONFIGURATION | {
    *("backup_manifest", "tablespace_map", "recovery.signal"),
    *("standby.signal", "recovery.done", "current_logfiles"),
}


def same_as_combined(pieces: Sequence[Piece], options: ProofOptions) -> Finding:
    """Compare the chain `pieces`, unpacked, with what pg_combinebackup makes of it; could not verify: no space, no program."""
    options.progress("combine", 0, None)
    need = 2 * max(piece.facts.raw_bytes for piece in pieces) + sum(piece.facts.raw_bytes for piece in pieces)
    major = pieces[-1].facts.major
    with ExitStack() as stack:
        cluster, _ = new_cluster(options.binaries(major, server=True), options.base, stack)
        user, data = cluster.account, cluster.data
        if (free := shutil.disk_usage(data).free) < need:
            return Finding(_WHAT, Outcome.UNVERIFIED, f"it takes {size(need)}, and {size(free)} are free")
        try:
            program = str(cluster.binaries.tool("pg_combinebackup"))
        except RefnetError as error:
            return Finding(_WHAT, Outcome.UNVERIFIED, error.message)
        ours, theirs = data / "ours", data / "theirs"
        ours.mkdir()
        unpack(pieces, ours, user, options.progress)
        plain = [data / str(number) for number in range(len(pieces))]
        for piece, folder in zip(pieces, plain, strict=True):
            folder.mkdir(mode=0o700)
            unpack_as_it_is(piece, folder, user)
            user.own(folder)
        command = [program, "--no-sync", "--output", str(theirs), *map(str, plain)]
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        code, _, said = cluster.isolation.run(command, _SECONDS, **streams)
        if code:
            return Finding(_WHAT, Outcome.UNVERIFIED, f"pg_combinebackup failed: {said.strip()[:200]}")
        return _compared(_digests(ours), _digests(theirs))


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file by its path; of a folder ""."""

    def found() -> Iterator[tuple[str, str]]:
        for parent, folders, files in os.walk(folder):
            for name in folders:
                yield os.path.relpath(os.path.join(parent, name), folder), ""  # noqa: PTH118  # of bytes and names alike
            for name in files:
                path = os.path.join(parent, name)  # noqa: PTH118
                with open(path, "rb") as file:  # noqa: PTH123
                    yield os.path.relpath(path, folder), hashlib.file_digest(file, "sha256").hexdigest()

    return {name: digest for name, digest in found() if name.split("/")[0] not in _OWN | {FROM_BACKUP}}


def _compared(ours: dict[str, str], theirs: dict[str, str]) -> Finding:
    wrong = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if not wrong:
        return Finding(_WHAT, Outcome.PASSED)
    why = f"not as pg_combinebackup makes it: {plural(len(wrong), 'file')}, the first is {wrong[0]}"
    return Finding(_WHAT, Outcome.FAILED, why, fault=Fault.ENVIRONMENT)  # one of the programs is wrong
