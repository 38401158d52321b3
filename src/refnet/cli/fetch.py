"""`refnet fetch`: bring copies back from a remote store into the backup folder; `refnet recover` begins with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated

import typer

from refnet import wiring
from refnet.actions import fetch as action
from refnet.actions.fetch import Fetched, FetchRequest, FoundCopies
from refnet.actions.watching import open_watch
from refnet.catalog.run import Reason, RunKind
from refnet.cli import options, render
from refnet.cli.command import spread
from refnet.cli.completion import source_or_artifact
from refnet.cli.context import (
    current_settings,
    note,
    note_signers,
    print_json,
    recovery_keys,
    remote_store,
    with_progress,
)
from refnet.cli.output import complain, say
from refnet.context import Context
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError, worst
from refnet.core.files import explained
from refnet.postgres.account import make_enterable


@spread
def fetch(
    artifact: Annotated[
        str | None,
        typer.Argument(
            metavar="ARTIFACT",
            help="A listed name, or a source for its newest; default: the newest of each.",
            **source_or_artifact(),
        ),
    ] = None,
    at: options.At = None,
    from_database: options.FromDatabase = None,
    plan: options.Plan = False,
    as_json: options.Json = False,
    *,
    place: options.StoreOptions,
) -> None:
    """Bring copies back into the backup folder.

    They come from a remote store. Each is compared with its signed manifest. What is there already is not fetched again, so an interrupted fetch
    continues.
    """
    here, found = opened(place, FetchRequest(artifact, at, from_database))
    if plan:
        fetched = list(action.plan(here, found))
    else:
        with open_watch(here).run(RunKind.FETCH) as at_work:
            fetched = list(bring(here, found, quiet=as_json))
            if failed := next((one.error for one in fetched if one.error), None):
                at_work.failed(Reason.COPY, failed.message, failed.hint)
    if as_json:
        print_json({"plan": plan} | to_json(found, fetched))
    elif plan:
        print_plan(found, fetched, here.local.root)
    raise typer.Exit(worst(one.exit for one in fetched))


def opened(place: options.StoreOptions, request: FetchRequest) -> tuple[Context, FoundCopies]:
    """Context with the remote store that `place` names, and the copies found; notes go to stderr."""
    settings = current_settings()
    if place.is_remote and settings.store(str(place.store)):
        with explained(settings.home):  # the user of a server that is made there later passes through
            make_enterable(settings.home)
    remote = remote_store(settings, replace(place, deleted=place.is_remote), key=True)
    if remote is None:
        raise RefnetError("no remote store is named", "Name one: --store NAME, or a URL.", Exit.USAGE)
    if not remote.trust.opener.recovery:
        recovery_keys(place.identity_file)  # it says what is missing
    here = Context(settings, note=note)
    wiring.with_cache(settings, remote)
    found = action.find(here, remote, request)
    if place.any_signer:
        note_signers(remote.shown, found.chosen)
    for sentence in found.notes:
        note(sentence)
    return here, found


def bring(here: Context, found: FoundCopies, *, quiet: bool) -> Iterator[Fetched]:
    """Bring the copies back with progress, and print each."""
    with with_progress(here, f"fetch from {found.store.name}") as shown:
        for one in action.bring(shown, found):
            if one.error:
                complain(one.error)
            elif not quiet:
                for sentence in (_done(one, found), *one.more):
                    say(f"{one.copy.source:9} {sentence}", flush=True)
            yield one


def print_plan(found: FoundCopies, fetched: Iterable[Fetched], folder: object) -> None:
    """Print what would be fetched, with size and signer."""
    print(f"Fetch from {found.store.shown} into {folder}:")
    rows = [
        (
            f"  {one.copy.source}",
            one.copy.name,
            formatting.local(one.copy.created),
            formatting.size(one.copy.manifest.size) if one.is_new else "is here already",
            f"signed by {one.copy.signed.signer}",
        )
        for one in fetched
    ]
    render.print_columns(rows, shorten=1)


def to_json(found: FoundCopies, fetched: Iterable[Fetched]) -> dict[str, object]:
    """JSON values of copies fetched, or to be fetched."""
    return {
        "store": found.store.shown,
        "copies": [one.to_json() for one in fetched],
        "notes": list(found.notes),
        "gaps": list(found.gaps),
    }


def _done(one: Fetched, found: FoundCopies) -> str:
    if not one.is_new:
        return f"{one.copy.name} exists here already and equals the copy in {found.store.bucket.shown}"
    size = formatting.size(one.copy.manifest.size)
    return f"{one.copy.name} fetched from {found.store.bucket.shown}: {size} in {formatting.seconds(one.seconds)}"
