"""Objects that a restore leaves out, because no server accepts them as they are in the source.

These are contents of materialized views whose query fails, and violated checks and foreign keys. Everything else is
restored, or the restore fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from refnet.catalog.artifact import Finding
from refnet.catalog.evidence import Fault, Outcome
from refnet.sources.database.admin_session import Session
from refnet.sources.database.sql_text import Codec

#: Begins a note of a restore.
LEFT_OUT = "left out: "
#: What a scratch server may lack: a right of the owner, a setting of a library, a library.
_LACKS = frozenset({"0A000", "42501", "42704"})

_NOT_VALID = """
SELECT con.oid::int8, n.nspname::text, c.relname::text, con.conname::text FROM pg_catalog.pg_constraint con
JOIN pg_catalog.pg_class c ON c.oid = con.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE NOT con.convalidated
UNION ALL
SELECT con.oid::int8, n.nspname::text, t.typname::text, con.conname::text FROM pg_catalog.pg_constraint con
JOIN pg_catalog.pg_type t ON t.oid = con.contypid JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE NOT con.convalidated
"""


@dataclass(frozen=True)
class LeftOut:
    """One object that differs from the source."""

    #: Its kind and its name, as SQL writes it.
    what: str
    #: How it is now: `is empty`.
    state: str
    #: The server's words.
    why: str
    #: The statement that completes it, once its cause is removed.
    by_hand: str
    #: SOURCE, or ENVIRONMENT where another server may accept it.
    fault: Fault = Fault.SOURCE
    #: The name of a constraint that is not valid now.
    constraint: str = ""
    #: The statement that removes a constraint that could not even be added as not valid.
    drop: str = ""

    def __str__(self) -> str:
        return f"{LEFT_OUT}{self.what} {self.state} ({self.why}); by hand: {self.by_hand};"

    @property
    def finding(self) -> Finding:
        return Finding(self.what, Outcome.UNVERIFIED, f"it {self.state}: {self.why}", fault=self.fault)


def fault_of_state(sqlstate: str | None) -> Fault:
    return Fault.ENVIRONMENT if sqlstate in _LACKS else Fault.SOURCE


def align(copy: Session, reference: Session, left_out: Iterable[LeftOut], codec: Codec) -> None:
    """Make the schemas of a proof's `copy` and of its `reference` without rows equal in what was left out.

    codec: of both sessions.
    """
    names = [one.constraint for one in left_out if one.constraint]
    if names:
        there = {(schema, table, name) for _, schema, table, name in codec.rows(reference, _NOT_VALID)}
        found = [
            oid
            for oid, *rest in codec.rows(copy, _NOT_VALID)
            if rest[-1] in names and tuple(rest) not in there
        ]
        copy.execute("UPDATE pg_catalog.pg_constraint SET convalidated = true WHERE oid = ANY (%s)", (found,))
    for one in left_out:
        if one.drop:
            reference.execute(codec.encode(one.drop))
