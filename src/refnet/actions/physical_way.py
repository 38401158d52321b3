"""The physical way of a recovery, beside the logical one: a server comes back from its base backup and WAL.

It brings passwords and settings, and every byte as it was. So it comes first only where this machine fits, and where what it
brings was compared with the databases once.
"""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from refnet.catalog.cluster_base import BaseFacts, facts_of
from refnet.catalog.manifest import Entry
from refnet.catalog.source_name import Kind, SourceName
from refnet.core.errors import RefnetError
from refnet.postgres.binaries import installed
from refnet.settings import Settings
from refnet.wiring import known


@dataclass(frozen=True)
class PhysicalWay:
    """The physical way of one server."""

    source: SourceName
    artifact: str
    #: Why the logical way comes first, a phrase each; (): this one does.
    reasons: tuple[str, ...]
    #: The sources that it brings, which the rest of the recovery leaves out.
    brings: tuple[SourceName, ...]

    @property
    def command(self) -> str:
        return shlex.join(["refnet", "restore", self.source, "--latest", "--into", "DIR"])

    @property
    def rest(self) -> str:
        """The options of the recovery of everything else."""
        return shlex.join([word for one in self.brings for word in ("--skip", one)])

    def to_json(self) -> dict[str, Any]:
        """The values for the plan."""
        return {
            "source": self.source,
            "artifact": self.artifact,
            "first": not self.reasons,
            "reasons": list(self.reasons),
            "command": self.command,
            "rest": self.rest,
        }


def physical_ways(
    settings: Settings, entries: Mapping[SourceName, Entry], proven: Collection[str] = ()
) -> Iterator[PhysicalWay]:
    """Yield the physical way of each server in the set `entries`.

    proven: base backups, by name, that another machine compared with a database.
    """
    there = known(settings)
    for source, entry in entries.items():
        facts = facts_of(entry) if source.kind is Kind.CLUSTER and source in there else None
        if facts:
            own = settings.of(source).cluster
            brings = tuple(one for one in entries if one in there and settings.of(one).cluster == own)
            reasons = (*_unlike(settings, entry, facts), *_unproven(entry, proven))
            yield PhysicalWay(source, entry.name, reasons, brings)


def _unlike(settings: Settings, entry: Entry, facts: BaseFacts) -> Iterator[str]:
    """Yield in what this machine differs from that of the server, or may."""
    try:
        majors = {one.major for one in installed(settings.postgres_bin_dir) if one.has_server}
    except RefnetError:
        majors = set()
    if facts.major not in majors:
        yield f"no server of PostgreSQL {facts.major} is installed here"
    details, here = entry.manifest.details, platform.machine()
    architecture, collations = details.get("architecture"), details.get("collations")
    if not isinstance(architecture, str) or not isinstance(collations, str):
        yield "it does not say which architecture and collations its server had"
        return
    if architecture != here:
        yield f"its server had the architecture {architecture}, and this machine has {here}"
    libc = (os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc ")
    for one in filter(None, collations.split(", ")):
        if one != f"libc {libc}":
            yield f"its databases sort by {one}, and this machine has libc {libc or 'of another kind'}"


def _unproven(entry: Entry, proven: Collection[str]) -> Iterator[str]:
    if not (entry.proven or entry.name in proven):
        yield "it was never compared with a database (cross-proof), as far as is known here"
