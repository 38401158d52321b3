"""`/decide`: pin, tag, accept or forget an artifact, and prune; the plan is what the command prints with `--plan`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from fastapi import APIRouter, Request, Response

from refnet.actions.marks import check_tag
from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain
from refnet.web import child_process
from refnet.web.children import CommandOutput
from refnet.web.pages.base import begin_run, form, page, reading, settings_of, short, source_of
from refnet.web.shared_facts import artifacts

router = APIRouter(prefix="/decide", include_in_schema=False)


@router.get("")
async def plan(request: Request) -> Response:
    """Show what a decision would do."""
    return await _shown(request, await _decision(request, request.query_params))


@router.post("")
async def decide(request: Request) -> Response:
    """Carry out the decision of the form; a deletion only with its typed name, and if its plan is the one shown."""
    given = await form(request)
    decision = await _decision(request, given)
    if decision.deletes:
        if given.get("typed", "").strip() != decision.name_to_type:
            return await _shown(request, decision, 400, refusal="name")
        if given.get("fingerprint") != _fingerprint(decision, await _plan(request, decision, "--json")):
            return await _shown(request, decision, 409, refusal="changed")
    about = {"kind": str(decision.verb), "source": decision.source, "exclusive": decision.exclusive}
    return await begin_run(request, decision.to_run, title=decision.command[:300], **about)


async def _decision(request: Request, given: Mapping[str, str]) -> Decision:
    """The decision that is asked for; RefnetError (USAGE) if the catalog has no such artifact in the backup folder."""
    try:
        verb = Verb(given.get("verb", ""))
    except ValueError:
        raise RefnetError(
            "the form names no decision of this page", "Choose one on the page of an artifact.", Exit.USAGE
        ) from None
    source, artifact = given.get("source", ""), given.get("artifact", "")
    if verb is Verb.PRUNE:
        if source:
            await reading(request, "the settings", partial(source_of, settings_of(request), source))
    elif (await artifacts(request)).find(source, artifact)[1]:
        hint = "`refnet prune --store NAME` deletes copies that the retention of the store does not keep."
        raise RefnetError(f"{plain(artifact)[:100]} is only in a remote store", hint, Exit.USAGE)
    flags = {"remove": given.get("remove") == "yes", "last": given.get("last") == "yes"}
    return Decision(verb, source, artifact, given.get("tag", ""), until=given.get("until", ""), **flags)


async def _shown(request: Request, decision: Decision, status: int = 200, refusal: str = "") -> Response:
    said = await _plan(request, decision)
    problem, mark, nothing = None, "", False
    if said.code != Exit.DONE and not said.stdout:
        problem = _failure(decision, said)
    elif decision.deletes:
        plan = await _plan(request, decision, "--json")
        mark, nothing = _fingerprint(decision, plan), prunes_nothing(decision, plan)
    text = "".join(f"{plain(line)}\n" for line in said.stdout.splitlines())
    return page(
        request,
        "decide.html.j2",
        status,
        decision=decision,
        text=text,
        problem=problem,
        mark=mark,
        nothing=nothing,
        refusal=refusal,
    )


async def _plan(request: Request, decision: Decision, *more: str) -> CommandOutput:
    return await short(request, [*decision.words, "--plan", *more], seconds=120.0)


def _fingerprint(decision: Decision, said: CommandOutput) -> str:
    try:
        return fingerprint(decision, said.stdout)
    except ValueError:
        raise _failure(decision, said) from None


def _failure(decision: Decision, said: CommandOutput) -> RefnetError:
    message = f"`{decision.command} --plan` ended with exit code {said.code}"
    return said.error(message, "Run it in a terminal.", Exit.USAGE)


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
