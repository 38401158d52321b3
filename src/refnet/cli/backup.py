"""`refnet backup`: make an artifact of each source, and prove it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refnet.actions import backup as action
from refnet.actions.backup import Options
from refnet.actions.backup_result import Backup
from refnet.catalog.manifest import Outcome, Unprotected
from refnet.catalog.run import Ended, Run
from refnet.catalog.source_name import DATABASES, FOLDERS, STANDARD, SourceName, in_groups
from refnet.cli import options, render
from refnet.cli.context import context, note, print_json, wants_step_lines, with_progress
from refnet.cli.output import complain, output, say
from refnet.context import Context
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError, did_you_mean, worst
from refnet.core.formatting import plain
from refnet.settings import user_path
from refnet.sources import kind_of, source_of
from refnet.wiring import configured, expanded, gone, is_gone, journal, known, not_configured

if TYPE_CHECKING:
    from refnet.actions.backup_together import Result

#: The least width of the column of names.
_NARROWEST = 9


def backup(
    sources: options.Sources = None,
    *,
    jobs: options.Jobs = None,
    table: Annotated[
        list[str] | None, typer.Option(metavar="T", help="Only this table of the database; repeatable.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write to this folder, outside of the catalog.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Make a full base backup of a cluster, not an increment.")
    ] = False,
    no_prove: Annotated[bool, typer.Option("--no-prove", help="Skip the proof.")] = False,
    if_older: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN",
            help="Skip the backup if the newest complete artifact is not older (1h, 30min); send its missing copies.",
        ),
    ] = None,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Back up the sources and prove each backup by restoring it.

    The proof restores into a scratch server or folder and compares everything. Several sources are backed up at
    once.
    """
    here, failed = with_databases(context(), sources or (), record=not plan)
    lost, asked = gone(here.settings), {*(sources or ())}
    chosen = [one for one in expanded(here.settings, sources or ()) if one not in lost or one in asked]
    _check_parts(chosen, table, to, if_older)
    how = Options(
        not no_prove,
        jobs,
        tuple(table or ()),
        user_path(to).absolute() if to else None,
        if_older=_span(if_older) if if_older else None,
        full=full,
    )
    for source in chosen:
        if source not in configured(here.settings):
            of_cluster = source in lost and source in here.settings.sources
            raise is_gone(source, lost[source]) if of_cluster else not_configured(here.settings, source)
    names = tuple(chosen) or ((SourceName.DATABASE,) if table else _all(here))
    if full and not any("full" in kind_of(one).more_options for one in names):
        raise RefnetError(
            "--full is for base backups, and none of these sources has any",
            "Omit it, or name a source of a cluster with `wal = true`, as main-cluster.",
            Exit.USAGE,
        )
    with _saying_what_is_left(here):
        code = (
            _plan(here, names, how, as_json=as_json) if plan else back_up(here, names, how, as_json=as_json)
        )
    raise typer.Exit(worst((code, *(error.code for error in failed))))


def _check_parts(
    chosen: Sequence[SourceName], table: Sequence[str] | None, to: Path | None, if_older: str | None
) -> None:
    """RefnetError (USAGE) for options of which one excludes another, or a source."""
    others = [one for one in chosen if not one.kind.row.by_name]
    if table and (others or len(chosen) > 1):
        raise RefnetError(
            "--table applies only to the database", "Omit --table, or name no other source.", Exit.USAGE
        )
    if if_older and (table or to):
        raise RefnetError(
            "--if-older looks for an artifact of everything in the backup folder",
            "Omit it, or omit --table and --to.",
            Exit.USAGE,
        )


def _span(text: str) -> timedelta:
    match = re.fullmatch(r"([1-9][0-9]{0,3})(min|h)", text.strip(), re.ASCII)
    if not match:
        raise RefnetError(
            f"--if-older: '{text}' is not a span of time", "Give hours or minutes: 1h, 30min.", Exit.USAGE
        )
    return timedelta(minutes=int(match[1])) * (60 if match[2] == "h" else 1)


def with_databases(
    here: Context, sources: Sequence[str], *, record: bool
) -> tuple[Context, tuple[RefnetError, ...]]:
    """Find the databases of configured clusters; print errors of unreachable servers."""
    clusters = [name for name in sources if not isinstance(name, SourceName)]
    if not here.settings.clusters or (sources and not clusters):
        return here, ()
    from refnet.actions.cluster_databases import find_databases

    here, failed = find_databases(here, clusters, record=record)
    for error in failed.values():
        complain(error)
    return here, tuple(failed.values())


def back_up(
    here: Context,
    names: Iterable[SourceName] | None = None,
    how: Options | None = None,
    *,
    as_json: bool = False,
) -> Exit:
    """Back up the sources `names` (None: all), print the results and return the exit code."""
    how = how or Options()
    found: dict[SourceName, Result] = {}
    apart: list[float] = []

    names = tuple(names or _all(here))
    width = _width(names)

    def ended(name: SourceName, result: Result) -> None:
        found[name] = result
        _report(here, name, result, width=width, quiet=as_json)

    groups = in_groups(names, _order(here))
    _note_unready(here, names, how)
    for group in groups:
        if len(group) == 1 or all(name in STANDARD for name in group):
            for name in group:
                ended(name, _one(here, name, how))
        else:
            from refnet.actions.backup_together import back_up_together

            shown = (
                partial(with_progress, here)
                if output.verbose or wants_step_lines()
                else lambda _name: nullcontext(here)
            )
            between = back_up_together(shown, group, how, how.jobs or here.settings.jobs, ended)
            apart += [] if between is None else [between]
    if as_json:
        order = [name for group in groups for name in group if name in found]
        print_json(
            {
                "results": [_values(here, name, found[name]) for name in order],
                "apart_seconds": max(apart, default=None),
            }
        )
    else:
        for result in found.values():
            if isinstance(result, Backup):
                _print_at_the_end(result, width)
        for between in apart:
            say(f"time between the snapshots of the databases: {formatting.seconds(between)}")
    return worst(_exit(result) for result in found.values())


@contextmanager
def _saying_what_is_left(here: Context) -> Iterator[None]:
    """Let Ctrl-C end the block by an error that says what each stopped backup left."""
    since, stopped = here.clock.now(), list[Run]()
    try:
        yield
    except KeyboardInterrupt:
        with suppress(RefnetError):  # then it is said in general
            runs = journal(here.settings).history().runs
            stopped = [run for run in runs if run.ended is Ended.STOPPED and run.started >= since]
        if not stopped:
            raise
        hint = next((run.hint for run in stopped if run.artifact), stopped[0].hint)
        raise RefnetError("; ".join(f"{run.source}: {run.message}" for run in stopped), hint) from None


def _order(here: Context) -> tuple[str, ...]:
    """The setting backup.order; RefnetError if it names an unknown source."""
    order, allowed = here.settings.backup_order, (*known(here.settings), DATABASES, FOLDERS)
    if wrong := next((one for one in order if one not in allowed), None):
        near = did_you_mean(wrong, allowed)
        raise RefnetError(
            f"backup.order names {wrong}, which is not a source",
            f"{near}Write names of sources, {DATABASES} or {FOLDERS}.",
            Exit.USAGE,
        )
    return order


def _all(here: Context) -> tuple[SourceName, ...]:
    """Configured sources, and unconfigured standard ones, which get a line with advice."""
    settings, there, lost = here.settings, configured(here.settings), gone(here.settings)
    for name in lost.keys() - settings.sources.keys():  # of a cluster, `find_databases` says it
        error = is_gone(name, lost[name])
        note(f"{error.message}. {error.hint}")
    return tuple(
        one for one in known(settings) if one in there or (settings.defaults_to(one) and one not in lost)
    )


def _width(names: Iterable[SourceName]) -> int:
    """Width of the column of names."""
    return max(_NARROWEST, *map(len, names))


def _plan(here: Context, names: Iterable[SourceName], how: Options, *, as_json: bool) -> Exit:
    """Print the plan of a backup of `names`; return the exit code."""
    plans = [action.plan(here, name, how) for name in names]
    unready = _note_unready(here, names, how)
    width = _width(one.source for one in plans)
    if as_json:
        print_json({"plan": True, "sources": [one.to_json() for one in plans]})
        return worst((unready, *(one.problem.code for one in plans if one.problem)))
    for one in plans:
        if one.problem:
            _complain(one.source, one.problem)
        elif one.earlier:
            copies = f"; would copy it to {', '.join(one.stores)} where it is missing" if one.stores else ""
            print(f"{one.source:{width}} needs no backup: {one.earlier} is new enough{copies}")
        elif one.what:
            proof = " and prove it" if how.prove else ""
            copies = f", then copy it to {', '.join(one.stores)}" if one.stores else ""
            print(f"{one.source:{width}} would back up {one.what} into {one.folder}{proof}{copies}")
            for hook in one.hooks:
                print(f"{'':{width}} hook {hook}")
        else:
            print(f"{one.source:{width}} not configured: {not_configured(here.settings, one.source).hint}")
    return worst((unready, *(one.problem.code for one in plans if one.problem)))


def _note_unready(here: Context, names: Iterable[SourceName], how: Options) -> Exit:
    """Print notes about stores that cannot receive copies; the backup is made anyway."""
    if not here.settings.stores or how.folder or how.tables:
        return Exit.DONE
    from refnet.actions.copy import unready

    there = configured(here.settings)
    found = unready(here, (name for name in names if name in there))
    for error in found:
        note(f"{error.message}. {error.hint}")
    return worst(error.code for error in found)


def _complain(name: SourceName, error: RefnetError) -> None:
    """Print an error, with the name of the source unless the message contains it."""
    said = name in STANDARD or re.search(rf"\b{re.escape(name)}\b", error.message)
    complain(error if said else RefnetError(f"{name}: {error.message}", error.hint))


def _exit(result: Result) -> Exit:
    if isinstance(result, RefnetError):
        return result.code
    return result.exit if result else Exit.DONE


def _one(context: Context, name: SourceName, how: Options) -> Result:
    """Back up one source; None if not configured. Errors are returned, not raised."""
    try:
        with with_progress(context, name) as shown:
            return action.backup(shown, name, how) or action.nothing_named(context.settings, name)
    except RefnetError as error:
        return error


def _report(context: Context, name: SourceName, result: Result, *, width: int, quiet: bool) -> None:
    if isinstance(result, RefnetError):
        _complain(name, result)
    elif result is None and not quiet:
        say(f"{name:{width}} not configured. {not_configured(context.settings, name).hint}")
    elif result and not quiet:
        _print(result, context, width)


def _values(context: Context, name: SourceName, result: Result) -> dict[str, Any]:
    if result is None:
        return {"source": name, "outcome": "not configured"}
    if isinstance(result, RefnetError):
        return {"source": name, "outcome": "failed", "error": result.message, "hint": result.hint}
    acts_on = source_of(context.settings, name).acts_on()
    return result.to_json() | (acts_on.to_json() if acts_on else {})


def _print(result: Backup, context: Context, width: int) -> None:
    manifest = result.manifest
    if result.earlier:
        took = "is new enough; no backup was made"
    else:
        took = f"in {formatting.seconds(result.seconds['dump'] + result.seconds['publish'])}"
    say(f"{manifest.source:{width}} {result.path}  {formatting.size(manifest.size)} {took}")
    lead = f"{manifest.source:{width}} {manifest.name}:" if output.quiet else " " * width
    if shares := manifest.details.get("shares_bytes_with"):
        say(f"{'':{width}} nothing changed: shares its bytes with {shares}")
    if found := formatting.left_out(manifest.details):
        say(f"{'':{width}} {found}")
    for sentence in (*result.warnings, *manifest.unchecked):
        print(plain(f"{lead} {sentence}"))
    if result.proof:
        took = f" in {formatting.seconds(result.seconds['prove'])}"
        render.print_proof(lead, result.proof, took, result.unrecorded, indent=width + 1)
    elif result.unrecorded:
        print(f"{lead} the evidence could not be recorded: {result.unrecorded}")
    render.print_beside(lead, result.beside)
    if result.copies:
        from refnet.cli.copy import print_copies

        print_copies(lead, result.copies)
    if acts_on := source_of(context.settings, manifest.source).acts_on():
        say(f"{'':{width}} {acts_on}")
    if lacks := Unprotected.read(manifest.details):
        say(f"{'':{width}} not protected: {lacks}; see `refnet check`")


def _print_at_the_end(result: Backup, width: int) -> None:
    """Print that an artifact shrank, or why it could not be proven."""
    manifest, proof = result.manifest, result.proof
    if not {*manifest.shrunk}.isdisjoint(result.unaccepted):
        print(
            f"{manifest.source:{width}} {render.shrunk(manifest)}: `refnet accept {manifest.name}` if that is intended"
        )
    if objects := [one for one in result.unaccepted if one not in manifest.shrunk]:
        lead = f"{manifest.source:{width}} {manifest.name}: no server accepts"
        print(plain(f"{lead} {'; '.join(objects)}: `refnet accept {manifest.name}` if that is known"))
    if result.uncopied:
        complain(result.uncopied)
    if proof and proof.outcome is Outcome.UNVERIFIED:
        why = "; ".join(f.reason for f in proof.findings if f.outcome is Outcome.UNVERIFIED)
        print(f"{manifest.source:{width}} {manifest.name}: {proof.level}, NOT proven: {plain(why)}")
