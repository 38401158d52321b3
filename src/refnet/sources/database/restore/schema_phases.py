"""Decides login and order of the entries of a schema in a scratch server.

PostgreSQL evaluates expressions of a schema while it creates it: constants in generated columns, partition keys and
checks, bounds of partitions and first values of aggregates. So the builder, a login without superuser rights that is a
member of every owner, restores whatever can run code of a table's owner, and the superuser restores the rest.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from refnet.sources.database.artifact.schema_toc import Item


class Who(Enum):
    """Which login restores entries."""

    SUPERUSER = "superuser"
    #: The superuser, who stays their owner, as nobody else may own them.
    OWNER = "owner"
    BUILDER = "builder"


@dataclass(frozen=True)
class ItemRun:
    """Entries for one run of pg_restore, in order."""

    who: Who
    items: tuple[Item, ...]
    #: pg_restore may use several jobs.
    parallel: bool = False


#: Can run code of an owner while it is created. This covers TABLE ATTACH too.
_BUILT = "TABLE "
#: Can do so if its SQL contains these words. Others of these kinds may need the superuser: an aggregate with an internal
#: state, a foreign table that reads a file.
SOMETIMES = {"AGGREGATE ": b"INITCOND", "FOREIGN TABLE ": b"GENERATED"}
#: Either login can create these: they stay with the entry before them, so that fewer programs are started.
_EITHER = ("SEQUENCE ", "VIEW ", "MATERIALIZED VIEW ", "DEFAULT ")
_SUPERUSERS = ("FOREIGN DATA WRAPPER ", "PUBLICATION ", "SUBSCRIPTION ")
_GRANTS = ("ACL ", "DEFAULT ACL ")
_COMMENTS = ("COMMENT ", "SECURITY LABEL ")
_EVENT_TRIGGER = re.compile(r"(?:COMMENT - |SECURITY LABEL - )?EVENT TRIGGER ")


def before_rows(items: Iterable[Item], built: Collection[int]) -> tuple[ItemRun, ...]:
    """Runs for pre-data, without the privileges, which come last.

    `built`: dump ids of additional entries for the builder.
    """
    runs: list[tuple[Who, list[Item]]] = []
    comments = []
    for item in items:
        if item.what.startswith(_GRANTS):
            continue
        if item.what.startswith(_COMMENTS):
            comments.append(item)
            continue
        who = _creator(item, built)
        if runs and who in {None, runs[-1][0]}:
            runs[-1][1].append(item)
        else:
            runs.append((who or Who.SUPERUSER, [item]))
    if runs and runs[-1][0] is Who.SUPERUSER:
        runs[-1][1].extend(comments)
    else:
        runs.append((Who.SUPERUSER, comments))
    return tuple(ItemRun(who, tuple(some)) for who, some in runs if some)


def _creator(item: Item, built: Collection[int]) -> Who | None:
    if item.what.startswith(_BUILT) or item.dump_id in built:
        return Who.BUILDER
    if item.what.startswith(_SUPERUSERS):
        return Who.OWNER
    return None if item.what.startswith(_EITHER) else Who.SUPERUSER


def after_rows(before: Sequence[Item], after: Sequence[Item]) -> tuple[ItemRun, ...]:
    """Runs for the rest: `after` (post-data), and the privileges in `before` (pre-data).

    The privileges come before materialized views, which their owners fill. Event triggers come last, so that none fires.
    """
    events = [item for item in after if _EVENT_TRIGGER.match(item.what)]
    after = [item for item in after if item not in events]
    grants = [item for item in (*before, *after) if item.what.startswith(_GRANTS)]
    comments = [item for item in after if item.what.startswith(_COMMENTS)]
    superusers = [item for item in after if item.what.startswith(_SUPERUSERS)]
    fills = [item for item in after if item.is_refresh]
    others = {*grants, *comments, *superusers, *fills}
    runs = (
        # In one session: the jobs of a parallel pg_restore have deadlocked here.
        ItemRun(Who.BUILDER, tuple(item for item in after if item not in others)),
        ItemRun(Who.OWNER, tuple(superusers)),
        ItemRun(Who.SUPERUSER, (*comments, *grants)),
        ItemRun(Who.BUILDER, tuple(fills), parallel=True),
        ItemRun(Who.OWNER, tuple(events)),
    )
    return tuple(run for run in runs if run.items)
