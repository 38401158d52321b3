"""Who restores which entry of a schema in a scratch server, and in which order.

PostgreSQL evaluates expressions of the schema while it creates it: constants in generated columns, partition keys and
checks, the bounds of partitions and the first values of aggregates. So whatever can run code of a table's owner is
restored by a login that is no superuser, the builder, which owns things by membership; the rest by the superuser.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from refnet.recovery.sources.database.artifact.schema_toc import Item


class Who(Enum):
    """Who restores entries. KEEPER: the superuser, who also stays their owner, as nobody else can be."""

    SUPERUSER = "superuser"
    KEEPER = "keeper"
    BUILDER = "builder"


@dataclass(frozen=True)
class Run:
    """Entries that one pg_restore takes, in their order; `parallel`: they may run beside each other."""

    who: Who
    items: tuple[Item, ...]
    parallel: bool = False


#: What can run code of an owner while it is created. It covers TABLE ATTACH too.
_BUILT = "TABLE "
#: What can do so where its SQL holds these words. Others of its kind may need the superuser: an aggregate whose state
#: is internal, a foreign table that reads a file.
SOMETIMES = {"AGGREGATE ": b"INITCOND", "FOREIGN TABLE ": b"GENERATED"}
#: What either can create: it stays with what comes before it, so that fewer programs are started.
_EITHER = ("SEQUENCE ", "VIEW ", "MATERIALIZED VIEW ", "DEFAULT ")
_KEPT = ("FOREIGN DATA WRAPPER ", "PUBLICATION ", "SUBSCRIPTION ")
_GRANTS = ("ACL ", "DEFAULT ACL ")
_SAID = ("COMMENT ", "SECURITY LABEL ")
_EVENT_TRIGGER = re.compile(r"(?:COMMENT - |SECURITY LABEL - )?EVENT TRIGGER ")


def before_rows(items: Iterable[Item], built: Collection[int]) -> tuple[Run, ...]:
    """How pre-data is restored, but for the privileges, which come last.

    `built`: the dump ids of further entries for the builder.
    """
    runs: list[tuple[Who, list[Item]]] = []
    said = []
    for item in items:
        if item.what.startswith(_GRANTS):
            continue
        if item.what.startswith(_SAID):
            said.append(item)
            continue
        who = _creator(item, built)
        if runs and who in {None, runs[-1][0]}:
            runs[-1][1].append(item)
        else:
            runs.append((who or Who.SUPERUSER, [item]))
    if runs and runs[-1][0] is Who.SUPERUSER:
        runs[-1][1].extend(said)
    else:
        runs.append((Who.SUPERUSER, said))
    return tuple(Run(who, tuple(some)) for who, some in runs if some)


def _creator(item: Item, built: Collection[int]) -> Who | None:
    if item.what.startswith(_BUILT) or item.dump_id in built:
        return Who.BUILDER
    if item.what.startswith(_KEPT):
        return Who.KEEPER
    return None if item.what.startswith(_EITHER) else Who.SUPERUSER


def after_rows(before: Sequence[Item], after: Sequence[Item]) -> tuple[Run, ...]:
    """How the rest is restored: `after` of post-data, and the privileges in `before`, which is pre-data.

    The privileges come before materialized views, which their owners fill. Event triggers come last, so that none fires.
    """
    events = [item for item in after if _EVENT_TRIGGER.match(item.what)]
    after = [item for item in after if item not in events]
    grants = [item for item in (*before, *after) if item.what.startswith(_GRANTS)]
    said = [item for item in after if item.what.startswith(_SAID)]
    kept = [item for item in after if item.what.startswith(_KEPT)]
    fills = [item for item in after if item.is_refresh]
    others = {*grants, *said, *kept, *fills}
    runs = (
        Run(Who.BUILDER, tuple(item for item in after if item not in others), parallel=True),
        Run(Who.KEEPER, tuple(kept)),
        Run(Who.SUPERUSER, (*said, *grants)),
        Run(Who.BUILDER, tuple(fills), parallel=True),
        Run(Who.KEEPER, tuple(events)),
    )
    return tuple(run for run in runs if run.items)
