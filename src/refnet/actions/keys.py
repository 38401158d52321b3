"""key: make, show and check the keys of remote copies, and test a typed recovery key on the newest copy of each store.

A new recovery key exists only in memory until its page is printed, or written to a file named by the user.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from refnet import wiring
from refnet.actions.recovery_page import RecoveryPage
from refnet.catalog.manifest import Outcome, utc
from refnet.catalog.remote import FORMAT, MANIFEST_OBJECT_BYTES
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError, worst
from refnet.core.files import NEW_FILE, explain, explained, write_all
from refnet.settings import Settings
from refnet.sources import source_of
from refnet.sources.check_result import CheckLine, error_line, ok, warning
from refnet.sources.permitted import Power, digest
from refnet.store import installers
from refnet.store.age import DecryptionError, WrongKeyError
from refnet.store.buckets.opening import open_bucket
from refnet.store.encryption import PrivateKey, Signer
from refnet.store.installers import Installer
from refnet.store.keys import Event, KeyEvent, MachineKeys, Opener, history_file, stale_pages
from refnet.store.remote import RemoteStore
from refnet.store.remote_pieces import decrypt, fetch


@dataclass(frozen=True)
class Making:
    """The making of keys: planned, or done."""

    #: The files of this machine's keys that are made.
    files: tuple[Path, ...]
    #: The value of encryption.recipients before.
    recipients: tuple[str, ...]
    #: False: only the keys of this machine.
    recovery: bool = True
    #: The recipient whose key the new one replaces; "": none.
    replaces: str = ""
    #: The file of the page; None: it is printed.
    page_file: Path | None = None
    #: The key of a page that is made again; None: a new one is made.
    key: PrivateKey | None = None
    #: None: only planned, or no recovery key.
    page: RecoveryPage | None = None
    #: None: only planned.
    signer: Signer | None = None

    @property
    def recipients_after(self) -> tuple[str, ...]:
        """New value of encryption.recipients, for the user to set."""
        new = (self.page.recipient,) if self.page and not self.key else ()
        return (*(one for one in self.recipients if one != self.replaces), *new)

    def to_json(self) -> dict[str, Any]:
        """JSON values; they contain the private key only if it was not written to a file."""
        found: dict[str, Any] = {
            "done": self.signer is not None,
            "files": [str(one) for one in self.files],
            "replaces": self.replaces or None,
            "page": str(self.page_file) if self.page_file else None,
        }
        if self.signer:
            found |= {"signer": self.signer.fingerprint, "public_key": self.signer.line}
        if self.page:
            found |= {"recipient": self.page.recipient, "recipients": list(self.recipients_after)}
            found |= {} if self.page_file else {"recovery_key": self.page.key.revealed()}
        return found


def plan_new(context: Context, page_file: Path | None, *, machine: bool = False) -> Making:
    """Plan a recovery key (unless `machine`) and the missing keys of this machine."""
    settings = context.settings
    if page_file and os.path.lexists(page_file):
        raise _exists(page_file)
    missing = MachineKeys.in_home(settings.home).missing
    return Making(missing, settings.encryption_recipients, not machine, page_file=page_file)


def plan_rotation(context: Context, page_file: Path | None, replaces: str | None) -> Making:
    """Plan a recovery key that replaces the one of the recipient `replaces` (None: the only one)."""
    planned = plan_new(context, page_file)
    found = context.settings.recipients()
    if replaces is None and len(found) > 1:
        hint = "Name one: --replaces RECIPIENT. `refnet key show` lists them."
        raise RefnetError(f"{len(found)} recovery keys are in use", hint, Exit.USAGE)
    if replaces is not None and replaces not in found:
        hint = "`refnet key show` lists them."
        raise RefnetError(f"{replaces[:80]} is not one of encryption.recipients", hint, Exit.USAGE)
    return replace(planned, replaces=replaces or found[0])


def plan_page(context: Context, page_file: Path | None) -> Making:
    """Plan a new page for an existing recovery key; RefnetError if this machine has no signing key."""
    planned = plan_new(context, page_file)
    MachineKeys.in_home(context.settings.home).signer()
    return replace(planned, files=())


def make(context: Context, planned: Making) -> Making:
    """Make the planned keys, write the page if it has a file, and record the recipient of a new key."""
    settings, now, zone = context.settings, context.clock.now(), context.clock.zone
    file = planned.page_file
    with _new_file(file) if file else nullcontext() as handle:
        keys = MachineKeys.in_home(settings.home)
        files = () if planned.key else keys.make_missing()
        done = replace(planned, files=files, signer=(signer := keys.signer()))
        if not planned.recovery:
            return done
        stores = tuple(settings.every_store.values())
        key = planned.key or PrivateKey.new()
        roles = dict(_live_powers(context))
        page = RecoveryPage(
            key, signer, now, platform.node(), stores, planned.replaces, roles, dict(_installers(context))
        )
        if file and handle is not None:
            with explained(file):
                write_all(handle, (page.text(zone) if file.suffix == ".txt" else page.html(zone)).encode())
        event = Event.PAGE if planned.key else Event.MADE
        urls = tuple(one.url_to_read for one in stores)
        named = KeyEvent(now, event, page.recipient, planned.replaces, urls, FORMAT, page.permits)
        history_file(settings).add(named)
    return replace(done, page=page)


def _live_powers(context: Context) -> Iterator[tuple[str, tuple[Power, ...] | None]]:
    """Yield the powers of the roles of each server, for a page; a server that does not answer becomes a note."""
    for source in wiring.known(context.settings):
        try:
            found = source_of(context.settings, source).live_powers()
        except RefnetError as error:
            context.note(f"the roles of {source} are not on the page: {error.message}. {error.hint}")
            yield source, None
        else:
            if found is not None:
                yield source, found


def _installers(context: Context) -> Iterator[tuple[str, Installer]]:
    """Yield the stores that have the installer of this version, for a page; one that does not answer becomes a note."""
    for name, store in context.settings.every_store.items():
        found = installers.sent_to(store, context.settings)
        try:
            if found and found.is_in(open_bucket(store)):
                yield name, found
        except RefnetError as error:
            context.note(f"the installer in {name} is not on the page: {error.message}. {error.hint}")


def _exists(path: Path) -> RefnetError:
    return RefnetError(f"{path} exists", "Name a new file: a page is never overwritten.", Exit.USAGE)


@contextmanager
def _new_file(path: Path) -> Iterator[int]:
    """Create and open a file readable only by this user; it is removed if the block fails."""
    try:
        handle = os.open(path, NEW_FILE, 0o600)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise explain(error, path) from error
    try:
        yield handle
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


@dataclass(frozen=True)
class KeyState:
    """State of a recovery key, identified by its public part."""

    recipient: str
    #: It is one of encryption.recipients.
    current: bool
    #: None: it was not made here.
    made: KeyEvent | None
    #: Its last check; None: never.
    checked: KeyEvent | None
    #: The keys that replaced it, one after the other.
    replaced_by: tuple[KeyEvent, ...]

    @property
    def exit(self) -> Exit:
        return Exit.DONE if self.current else Exit.DAMAGED

    def to_json(self) -> dict[str, Any]:
        return {
            "recipient": self.recipient,
            "current": self.current,
            "made": utc(self.made.at) if self.made else None,
            "checked": utc(self.checked.at) if self.checked else None,
            "replaced": [{"by": one.recipient, "at": utc(one.at)} for one in self.replaced_by],
        }


def states(settings: Settings, keys: Iterable[str]) -> tuple[KeyState, ...]:
    """States of the recipients `keys`."""
    history, current = history_file(settings).read(), settings.encryption_recipients
    return tuple(
        KeyState(one, one in current, history.made(one), history.checked(one), history.replacements(one))
        for one in keys
    )


@dataclass(frozen=True)
class KeysShown:
    """The public parts of all keys."""

    #: None: this machine has no signing key.
    signer: Signer | None
    #: The recipient of the catalog key; "": there is none.
    catalog: str
    #: Those of the settings, and those that were made here and are not in the settings.
    recipients: tuple[KeyState, ...]
    #: Fingerprints or public keys that are trusted besides the signer.
    signers: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "signer": self.signer.fingerprint if self.signer else None,
            "public_key": self.signer.line if self.signer else None,
            "catalog": self.catalog or None,
            "recipients": [one.to_json() for one in self.recipients],
            "signers": list(self.signers),
        }


def show(context: Context) -> KeysShown:
    """Return the public parts of the keys; RefnetError if one cannot be read."""
    settings = context.settings
    keys, named = MachineKeys.in_home(settings.home), settings.encryption_recipients
    return KeysShown(
        keys.signer() if keys.signing_file.exists() else None,
        keys.catalog().recipient.text if keys.catalog_file.exists() else "",
        states(settings, (*named, *history_file(settings).read().forgotten(named))),
        settings.encryption_signers,
    )


def check_keys(settings: Settings) -> Iterator[CheckLine]:
    """Check that the keys of remote copies exist and their pages were checked; nothing without stores."""
    if not settings.every_store:
        return
    keys = MachineKeys.in_home(settings.home)
    needed: dict[str, Callable[[], object]] = {
        "signing key": keys.signer,
        "catalog key": keys.catalog,
        "recovery key": settings.recipients,
    }
    for what, act in needed.items():
        try:
            act()
        except RefnetError as error:
            yield error_line(what, error)
    for stale in stale_pages(settings):
        yield warning("recovery page", stale, "Make it again: `refnet key page`; destroy the old one.")
    yield from _check_roles(settings)
    for one in states(settings, settings.encryption_recipients):
        if one.checked:
            yield ok("recovery key", f"{one.recipient}: checked {one.checked.at:%Y-%m-%d}")
        else:
            page = (
                "was never checked"
                if one.made
                else "is on no recovery page of this machine, and was never checked"
            )
            hint = "Type it in from its page: `refnet key check`."
            yield warning("recovery key", f"{one.recipient}: its key {page}", hint)


def _check_roles(settings: Settings) -> Iterator[CheckLine]:
    """Warn where roles have other powers than the newest page of a key permits. A server that does not answer is named elsewhere."""
    history = history_file(settings).read()
    pages = [page for one in settings.encryption_recipients if (page := history.page(one))]
    for source in wiring.known(settings) if pages else ():
        with suppress(RefnetError):
            found = source_of(settings, source).live_powers()
            now = digest(found) if found else ""
            if found is not None and any((page.roles or {}).get(source, "") != now for page in pages):
                says = f"roles of {source} have other powers than the newest recovery page permits"
                yield warning(
                    "recovery page", says, "Print a new one: `refnet key page`; destroy the old one."
                )


@dataclass(frozen=True)
class TriedKey:
    """Result of one key on the newest copy in one store."""

    recipient: str
    store: str
    outcome: Outcome
    #: The artifact and the piece that were opened, or why not.
    says: str

    def to_json(self) -> dict[str, str]:
        return {"recipient": self.recipient, "store": self.store, "outcome": self.outcome, "says": self.says}


@dataclass(frozen=True)
class KeyCheck:
    """The typed keys, and what they open."""

    keys: tuple[KeyState, ...]
    #: Each key on each store.
    tried: tuple[TriedKey, ...] = ()

    @property
    def exit(self) -> Exit:
        """DAMAGED if a key is not in use, or does not open a copy; UNVERIFIED if no copy could be tried."""
        outcomes = {
            Outcome.PASSED: Exit.DONE,
            Outcome.FAILED: Exit.DAMAGED,
            Outcome.UNVERIFIED: Exit.UNVERIFIED,
        }
        return worst([*(one.exit for one in self.keys), *(outcomes[one.outcome] for one in self.tried)])

    def to_json(self) -> dict[str, Any]:
        return {
            "keys": [one.to_json() for one in self.keys],
            "copies": [one.to_json() for one in self.tried],
        }


def check_key(context: Context, keys: Sequence[PrivateKey], stores: Iterable[RemoteStore]) -> KeyCheck:
    """Check whether each of `keys` is in use and what it opens in `stores`; record the check of keys in use."""
    settings, file = context.settings, history_file(context.settings)
    current = settings.recipients()
    tried = tuple(_tried(key, store) for store in stores for key in keys)
    failed = {one.recipient for one in tried if one.outcome is Outcome.FAILED}
    typed = [key.recipient.text for key in keys]
    for one in typed:
        if one in current and one not in failed:
            file.add(KeyEvent(context.clock.now(), Event.CHECKED, one))
    return KeyCheck(states(settings, typed), tried)


def _tried(key: PrivateKey, store: RemoteStore) -> TriedKey:
    try:
        outcome, says = _opened(Opener(recovery=(key,)), store)
    except RefnetError as error:
        damaged = error.code is Exit.DAMAGED
        outcome, says = Outcome.FAILED if damaged else Outcome.UNVERIFIED, error.message
    return TriedKey(key.recipient.text, store.shown, outcome, says)


def _opened(opener: Opener, store: RemoteStore) -> tuple[Outcome, str]:
    """Decrypt the manifest and the last piece of the newest copy in the store."""
    copies = store.contents().copies
    if not copies:
        return Outcome.UNVERIFIED, "there is no copy signed by a trusted signer"
    copy = max(copies, key=lambda one: one.document.sent)
    pieces, what = copy.document.pieces, f"{copy.name} in {store.name}"
    try:
        opener.manifest(store.bucket.get(copy.object, MANIFEST_OBJECT_BYTES))
    except WrongKeyError:
        return Outcome.FAILED, f"does not open {copy.name}, which is encrypted to other keys"
    except DecryptionError as error:
        return Outcome.FAILED, f"the manifest of {copy.name} is {error}"
    decrypt(opener, fetch(store.bucket, pieces[-1], what), what)
    return Outcome.PASSED, f"opens {copy.name}: its manifest and piece {len(pieces)} of {len(pieces)}"
