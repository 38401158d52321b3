"""`refnet restore` and `refnet undo`. The kind of the source determines what they do and print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from refnet.actions import watching
from refnet.actions.backup import keep_tables
from refnet.actions.choose import choose_to_restore, read_from
from refnet.actions.cluster_databases import with_member
from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.run import Reason, RunKind
from refnet.catalog.source_name import SourceName
from refnet.cli import options, render
from refnet.cli.command import CLUSTERS, DATABASES, FOLDERS, spread
from refnet.cli.completion import ALIASES, choice
from refnet.cli.context import (
    confirm,
    context,
    ends_at_plan,
    permit_run,
    print_json,
    with_progress,
)
from refnet.cli.output import say
from refnet.context import Context
from refnet.core.errors import Exit, refusal, worst
from refnet.sources import source_of
from refnet.sources.permitted import Permitted
from refnet.sources.restore_options import AsOf, Compare, Mode
from refnet.sources.restoring import Columns, RestoreRequest, RestoreWork
from refnet.telemetry.logging import add_to_log
from refnet.telemetry.watch import AtWork

if TYPE_CHECKING:
    from refnet.actions.moment_plan import Moment

_OUTSIDE = "Or let the settings name copies of them outside of the restored folder."


@dataclass(frozen=True)
class DatabaseOptions:
    """Options that apply only to databases."""

    PANEL = DATABASES

    compare: Annotated[
        Compare,
        typer.Option(help="Compare content, or row counts.", **choice("comparison", Compare)),
    ] = Compare.CONTENT
    create_roles: Annotated[
        bool,
        typer.Option("--create-roles", help="Create missing roles, without passwords."),
    ] = False
    role_powers: Annotated[
        bool,
        typer.Option(
            "--role-powers", help="With --create-roles: also superusers and other roles with powers."
        ),
    ] = False
    permit: options.Permit = None
    table: Annotated[
        list[str] | None,
        typer.Option(metavar="T", help="Only this table, in place (repeatable); T may contain * and ?."),
    ] = None
    schema: Annotated[
        list[str] | None,
        typer.Option(metavar="S", help="Only the tables of this schema (repeatable)."),
    ] = None
    mode: Annotated[
        Mode | None,
        typer.Option(
            help="For existing tables: add missing rows, also update others, or replace all.",
            **choice("mode", Mode),
        ),
    ] = None
    new: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help="Restore as a new database of this name on the same server; replace nothing.",
        ),
    ] = None
    jobs: Annotated[
        int | None,
        typer.Option(min=1, max=64, metavar="N", help="Parallel workers; default: the setting jobs."),
    ] = None


@dataclass(frozen=True)
class UndoArgument:
    """Argument of undo that applies only to databases."""

    PANEL = DATABASES

    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="This previous version, recorded or not; default: the last one."),
    ] = None


@dataclass(frozen=True)
class FolderOptions:
    """Options that apply only to folders."""

    PANEL = FOLDERS

    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Restore this file or folder, or matches of a pattern: '*.md', 'papers/**' (repeatable).",
        ),
    ] = None
    merge: Annotated[
        bool,
        typer.Option("--merge", help="Add missing files, replace older ones, keep the rest; delete nothing."),
    ] = False
    run_restored: Annotated[
        bool,
        typer.Option(
            "--yes-run-restored-commands", help="Do not ask before hooks from the restored files run."
        ),
    ] = False


@dataclass(frozen=True)
class ClusterOptions:
    """Options that apply only to whole servers."""

    PANEL = CLUSTERS

    into: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="The new data folder; nothing is replaced."),
    ] = None
    latest: Annotated[
        bool,
        typer.Option("--latest", help="Recover to the end of the WAL that arrived."),
    ] = False
    lsn: Annotated[
        str | None,
        typer.Option(metavar="POSITION", help="Recover to this position, such as 16/B374D848."),
    ] = None
    timeline: options.Timeline = None


@spread
def restore(
    asked: options.RestoreOptions,
    database: DatabaseOptions,
    folder: FolderOptions,
    cluster: ClusterOptions,
    place: options.StoreOptions,
) -> None:
    """Restore a source and keep the previous version.

    Loads a copy beside the live version, compares it with the backup, then swaps the two.
    """
    here = with_member(context(place, key=True), asked.source)
    source = source_of(here.settings, asked.source)
    _log_subject(here, source.name)
    request = RestoreRequest(
        to=asked.to,
        named=bool(asked.artifact or asked.named),
        damaged_anyway=asked.damaged_anyway,
        plan=asked.plan,
        force=asked.force,
        only=tuple(folder.only or ()),
        merge=folder.merge,
        compare=database.compare,
        create_roles=database.create_roles,
        role_powers=database.role_powers,
        powers=Permitted.of(database.permit or (), everything=database.role_powers),
        tables=tuple(database.table or ()),
        schemas=tuple(database.schema or ()),
        mode=database.mode,
        new=database.new or "",
        jobs=database.jobs,
        into=cluster.into or "",
        as_of=AsOf(asked.at or "", cluster.lsn or "", cluster.latest, cluster.timeline),
        keep=keep_tables,
    )
    source.check_request(request)
    named = ALIASES.get(asked.named or "", asked.named) if source.has_path else asked.named
    named = named if source.contains else None
    with ExitStack() as stack:
        chosen = stack.enter_context(_chosen(here, source.name, asked, named, request))
        _log_subject(here, source.name, chosen.name)
        origin, of_database = read_from(here, source.name, named)
        if origin != source.name and chosen.entry and chosen.entry.identity:
            of_database = chosen.entry.identity.database  # the source that is named permits its database
        work = source.restoring(here, chosen, replace(request, from_database=of_database))
        if not asked.as_json:
            render.print_chosen(chosen)  # first: nothing else matters as much
        watched = watching.open_watch(here, "restore").run(RunKind.RESTORE, source.name, artifact=chosen.name)
        _carry_out(here, work, asked, watched, run_restored=folder.run_restored)


@contextmanager
def _chosen(
    here: Context,
    source: SourceName,
    asked: options.RestoreOptions,
    named: str | None,
    request: RestoreRequest,
) -> Iterator[OpenArtifact]:
    """What is restored as `source`: exactly as of --at if the WAL of its cluster reaches it; else an artifact.

    Such a moment is recovered for it. With --plan the command ends with the plan before that.
    """
    if asked.at and not asked.artifact and not named:
        from refnet.actions import any_second

        if moment := any_second.moment_by_wal(here, source, asked.at):
            if asked.plan:
                _end_with_plan(here, moment, request, as_json=asked.as_json)
            with ExitStack() as stack:
                with with_progress(here, "recovery") as recovering:
                    chosen = stack.enter_context(any_second.artifact_as_of(recovering, moment))
                yield chosen
            return
    yield choose_to_restore(here, source, asked.artifact, asked.at, named)


def _end_with_plan(here: Context, moment: Moment, request: RestoreRequest, *, as_json: bool) -> NoReturn:
    """Print the plan of a restore by WAL, for which nothing is recovered."""
    from refnet.actions.moment_plan import MomentPlan
    from refnet.servers import ActsOn

    planned = MomentPlan.of(here, moment, request)
    acts_on = None if request.to else ActsOn.of(here.settings, moment.source)
    if acts_on and not as_json:
        print(acts_on)
    ends_at_plan(
        planned, lambda _: _print_lines(planned.describe()), plan=True, as_json=as_json, acts_on=acts_on
    )
    raise typer.Exit(worst(problem.code for problem in planned.problems))


@spread
def undo(asked: options.UndoOptions, database: UndoArgument) -> None:
    """Undo the last restore of a source.

    Swaps the previous version and the live version. An undo can be undone.
    """
    here = with_member(context(), asked.source)
    source = source_of(here.settings, asked.source)
    _log_subject(here, source.name)
    request = RestoreRequest(
        asked.to, plan=asked.plan, force=asked.force, previous=database.name, keep=keep_tables
    )
    work = source.undoing(here, request)
    if work.artifact:
        _log_subject(here, source.name, work.artifact)
    watched = watching.open_watch(here, "restore").run(RunKind.UNDO, source.name, artifact=work.artifact)
    _carry_out(here, work, asked, watched, run_restored=False)


def _carry_out(
    here: Context,
    work: RestoreWork,
    asked: options.RestoreOptions | options.UndoOptions,
    watched: AbstractContextManager[AtWork],
    *,
    run_restored: bool,
) -> None:
    """Print the plan of `work`, ask before live data is replaced, and carry it out, `watched`."""
    if work.acts_on and work.names_target and not asked.as_json:
        (print if asked.plan else say)(str(work.acts_on))
    progress = with_progress(here, work.title) if work.title else nullcontext(here)
    with progress if work.plans_long else nullcontext(here) as planning, work:
        planned = work.plan(planning)
        if ends_at_plan(
            planned,
            lambda _: _print_lines(work.describe()),
            plan=asked.plan,
            as_json=asked.as_json,
            acts_on=work.acts_on,
        ):
            raise typer.Exit(worst(problem.code for problem in work.problems))
        if work.problems:
            raise refusal(work.problems)
        if question := work.question():
            confirm(question, force=asked.force)
        if (commands := work.commands()) and not run_restored:
            permit_run([("hook", line) for line in commands], _OUTSIDE)
        with nullcontext(planning) if work.plans_long else progress as shown, watched as at_work:
            done = work.run(replace(shown, progress=at_work.logged(shown.progress)))
            if done.differs:
                at_work.failed(Reason.DAMAGED, done.differs)
    if asked.as_json:
        print_json(done.values | (work.acts_on.to_json() if work.acts_on else {}))
    else:
        for line in done.said:
            (print if line.always else say)(line.text)
    if done.differs:
        print(done.differs)
        raise typer.Exit(Exit.DAMAGED)


def _print_lines(described: Iterable[str | Columns]) -> None:
    for part in described:
        if isinstance(part, Columns):
            render.print_columns(part.rows, part.right, part.shorten)
        else:
            print(part)


def _log_subject(context: Context, source: SourceName, artifact: str = "") -> None:
    """Add database or folder, and artifact, to all following log lines."""
    add_to_log(source=source, **watching.named(context.settings, source, artifact))
