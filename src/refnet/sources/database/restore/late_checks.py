"""Adds checks of tables and domains after the rows, if the rows violate one.

Rows of the source can violate a check, for example one whose function became stricter. COPY then rejects them. So the
checks are dropped before the rows and added again afterwards; violated ones are added as NOT VALID.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import psycopg

from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import Session
from refnet.sources.database.restore.left_out import LeftOut
from refnet.sources.database.sql_text import Codec

#: Of COPY, where a check is not true, divides by zero, or raises an exception.
REFUSED_ROWS = frozenset({"23514", "22012", "P0001"})
#: A container of a domain that cannot be scanned.
_NOT_SCANNED = "0A000"

#: Inherited ones follow from those of the parent. Those of extensions belong to the server's own files.
_CHECKS = """
SELECT k.kind, k.object, quote_ident(con.conname), con.conname::text, pg_get_constraintdef(con.oid),
    quote_literal(obj_description(con.oid, 'pg_constraint'))
FROM pg_catalog.pg_constraint con
CROSS JOIN LATERAL (
    SELECT 'TABLE', format('%I.%I', n.nspname, c.relname), c.oid, 'pg_class'::regclass
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = con.conrelid AND c.relkind IN ('r', 'p')
    UNION ALL
    SELECT 'DOMAIN', format('%I.%I', n.nspname, t.typname), t.oid, 'pg_type'::regclass
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = con.contypid
) k (kind, object, oid, class)
WHERE con.contype = 'c' AND con.coninhcount = 0 AND con.convalidated AND con.oid >= 16384
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.deptype = 'e' AND d.classid = k.class AND d.objid = k.oid)
ORDER BY con.oid
"""


@dataclass(frozen=True)
class _Check:
    #: TABLE or DOMAIN.
    kind: str
    #: Quoted.
    object: str
    quoted: str
    name: str
    definition: str
    #: As a literal.
    comment: str | None

    @property
    def add(self) -> str:
        return f"ALTER {self.kind} {self.object} ADD CONSTRAINT {self.quoted} {self.definition}"


@dataclass
class LateChecks:
    """The checks that were dropped, in this order."""

    checks: list[_Check] = field(default_factory=list)

    def drop(self, session: Session, codec: Codec) -> None:
        """Drop all checks in the database of `session`, including those of children that remain without the parent's."""
        while found := [_Check(*row) for row in codec.rows(session, _CHECKS)]:
            for one in found:
                session.execute(codec.encode(f"ALTER {one.kind} {one.object} DROP CONSTRAINT {one.quoted}"))
            self.checks += found

    def add(self, session: Session, codec: Codec) -> list[LeftOut]:
        """Add the checks again, the children's first; return the violated ones."""
        left_out = []
        for one in reversed(self.checks):
            try:
                session.execute(codec.encode(one.add))
            except psycopg.Error as error:
                if error.sqlstate not in {*REFUSED_ROWS, _NOT_SCANNED}:
                    raise server_errors.of_server(error, f"adding the checks of {one.object}") from error
                session.execute(codec.encode(f"{one.add} NOT VALID"))
                left_out.append(_left_out(one, error))
            if one.comment is not None:
                on = "DOMAIN " if one.kind == "DOMAIN" else ""
                session.execute(
                    codec.encode(f"COMMENT ON CONSTRAINT {one.quoted} ON {on}{one.object} IS {one.comment}")
                )
        return left_out


def _left_out(check: _Check, error: psycopg.Error) -> LeftOut:
    what = f"check {check.quoted} of {check.object}"
    why = (error.diag.message_primary or str(error)).strip().split("\n")[0]
    by_hand = f"ALTER {check.kind} {check.object} VALIDATE CONSTRAINT {check.quoted}"
    return LeftOut(what, "is NOT VALID", why, by_hand, constraint=check.name)
