"""`/decide`: pin, tag, accept or forget an artifact, and prune; the plan is what the command prints with `--plan`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from fastapi import APIRouter, Request, Response

from refnet.core.errors import Exit, RefnetError
from refnet.core.formatting import plain
from refnet.web.children import CommandOutput
from refnet.web.decisions import Decision, Verb, fingerprint, prunes_nothing
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
