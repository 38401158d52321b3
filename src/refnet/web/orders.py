"""A restore or an undo that somebody orders: its words on the command line, its plan, and what confirms it."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from refnet.core import checked
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain
from refnet.recovery.model.restore_place import OWN_NAME, check_name
from refnet.recovery.model.source_name import SourceName
from refnet.sources import kind_of
from refnet.web import child_files

#: The values of a plan that change while the live database or folder is in use: they do not make it another plan.
_VOLATILE = frozenset(
    (
        *("bytes_needed", "bytes_free", "live_bytes", "connections", "tables", "written_since"),
        *("added", "changed", "removed", "excluded"),
    )
)
_TEXT = checked.text(10_000, errors="strict")
_TEXTS = checked.each(_TEXT, 10_000)
_COUNT = checked.record({"count": checked.integer(0, 1 << 63)}, more=True)
_PROBLEM = checked.record({"message": _TEXT, "hint": _TEXT})
_PLAN = checked.record(
    {}, {"problems": checked.each(_PROBLEM, 10_000), "database": _TEXT, "artifact": _TEXT}, more=True
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
    """The kind of an order, as a word of the command line."""

    RESTORE = "restore"
    UNDO = "undo"


class Refusal(StrEnum):
    """The reason why the form of an order starts nothing."""

    #: The typed name is not that of the target.
    NAME = "name"
    #: The plan is not the one that was shown.
    CHANGED = "changed"
    #: The plan has problems.
    PROBLEMS = "problems"


@dataclass(frozen=True)
class Order:
    """A restore or an undo of one source; RefnetError (USAGE) for a name that the command line could read as an option."""

    verb: Verb
    source: SourceName
    #: The artifact in the catalog that is restored, or the previous version that comes back; "": the last one.
    name: str = ""
    #: The new database that is made beside the live one; "": the live one is replaced.
    beside: str = ""
    #: The newest artifact at or before this ISO date-time is restored; "": the named one.
    at: str = ""

    def __post_init__(self) -> None:
        if self.beside:
            check_name(self.beside, "--as")
        if self.beside and (self.verb is Verb.UNDO or not kind_of(self.source).by_name):
            raise RefnetError("--as is for a restore of a database only", "Leave it empty.", Exit.USAGE)
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
        options = {"--as": self.beside, "--at": self.at}
        given = (f"{option}={value}" for option, value in options.items() if value)
        return (str(self.verb), str(self.source), *([self.name] if self.name else []), *given)

    @property
    def command(self) -> str:
        """The command for a shell."""
        return shlex.join(["refnet", *self.words])

    @property
    def exclusive(self) -> str:
        """One order with this key runs at a time."""
        return f"restore:{self.source}"


@dataclass(frozen=True)
class OrderPlan:
    """The plan of an order, as the command line prints it."""

    order: Order
    #: Of `--plan --json`.
    values: Mapping[str, Any]
    #: SHA-256 of the artifact, by its manifest; "": an undo.
    sha256: str = ""

    @property
    def name_to_type(self) -> str:
        """The name of the database that is written; of a folder or of roles the name of the source."""
        return str(self.values["database"]) if kind_of(self.order.source).by_name else self.order.source

    @property
    def problems(self) -> list[dict[str, str]]:
        """Each problem that stops it, as {message, hint}."""
        return list(self.values.get("problems", ()))

    @property
    def fingerprint(self) -> str:
        """A digest of the order and of all that its plan decides; counts of what is live are left out."""
        decided = {key: value for key, value in self.values.items() if key not in _VOLATILE}
        known = json.dumps([self.order.words, self.sha256, decided], sort_keys=True)
        return hashlib.sha256(known.encode()).hexdigest()

    def refusal(self, form: Mapping[str, str]) -> Refusal | None:
        """Return why the fields `fingerprint` and `typed` of a form do not start it."""
        if self.problems:
            return Refusal.PROBLEMS
        if form.get("fingerprint", "") != self.fingerprint:
            return Refusal.CHANGED
        right = form.get("typed", "").strip() == self.name_to_type.strip()
        return None if right else Refusal.NAME


def read_plan(order: Order, code: int, stdout: str, stderr: str, sha256: str = "") -> OrderPlan:
    """Return the plan that `--plan --json` printed; RefnetError with the two lines of stderr where it printed none."""
    try:
        values = child_files.result(stdout)
        known = _PLAN(values)
    except ValueError:
        raise failure(order, code, stderr) from None
    if kind_of(order.source).by_name and "database" not in known:
        raise failure(order, code, stderr)
    return OrderPlan(order, values, sha256)


def read_result(values: object) -> dict[str, Any]:
    """Return what a page shows of the result of a restore or an undo; nothing of one that is malformed."""
    try:
        found: dict[str, Any] = _RESULT(values)
    except ValueError:
        return {}
    return found


def failure(order: Order, code: int, stderr: str) -> RefnetError:
    """Return the error that a command ended with: the last one of its stderr."""
    said = child_files.last_error(stderr)
    documented = code in {one.value for one in Exit} and code != Exit.DONE
    if not said or not documented:
        return RefnetError(
            f"`{order.command} --plan` ended with exit code {code} and said nothing",
            "Run it on the command line.",
        )
    return RefnetError(*said, Exit(code))
