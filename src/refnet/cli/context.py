"""The process behind a command: its settings, its clock, its terminal, and the recovery key that is typed there.

A recovery key comes from a file or a hidden prompt, never from an argument or a variable.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from refnet import wiring
from refnet.catalog.artifact import Progress, silent
from refnet.catalog.remote import Copy
from refnet.catalog.source_name import LOCAL
from refnet.cli.options import StoreOptions
from refnet.cli.output import StepLines, output, steps
from refnet.context import Context, read_settings
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import user_name
from refnet.core.formatting import plain, some
from refnet.core.member_names import show
from refnet.settings import IDENTITY_FILE, PROGRESS, Settings, user_path

if TYPE_CHECKING:
    from refnet.servers import ActsOn
    from refnet.store.keys import GivenKeys
    from refnet.store.remote import RemoteStore

#: Progress appears after this many seconds.
_QUIET = 1.0
#: The warnings printed so far: a command may load the settings more than once.
_warned: set[str] = set()
_QUESTION = "Recovery key (AGE-SECRET-KEY-1…): "


class _Printable(Protocol):
    def to_json(self) -> dict[str, Any]: ...


_Plan = TypeVar("_Plan", bound=_Printable)


def current_settings(*, own: bool = True) -> Settings:
    """Load the settings of this process; print warnings about their files on stderr.

    own: reject a REFNET_HOME of another user, for commands that write there.
    """
    return read_settings(lambda sentence: warn((sentence,)), output.variables, own=own)


def context(place: StoreOptions | None = None, *, key: bool = False, checks: bool = False) -> Context:
    """The context for the actions of this process.

    Args:
        place: store to read; None: the backup folder.
        key: copies are decrypted, so a remote store needs the recovery key.
        checks: copies are checked, so no piece comes from the cache.
    """
    here = Context(current_settings(), note=note, down={})
    remote = remote_store(here.settings, place, key=key) if place else None
    if remote and key and not checks:
        wiring.with_cache(here.settings, remote)
    if remote and place and place.any_signer:
        note_signers(remote.shown, remote.contents().copies)
    if remote and place and key:  # what is read may be older than it seems
        for gap in remote.contents().gaps:
            note(f"{remote.shown}: {gap.why}: `refnet list --store {place.store or remote.name}`")
    return replace(here, remote=remote)


def context_with_key(place: StoreOptions) -> Context:
    """Context for reading the content of many artifacts; RefnetError (USAGE) without a needed key."""
    here = context(place, key=True)
    if here.remote and not here.has_key:
        recovery_keys(place.identity_file)  # it says what is missing
    return here


def remote_store(settings: Settings, place: StoreOptions, *, key: bool) -> RemoteStore | None:
    """The remote store that `place` names; None: an unencrypted backup folder."""
    by_default = settings.encryption_local and not place.is_remote
    place = replace(place, store=LOCAL) if by_default else place
    place.check()
    if not (place.is_remote or by_default):
        return None

    from refnet.store.keys import GivenKeys

    if by_default:  # a path needs no key, and what needs it says so
        key = key and can_ask(place.identity_file)
    settings.store(str(place.store))  # a wrong name comes before a question
    if key and not (place.identity_file or place.deleted):  # before somebody types a long key
        wiring.remote_store(settings, str(place.store)).require_manifests()
    given = recovery_keys(place.identity_file) if key or place.identity_file else GivenKeys(())
    given = replace(given, signers=(*given.signers, *(place.signer or ())))
    found = wiring.remote_store(settings, str(place.store), given, any_signer=place.any_signer)
    return (found.with_versions() if place.deleted else found).reading()


def note_signers(shown: str, copies: Iterable[Copy]) -> None:
    """Print the signers of a store's copies if the options trust any signer."""
    signers = dict.fromkeys(one.signed.signer for one in copies)
    by = f": {some([*signers], 3)}" if signers else ""
    note(f"{shown}: --any-signer: compare who signed with the recovery page{by}")


@contextmanager
def with_progress(context: Context, title: str) -> Iterator[Context]:
    """Show the progress of an action."""
    with progress(title) as shown:
        yield replace(context, progress=shown)


def warn(sentences: Iterable[str]) -> None:
    """Print each of `sentences` on stderr, once per run."""
    for sentence in sentences:
        if sentence not in _warned:
            _warned.add(sentence)
            print(f"refnet: warning: {sentence}", file=sys.stderr)


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Show progress, rate and estimate on a terminal, if the block takes over a second.

    With --verbose, finished steps are printed instead. REFNET_PROGRESS=json: lines of JSON on stderr, regardless of
    options.
    """
    if wants_step_lines():
        with steps(title) if output.verbose else nullcontext(silent) as report:
            yield StepLines(report)
        return
    if not output.has_progress:
        with steps(title) if output.verbose else nullcontext(silent) as report:
            yield report
        return
    from refnet.cli.progress import Display  # rich.progress takes long to load

    with Display(title, _QUIET) as display:
        yield display


def wants_step_lines() -> bool:
    """Whether REFNET_PROGRESS requests JSON; RefnetError (USAGE) for other values."""
    wanted = os.environ.get(PROGRESS, "")
    if wanted not in {"", "json"}:
        raise RefnetError(
            f"{PROGRESS} must be json or empty", "Set it to json, or remove the variable.", Exit.USAGE
        )
    return wanted == "json"


def print_json_list(head: dict[str, Any], key: str, items: Iterable[str]) -> None:
    """Print a JSON report and stream its last value: the list `key` with the JSON texts `items`."""
    begin = printable_json(json.dumps(head, ensure_ascii=False, indent=2)).removesuffix("\n}")
    print(f'{begin},\n  "{key}": [', end="")
    separator = "\n    "
    for item in items:
        print(separator + item, end="")
        separator = ",\n    "
    print("\n  ]\n}")


def note(sentence: str) -> None:
    """Print a note about a failure that does not affect the result."""
    print(f"refnet: note: {plain(sentence)}", file=sys.stderr)


def print_json(values: object) -> None:
    """Print a report as JSON; escape the bytes of names that are not UTF-8."""
    print(printable_json(json.dumps(values, ensure_ascii=False, indent=2)))


def printable_json(text: str) -> str:
    """JSON `text` with escapes for terminal control characters and characters that stdout cannot encode."""
    wide = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    if text.replace("\n", "").isprintable() and (wide or text.isascii()):
        return text
    return "".join(
        one if one == "\n" or (one.isprintable() and (wide or one.isascii())) else json.dumps(one)[1:-1]
        for one in text
    )


def ends_at_plan(
    planned: _Plan,
    text: Callable[[_Plan], None],
    *,
    plan: bool,
    as_json: bool,
    acts_on: ActsOn | None = None,
) -> bool:
    """Print a plan as text, or as JSON with --plan and --json; return whether the command ends there (--plan)."""
    if plan and as_json:
        print_json(planned.to_json() | (acts_on.to_json() if acts_on else {}))
    elif not as_json and (plan or not output.quiet):
        text(planned)
    return plan


def would(sentence: str, *, plan: bool) -> bool:
    """With `plan`, print what the command would do; return whether the command ends there."""
    if plan and output.json:
        print_json({"plan": True, "would": sentence})
    elif plan:
        print(f"would {plain(sentence)}")
    return plan


def at_terminal() -> bool:
    """Whether stdin and stderr allow questions."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(
    question: str, *, force: bool, what: str = "live data would be replaced", option: str = "--force"
) -> None:
    """Ask on the terminal unless `force`, which `option` sets; RefnetError (CONFIRM) without consent or a terminal."""
    if force:
        return
    if not at_terminal():
        raise RefnetError(
            f"{what}, and stdin is not a terminal",
            f"Check it with --plan, then use {option}.",
            Exit.CONFIRM,
        )
    if not says_yes(question):
        raise RefnetError("not confirmed", "Nothing was changed.", Exit.CONFIRM)


def says_yes(question: str) -> bool:
    """Ask on the terminal."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def permit_run(commands: Sequence[tuple[str, str]], otherwise: str) -> None:
    """Ask on the terminal whether `commands` out of a backup may run; RefnetError (CONFIRM) without consent or a terminal.

    Args:
        commands: when each runs, and its line.
        otherwise: how to continue without them.
    """
    if not at_terminal():
        raise RefnetError(
            f"commands from the backup would run: {some([line for _, line in commands], 3)}",
            f"Check them with --plan, then use --yes-run-restored-commands. {otherwise}",
            Exit.CONFIRM,
        )
    print(f"Commands from the backup, to run as {user_name(os.geteuid())}:", file=sys.stderr)
    for when, line in commands:
        print(f"  {when:10} {show(line, 1000)}", file=sys.stderr)
    if not says_yes("Run these commands?"):
        raise RefnetError("not confirmed: no command from the backup was run", otherwise, Exit.CONFIRM)


def can_ask(file: Path | None) -> bool:
    """Whether a recovery key can be read, from a file or at the terminal."""
    return bool(file or os.environ.get(IDENTITY_FILE)) or at_terminal()


def recovery_keys(file: Path | None) -> GivenKeys:
    """Read recovery keys from `file`, from the file in the environment, or at the terminal.

    RefnetError (USAGE) for an invalid key, or without file and terminal.
    """
    from refnet.store.keys import parse_keys, read_keys

    named = os.environ.get(IDENTITY_FILE, "")
    if "AGE-SECRET-KEY-" in named.upper():
        hint = "Other programs may have seen it. Name a file, and replace the key: `refnet key rotate`."
        raise RefnetError(f"{IDENTITY_FILE} is a recovery key, not the name of a file", hint, Exit.USAGE)
    if found := file or named:
        return read_keys(user_path(found).absolute())
    if not at_terminal():
        hint = f"Name its file (--identity-file FILE or {IDENTITY_FILE}), or run this at a terminal."
        raise RefnetError("the recovery key is needed, and stdin is not a terminal", hint, Exit.USAGE)
    try:
        typed = getpass.getpass(_QUESTION, sys.stderr)
    except EOFError:
        raise RefnetError("no recovery key was typed", "Nothing was read.", Exit.USAGE) from None
    return parse_keys(typed.encode(errors="replace"), "the recovery key")
