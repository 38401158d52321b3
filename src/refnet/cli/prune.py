"""`refnet prune`: delete artifacts beyond retention, with a reason for each decision."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import nullcontext, suppress
from datetime import timedelta
from typing import Annotated

import typer

from refnet.actions.prune import PrunePlan, StorePlan, prune_store, prune_stores, simulate
from refnet.actions.prune import prune as run
from refnet.actions.watching import open_watch
from refnet.catalog.retention import Decision, too_much
from refnet.catalog.run import RunKind, reason_of
from refnet.catalog.source_name import LOCAL, SourceName
from refnet.cli import options, render
from refnet.cli.context import at_terminal, context, print_json, says_yes
from refnet.cli.output import complain, output
from refnet.context import Context
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError, worst
from refnet.sources import source_of
from refnet.wiring import configured, expanded, known

#: The most columns of the name of a database beside that of an artifact.
_DATABASE = 40


def prune(
    sources: options.Sources = None,
    *,
    plan: options.Plan = False,
    force: Annotated[
        bool,
        typer.Option("--force", "--yes", "-y", help="Do not ask before artifacts of many days are deleted."),
    ] = False,
    simulate: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Show what would be kept after 365d, 52w or 2y.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Only the copies in this remote store, or `local`; default: all stores."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Delete the artifacts that retention no longer keeps.

    Also leftovers of crashed runs, and previous versions older than retention.previous. In remote stores where this
    machine may delete, the copies that the retention of the store no longer keeps.
    """
    here = context()
    names = expanded(here.settings, sources or known(here.settings))
    if simulate is not None:
        there = configured(here.settings)
        names = tuple(one for one in names if sources or one in there or here.store.entries(one))
        _simulate(here, names, _span(simulate), as_json=as_json)
        return
    local = store in {None, LOCAL}
    if store and not local:
        here.settings.store(store)  # a wrong name is no run
    watched = None if plan else open_watch(here).run(RunKind.PRUNE, names[0] if len(names) == 1 else None)
    with watched or nullcontext() as at_work:
        plans, copies, errors = _asked(here, names, store, plan=plan, force=force)
        if at_work and errors:
            at_work.failed(reason_of(errors[0]), errors[0].message, errors[0].hint)
    if as_json:
        stores = [one.to_json() for one in copies]
        print_json({"plan": plan, "sources": [one.to_json() for one in plans], "stores": stores})
    elif here.settings.compose_service and all(one.changes_nothing for one in plans):
        pass  # the service has said what it did
    elif plan or not output.quiet:
        if local:
            _print(plans, here, plan=plan)
        _print_stores(copies, plan=plan)
        if local and SourceName.DATABASE in names and SourceName.DATABASE in configured(here.settings):
            with suppress(RefnetError):  # reported above
                print(source_of(here.settings, SourceName.DATABASE).acts_on())
    raise typer.Exit(worst(error.code for error in errors))


def _asked(
    here: Context, names: tuple[SourceName, ...], store: str | None, *, plan: bool, force: bool
) -> tuple[list[PrunePlan], list[StorePlan], list[RefnetError]]:
    """Prune or plan; ask at a terminal before artifacts of many days are deleted."""
    plans, copies, errors = _work(here, names, store, plan=plan, much=force)
    for error in errors:
        complain(error)
    if any(error.code is Exit.CONFIRM for error in errors) and at_terminal() and says_yes("Delete them?"):
        done, sent = {one.source for one in plans}, {one.store for one in copies}
        more, others, failed = _work(here, names, store, plan=plan, much=True, done=done)
        errors = [*(error for one in plans for error in one.unknown), *failed]
        plans, copies = [*plans, *more], [*copies, *(one for one in others if one.store not in sent)]
        for error in failed:
            complain(error)
    return plans, copies, errors


def _work(
    here: Context,
    names: tuple[SourceName, ...],
    store: str | None,
    *,
    plan: bool,
    much: bool,
    done: Collection[SourceName] = (),
) -> tuple[list[PrunePlan], list[StorePlan], list[RefnetError]]:
    """Prune or plan: the backup folder, and the named remote store or all.

    done: sources to skip in the backup folder.
    """
    left = [one for one in names if one not in done]
    plans, errors = run(here, left, plan=plan, much=much) if store in {None, LOCAL} else ([], [])
    copies, failed = _stores(here, names, store, plan=plan, much=much)
    return plans, copies, [*errors, *failed]


def _stores(
    here: Context, names: tuple[SourceName, ...], store: str | None, *, plan: bool, much: bool
) -> tuple[list[StorePlan], list[RefnetError]]:
    """Prune the named remote store, or all."""
    there = here.settings.every_store
    in_service = here.settings.compose_service and not store  # it has pruned them
    if (store == LOCAL and store not in there) or in_service or not (store or there):
        return [], []

    if not store:
        return prune_stores(here, names, plan=plan, much=much)
    try:
        return [prune_store(here, store, names, plan=plan, much=much)], []
    except RefnetError as error:
        if error.code is not Exit.CONFIRM:
            raise
        return [], [error]


def _span(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,5})([dwy])", text.strip())
    if not match:
        raise RefnetError(
            f"'{text}' is not a span of time", "Give days, weeks or years: 365d, 52w, 2y.", Exit.USAGE
        )
    days = int(match[1]) * {"d": 1, "w": 7, "y": 365}[match[2]]
    if days > 3650:
        raise RefnetError(f"'{text}' is too long", "The maximum is ten years: 3650d.", Exit.USAGE)
    return timedelta(days=days)


def _print(plans: list[PrunePlan], here: Context, *, plan: bool) -> None:
    moment = here.clock.now()
    verb = "would delete" if plan else "deleted"
    of = render.databases([decision.entry for one in plans for decision in one.decisions])
    rows = [
        row
        for one in plans
        for row in (
            *(
                ("keep" if decision.keep else verb, _named(decision, of), "; ".join(decision.reasons))
                for decision in one.decisions
                if plan or not decision.keep
            ),
            *((verb, outlived.what, "no base backup needs it") for outlived in one.outlived),
            *((verb, leftover.name, f"leftover: {leftover.why}") for leftover in one.leftovers),
            *(
                (verb, previous.what, f"replaced by a restore {formatting.age(moment - previous.since)} ago")
                for previous in one.previous_versions
            ),
            *(("stays", previous.what, previous.blocked) for previous in one.blocked),
        )
    ]
    if rows:
        render.print_columns(rows)
    for one in plans:
        if plan and (much := too_much(one.deleted, moment, one.outlived)):
            print(f"needs confirmation: {much.message}")
    count = sum(
        len(one.deleted) + len(one.leftovers) + len(one.previous_versions) + len(one.outlived)
        for one in plans
    )
    stays = sum(decision.keep for one in plans for decision in one.decisions)
    freed = formatting.size(sum(one.bytes_freed for one in plans))
    stay = f"{'would keep' if plan else 'kept'} {formatting.plural(stays, 'artifact')}"
    print(f"{verb} {count} ({freed} at most), {stay} in {here.settings.backup_dir}")


def _print_stores(plans: list[StorePlan], *, plan: bool) -> None:
    """Print deletions in each store, done or planned, and locked objects that stay."""
    for one in plans:
        rows = [*_rows_of_store(one, plan=plan)]
        if rows:
            render.print_columns(rows)
        verb, keep = ("would delete", "would keep") if plan else ("deleted", "kept")
        count, stays = len(one.deleted) + len(one.cleaned), len(one.decisions) - len(one.deleted)
        copies = f"{formatting.plural(stays, 'copy').replace('copys', 'copies')} in {one.store} ({one.shown})"
        print(f"{verb} {count} ({formatting.size(one.bytes_freed)}), {keep} {copies}")


def _rows_of_store(found: StorePlan, *, plan: bool) -> Iterator[tuple[str, str, str]]:
    verb = "would delete" if plan else "deleted"
    locked = {one.name for one in found.locked}
    for one in found.decisions:
        if one.entry.name not in locked and (plan or not one.keep):
            yield "keep" if one.keep else verb, one.entry.name, "; ".join(one.reasons)
    yield from ((verb, one.name, f"leftover: {one.why}") for one in found.cleaned)
    yield from (("locked", one.name, one.why) for one in found.locked)
    yield from (("stays", one.name, f"it {one.why}") for one in found.unlisted)
    if found.others:
        yield "stays", formatting.plural(found.others, "artifact"), "of sources that the settings do not name"


def _named(decision: Decision, of: dict[str, str]) -> str:
    """Name of the artifact, with its database if there are several."""
    name = decision.entry.name
    return f"{name} ({render.middle(of[name], _DATABASE)})" if name in of else name


def _simulate(context: Context, names: tuple[SourceName, ...], span: timedelta, *, as_json: bool) -> None:
    results = {name: simulate(context, name, span) for name in names}
    if as_json:
        print_json({name: [decision.to_json() for decision in kept] for name, kept in results.items()})
        return
    for name, kept in results.items():
        size = sum(decision.entry.manifest.size for decision in kept)
        about = f", about {formatting.size(size)} at the size of the newest one" if size else ""
        print(f"{name}: {formatting.plural(len(kept), 'artifact')} after {span.days} days{about}")
        of = render.databases([decision.entry for decision in kept])
        render.print_columns([(f"  {_named(d, of)}", "; ".join(d.reasons)) for d in kept])
