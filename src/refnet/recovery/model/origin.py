"""May what was backed up of one database replace another? Decided purely, from both identities."""

from __future__ import annotations

from dataclasses import dataclass

from refnet.errors import Exit, RefnetError
from refnet.recovery.model.identity import Identity


@dataclass(frozen=True)
class Place:
    """The database that a restore writes to.

    `server`: host and port, or the folder of the socket, for people. `occupied`: whether it holds any table.
    """

    identity: Identity
    server: str
    occupied: bool

    def __str__(self) -> str:
        return f"{self.identity.database} on {self.server}"


@dataclass(frozen=True)
class Permission:
    """From which databases a restore may come, beside the target's own.

    `named`: the one that the user has named (--from-database). `before`: identifiers of the clusters whose database of
    the same name the target goes on with, as it was restored from there.
    """

    named: str | None = None
    before: frozenset[str] = frozenset()


#: From the target's own database alone.
OWN = Permission()


def moved(origin: Identity | None, place: Place) -> bool:
    """Whether what is restored was made on another server than that of `place`, as far as both are known."""
    if origin is None or origin.system is None or place.identity.system is None:
        return False
    return origin.system != place.identity.system


def refusal(
    artifact: str, origin: Identity | None, place: Place, permission: Permission
) -> RefnetError | None:
    """Why `artifact`, of the database `origin`, does not go to `place`; None where it may.

    `origin` None: nobody recorded it; then the artifact was named by hand, or is of the only kind there is.
    """
    named = permission.named
    if origin is None:
        return None
    if named is not None and named != origin.database:
        return RefnetError(
            f"{artifact} holds the database {origin.database}, not {named}",
            "Name an artifact of the other one (`refnet list` shows them), or correct --from-database.",
            Exit.USAGE,
        )
    if named is not None:
        return None
    if origin.database != place.identity.database:
        return RefnetError(
            f"{artifact} holds the database {origin.database} of {_server(origin, place)}, and the target is {place}",
            f"To put it there all the same, give --from-database {origin.database}.",
            Exit.USAGE,
        )
    if moved(origin, place) and place.occupied and origin.system not in permission.before:
        return RefnetError(
            f"{artifact} holds {origin.database} of {_server(origin, place)}, and {place} holds tables already",
            f"If the one is to replace the other, give --from-database {origin.database}.",
            Exit.USAGE,
        )
    return None


def note(origin: Identity | None, place: Place) -> str | None:
    """What a plan says of where the artifact comes from, where that is not the database that it goes to."""
    if origin is None:
        return "could not verify: whose database it is, nobody recorded that"
    if moved(origin, place):
        return f"it was made on {_server(origin, place)}; the target's is {place.identity.system}"
    if origin.system is None or place.identity.system is None:
        return "could not verify: on which server it was made; only the names of the databases are compared"
    return None


def told(origin: Identity | None, place: Place) -> str:
    """Whose data it is, as seen from `place`: the database, with its server where that is another one."""
    if origin is None:
        return "a database that nobody recorded"
    return f"{origin.database} of {_server(origin, place)}" if moved(origin, place) else origin.database


def _server(origin: Identity, place: Place) -> str:
    if moved(origin, place):
        return f"another server (system identifier {origin.system})"
    return "the same server" if origin.system and place.identity.system else "a server that is not known"
