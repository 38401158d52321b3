"""A requested pin, tag, acceptance, deletion or prune: its command line, its plan, and its confirmation."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import StrEnum

from refnet.actions.marks import check_tag
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain
from refnet.web import child_process
from refnet.web.children import CommandOutput

#: Values of a plan that depend on the time of day.
_VOLATILE = frozenset(("reasons", "bytes_freed", "bytes_freed_at_most"))
_LONGEST_UNTIL = 40


class Verb(StrEnum):
    """What is decided, as the command's name."""

    PIN = "pin"
    UNPIN = "unpin"
    TAG = "tag"
    ACCEPT = "accept"
    FORGET = "forget"
    PRUNE = "prune"


@dataclass(frozen=True)
class Decision:
    """What a user decides about one artifact, or a prune; RefnetError (USAGE) for values that no command takes."""

    verb: Verb
    #: Of a prune "": all.
    source: str
    #: A name that the catalog has; "" for a prune.
    artifact: str = ""
    #: With TAG.
    tag: str = ""
    #: With TAG: remove it.
    remove: bool = False
    #: With PIN: a date; "": until it is unpinned.
    until: str = ""
    #: With FORGET: delete even the last proven one of its source.
    last: bool = False

    def __post_init__(self) -> None:
        if (self.verb is Verb.PRUNE) == bool(self.artifact):
            raise RefnetError(
                f"{self.verb}: an artifact is missing, or given to a prune",
                "Choose it on /timeline.",
                Exit.USAGE,
            )
        if self.verb is Verb.TAG:
            check_tag(self.tag)
        if len(self.until) > _LONGEST_UNTIL or not self.until.isprintable():
            raise RefnetError(
                f"'{plain(self.until)[:40]}' is not a date", "Give a date such as 2027-01-31.", Exit.USAGE
            )

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the command line after `refnet`."""
        about = self.artifact or self.source
        more = {
            Verb.TAG: (self.tag, *(["--remove"] if self.remove else [])),
            Verb.PIN: (f"--until={self.until}",) if self.until else (),
            Verb.FORGET: ("--force-last",) if self.last else (),
        }
        return (str(self.verb), *([about] if about else []), *more.get(self.verb, ()))

    @property
    def command(self) -> str:
        """The command for a shell."""
        return shlex.join(["refnet", *self.words])

    @property
    def deletes(self) -> bool:
        """Whether artifacts are gone afterwards: its name is typed, and its plan shown, before."""
        return self.verb in {Verb.FORGET, Verb.PRUNE}

    @property
    def to_run(self) -> tuple[str, ...]:
        """The words that carry it out without a question."""
        return (*self.words, "--force") if self.deletes else self.words

    @property
    def name_to_type(self) -> str:
        """What confirms a deletion; "": nothing."""
        return (self.artifact or self.source or "prune") if self.deletes else ""

    @property
    def exclusive(self) -> str:
        """The key of decisions that exclude each other."""
        return f"decide:{self.source}"


def fingerprint(decision: Decision, stdout: str) -> str:
    """SHA-256 of a decision and the plan that `--plan --json` printed; ValueError if it printed none."""
    return child_process.fingerprint(decision.words, child_process.printed(stdout), _VOLATILE)


def prunes_nothing(decision: Decision, said: CommandOutput) -> bool:
    """Whether the plan of a prune, which `--plan --json` printed, deletes nothing."""
    if decision.verb is not Verb.PRUNE or said.code != Exit.DONE:
        return False
    plan = child_process.printed(said.stdout)
    parts = (*plan.get("sources", ()), *plan.get("stores", ()))
    return not any(
        part.get("leftovers") or part.get("previous_versions") or part.get("outlived") for part in parts
    ) and all(one["keep"] for part in parts for one in part["artifacts"])
