"""A requested restore or undo: its command line, its plan, and its confirmation."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from refnet.catalog.source_name import Kind, SourceName
from refnet.core import checked
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain
from refnet.settings import Settings, user_path
from refnet.settings.sources import server_of
from refnet.settings.urls import database_url
from refnet.sources.database.plan.restore_facts import OWN_NAME, check_name
from refnet.sources.restore_options import Mode
from refnet.web import child_process

#: The most characters of a place to restore to.
_LONGEST_PLACE = 4000
#: Values of a plan that change while the live database or folder is in use, and do not count as a change.
_VOLATILE = frozenset(
    (
        *("bytes_needed", "bytes_free", "live_bytes", "connections", "tables", "written_since"),
        *("added", "changed", "removed", "excluded", "recovery", "seconds"),
    )
)
#: The head of the table in the text of a plan.
_COLUMNS = ["table", "rows", "live", "written", "since"]
#: Of a pattern of tables; each stands for itself in brackets.
_SPECIAL = re.compile(r"[*?[]")
_TEXT = checked.text(10_000, errors="strict")
_TEXTS = checked.each(_TEXT, 10_000)
_COUNT = checked.record({"count": checked.integer(0, 1 << 63)}, more=True)
_PROBLEM = checked.record({"message": _TEXT, "hint": _TEXT})
_PLAN = checked.record(
    {}, {"problems": checked.each(_PROBLEM, 10_000), "database": _TEXT, "artifact": _TEXT}, more=True
)
_ROWS = checked.or_none(checked.integer(0, 1 << 63))
#: The most tables of a plan that a page shows as a table; more stay text.
_TABLES = checked.each(
    checked.record(
        {
            "name": _TEXT,
            "live_rows_exact": checked.or_none(checked.flag),
            **dict.fromkeys(("rows", "live_rows", "written_since"), _ROWS),
        }
    ),
    100,
)
_RESULT = checked.record(
    {},
    {
        **dict.fromkeys(("artifact", "database", "server", "folder", "back", "hint"), _TEXT),
        "kept": checked.or_none(_TEXT),
        "seconds": checked.mapping(_TEXT, checked.seconds, 100),
        "findings": checked.each(checked.record({"outcome": _TEXT}, more=True), 1_000_000),
        "notes": _TEXTS,
        "create_roles": _TEXTS,
        "done": checked.flag,
        **dict.fromkeys(("added", "changed", "removed"), _COUNT),
        "comparison": checked.record({"outcome": _TEXT, "reason": _TEXT}, more=True),
    },
    more=True,
)


class Verb(StrEnum):
    """The kind of an order, as the command's name."""

    RESTORE = "restore"
    UNDO = "undo"


class ByHand(StrEnum):
    """Why a restore is left to a terminal: a page shows the command."""

    #: A copy in a remote store needs the recovery key.
    REMOTE = "remote"
    #: So does the encrypted backup folder.
    ENCRYPTED = "encrypted"
    #: A whole server needs a folder of its own.
    WHOLE = "whole"
    #: A page writes to no place outside of what the settings name, and replaces nothing there.
    ELSEWHERE = "elsewhere"


class Refusal(StrEnum):
    """Why the form of an order was refused."""

    #: The typed name differs from the target's.
    NAME = "name"
    #: The plan differs from the one that was shown.
    CHANGED = "changed"
    #: The plan has problems.
    PROBLEMS = "problems"


@dataclass(frozen=True)
class Order:
    """A restore or an undo of one source; RefnetError (USAGE) for a name that could be read as an option."""

    verb: Verb
    source: SourceName
    #: The artifact to restore, or the previous version to bring back; "": the last one.
    name: str = ""
    #: The name of a new database beside the live one; "": replace the live one.
    beside: str = ""
    #: An ISO date-time: restore as of it, by WAL or by the newest artifact at or before it; "": the named artifact.
    at: str = ""
    #: Of a folder: the path in the artifact that alone is restored; "": everything.
    only: str = ""
    #: Of a database: the table, as schema.name, that alone is restored, in place; "": the whole database.
    table: str = ""
    #: How its rows change; None: the table is expected to be missing.
    mode: Mode | None = None
    #: Of a folder: add missing files, replace older ones, delete nothing.
    merge: bool = False
    #: A new folder, or the URL of a new database, instead of the live one; "": the live one.
    to: str = ""
    #: The remote store to read; "": the backup folder.
    store: str = ""

    def __post_init__(self) -> None:
        if self.beside:
            check_name(self.beside, "--as")
        if self.beside and (self.verb is Verb.UNDO or not self.source.kind.row.by_name):
            raise RefnetError("--as is for a restore of a database only", "Leave it empty.", Exit.USAGE)
        fits = {"only": self.source.kind is Kind.FOLDER, "table": self.source.kind is Kind.DATABASE}
        for part, can in fits.items():
            asked = getattr(self, part)
            if asked and not (can and self.verb is Verb.RESTORE and asked.isprintable() and not self.beside):
                raise RefnetError(
                    f"'{plain(asked)[:100]}' cannot be restored alone here",
                    "Restore the whole artifact, or use the command line.",
                    Exit.USAGE,
                )
        if self.merge and (self.verb is Verb.UNDO or self.source.kind is not Kind.FOLDER):
            raise RefnetError("--merge is for a restore of a folder only", "Leave it out.", Exit.USAGE)
        if self.to and (self.beside or not self.to.isprintable() or len(self.to) > _LONGEST_PLACE):
            raise RefnetError(
                "--to needs the path of a folder or the URL of a database, and excludes --as",
                "Give one of them.",
                Exit.USAGE,
            )
        previous = self.verb is Verb.RESTORE or not self.name or OWN_NAME.fullmatch(self.name)
        if not previous or not self.name.isprintable() or self.name.startswith(("-", "/")):
            raise RefnetError(
                f"'{plain(self.name)[:100]}' cannot be chosen here",
                "Choose from the list, or use the command line.",
                Exit.USAGE,
            )

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the command line after `refnet`."""
        options = {"--as": self.beside, "--at": self.at, "--only": self.only}
        options |= {
            "--table": _SPECIAL.sub(r"[\g<0>]", self.table),
            "--mode": str(self.mode) if self.table and self.mode else "",
        }
        options |= {"--to": self.to, "--store": self.store}
        given = (f"{option}={value}" for option, value in options.items() if value)
        more = (*given, *(["--merge"] if self.merge else []))
        return (str(self.verb), str(self.source), *([self.name] if self.name else []), *more)

    @property
    def command(self) -> str:
        """The command for a shell."""
        return shlex.join(["refnet", *self.words])

    def command_from(self, url: str, signer: str) -> str:
        """The command for a shell of another machine, where the store has no name and its signer is not known."""
        named = [f"--store={url}" if word == f"--store={self.store}" else word for word in self.words]
        return shlex.join(["refnet", *named, *([f"--signer={signer}"] if signer else [])])

    @property
    def exclusive(self) -> str:
        """The key of orders that exclude each other."""
        return f"restore:{self.source}"


@dataclass(frozen=True)
class OrderPlan:
    """The plan of an order, as the command line prints it."""

    order: Order
    #: The document of `--plan --json`.
    values: Mapping[str, Any]
    #: The artifact's SHA-256 in its manifest; "" for an undo.
    sha256: str = ""

    @property
    def name_to_type(self) -> str:
        """The name to type: of the database that is written; for other kinds, of the source."""
        return str(self.values["database"]) if self.order.source.kind.row.by_name else self.order.source

    @property
    def replaces_elsewhere(self) -> bool:
        """Whether it replaces something at a place that the request named."""
        return bool(self.order.to) and self.values.get("replaces") is not False

    @property
    def to_run(self) -> tuple[str, ...]:
        """The words that carry it out; what the plan does not replace, nothing there permits to replace later."""
        forced = self.values.get("replaces") is not False
        return (*self.order.words, *(["--force"] if forced else []))

    @property
    def tables(self) -> Sequence[Mapping[str, Any]]:
        """The tables of a restore of a database, with their rows; empty: the plan has no such list, or a long one."""
        try:
            found: list[dict[str, Any]] = _TABLES(self.values.get("tables", []))
        except ValueError:
            return ()
        return found

    def without_tables(self, text: str) -> str:
        """The plan as text, without the lines of `tables`; all of it if these are others, as it is of another moment."""
        lines = text.splitlines(keepends=True)
        begin = next((at for at, line in enumerate(lines, 1) if line.split() == _COLUMNS), 0)
        end, names = begin + len(self.tables), [f"{plain(one['name'])}  " for one in self.tables]
        if begin and list(map(str.startswith, lines[begin:end], names)) == [True] * len(names):
            del lines[begin - 1 : end]
        return "".join(lines)

    @property
    def problems(self) -> list[dict[str, str]]:
        """The problems that prevent the order, as {message, hint}."""
        return list(self.values.get("problems", ()))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the order and its plan, without the volatile values of the live side."""
        return child_process.fingerprint((*self.order.words, self.sha256), self.values, _VOLATILE)

    def refusal(self, form: Mapping[str, str]) -> Refusal | None:
        """Return why a form with the fields `fingerprint` and `typed` is refused; None: accepted."""
        if self.problems:
            return Refusal.PROBLEMS
        if form.get("fingerprint", "") != self.fingerprint:
            return Refusal.CHANGED
        right = form.get("typed", "").strip() == self.name_to_type.strip()
        return None if right else Refusal.NAME


def by_hand(order: Order, settings: Settings) -> ByHand | None:
    """Why a page neither plans nor starts `order`; None: it does."""
    if order.verb is Verb.UNDO:
        return None
    if order.store:
        return ByHand.REMOTE
    if settings.encryption_local:
        return ByHand.ENCRYPTED
    if order.source.kind is Kind.CLUSTER:
        return ByHand.WHOLE
    return ByHand.ELSEWHERE if order.to and not _is_known_place(order, settings) else None


def _is_known_place(order: Order, settings: Settings) -> bool:
    """Whether --to names a new folder beside the source's own one that begins with its name, or a server of the settings.

    Elsewhere a restored file could become a program that runs; a URL with options could name a file of this machine.
    """
    if order.source.kind is Kind.FOLDER:
        own, to = settings.of(order.source).path, user_path(order.to)
        if own is None or not to.is_absolute() or os.path.lexists(to) or not to.name.startswith(own.name):
            return False
        return os.path.realpath(to.parent) == str(Path(os.path.realpath(own)).parent)
    if order.source.kind is not Kind.DATABASE or "?" in order.to:
        return False
    try:
        database_url(order.to)
        password = urlsplit(order.to).password
    except ValueError:
        return False
    named = (*settings.sources.values(), *settings.clusters.values())
    servers = {server_of(url)[0] for one in named for url in (one.url, one.restore_url) if url}
    return password is None and server_of(order.to)[0] in servers


def read_plan(order: Order, code: int, stdout: str, stderr: str, sha256: str = "") -> OrderPlan:
    """Parse the plan that `--plan --json` printed; RefnetError with the error on stderr if there is none."""
    try:
        values = child_process.printed(stdout)
        known = _PLAN(values)
    except ValueError:
        raise failure(order, code, stderr) from None
    if order.source.kind.row.by_name and "database" not in known:
        raise failure(order, code, stderr)
    return OrderPlan(order, values, sha256)


def read_result(values: object) -> dict[str, Any]:
    """Return the values of a restore's or undo's result that a page shows; {} if it is malformed."""
    try:
        found: dict[str, Any] = _RESULT(values)
    except ValueError:
        return {}
    return found


def failure(order: Order, code: int, stderr: str) -> RefnetError:
    """Return the last error on a command's stderr."""
    said = child_process.last_error(stderr)
    documented = code in {one.value for one in Exit} and code != Exit.DONE
    if not said or not documented:
        return RefnetError(
            f"`{order.command} --plan` ended with exit code {code} without a message",
            "Run it on the command line.",
        )
    return RefnetError(*said, Exit(code))
