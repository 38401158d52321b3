"""Facts for planning a restore of a database: the database that it writes, the state of the server, and the backup.

By the identities of both databases, the backup of one may replace another or not.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Self

from refnet.catalog.identity import Identity
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError

LONGEST_NAME = 63  # bytes of a PostgreSQL identifier
#: The names of copies and previous versions; only a database with such a name is ever dropped.
OWN_NAME = re.compile(r"(.*)_(copy|before|undone)_(\d{8}_\d{6})(?:_\d+)?", re.DOTALL)


class Where(StrEnum):
    """The database that a restore writes."""

    #: That of the source.
    LIVE = "live"
    #: A new one on the same server (--as).
    NEW = "new"
    #: One on any server (--to), which `refnet prune` and `refnet check` do not look at.
    ELSEWHERE = "elsewhere"


def check_name(name: str, option: str) -> None:
    """RefnetError (USAGE) if PostgreSQL would change or reject `name`, or RefNet reserves it.

    option: where the name comes from, for the error.
    """
    wrong = ""
    if not name.isprintable() or not name.strip():
        wrong = "is empty, or has characters that cannot be printed"
    elif len(name.encode()) > LONGEST_NAME:
        wrong = f"is longer than {LONGEST_NAME} bytes, which is all that PostgreSQL keeps of a name"
    elif OWN_NAME.fullmatch(name):
        wrong = "is like a name that RefNet gives to copies and previous versions"
    if wrong:
        raise RefnetError(
            f"{option}: the name '{formatting.plain(name)}' {wrong}", "Give another name.", Exit.USAGE
        )


@dataclass(frozen=True)
class Destination:
    """The database that a restore writes to."""

    identity: Identity
    #: The address of its server, for messages.
    server: str
    #: It contains a table.
    occupied: bool

    def __str__(self) -> str:
        return f"{self.identity.database} on {self.server}"


@dataclass(frozen=True)
class Permission:
    """Additional databases whose artifacts may be restored."""

    #: The one that the user named (--from-database).
    named: str | None = None
    #: The system identifiers of the clusters whose database of the same name the target continues.
    before: frozenset[str] = frozenset()


#: The target's own database alone.
OWN_ORIGIN = Permission()


def is_moved(origin: Identity | None, destination: Destination) -> bool:
    """Whether the artifact is known to be from another server than `destination`."""
    if origin is None or origin.system is None or destination.identity.system is None:
        return False
    return origin.system != destination.identity.system


def origin_refusal(
    artifact: str, origin: Identity | None, destination: Destination, permission: Permission
) -> RefnetError | None:
    """Error if `artifact`, of the database `origin`, must not be restored to `destination`, else None.

    `origin` None: not recorded; then the user named the artifact, or there are no others.
    """
    named = permission.named
    if origin is None:
        return None
    if named is not None and named != origin.database:
        return RefnetError(
            f"{artifact} is of the database {origin.database}, not {named}",
            f"Name an artifact of {named} (`refnet list` shows them), or fix --from-database.",
            Exit.USAGE,
        )
    if named is not None:
        return None
    if origin.database != destination.identity.database:
        return RefnetError(
            f"{artifact} is of the database {origin.database} of {_server(origin, destination)}, and the target is {destination}",
            f"To restore it there anyway, use --from-database {origin.database}.",
            Exit.USAGE,
        )
    if is_moved(origin, destination) and destination.occupied and origin.system not in permission.before:
        return RefnetError(
            f"{artifact} is of {origin.database} of {_server(origin, destination)}, and {destination} already contains tables",
            f"To replace them, use --from-database {origin.database}.",
            Exit.USAGE,
        )
    return None


def origin_note(origin: Identity | None, destination: Destination) -> str | None:
    """Note about an artifact of another or unknown database, or None."""
    if origin is None:
        return "could not verify: the artifact does not record its database"
    if is_moved(origin, destination):
        return f"it was made on {_server(origin, destination)}; the target's is {destination.identity.system}"
    if origin.system is None or destination.identity.system is None:
        return (
            "could not verify: the server that it was made on; only the names of the databases are compared"
        )
    return None


def origin_label(origin: Identity | None, destination: Destination) -> str:
    """Label of the artifact's database, with the server if it differs from `destination`."""
    if origin is None:
        return "an unknown database"
    return (
        f"{origin.database} of {_server(origin, destination)}"
        if is_moved(origin, destination)
        else origin.database
    )


def _server(origin: Identity, destination: Destination) -> str:
    if is_moved(origin, destination):
        return f"another server (system identifier {origin.system})"
    return "the same server" if origin.system and destination.identity.system else "an unknown server"


@dataclass(frozen=True)
class LiveSessions:
    """The sessions of one program and role in the live database."""

    application: str
    user: str
    count: int
    #: Our role may terminate them.
    ours: bool


@dataclass(frozen=True)
class RowCount:
    """The row count of a live table."""

    #: None: unknown, neither counted nor estimated by the server.
    rows: int | None
    #: Counted, not the server's estimate.
    exact: bool
    #: Those of them that were written after the artifact's snapshot; None: unknown.
    newer: int | None = None

    def __add__(self, other: Self) -> Self:
        return replace(
            self,
            rows=_sum(self.rows, other.rows),
            exact=self.exact and other.exact,
            newer=_sum(self.newer, other.newer),
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


@dataclass(frozen=True)
class LiveDatabase:
    """The database that has the target's name now."""

    #: In bytes.
    size: int
    owner: str
    #: Our role may rename it.
    owned: bool
    sessions: tuple[LiveSessions, ...] = ()
    #: Prepared transactions.
    prepared: tuple[str, ...] = ()
    #: Replication slots.
    slots: tuple[str, ...] = ()
    #: Enabled subscriptions.
    subscriptions: tuple[str, ...] = ()
    #: It contains a table.
    occupied: bool = True
    #: `schema.table` → its rows.
    tables: Mapping[str, RowCount] = field(default_factory=dict)
    #: 0: unknown.
    oid: int = 0


@dataclass(frozen=True)
class ServerFacts:
    """The state of the server."""

    database: str
    #: Such as 180006.
    version: int
    user: str
    superuser: bool
    createdb: bool
    standby: bool
    #: The roles that our role may give objects to.
    owners: frozenset[str]
    roles: frozenset[str]
    #: The extensions that can be installed → their default versions.
    extensions: Mapping[str, str]
    tablespaces: frozenset[str]
    #: Free space for the server's data, in bytes; None: unknown.
    free: int | None
    live: LiveDatabase | None
    #: Those of `extensions` that only a superuser can install.
    restricted: frozenset[str] = frozenset()
    superusers: frozenset[str] = frozenset()
    #: Those of `tablespaces` in which our role may not create objects.
    closed_tablespaces: frozenset[str] = frozenset()
    #: Its address, for messages.
    server: str = ""
    #: The system identifier of its cluster; None: not visible to our role.
    system: str | None = None
    #: The setting or option of the login that restores, for messages.
    named: str = "REFNET_DATABASE_RESTORE_URL"

    @property
    def destination(self) -> Destination:
        """The target database."""
        occupied = self.live is not None and self.live.occupied
        return Destination(Identity(self.database, self.system), self.server, occupied)


@dataclass(frozen=True)
class WantedBackup:
    """The backup to restore."""

    name: str
    #: That of the server that it was made on, such as 180006; None: unknown.
    version: int | None
    moment: datetime | None
    #: None: the owner of the live database, else the role that restores.
    owner: str | None
    #: The size of the rows as COPY text.
    bytes: int
    #: `schema.table` → its row count.
    tables: Mapping[str, int] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    #: (name, version).
    extensions: tuple[tuple[str, str], ...] = ()
    tablespaces: tuple[str, ...] = ()
    #: PostgreSQL's text of the snapshot, if recorded.
    snapshot: str | None = None
    #: The system identifier of the cluster that it was made on, if recorded.
    system: str | None = None
    partial: bool = False
    #: The roles that its schema gives objects to.
    owners: tuple[str, ...] = ()
    #: The parts of it that only a superuser can restore.
    superuser: tuple[str, ...] = ()
    #: Role → its attributes beyond its own objects.
    powers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Role → the roles that it is a member of.
    member_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: The name of the database that it was made of; None: not recorded.
    database: str | None = None
    #: The step that makes it before it is loaded; "": it is there.
    made_by: str = ""

    @property
    def origin(self) -> Identity | None:
        """The database of the backup."""
        return Identity(self.database, self.system) if self.database else None
