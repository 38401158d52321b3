"""Restores foreign keys, contents of materialized views and security labels, on which nothing else depends.

A violated foreign key is added as NOT VALID; a view whose query fails stays empty; the label of a provider that this
server has not loaded is left out, as nothing would read it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence

import psycopg

from refnet.catalog.evidence import Fault
from refnet.sources.database import server_errors
from refnet.sources.database.admin_session import Session
from refnet.sources.database.artifact.schema_toc import Item
from refnet.sources.database.restore.left_out import LeftOut, fault_of_state
from refnet.sources.database.restore.schema_archive import Archive
from refnet.sources.database.server_errors import ServerError
from refnet.sources.database.sql_text import IDENT, Codec, statements
from refnet.sources.database.workers import Programs

_REFRESH = re.compile(rb"REFRESH MATERIALIZED VIEW (?P<view>.+)", re.DOTALL)
_FOREIGN_KEY = re.compile(
    rb"ALTER TABLE (?:ONLY )?(?P<table>(?:%b)\.(?:%b))\s+ADD CONSTRAINT (?P<name>%b) FOREIGN KEY .+"
    % (IDENT, IDENT, IDENT),
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


class Leaves:
    """Restores leaf entries of an archive, and collects what is left out."""

    def __init__(self, archive: Archive, connect: Callable[[], Session], codec: Codec) -> None:
        """`connect`: opens a session of the restoring login. `codec`: of the archive's text."""
        self._archive, self._connect, self._codec = archive, connect, codec
        self._lock = threading.Lock()
        self.left_out: list[LeftOut] = []
        #: Foreign keys that do not exist, as the entries of their comments name them.
        self._absent: list[str] = []

    def restore(
        self,
        programs: Programs,
        doing: str,
        items: Sequence[Item],
        *,
        jobs: int = 1,
        owners: bool = True,
    ) -> None:
        """Restore `items`; RefnetError if the server rejects one that must not be left out."""
        items = self._without_absent(items)
        if not any(item.is_leaf for item in items):
            self._archive.restore(programs, doing, items, jobs=jobs, owners=owners)
            return
        failed = self._archive.restore_leaves(programs, doing, items, jobs=jobs, owners=owners)
        for item in (one for one in failed if one.is_leaf):
            self._mend(programs, doing, item)
        if failed and jobs > 1:
            self._add_missing(
                programs, doing, [one for one in items if one.is_foreign_key and one not in failed]
            )
        # Comments on foreign keys, which exist now, or are left out.
        if left := self._without_absent(item for item in failed if not item.is_leaf):
            self._archive.restore(programs, doing, left)

    def _without_absent(self, items: Iterable[Item]) -> list[Item]:
        return [item for item in items if not any(absent in item.what for absent in self._absent)]

    def _add_missing(self, programs: Programs, doing: str, keys: Sequence[Item]) -> None:
        """Add foreign keys whose errors were lost: parallel pg_restore processes overwrite each other's lines."""
        for statement in statements(self._archive.text(programs, keys)) if keys else ():
            if found := _FOREIGN_KEY.fullmatch(statement):
                error = self._run(statement)
                if error is not None and error.sqlstate != _EXISTS:
                    self._add(doing, statement, found)

    def _mend(self, programs: Programs, doing: str, item: Item) -> None:
        text = self._archive.text(programs, [item])
        for statement in statements(text):
            if found := _REFRESH.fullmatch(statement):
                self._refresh(doing, statement, found)
                return
            if found := _LABEL.fullmatch(statement):
                self._label(doing, statement, found)
                return
            if found := _FOREIGN_KEY.fullmatch(statement):
                self._add(doing, statement, found)
                return
        raise ServerError(
            f"{doing}: the entry {item.what} cannot be read", "Check the artifact with `refnet verify`."
        )

    def _refresh(self, doing: str, statement: bytes, found: re.Match[bytes]) -> None:
        error = self._run(statement)
        if error is None:
            return
        if server_errors.is_servers(error.sqlstate):
            raise server_errors.of_server(error, doing) from error
        what, by_hand = (
            f"materialized view {self._codec.decode(found['view'])}",
            self._codec.decode(statement),
        )
        self._note(LeftOut(what, "is empty", _said(error), by_hand, fault_of_state(error.sqlstate)))

    def _label(self, doing: str, statement: bytes, found: re.Match[bytes]) -> None:
        error = self._run(statement)
        if error is None:
            return
        if error.sqlstate != _NOT_LOADED:
            raise server_errors.of_server(error, doing) from error
        what = f"security label of {self._codec.decode(found['provider'])} on {self._codec.decode(found['what'])}"
        self._note(
            LeftOut(what, "is missing", _said(error), self._codec.decode(statement), Fault.ENVIRONMENT)
        )

    def _add(self, doing: str, statement: bytes, found: re.Match[bytes]) -> None:
        error = self._run(statement)
        if error is None:
            return
        if error.sqlstate != _BROKEN:
            raise server_errors.of_server(error, doing) from error
        table, name = self._codec.decode(found["table"]), self._codec.decode(found["name"])
        what, why = f"foreign key {name} of {table}", _said(error)
        alter = f"ALTER TABLE {table}"
        if self._run(statement + b" NOT VALID") is None:
            by_hand = f"{alter} VALIDATE CONSTRAINT {name}"
            constraint = self._codec.unquoted(found["name"])
            self._note(LeftOut(what, "is NOT VALID", why, by_hand, constraint=constraint))
        else:  # of a partitioned table, before PostgreSQL 18
            drop = f"{alter} DROP CONSTRAINT {name}"
            schema, relation = _NAMES.findall(found["table"])
            comment = b" CONSTRAINT %b ON %b " % (found["name"], relation)
            self._absent.append(f"COMMENT {_LISTED.unquoted(schema)}{_LISTED.decode(comment)}")
            self._note(
                LeftOut(what, "is missing", why, " ".join(self._codec.decode(statement).split()), drop=drop)
            )

    def _run(self, statement: bytes) -> psycopg.Error | None:
        with self._connect() as session:
            try:
                session.execute(statement)
            except psycopg.Error as error:
                return error
        return None

    def _note(self, one: LeftOut) -> None:
        with self._lock:
            self.left_out.append(one)


def _said(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error)).strip().split("\n")[0]
