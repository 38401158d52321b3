"""`refnet copy`: the copies of artifacts that are sent to remote stores, and how they are printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from refnet.actions import copy as copying
from refnet.actions.copy import Copied
from refnet.actions.seal import remove_settings, seal_left
from refnet.actions.watching import open_watch
from refnet.catalog.run import Reason, RunKind
from refnet.catalog.source_name import LOCAL
from refnet.cli import options
from refnet.cli.completion import source_or_artifact, stores
from refnet.cli.context import context, note, print_json, with_progress
from refnet.cli.output import complain, say
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError, worst
from refnet.core.formatting import plain, plural, seconds, size
from refnet.settings import stores as settings
from refnet.settings.converters import InvalidError

Meant = Annotated[
    str | None,
    typer.Argument(
        metavar="ARTIFACT",
        help="A listed name, or a source or cluster for its newest; default: the newest of each.",
        **source_or_artifact(),
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        "--to",
        metavar="STORE",
        help="This store, a name or a URL; default: those of the settings.",
        autocompletion=stores,
    ),
]


def _speed(text: str) -> int:
    try:
        return settings.bandwidth(text)
    except InvalidError as error:
        near = f"Did you mean {error.near}? " if error.near else ""
        raise RefnetError(f"--bandwidth {error.rule}", near + error.usage, Exit.USAGE) from None


Bandwidth = Annotated[
    int | None,
    typer.Option(
        metavar="RATE",
        parser=_speed,
        help="Bytes per second, such as 20MB/s; default: the setting bandwidth of the store.",
    ),
]


def copy(
    artifact: Meant = None,
    *,
    store: Store = None,
    bandwidth: Bandwidth = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every artifact, not only the newest complete one.")
    ] = False,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Send encrypted copies to remote stores, and check them.

    Each copy is read back from there and compared. An artifact whose copy is there already is not sent again. A damaged
    artifact, and one that shrank and is not accepted, is not copied.
    """
    here = context()
    if bandwidth:
        here = copying.at_bandwidth(here, bandwidth, store)
    wanted = copying.wanted(here, artifact, store, all_of_them=everything)
    found: list[Copied] = []
    if plan:
        found = list(copying.plan(here, wanted))
        _print_plan(found, quiet=as_json)
    else:
        of = {one.source for one in wanted}
        with open_watch(here, places=False).run(
            RunKind.COPY, next(iter(of)) if len(of) == 1 else None
        ) as at_work:
            _copy(here, wanted, found, quiet=as_json)
            if failed := next((one.error for one in found if one.error), None):
                at_work.failed(Reason.COPY, failed.message, failed.hint)
        _print_down(found)
    if store == LOCAL and not plan:
        remove_settings(here)
    if as_json:
        print_json({"plan": plan, "copies": [one.to_json() for one in found]})
    raise typer.Exit(worst(one.exit for one in found))


def _copy(here: Context, wanted: Iterable[copying.Wanted], found: list[Copied], *, quiet: bool) -> None:
    """Carry out the copies that are `wanted`, print each, and add it to `found`."""
    for one in wanted:
        known = one.store in (here.down or {})
        with with_progress(here, f"{one.source} to {one.store}") as shown:
            found.append(seal_left(shown, one) if one.place else copying.copy(shown, one))
        if not (known and found[-1].error):
            _print_copy(found[-1], quiet=quiet)


def print_copies(lead: str, copies: Iterable[Copied]) -> None:
    """Print the copies; report each missing copy as an error."""
    for one in copies:
        if one.skipped:
            print(f"{lead} not copied to {one.store}: {plain(one.skipped)}")
        elif not one.error:
            say(f"{lead} {_done(one)}")


def _print_down(found: Sequence[Copied]) -> None:
    """Print how many more artifacts have the same error of a store."""
    times = Counter((one.store, one.error) for one in found if one.error)
    for (store, _), count in times.items():
        if count > 1:
            note(f"{store}: the same error for {plural(count - 1, 'more artifact')}")


def _print_copy(one: Copied, *, quiet: bool) -> None:
    if one.error:
        _complain(one, one.error)
    elif not quiet and one.skipped:
        what = f"{one.artifact} is not copied" if one.artifact else "nothing to copy"
        print(f"{one.source:9} {what} to {one.store}: {plain(one.skipped)}")
    elif not quiet:
        say(f"{one.source:9} {one.artifact}: {_done(one)}")


def _done(one: Copied) -> str:
    if one.store == LOCAL:
        return f"encrypted into the backup folder: {one.level}, in {seconds(one.seconds)}"
    if one.is_new:
        took = f"{size(one.size)} in {seconds(one.seconds)}"
        return f"copied to {one.store}: {one.level}, {took}: {size(one.sent)} sent, {size(one.shared)} shared"
    return f"is in {one.store} already: {one.level}"


def _print_plan(found: Sequence[Copied], *, quiet: bool) -> None:
    printed: list[RefnetError] = []
    for one in found:
        if one.error:
            if one.error not in printed:
                _complain(one, one.error)
                printed.append(one.error)
        elif quiet:
            continue
        elif one.skipped:
            what = one.artifact or "anything"
            print(f"{one.source:9} would not copy {what} to {one.store}: {plain(one.skipped)}")
        elif one.level:
            say(f"{one.source:9} {one.artifact}: {_done(one)}")
        else:
            print(f"{one.source:9} would copy {one.artifact} to {one.store}, {size(one.size)}")
    _print_down(found)


def _complain(one: Copied, error: RefnetError) -> None:
    complain(RefnetError(f"{one.artifact or one.source} to {one.store}: {error.message}", error.hint))
