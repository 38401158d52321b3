"""Databases of a cluster as sources: their names, and the record of the databases seen last."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from refnet.catalog.source_name import GLOBALS, LONGEST, ROLES
from refnet.core import checked
from refnet.core.records import Layout, Most, Needed, Rare, Record

#: The most bytes of a record, and the most databases of a server that RefNet names.
LONGEST_RECORD = 1 << 20
MOST = 5_000
_OTHER = re.compile(r"[^a-z0-9_-]")
_Databases = Annotated[tuple[Annotated[str, checked.text(256, shortest=1, errors="strict")], ...], Most(MOST)]


def globals_name(cluster: str) -> str:
    """Return the name of the source with the roles and tablespaces of `cluster`."""
    return f"{cluster}{GLOBALS}"


def member_name(cluster: str, database: str) -> str:
    """Return the name of the source for `database`: CLUSTER-DATABASE, with a digest where that is not a valid name.

    It depends only on the two names, so it is the same on every machine.
    """
    plain = f"{cluster}-{database}"
    fits = len(plain) <= LONGEST and database != ROLES and not _OTHER.search(database)
    if fits and not re.search(r"-[0-9a-f]{8}$", plain):
        return plain
    digest = hashlib.sha256(database.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    start = f"{cluster}-{_OTHER.sub('_', database.lower())}"[: LONGEST - 9]
    return f"{start}-{digest}"


@dataclass(frozen=True)
class Seen(Record):
    """The databases of a cluster when its server answered last."""

    LAYOUT = Layout(longest=LONGEST_RECORD, format=1, indent=2)

    databases: Needed[_Databases] = ()
    #: Those that were there before, until a user accepts that they are gone.
    gone: Rare[_Databases] = ()

    def members(self, cluster: str) -> Mapping[str, str]:
        """Source name → database, in order; includes gone databases."""
        return {member_name(cluster, one): one for one in (*self.gone, *self.databases)}

    @classmethod
    def _arguments(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Drop repeated names; a database that is there is not gone."""
        databases = tuple(dict.fromkeys(values["databases"]))
        gone = tuple(one for one in dict.fromkeys(values.get("gone", ())) if one not in databases)
        return {"databases": databases, "gone": gone}
