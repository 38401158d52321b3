"""`refnet store`: the backup folder, and checks of the remote stores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refnet import wiring
from refnet.actions import store as action
from refnet.actions.store import StoreAcceptance, check_store, listed_stores
from refnet.actions.store_stats import StoreStats
from refnet.actions.store_stats import stats as stats_of
from refnet.catalog.monitoring_stores import StoreCheck
from refnet.catalog.store_sizes import Sizes
from refnet.cli import options, render
from refnet.cli.command import Commands
from refnet.cli.completion import stores
from refnet.cli.context import (
    confirm,
    context,
    current_settings,
    ends_at_plan,
    print_json,
    would,
)
from refnet.cli.output import complain, say
from refnet.core import formatting
from refnet.core.errors import Exit, RefnetError, worst
from refnet.settings import user_path
from refnet.store import installers
from refnet.store.remote import RemoteStore

_NO_STORE = "no remote store is configured: add [stores.NAME] to the settings file"

store = Commands("Manage the backup folder, and check the remote stores.")


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
    what = (
        f"copies in {remote.name} are missing"
        if planned.ending
        else f"{remote.name} has traces of other runs"
    )
    confirm("Was that intended?", force=force, what=what)
    done = action.accept(planned)
    if done.ending:
        action.record_deletions(context(), remote)
    print_json(done.to_json()) if as_json else say(f"{remote.name} is accepted as it is.")


def _print_gaps(planned: StoreAcceptance) -> None:
    print(f"Accept {planned.store.shown} as it is:")
    for one in planned.ending:
        print(f"  {formatting.plain(one.why)}: an alarm no longer")
    for one in planned.staying:
        print(f"  {formatting.plain(one.why)}: stays an alarm")
    for lease in planned.leases:
        print(
            f"  a copy that began {lease.since:%Y-%m-%d %H:%M} UTC and did not end: its run will not continue"
        )
    for intent in planned.intents:
        print(f"  a prune that began {intent.since:%Y-%m-%d %H:%M} UTC and did not end: it was killed")
    for manifest in planned.unreadable:
        print(f"  {manifest.name} {formatting.plain(manifest.why)}; from now on it keeps no pieces")


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
        say(_NO_STORE)


@store.command()
def stats(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="STORE",
            help="The name or the URL of a store, or `local`; default: all.",
            autocompletion=stores,
        ),
    ] = None,
    *,
    as_json: options.Json = False,
) -> None:
    """Show what copies take in the stores, and what they share.

    plain: of the artifacts. stored: of the objects, a shared one once. shared: what sharing saves. newest: what the last
    copy added. prune frees: what only copies need that retention no longer keeps. It needs no recovery key.
    """
    found, errors = stats_of(context(), name)
    for error in errors:
        complain(error)
    if as_json:
        print_json({"stores": [one.to_json() for one in found]})
    elif found:
        _print_stats(found)
    elif not errors:
        say(_NO_STORE)
    raise typer.Exit(worst(error.code for error in errors))


def _print_stats(found: list[StoreStats]) -> None:
    rows: list[tuple[str, ...]] = [
        ("store", "source", "copies", "plain", "stored", "shared", "newest", "prune frees")
    ]
    for one in found:
        rows += [_row(one, name, its, one.freed(name)) for name, its in one.sources.items()]
        if len(one.sources) != 1 or one.leftovers:
            rows.append(_row(one, "all", one.total, one.freed_in_all))
    render.print_columns(rows, right=(2, 3, 4, 5, 6, 7))
    for one in found:
        if one.frees_nothing:
            print(f"{one.store}: prune frees nothing: {one.frees_nothing}")
        if one.leftovers:
            print(f"{one.store}: prune also removes leftovers: {formatting.size(one.leftovers)}")
        if one.unlisted:
            what = formatting.plural(one.unlisted, "manifest")
            print(f"{one.store}: not counted: {what} that cannot be read or trusted")
        if one.others:
            what = f"copies of other machines: {sum(one.others.values()):,}, never pruned here"
            print(f"{one.store}: {what}: in {formatting.some([*one.others], 3)}")


def _row(found: StoreStats, source: str, its: Sizes, freed: int) -> tuple[str, ...]:
    numbers = (its.plain, its.stored, its.shared, its.newest)
    frees = formatting.size(freed) if found.plan else "nothing"
    return found.store, source, str(its.copies), *map(formatting.size, numbers), frees


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


@store.command()
def installer(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The installer that `./dev package` built.")],
    *,
    sha256: Annotated[str, typer.Option(metavar="HEX", help="Its SHA-256, from whoever released it.")],
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Put RefNet's installer into every remote store.

    It is not encrypted, and the recovery page says how to fetch and check it where no package registry can be reached.
    RefNet never deletes one. Run it again after an upgrade, and print the page again: `refnet key page`.
    """
    settings = current_settings()
    if not settings.every_store:
        raise RefnetError(
            "no remote store is configured", "Add [stores.NAME] to the settings file.", Exit.USAGE
        )
    found, data = installers.read(user_path(file).absolute(), sha256)
    if would(f"send {found.object} to {', '.join(settings.every_store)}", plan=plan):
        return
    done, codes = [], [Exit.DONE]
    for one in settings.every_store.values():
        try:
            new = installers.send(found, data, one, settings)
        except RefnetError as error:
            complain(error)
            codes.append(error.code)
        else:
            done.append({"store": one.name, "object": found.object, "sent": new})
            if not as_json:
                say(f"{one.name} ({one.shown}): {found.object} {'sent' if new else 'is already there'}")
    if as_json:
        print_json({"version": found.version, "sha256": found.sha256, "size": found.size, "stores": done})
    raise typer.Exit(worst(codes))


def _verdict(found: StoreCheck) -> str:
    count = len(found.alarms)
    return f"{formatting.plural(count, 'alarm')}: {found.alarms[0].what}" if count else "ok"
