"""Recovers a cluster from a base backup and WAL, and starts it as a scratch server inside the walls of every proof.

The recovery runs in single-user mode: no session of any role exists, event triggers and the settings of databases and roles
do not count. The same process then takes those settings away and creates RefNet's own superuser; pg_hba.conf admits no other
role. All WAL is copied into pg_wal beforehand, because the server reaches nothing outside of its folder.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from refnet.catalog.artifact import Progress
from refnet.catalog.recovery_target import shown
from refnet.catalog.wal import is_segment, parse_lsn
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import NEW_FILE, OPEN_FILE, explained, opened, write_all
from refnet.core.formatting import size
from refnet.postgres.account import Account
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster, last_error, verifier
from refnet.postgres.scratch import SETTINGS, new_cluster, start
from refnet.proof_run import ProofOptions
from refnet.sources.cluster import wal_dump
from refnet.sources.cluster.data_folder import unpack
from refnet.sources.cluster.pg_basebackup import TABLESPACES
from refnet.sources.cluster.recovery_facts import Recovery, commits_in, timelines_in
from refnet.sources.cluster.wal_index import sizes_in
from refnet.sources.database.proof.guarded_schema import create_reader

#: Time limit of the replay, in seconds.
_SECONDS = 48 * 3600.0
_CONTROL_SECONDS = 60.0
#: Bytes of the log that are read from its end.
_LOG = 64 << 10
#: Segments after which an error beside them is seen.
_AT_ONCE = 32
#: The most prepared transactions, and locks of each transaction, that a server gets room for.
_MOST_PREPARED, _MOST_LOCKS = 10_000, 4096
#: What nothing of a base decides. exit 1: all WAL is in pg_wal; hot_standby: not in single-user mode. What it writes is
#: flushed by who keeps it, once, and without the WAL that it has replayed.
_REPLAY: Mapping[str, str] = {
    "config_file": "/dev/null",
    "restore_command": "exit 1",
    **dict.fromkeys(("fsync", "wal_recycle", "hot_standby", "archive_mode", "logging_collector"), "off"),
    **dict.fromkeys(("primary_conninfo", "primary_slot_name"), ""),
    **{f"{kind}_preload_libraries": "" for kind in ("shared", "session", "local")},
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_destination": "stderr",
}
#: A role that does not exist has the settings of databases, until `with_settings` gives them back.
_NOBODY = 1
_ROLE_SQL = (
    "DELETE FROM pg_catalog.pg_db_role_setting WHERE setdatabase = 0 AND setrole = 0\n"
    "UPDATE pg_catalog.pg_db_role_setting SET setrole = {nobody} WHERE setrole = 0\n"
    "CREATE ROLE {name} SUPERUSER LOGIN NOREPLICATION PASSWORD '{verifier}'\n"
)
_REDO = re.compile(r"redo done at ([0-9A-F]{1,8}/[0-9A-F]{1,8})")
_LAST = re.compile(r"last completed transaction was at log time (\S+ \S+?)\+00")
_NEEDS = re.compile(r"^max_prepared_xacts setting: +(\d{1,9})$", re.MULTILINE)
_LOCKS = re.compile(r"^max_locks_per_xact setting: +(\d{1,9})$", re.MULTILINE)
#: The server would write into the folder of a tablespace, which may be that of a live server.
_NEW_TABLESPACE = (
    "a tablespace was created after the base backup, and RefNet does not write to its folder",
    "Choose a moment before that, or one after the next base backup (`refnet backup`).",
)
#: Errors of a recovery that are not the base's fault: what they contain → what is wrong, what to do.
_KNOWN = {
    "recovery ended before configured recovery target was reached": (
        "the WAL ends before that moment",
        "Choose an earlier moment; `refnet wal status` shows what can be restored.",
    ),
    "requested recovery stop point is before consistent recovery point": (
        "that moment is before the end of the base backup",
        "Choose a later moment, or an older base backup.",
    ),
    "Create this directory for the tablespace": _NEW_TABLESPACE,
    "could not set permissions on directory": _NEW_TABLESPACE,
}


class Reached(NamedTuple):
    """Where a recovery ended."""

    #: The last record that was replayed.
    lsn: int
    #: The last commit, or abort; None: none was replayed.
    commit: datetime | None


@dataclass(frozen=True)
class Recovered:
    """A scratch server with a recovered cluster."""

    #: With RefNet's own superuser; only it and `reader` can log in.
    cluster: Cluster
    #: The login that reads everything and writes nothing.
    reader: str
    reached: Reached


#: Settings of a database that would run code in its sessions, or make them another role's.
_CODE = (
    "^(session_preload_libraries|local_preload_libraries|dynamic_library_path|role|session_authorization)="
)
_SETTINGS = """
UPDATE pg_catalog.pg_db_role_setting SET setrole = 0, setconfig = kept.settings FROM (
  SELECT d.oid, ARRAY(SELECT one FROM pg_catalog.unnest(s.setconfig) AS one WHERE one !~* %s) AS settings
  FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
  WHERE d.datname = %s AND s.setrole = %s
) AS kept WHERE setdatabase = kept.oid AND setrole = %s AND kept.settings <> '{}'
"""


def with_settings(found: Recovered, database: str) -> None:
    """Give `database` its own settings back, but those that would run code: a dump of it records them."""
    with found.cluster.target().connect() as session:
        session.execute(_SETTINGS, (_CODE, database, _NOBODY, _NOBODY))


@contextmanager
def recovered(recovery: Recovery, options: ProofOptions) -> Iterator[Recovered]:
    """Carry out `recovery`, and run the cluster as a scratch server until the block ends; nothing live is touched.

    RefnetError (DAMAGED) for damage of a base or of WAL, (FAILED) if the target is not reached. The block must end in the
    thread that began it, as for `scratch`.
    """
    plan, major = recovery.plan, recovery.archive.server.major
    binaries = options.binaries(major, server=True)
    check_major(binaries, major)
    with ExitStack() as stack:
        cluster, folder = new_cluster(binaries, options.base, stack)
        name, reader = cluster.superuser, f"refnet_reader_{secrets.token_hex(6)}"
        fill(cluster, recovery, options.progress)
        options.progress("replay", 0, None)
        text = _ROLE_SQL.format(nobody=_NOBODY, name=name, verifier=verifier(cluster.password))
        settings = {**SETTINGS, "wal_level": "replica", **options.server_settings(), **needs(cluster)}
        reached = replay(cluster, {**settings, **plan.settings}, folder / "recovery.log", text)
        check_passed(recovery, reached)
        admitted = f"local all {name},{reader} scram-sha-256\n"
        write(cluster.data / "pg_hba.conf", admitted, cluster.account)
        start(cluster, {**settings, "wal_level": "minimal"}, folder, stack)
        with cluster.target().connect() as admin:
            create_reader(admin, cluster, reader)
        yield Recovered(cluster, reader, reached)


def fill(cluster: Cluster, recovery: Recovery, progress: Progress, *, durable: bool = False) -> None:
    """Fill the empty data folder of `cluster` with the chain, the WAL beside it, and the file that asks for a recovery."""
    _check_space(cluster, recovery)
    over = threading.Event()
    with explained(cluster.data):
        wal = cluster.data / "pg_wal"
        wal.mkdir(0o700)
        cluster.account.own(wal)
    with ThreadPoolExecutor(1, "wal") as pool:
        adding = pool.submit(_add_wal, cluster, recovery, over)

        def report(what: str, done: int, total: int | None) -> None:
            if adding.done():
                adding.result()  # its error ends the unpacking
            progress(what, done, total)

        try:
            unpack(recovery.chain, cluster.data, cluster.account, report, durable=durable)
            adding.result()
        finally:
            over.set()
    # No server starts here without a recovery's settings.
    write(cluster.data / "recovery.signal", "", cluster.account)


def _check_space(cluster: Cluster, recovery: Recovery) -> None:
    wal = recovery.archive.server.segment_bytes * len(recovery.plan.segments)
    need = wal + max(piece.facts.raw_bytes for piece in recovery.chain)
    if need > (free := shutil.disk_usage(cluster.data).free):
        raise RefnetError(
            f"{cluster.data} has {size(free)} free, and {recovery.plan.base.name} with its WAL needs at least {size(need)}",
            "Free space, use a folder on a larger disk, or choose a moment soon after a base backup.",
        )


def _add_wal(cluster: Cluster, recovery: Recovery, over: threading.Event) -> None:
    """Add the WAL that the recovery reads to the data folder of `cluster`, until `over` is set."""
    archive, folder, user = recovery.archive, cluster.data / "pg_wal", cluster.account
    # Histories of all timelines: a new one gets a number that the archive does not have.
    histories = (f"{one:08X}.history" for one in timelines_in(archive) if one > 1)
    names = (*recovery.plan.segments, *histories)
    for begin in range(0, len(names), _AT_ONCE):
        if over.is_set():
            return
        some = names[begin : begin + _AT_ONCE]
        archive.provide(some, folder)
        with explained(folder):
            for name in some:
                with opened(folder / name, OPEN_FILE) as handle:
                    os.fchmod(handle, 0o600)
                    if user.other:
                        os.fchown(handle, user.uid, user.gid)


def replay(cluster: Cluster, settings: Mapping[str, str], log: Path, text: str = "") -> Reached:
    """Recover the data folder of `cluster` in single-user mode, then run the statements `text`, one a line.

    log: the new file for the server's messages. RefnetError with the server's reason if it fails.
    """
    data = cluster.data
    command = [str(cluster.binaries.tool("postgres")), "--single", "-D", str(data)]
    for name, value in {**settings, **_REPLAY}.items():
        command += ["-c", f"{name}={value}"]
    if not cluster.walls.files and _makes_tablespace(cluster):
        raise RefnetError(*_NEW_TABLESPACE)
    statements = os.memfd_create("statements")
    with os.fdopen(statements, "r+b") as given, log.open("w+b") as said:
        given.write(text.encode())
        given.seek(0)
        streams = {"stdin": given, "stdout": subprocess.DEVNULL, "stderr": said}
        code, _, _ = cluster.isolation.run([*command, "template1"], _SECONDS, **streams)
        said.seek(max(0, said.seek(0, os.SEEK_END) - _LOG))
        messages = said.read().decode(errors="replace")
    redo, last = _REDO.search(messages), _LAST.search(messages)
    if code != 0 or not redo or "ERROR:" in messages:
        raise _failed(messages)
    if any(one.is_symlink() for one in (data / TABLESPACES).glob("*")):
        raise RefnetError(*_NEW_TABLESPACE)
    commit = datetime.fromisoformat(f"{last[1]}+00:00") if last else None
    return Reached(parse_lsn(redo[1]), commit)


def check_passed(recovery: Recovery, reached: Reached) -> None:
    """RefnetError (DAMAGED) if a commit was replayed that is later than the moment: the index, which is not signed, denied it."""
    until = recovery.plan.until
    if until is None or reached.commit is None or reached.commit <= until:
        return
    commits = commits_in(recovery.archive)  # the last one may be an abort
    for name in recovery.plan.segments:
        if any(one.time > until for one in commits(name)):
            raise RefnetError(
                f"{recovery.archive.folder}: {name} has a commit later than {shown(until)}, and index.jsonl has none",
                "Somebody changed the index, or its disk fails. Fetch the WAL from a remote store, or give --lsn.",
                Exit.DAMAGED,
            )


def _makes_tablespace(cluster: Cluster) -> bool:
    """Whether WAL in the data folder creates a tablespace, which no wall keeps from the folder of a live server."""
    folder = cluster.data / "pg_wal"
    segments = [name for name in sizes_in(folder) if is_segment(name)]
    return wal_dump.makes_tablespace(cluster.binaries.tool("pg_waldump"), folder, segments)


def _failed(messages: str) -> RefnetError:
    said = last_error(messages)
    for part, (message, hint) in _KNOWN.items():
        if part in messages:
            return RefnetError(message, hint)
    code = Exit.DAMAGED if "PANIC:" in messages else Exit.UNVERIFIED
    return RefnetError(f"the recovery failed: {said}", "Choose another base backup, or another moment.", code)


def check_major(binaries: Binaries, major: int) -> None:
    if binaries.major != major:
        raise RefnetError(
            f"a recovery needs the server of PostgreSQL {major}, and this machine has {binaries.version}",
            f"Install it (Debian: apt install postgresql-{major}).",
            Exit.UNVERIFIED,
        )


def needs(cluster: Cluster) -> Mapping[str, str]:
    """Settings that the base needs: room for prepared transactions and locks, and folders as tablespaces if it has any."""
    command = [str(cluster.binaries.tool("pg_controldata")), "-D", str(cluster.data)]
    code, said, _ = cluster.isolation.run(
        command, _CONTROL_SECONDS, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    prepared_, locks = _NEEDS.search(said), _LOCKS.search(said)
    if code != 0 or not prepared_ or not locks:
        raise RefnetError("the base backup's pg_control is damaged", "Choose another one.", Exit.DAMAGED)
    return {
        "max_prepared_transactions": str(min(int(prepared_[1]), _MOST_PREPARED)),
        "max_locks_per_transaction": str(min(max(64, int(locks[1])), _MOST_LOCKS)),
        **({"allow_in_place_tablespaces": "on"} if sizes_in(cluster.data / TABLESPACES) else {}),
    }


def write(path: Path, text: str, user: Account, *, durable: bool = False) -> None:
    """Write `text` to the file `path` of `user`, which must be missing or a regular file. `durable`: to the disk."""
    with explained(path):
        path.unlink(missing_ok=True)
        with opened(path, NEW_FILE) as handle:
            write_all(handle, text.encode())
            if user.other:
                os.fchown(handle, user.uid, user.gid)
            if durable:
                os.fsync(handle)
