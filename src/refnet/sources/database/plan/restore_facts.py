"""Facts for planning a restore of a database: state of the server, and the backup."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from refnet.catalog.identity import Identity
from refnet.sources.database.plan import origin


@dataclass(frozen=True)
class Sessions:
    """The sessions of one program and role in the live database."""

    application: str
    user: str
    count: int
    #: Our role may terminate them.
    ours: bool


@dataclass(frozen=True)
class Rows:
    """The row count of a live table."""

    #: None: unknown, neither counted nor estimated by the server.
    rows: int | None
    #: Counted, not the server's estimate.
    exact: bool
    #: Those of them that were written after the artifact's snapshot; None: unknown.
    newer: int | None = None


@dataclass(frozen=True)
class Live:
    """The database that has the target's name now."""

    #: In bytes.
    size: int
    owner: str
    #: Our role may rename it.
    owned: bool
    sessions: tuple[Sessions, ...] = ()
    #: Prepared transactions.
    prepared: tuple[str, ...] = ()
    #: Replication slots.
    slots: tuple[str, ...] = ()
    #: Enabled subscriptions.
    subscriptions: tuple[str, ...] = ()
    #: It contains a table.
    occupied: bool = True
    #: `schema.table` → its rows.
    tables: Mapping[str, Rows] = field(default_factory=dict)
    #: 0: unknown.
    oid: int = 0


@dataclass(frozen=True)
class Facts:
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
    #: The extensions that can be installed → their versions.
    extensions: Mapping[str, frozenset[str]]
    tablespaces: frozenset[str]
    #: Free space for the server's data, in bytes; None: unknown.
    free: int | None
    live: Live | None
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
    def destination(self) -> origin.Destination:
        """The target database."""
        occupied = self.live is not None and self.live.occupied
        return origin.Destination(Identity(self.database, self.system), self.server, occupied)


@dataclass(frozen=True)
class Wanted:
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

    @property
    def origin(self) -> Identity | None:
        """The database of the backup."""
        return Identity(self.database, self.system) if self.database else None
