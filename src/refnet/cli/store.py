"""`refnet store` and `refnet copy`: the backup folder and the remote stores, and the copies sent there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from refnet import wiring
from refnet.actions import copy as copying
from refnet.actions import store as action
from refnet.actions.copy import Copied
from refnet.actions.seal import remove_settings, seal_left
from refnet.actions.store import StoreAcceptance, check_store, listed_stores
from refnet.catalog.monitoring_stores import StoreCheck
from refnet.catalog.source_name import LOCAL
from refnet.cli import options, render
from refnet.cli.command import Commands
from refnet.cli.completion import source_or_artifact, stores
from refnet.cli.context import (
    confirm,
    context,
    current_settings,
    ends_at_plan,
    note,
    print_json,
    with_progress,
    would,
)
from refnet.cli.output import complain, say
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError, worst
from refnet.core.formatting import plain, plural, seconds, size
from refnet.store.remote import RemoteStore

store = Commands("Manage the backup folder, and check the remote stores.")
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


@store.command()
def accept(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="STORE",
            help="A remote store; default: the backup folder.",
            autocompletion=stores,
        ),
    ] = None,
    *,
    plan: options.Plan = False,
    force: Annotated[bool, typer.Option("--force", "--yes", "-y", help="Do not ask.")] = False,
    as_json: options.Json = False,
) -> None:
    """Accept the backup folder, or a remote store, as it is.

    Needed after a new disk or a deliberate move. For a remote store it ends the alarm about copies that something else
    than this machine deleted on purpose.
    """
    settings = current_settings()
    if name:
        _accept_gaps(wiring.remote_store(settings, name), plan=plan, force=force, as_json=as_json)
        return
    folder = wiring.store(settings)
    count = formatting.plural(len(folder.entries()), "artifact")
    if would(f"accept {folder.root} as the store from now on ({count})", plan=plan):
        return
    made = folder.accept()
    if as_json:
        print_json({"folder": str(folder.root), "id": made, "artifacts": len(folder.entries())})
        return
    say(f"{folder.root} is the store from now on ({count}, id {made}); {settings.home} remembers it.")


def _accept_gaps(remote: RemoteStore, *, plan: bool, force: bool, as_json: bool) -> None:
    planned = action.plan_acceptance(remote)
    if ends_at_plan(planned, _print_gaps, plan=plan, as_json=as_json):
        return
    confirm("Was that intended?", force=force, what=f"copies in {remote.name} are missing")
    done = action.accept(planned)
    print_json(done.to_json()) if as_json else say(f"{remote.name} is accepted as it is.")


def _print_gaps(planned: StoreAcceptance) -> None:
    print(f"Accept {planned.store.shown} as it is:")
    for one in planned.ending:
        print(f"  {formatting.plain(one.why)}: an alarm no longer")
    for one in planned.staying:
        print(f"  {formatting.plain(one.why)}: stays an alarm")


@store.command(name="list")
def list_stores(*, as_json: options.Json = False) -> None:
    """List the remote stores of the settings."""
    here = context()
    found, now = listed_stores(here), here.clock.now()
    if as_json:
        print_json({"stores": [one.to_json() for one in found]})
        return
    rows = [("name", "place", "lock", "last check")]
    for one in found:
        lock = f"{one.store.lock} d" if one.store.lock else ""
        last = f"{formatting.age(now - one.last.at)} ago: {_verdict(one.last)}" if one.last else "never"
        rows.append((one.store.name, str(one.store.place), lock, last))
    if found:
        render.print_columns(rows)
    else:
        say("no remote store is configured: add [stores.NAME] to the settings file")


@store.command()
def check(
    name: Annotated[
        str,
        typer.Argument(metavar="STORE", help="The name or the URL of a remote store.", autocompletion=stores),
    ],
    *,
    as_json: options.Json = False,
) -> None:
    """Check that a remote store refuses deletions.

    It creates one small object, and tries to replace and delete it with this machine's credential. Anything but a
    refusal is an alarm, with exit code 1.
    """
    here = context()
    found = check_store(here, here.settings.store(name))
    if as_json:
        print_json(found.values())
    else:
        render.print_columns([(one.answer.upper(), one.what, one.says) for one in found.tried])
        say(f"{found.store} ({found.shown}): {_verdict(found)}")
    raise typer.Exit(Exit.FAILED if found.alarms else Exit.DONE)


def _verdict(found: StoreCheck) -> str:
    count = len(found.alarms)
    return f"{formatting.plural(count, 'alarm')}: {found.alarms[0].what}" if count else "ok"


def copy(
    artifact: Meant = None,
    *,
    store: Store = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every artifact, not only the newest complete one.")
    ] = False,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Send encrypted copies to remote stores, and check them.

    Each copy is read back from there and compared. An artifact whose copy is there already is not sent again. A damaged artifact, and one that shrank and is not
    accepted, is not copied.
    """
    here = context()
    wanted = copying.wanted(here, artifact, store, all_of_them=everything)
    found: list[Copied] = []
    if plan:
        found = list(copying.plan(here, wanted))
        _print_plan(found, quiet=as_json)
    else:
        for one in wanted:
            known = one.store in (here.down or {})
            with with_progress(here, f"{one.source} to {one.store}") as shown:
                found.append(seal_left(shown, one) if one.place else copying.copy(shown, one))
            if not (known and found[-1].error):
                _print_copy(found[-1], quiet=as_json)
        _print_down(found)
    if store == LOCAL and not plan:
        remove_settings(here)
    if as_json:
        print_json({"plan": plan, "copies": [one.to_json() for one in found]})
    raise typer.Exit(worst(one.exit for one in found))


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
        return f"copied to {one.store}: {one.level}, {size(one.size)} in {seconds(one.seconds)}"
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
