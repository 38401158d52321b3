"""The restore of a cluster into a new data folder: unpacked, recovered inside the walls, ready to start.

Nothing live is touched: the folder must be new or empty. Its server listens on a socket inside of it, for its owner, until
somebody writes other settings.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.manifest import utc
from refnet.catalog.recovery_target import shown
from refnet.catalog.source_name import SourceName
from refnet.catalog.wal import lsn_text
from refnet.context import Context
from refnet.core import trust
from refnet.core.clock import Phases, rounded
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import OPEN_FOLDER, empty_tree, explained, opened, sync_folder
from refnet.core.formatting import noted
from refnet.core.locks import take
from refnet.local_postgres import proof_binaries
from refnet.postgres.account import Account, account
from refnet.postgres.cluster import Cluster
from refnet.postgres.postmaster import MAX_SOCKET_FOLDER
from refnet.postgres.scratch import prepared
from refnet.postgres.walls import ServerFolders, enclosure
from refnet.settings import user_path
from refnet.sources.cluster.data_files import flush
from refnet.sources.cluster.data_folder import FROM_BACKUP, TABLESPACE_MAP
from refnet.sources.cluster.pg_basebackup import TABLESPACES
from refnet.sources.cluster.recovery_facts import Recovery, decided
from refnet.sources.cluster.scratch_recovery import (
    Reached,
    check_major,
    check_passed,
    fill,
    needs,
    replay,
    write,
)
from refnet.sources.restoring import Columns, RestoreDone, RestoreRequest, RestoreWork, Said

_CONF = """\
# Written by RefNet. Nothing of the configuration of the backed up server is in force; it is in {saved}, for reading.
# To let applications connect: set listen_addresses and port, and write pg_hba.conf.
listen_addresses = ''
unix_socket_directories = '{socket}'
{settings}"""
_HBA = "# Written by RefNet: whoever can enter the folder of the socket is trusted.\nlocal all all {method}\n"
_WITHOUT_MOMENT = (
    "Give --at TIME, --latest or --lsn POSITION, or name a base backup to restore it to its own end."
)


@dataclass(frozen=True)
class ClusterPlan:
    """What a restore of a cluster would do."""

    folder: Path
    recovery: Recovery
    problems: tuple[RefnetError, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "into": str(self.folder),
            **self.recovery.to_json(),
            "notes": list(self.recovery.plan.notes),
            "problems": [problem.to_json() for problem in self.problems],
        }


@dataclass(frozen=True)
class _DataFolders(ServerFolders):
    """The folders of a server whose data folder is the user's."""

    at: Path

    @property
    def data(self) -> Path:
        return self.at


class ClusterRestore(RestoreWork):
    """The restore of a base backup, with WAL, into a new folder."""

    title = "restore"

    planned: ClusterPlan

    def __init__(self, source: SourceName, chosen: OpenArtifact, request: RestoreRequest) -> None:
        self._source, self._chosen, self._request = source, chosen, request
        self._user = account()

    def plan(self, context: Context) -> ClusterPlan:
        request, folder = self._request, user_path(self._request.into).absolute()
        recovery = decided(
            context, self._source, request.as_of, self._chosen.entry if request.named else None
        )
        damage = self._chosen.refusals(anyway=request.damaged_anyway) if request.named else ()
        self.planned = ClusterPlan(folder, recovery, (*damage, *_obstacles(folder, self._user)))
        return self.planned

    def describe(self) -> Iterator[str | Columns]:
        recovery = self.planned.recovery
        yield f"a new data folder: {self.planned.folder}"
        yield from recovery.described()
        yield from noted(recovery.plan.notes, self.problems)

    def run(self, context: Context) -> RestoreDone:
        planned, recovery = self.planned, self.planned.recovery
        phases = Phases(context.clock.monotonic)
        is_new = not planned.folder.exists()
        for problem in _obstacles(planned.folder, self._user):
            raise problem
        with explained(planned.folder):
            planned.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._user.own(planned.folder)
        with _alone_in(planned.folder) as there:
            for problem in _obstacles(planned.folder, self._user):  # since the plan somebody may have used it
                raise problem
            try:
                reached, cluster = _recover(context, self._user, planned, phases)
            except BaseException:
                with suppress(OSError):
                    empty_tree(there)
                    if is_new:
                        planned.folder.rmdir()
                raise
        start, ask = _commands(cluster, self._user)
        values = planned.to_json() | {
            "reached": lsn_text(reached.lsn),
            "last_commit": utc(reached.commit) if reached.commit else None,
            "start": start,
            "psql": ask,
            "seconds": rounded(phases.seconds),
        }
        last = f", the last commit is of {shown(reached.commit)}" if reached.commit else ""
        lines = (
            f"restored {planned.recovery.plan.base.name} into {planned.folder}: position {lsn_text(reached.lsn)}{last}",
            f"nothing of its configuration is in force: it is in {planned.folder / FROM_BACKUP}",
            *_tablespaces(planned.folder),
            f"start: {start}",
            f"ask:   {ask}",
        )
        notes = tuple(Said(f"note: {note}", always=True) for note in recovery.plan.notes)
        return RestoreDone(values, (*(Said(line, always=True) for line in lines), *notes))


def _tablespaces(folder: Path) -> Iterator[str]:
    """Yield where the tablespaces of a restored server are, and were."""
    if (moved := folder / FROM_BACKUP / TABLESPACE_MAP).exists():
        yield f"tablespaces are folders below {folder / TABLESPACES}; {moved} says where they were"


@contextmanager
def _alone_in(folder: Path) -> Iterator[int]:
    """The open `folder`, locked against another restore into it; RefnetError (LOCKED) if one is under way."""
    with explained(folder), opened(folder, OPEN_FOLDER) as there:
        if not take(there):
            raise RefnetError(
                f"another restore writes into {folder}",
                "Wait until it ends, or give another folder.",
                Exit.LOCKED,
            )
        yield there


def _obstacles(folder: Path, user: Account) -> Iterator[RefnetError]:
    """Yield what prevents a data folder at `folder`."""
    above = next(one for one in (folder, *folder.parents) if one.exists() or one.is_symlink())
    is_link = above == folder and folder.is_symlink()
    if is_link or not above.is_dir():
        what = "is a link" if is_link else "is not a folder"
        yield RefnetError(f"{above} {what}", "Give the path of a new folder.", Exit.USAGE)
        return
    if above == folder and any(folder.iterdir()):
        yield RefnetError(
            f"{folder} is not an empty folder", "Give the path of a new one; nothing is replaced.", Exit.USAGE
        )
    if user.other:
        try:
            trust.check(above, {0, os.geteuid(), user.uid})
        except RefnetError as error:
            yield RefnetError(
                f"another user could move {folder} while root writes it: {error.message}",
                f"Give a folder that only root or {user.name} can change, or restore as that user.",
                Exit.USAGE,
            )
    if not user.can_enter(above):
        yield RefnetError(
            f"the user {user.name}, which would run the server, cannot enter {above}",
            f"Let that user enter it and the folders above (chmod o+x), or choose another place than {folder}.",
        )


def _recover(
    context: Context, user: Account, planned: ClusterPlan, phases: Phases
) -> tuple[Reached, Cluster]:
    """Fill the new folder and recover it inside the walls."""
    recovery, data, base = planned.recovery, planned.folder, context.settings.home / "scratch"
    major = recovery.archive.server.major
    binaries = proof_binaries(context.settings, major, server=True)
    check_major(binaries, major)
    with ExitStack() as stack:
        with explained(base):
            made = prepared(binaries, base, user, stack)
        folders = _DataFolders(made.folder, made.socket, made.programs, data)
        cluster = Cluster(data, made.socket, user, made.programs, enclosure=enclosure(folders, user))
        with phases.phase("unpack"):
            fill(cluster, recovery, context.progress, durable=True)
        with phases.phase("replay"):
            needed = needs(cluster)
            context.progress("replay", 0, None)
            reached = replay(cluster, {**needed, **recovery.plan.settings}, made.folder / "recovery.log")
            check_passed(recovery, reached)
    with phases.phase("flush"):
        context.progress("flush", 0, None)
        with explained(data), opened(data, OPEN_FOLDER) as folder:
            flush(folder)
        _configure(data, user, needed)
        sync_folder(data)
    return reached, cluster


def _configure(data: Path, user: Account, needed: Mapping[str, str]) -> None:
    """Write the settings of a server that only its owner reaches, to the disk; from then on it starts."""
    socket = _socket(data)
    settings = "".join(f"{name} = {value}\n" for name, value in needed.items())
    quoted = str(socket).replace("'", "''")
    text = _CONF.format(saved=FROM_BACKUP, socket=quoted, settings=settings)
    write(data / "pg_hba.conf", _HBA.format(method="trust" if socket == data else "peer"), user, durable=True)
    write(data / "postgresql.conf", text, user, durable=True)


def _socket(data: Path) -> Path:
    """The folder of the socket: `data`, or PostgreSQL's own where that path is too long for a socket."""
    return data if len(bytes(data)) <= MAX_SOCKET_FOLDER else Path("/tmp")  # noqa: S108


def _commands(cluster: Cluster, user: Account) -> tuple[str, str]:
    """The commands that start the server, and that ask it; root changes to the user that owns the folder."""
    data, programs = cluster.data, cluster.binaries
    as_user = ["runuser", "-u", user.name, "--"] if user.other else []
    start = [str(programs.tool("pg_ctl")), "-D", str(data), "-l", str(data / "server.log"), "start"]
    ask = [str(programs.tool("psql")), "-h", str(_socket(data)), "-l"]
    return shlex.join([*as_user, *start]), shlex.join([*as_user, *ask])


def check_request(request: RestoreRequest) -> None:
    """RefnetError (USAGE) for a restore without a folder or a moment."""
    if request.to:
        raise RefnetError("--to is not for the files of a cluster", "Give --into DIR.", Exit.USAGE)
    if not request.into:
        raise RefnetError(
            "a cluster is restored into a new data folder, and replaces nothing",
            "Give --into DIR.",
            Exit.USAGE,
        )
    as_of = request.as_of
    if not (as_of.time or as_of.lsn or as_of.latest or request.named):
        raise RefnetError("the moment to restore is missing", _WITHOUT_MOMENT, Exit.USAGE)
