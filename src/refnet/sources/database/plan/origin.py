"""Decides by identities whether the backup of one database may replace another."""

from dataclasses import dataclass

from refnet.catalog.identity import Identity
from refnet.core.errors import Exit, RefnetError


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
OWN = Permission()


def moved(origin: Identity | None, destination: Destination) -> bool:
    """Whether the artifact is known to be from another server than `destination`."""
    if origin is None or origin.system is None or destination.identity.system is None:
        return False
    return origin.system != destination.identity.system


def refusal(
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
    if moved(origin, destination) and destination.occupied and origin.system not in permission.before:
        return RefnetError(
            f"{artifact} is of {origin.database} of {_server(origin, destination)}, and {destination} already contains tables",
            f"To replace them, use --from-database {origin.database}.",
            Exit.USAGE,
        )
    return None


def note(origin: Identity | None, destination: Destination) -> str | None:
    """Note about an artifact of another or unknown database, or None."""
    if origin is None:
        return "could not verify: the artifact does not record its database"
    if moved(origin, destination):
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
        if moved(origin, destination)
        else origin.database
    )


def _server(origin: Identity, destination: Destination) -> str:
    if moved(origin, destination):
        return f"another server (system identifier {origin.system})"
    return "the same server" if origin.system and destination.identity.system else "an unknown server"
