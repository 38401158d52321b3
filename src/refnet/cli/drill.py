"""`refnet drill`: a timed proof of the newest artifact of each source, and a report."""

from __future__ import annotations

from typing import Annotated

import typer

from refnet.actions.choose import absence, select
from refnet.actions.drill import Drill, Rehearsal
from refnet.actions.drill import drill as run
from refnet.actions.recovery_drill import drill_recovery
from refnet.catalog.source_name import LOCAL
from refnet.catalog.store import AnyStore
from refnet.cli import options, render
from refnet.cli.command import spread
from refnet.cli.completion import source_or_artifact
from refnet.cli.context import context, note, print_json, recovery_keys, with_progress
from refnet.cli.output import say
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError
from refnet.store.live_pieces import OpenedPieces


@spread
def drill(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="ARTIFACT",
            help="A source, a listed name, or a path; default: every source's newest.",
            **source_or_artifact(),
        ),
    ] = None,
    recovery: Annotated[
        bool,
        typer.Option(
            "--recovery", help="Go the way of the recovery page, with nothing but what an empty machine has."
        ),
    ] = False,
    as_json: options.Json = False,
    *,
    place: options.StoreOptions,
) -> None:
    """Prove the newest artifacts, time it, and write a report.

    Restores into scratch servers and folders; touches nothing live. With --store and no ARTIFACT, every piece of every copy
    there is opened too. With --recovery, it names what a real recovery would ask, miss and take.
    """
    if recovery and source:
        raise RefnetError("--recovery is for all sources", "Omit the artifact.", Exit.USAGE)
    with with_progress(context(place, key=True, checks=True), "drill") as here:
        if recovery and here.remote and not here.has_key:
            if here.remote.name != LOCAL:
                recovery_keys(place.identity_file)  # it says what is missing
            note("the backup folder is encrypted: without the recovery key, --recovery can prove nothing")
            recovery = False
        if recovery:
            found, report = drill_recovery(here)
        else:
            found, report = run(here, select(here, source))
    if as_json:
        print_json(report.to_json())
    else:
        _print(found, here.store)
        say(f"report: {report.page}")
        if report.signature:
            say(f"signature: {report.signature}")
    raise typer.Exit(found.exit)


def _print(found: Drill, store: AnyStore) -> None:
    names = [result.chosen.source for result in found.results]
    width = max((9, *map(len, (*names, *found.absent))))
    for result in found.results:
        recovery = formatting.seconds(sum(result.proof.seconds.values()))
        render.print_proof(
            f"{result.chosen.source:{width}} {result.chosen.label}:", result.proof, indent=width + 1
        )
        render.print_beside(" " * width, result.beside)
        if result.chosen.entry and result.proof.seconds:
            old = formatting.age(found.started - result.chosen.entry.created)
            say(f"{'':{width}} measured recovery {recovery}, age of the data {old}")
    if found.opened:
        _print_pieces(found.opened)
    if found.recovery:
        _print_recovery(found, found.recovery)
    for name in found.absent:
        print(f"{name:{width}} could not verify: {absence(store, name)}")


def _print_recovery(found: Drill, recovery: Rehearsal) -> None:
    print(f"a recovery from {recovery.shown}")
    if recovery.copies:
        copies = f"{formatting.plural(recovery.copies, 'artifact')}, {formatting.size(recovery.size)}"
        print(f"  fetches {copies}, in {formatting.seconds(recovery.fetch_seconds)}")
    for verb, sentences in (
        ("asks for", recovery.asks),
        ("MISSES", recovery.misses),
        ("note:", recovery.notes),
    ):
        for one in sentences:
            print(f"  {verb} {formatting.plain(one)}")
    print(
        f"  takes {formatting.seconds(found.restore_seconds)} on this machine, without questions and installations"
    )


def _print_pieces(found: OpenedPieces) -> None:
    if found.trouble:
        print(
            f"{found.store}: could not verify: not every piece was opened: {formatting.plain(found.trouble)}"
        )
        return
    opened = f"{formatting.plural(found.pieces, 'piece')} ({formatting.size(found.size)}), copies: {found.copies:,}"
    verdict = f"DAMAGED: {found.damaged:,}" if found.damaged else "each is what was sent"
    print(f"{found.store}: opened {opened}: {verdict}")
    for why in found.faults:
        print(f"  {formatting.plain(why)}")
    if found.damaged > len(found.faults):
        print(f"  and {found.damaged - len(found.faults):,} more")
    for one in found.skipped:
        print(f"  not checked: {formatting.plain(one)}")
