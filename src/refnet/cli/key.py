"""`refnet key`: make, show and check the keys of remote copies."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from refnet import wiring
from refnet.actions import keys
from refnet.actions.keys import KeyState, Making, check_key
from refnet.cli import options
from refnet.cli.command import Commands
from refnet.cli.completion import stores
from refnet.cli.context import context, note, print_json, recovery_keys, would
from refnet.cli.output import say
from refnet.core.errors import Exit, RefnetError
from refnet.settings import user_path
from refnet.store.keys import KeyEvent

key = Commands("Make, show and check the keys of remote copies.")

Page = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the recovery page to this new file (HTML, or text if *.txt)."),
]


@key.command()
def new(
    *,
    page: Page = None,
    machine: Annotated[
        bool, typer.Option("--machine", help="Create only the missing keys of this machine.")
    ] = False,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Make a recovery key and its page.

    It also makes the keys of this machine that are missing. The recovery key is stored nowhere: only the page has it.
    """
    if machine and page:
        raise RefnetError("--machine makes no recovery key, so it has no page", "Omit --page.", Exit.USAGE)
    _make(keys.plan_new(context(), _path(page), machine=machine), plan=plan, as_json=as_json)


@key.command()
def rotate(
    *,
    replaces: Annotated[
        str | None,
        typer.Option(metavar="RECIPIENT", help="The recipient to replace; default: the only one."),
    ] = None,
    page: Page = None,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Make a recovery key that replaces one in use.

    Existing copies stay encrypted to the old key: keep its page as long as those copies.
    """
    _make(keys.plan_rotation(context(), _path(page), replaces), plan=plan, as_json=as_json)


@key.command(name="page")
def page_again(
    *,
    identity_file: options.IdentityFile = None,
    page: Page = None,
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Make another recovery page for a key that you type in.

    It names the current signer and stores. It makes no new key.
    """
    here = context()
    planned = keys.plan_page(here, _path(page))
    if would(f"write the recovery page of the key: {planned.page_file or 'printed here'}", plan=plan):
        return
    _need_place(planned, as_json=as_json)
    given = recovery_keys(identity_file)
    if len(given.keys) > 1:
        raise RefnetError(f"{len(given.keys)} keys were given", "Give the one of the page.", Exit.USAGE)
    if given.keys[0].recipient.text not in here.settings.encryption_recipients:
        note("the key is not in use: its recipient is not in encryption.recipients")
    _make(replace(planned, key=given.keys[0]), plan=False, as_json=as_json)


@key.command()
def show(*, as_json: options.Json = False) -> None:
    """Show the public parts of all keys."""
    found = keys.show(context())
    if as_json:
        print_json(found.to_json())
        return
    print(f"signer     {found.signer.fingerprint if found.signer else 'none; `refnet key new` makes it'}")
    if found.signer:
        print(f"           {found.signer.line}")
    print(f"catalog    {found.catalog or 'none; `refnet key new` makes it'}")
    for one in found.recipients:
        print(f"recipient  {_state(one)}")
    if not any(one.current for one in found.recipients):
        makes = "" if found.recipients else "; `refnet key new` makes one"
        print(f"recipient  none in encryption.recipients{makes}")
    for trusted in found.signers:
        print(f"trusted    {trusted}")


@key.command()
def check(
    *,
    identity_file: options.IdentityFile = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Check only this store; default: each.", autocompletion=stores),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Check a recovery key that you type from its page.

    It opens the newest copy of each store. Exit 4: the key is not in use, or does not open it; 3: there is no copy.
    """
    here = context()
    names = [store] if store else list(here.settings.every_store)
    given = recovery_keys(identity_file)
    found = check_key(here, given.keys, (wiring.remote_store(here.settings, one, given) for one in names))
    if as_json:
        print_json(found.to_json())
    else:
        for key_state in found.keys:
            print(_state(key_state))
        for one in found.tried:
            print(f"{one.store}: {one.says}")
    raise typer.Exit(found.exit)


def _path(page: Path | None) -> Path | None:
    return user_path(page).absolute() if page else None


def _make(planned: Making, *, plan: bool, as_json: bool) -> None:
    if plan:
        print_json(planned.to_json()) if as_json else _print_plan(planned)
        return
    _need_place(planned, as_json=as_json)
    here = context()
    done = keys.make(here, planned)
    if as_json:
        print_json(done.to_json())
        return
    if done.page and not done.page_file:
        print(done.page.text(here.clock.zone))
    _print_next(done, here.settings.file)


def _need_place(planned: Making, *, as_json: bool) -> None:
    """Raise RefnetError if the printed recovery key could reach a disk."""
    if planned.recovery and not (planned.page_file or as_json or sys.stdout.isatty()):
        raise RefnetError(
            "stdout is not a terminal, and the recovery key must not be written to a disk",
            "Run it at a terminal, or give a file in memory: --page /dev/shm/page.html.",
            Exit.USAGE,
        )


def _print_plan(planned: Making) -> None:
    for one in planned.files:
        print(f"would make {one}")
    if planned.recovery:
        what = f", which replaces the key of {planned.replaces}" if planned.replaces else ""
        print(f"would make a recovery key{what}; its page: {planned.page_file or 'printed here'}")
    elif not planned.files:
        print("nothing is missing")


def _print_next(done: Making, file: Path | None) -> None:
    """Print the created keys and the next steps."""
    for one in done.files:
        say(f"made {one}")
    if not done.page:
        if not done.files:
            say("nothing is missing")
        if done.signer:
            say(f"signer {done.signer.fingerprint}: write it on each recovery page")
        return
    if done.page_file:
        say(f"wrote {done.page_file}")
        note(
            f"{done.page_file} has the recovery key: print it, then delete it (a file in memory leaves no traces)"
        )
    else:
        note("the page above has the recovery key: print it or copy it by hand, then clear the terminal")
    if not done.page.stores:
        note("no store is configured, so the page names none: write it on the page, or make a new page later")
    if done.key:
        return
    print(f"Set in {file or 'refnet.toml'}:\n\n[encryption]")
    print(f"recipients = {json.dumps(done.recipients_after)}\n")
    if done.replaces:
        print(f"Existing copies need the key of {done.replaces}: keep its page as long as those copies.")
    print("Then type the key in from the printed page: `refnet key check`.")


def _state(one: KeyState) -> str:
    facts = ["in use" if one.current else "not in use (encryption.recipients does not name it)"]
    facts += [f"made {_day(one.made)}" if one.made else "not made here"]
    facts += [f"checked {_day(one.checked)}"] if one.checked else ["never checked"] if one.current else []
    if one.replaced_by and not one.current:
        times = "once" if len(one.replaced_by) == 1 else f"{len(one.replaced_by)} times"
        facts += [f"replaced {times}, now by {one.replaced_by[-1].recipient}"]
        facts += [f"opens only copies that were sent before {_day(one.replaced_by[0])}"]
    return f"{one.recipient}: {', '.join(facts)}"


def _day(event: KeyEvent) -> str:
    return f"{event.at.astimezone():%Y-%m-%d}"
