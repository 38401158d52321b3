"""Objects that a restore leaves out, because no server accepts them as they are in the source; all else, or it fails.

- Rows of the source can violate a check, for example one whose function became stricter, and COPY then rejects them. So
  the checks are dropped before the rows and added again afterwards; violated ones are added as NOT VALID.
- An index that is no key is only faster: one whose function fails is left out. Then all of them are built last, one by one.
- On leaves nothing else depends: a violated foreign key is added as NOT VALID; a materialized view whose query fails
  stays empty; the label of a provider that this server has not loaded is left out, as nothing would read it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import psycopg

from refnet.catalog.artifact import Finding
from refnet.catalog.evidence import Fault, Outcome
from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import Session
from refnet.sources.database.restore.schema_archive import Archive, Item, Step
from refnet.sources.database.server_errors import ServerError
from refnet.sources.database.sql_text import IDENT, Codec, statements
from refnet.sources.database.workers import Programs

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


#: Of COPY, where a check is not true, divides by zero, raises an exception, or does not find what it names: a restore sets
#: no search_path.
_REFUSED_ROWS = frozenset({"23514", "22012", "P0001", "42883", "42P01", "42703", "42704", "3F000"})
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


def refuses_rows(error: ServerError) -> bool:
    """Whether a check may have refused the rows, which then fit without it."""
    if error.entry or error.is_of_role_in_value or server_errors.is_servers(error.sqlstate):
        return False
    return error.in_function or error.sqlstate in _REFUSED_ROWS


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
                found = server_errors.of_server(error, f"adding the checks of {one.object}")
                if not refuses_rows(found) and error.sqlstate != _NOT_SCANNED:
                    raise found from error
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
    by_hand = f"ALTER {check.kind} {check.object} VALIDATE CONSTRAINT {check.quoted}"
    fault = Fault.ENVIRONMENT if error.sqlstate in _LACKS - {_NOT_SCANNED} else Fault.SOURCE
    return LeftOut(what, "is NOT VALID", server_errors.words(error), by_hand, fault, check.name)


_REFRESH = re.compile(rb"REFRESH MATERIALIZED VIEW (?P<view>.+)", re.DOTALL)
_FOREIGN_KEY = re.compile(
    rb"ALTER TABLE (?:ONLY )?(?P<table>(?:%b)\.(?:%b))\s+ADD CONSTRAINT (?P<name>%b) FOREIGN KEY .+"
    % (IDENT, IDENT, IDENT),
    re.DOTALL,
)
_INDEX = re.compile(
    rb"CREATE INDEX (?P<name>%b) ON (?:ONLY )?(?P<schema>%b)\.(?P<table>%b) .+" % (IDENT, IDENT, IDENT),
    re.DOTALL,
)
_LABEL = re.compile(
    rb"SECURITY LABEL FOR (?P<provider>%b) ON (?P<what>.+) IS (?:'(?:[^']|'')*'|E'.*')" % IDENT, re.DOTALL
)
_NAMES = re.compile(IDENT)
#: Of the names of entries, as `Archive.entries` decodes them.
_LISTED = Codec()
_BROKEN = "23503"
_EXISTS = "42710"
#: Its provider is not loaded.
_NOT_LOADED = "22023"


def _runs(step: Step, items: Sequence[Item]) -> Iterator[tuple[Step, list[Item]]]:
    """Separate `items` for parallel processes, which garble each other's errors: an error of others than leaves ends them.

    Triggers come one by one: one in a partition may need that of a table further up, which its entry does not say. So do
    indexes of partitions: of two that are attached at once, neither sees that all are there, and the index above stays
    invalid. Event triggers come last, so that none fires.
    """
    for is_last in (False, True):
        some = [item for item in items if item.is_of_event_trigger is is_last]
        firm = [item for item in some if not item.may_fail]
        yield step, [item for item in firm if not item.is_in_turn]
        yield replace(step, jobs=1), [item for item in firm if item.is_in_turn]
        yield step, [item for item in some if item.may_fail]


class Leaves:
    """Restores leaf entries of an archive, and collects what is left out."""

    def __init__(self, archive: Archive, connect: Callable[[], Session], codec: Codec) -> None:
        """`connect`: opens a session of the restoring login. `codec`: of the archive's text."""
        self._archive, self._connect, self._codec = archive, connect, codec
        self._lock = threading.Lock()
        self.left_out: list[LeftOut] = []
        #: Foreign keys that do not exist, as the entries of their comments name them.
        self._absent: list[str] = []

    def restore(self, step: Step, items: Sequence[Item]) -> None:
        """Restore `items`; RefnetError if the server rejects one that must not be left out."""
        for part, some in _runs(step, items) if step.jobs > 1 else [(step, items)]:
            self._restore(part, some)

    def _restore(self, step: Step, items: Sequence[Item]) -> None:
        items = self._without_absent(items)
        if not any(item.is_leaf for item in items):
            if items:
                self._archive.restore(step, items)
            return
        refused = self._archive.restore_leaves(step, items)
        failed = items if refused is None else refused
        unknown = [item for item in items if item.is_foreign_key and item not in (refused or ())]
        for item in failed:
            if item.is_leaf and item not in unknown:
                self._mend(step, item)
        if failed and step.jobs > 1:
            self._add_missing(step, unknown)
        # Comments on foreign keys, which exist now, or are left out; errors of others can be lost too.
        again = items if failed and step.jobs > 1 else failed
        if left := self._without_absent(item for item in again if not item.is_leaf):
            self._archive.restore(Step(step.programs, step.doing), left)

    def plain_indexes(self, programs: Programs, items: Iterable[Item]) -> dict[Item, list[bytes]]:
        """Return each index of `items` that is not unique, with its statements."""
        indexes = [item for item in items if item.is_index]
        found: list[list[bytes]] = []
        place: list[bytes] = []
        for statement in statements(self._archive.text(programs, indexes)) if indexes else ():
            if statement.startswith(b"SET default_tablespace ") and self._archive.tablespaces:
                place = [statement]
            elif statement.startswith((b"CREATE INDEX ", b"CREATE UNIQUE INDEX ")):
                found.append([*place, statement])
            elif found and statement.startswith(b"ALTER "):
                found[-1].append(statement)
        if len(found) != len(indexes):
            raise _unreadable("building an index", "of some index")
        each = zip(indexes, found, strict=True)
        return {item: some for item, some in each if any(map(_INDEX.fullmatch, some))}

    def build(self, indexes: Iterable[Sequence[bytes]]) -> None:
        """Build `indexes`, each by its statements; leave out those whose functions fail."""
        for some in indexes:
            if error := self._run(*some):
                found = server_errors.of_server(error, "building an index")
                if not found.in_function:
                    raise found from error
                self._leave_out_index(
                    next(filter(None, map(_INDEX.fullmatch, some))), server_errors.words(error)
                )

    def _leave_out_index(self, found: re.Match[bytes], why: str) -> None:
        decode, listed = self._codec.decode, _LISTED.unquoted
        table = decode(found["schema"] + b"." + found["table"])
        drop = f"DROP INDEX IF EXISTS {decode(found['schema'] + b'.' + found['name'])}"
        schema, name = listed(found["schema"]), listed(found["name"])
        self._absent += [f"COMMENT {schema} INDEX {name} ", f"INDEX ATTACH {schema} {name} "]
        by_hand = " ".join(decode(found[0]).split())
        self._note(
            LeftOut(f"index {decode(found['name'])} of {table}", "is missing", why, by_hand, drop=drop)
        )

    def _without_absent(self, items: Iterable[Item]) -> list[Item]:
        return [item for item in items if not any(absent in item.what for absent in self._absent)]

    def _add_missing(self, step: Step, keys: Sequence[Item]) -> None:
        """Add foreign keys whose errors were lost: parallel pg_restore processes overwrite each other's lines."""
        text = self._archive.text(step.programs, keys) if keys else b""
        found = [one for one in map(_FOREIGN_KEY.fullmatch, statements(text)) if one]
        if len(found) != len(keys):
            raise _unreadable(step.doing, "of some foreign key")
        for one in found:
            error = self._run(one[0])
            if error is not None and error.sqlstate != _EXISTS:
                self._add(step.doing, one)

    def _mend(self, step: Step, item: Item) -> None:
        text = self._archive.text(step.programs, [item])
        for statement in statements(text):
            if found := _REFRESH.fullmatch(statement):
                self._refresh(step.doing, found)
                return
            if found := _LABEL.fullmatch(statement):
                self._label(step.doing, found)
                return
            if found := _FOREIGN_KEY.fullmatch(statement):
                self._add(step.doing, found)
                return
        raise _unreadable(step.doing, item.what)

    def _refresh(self, doing: str, found: re.Match[bytes]) -> None:
        error = self._run(found[0])
        if error is None:
            return
        if server_errors.is_servers(error.sqlstate):
            raise server_errors.of_server(error, doing) from error
        what = f"materialized view {self._codec.decode(found['view'])}"
        fault = Fault.ENVIRONMENT if error.sqlstate in _LACKS else Fault.SOURCE
        self._note(LeftOut(what, "is empty", server_errors.words(error), self._codec.decode(found[0]), fault))

    def _label(self, doing: str, found: re.Match[bytes]) -> None:
        error = self._run(found[0])
        if error is None:
            return
        if error.sqlstate != _NOT_LOADED:
            raise server_errors.of_server(error, doing) from error
        what = f"security label of {self._codec.decode(found['provider'])} on {self._codec.decode(found['what'])}"
        self._note(
            LeftOut(
                what,
                "is missing",
                server_errors.words(error),
                self._codec.decode(found[0]),
                Fault.ENVIRONMENT,
            )
        )

    def _add(self, doing: str, found: re.Match[bytes]) -> None:
        error = self._run(found[0])
        if error is None:
            return
        if error.sqlstate != _BROKEN:
            raise server_errors.of_server(error, doing) from error
        table, name = self._codec.decode(found["table"]), self._codec.decode(found["name"])
        what, why = f"foreign key {name} of {table}", server_errors.words(error)
        alter = f"ALTER TABLE {table}"
        if self._run(found[0] + b" NOT VALID") is None:
            by_hand = f"{alter} VALIDATE CONSTRAINT {name}"
            constraint = self._codec.unquoted(found["name"])
            self._note(LeftOut(what, "is NOT VALID", why, by_hand, constraint=constraint))
        else:  # of a partitioned table, before PostgreSQL 18
            drop = f"{alter} DROP CONSTRAINT {name}"
            schema, relation = _NAMES.findall(found["table"])
            comment = b" CONSTRAINT %b ON %b " % (found["name"], relation)
            self._absent.append(f"COMMENT {_LISTED.unquoted(schema)}{_LISTED.decode(comment)}")
            self._note(
                LeftOut(what, "is missing", why, " ".join(self._codec.decode(found[0]).split()), drop=drop)
            )

    def _run(self, *some: bytes) -> psycopg.Error | None:
        """Run statements in one session; return the first error."""
        with self._connect() as session:
            try:
                for statement in some:
                    session.execute(statement)
            except psycopg.Error as error:
                return error
        return None

    def _note(self, one: LeftOut) -> None:
        with self._lock:
            self.left_out.append(one)


def _unreadable(doing: str, what: str) -> ServerError:
    return ServerError(
        f"{doing}: the entry {what} cannot be read", "Check the artifact with `refnet verify`."
    )
