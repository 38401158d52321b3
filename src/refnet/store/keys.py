"""Keys for reading and signing copies: this machine's in REFNET_HOME/keys, and recovery keys from files.

The history of recovery keys, `REFNET_HOME/keys/recipients.jsonl`, has a line for each key that was made or checked: recipients,
which are public, and no key. A line that cannot be read is skipped.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from refnet.catalog.remote import FORMAT, MANIFEST_BYTES, PIECE_BYTES
from refnet.catalog.source_name import LONGEST
from refnet.core import checked, trust
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explain, explained, make_folder, replace_file, sync_folder
from refnet.core.formatting import some
from refnet.core.records import Layout, Most, Rare, Record
from refnet.settings import Settings
from refnet.store import encryption
from refnet.store.age import WrongKeyError
from refnet.store.disk import append_lines
from refnet.store.encryption import PrivateKey, Signer, fingerprint, sign

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


#: The largest file with keys, in bytes, and the most keys in one.
_LARGEST_FILE = 64 << 10
_MOST_KEYS = 64
_SIGNER_LINE = re.compile(r"#\s*signer:\s*(\S.*)")
#: The largest history that is read, in bytes: 5,000 lines.
_HISTORY_BYTES = 1 << 20


class KeyNeededError(RefnetError):
    """The recovery key is needed and was not given."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}: the recovery key is needed",
            "Type it at a terminal, or name its file: --identity-file FILE.",
            Exit.USAGE,
        )


@dataclass(frozen=True)
class Opener:
    """The available keys for decrypting objects of a remote store."""

    #: Opens the manifests that this machine sent; None: there is none.
    catalog: PrivateKey | None = None
    #: Open manifests and pieces.
    recovery: tuple[PrivateKey, ...] = ()

    def manifest(self, data: bytes) -> bytes:
        """Decrypt a manifest; WrongKeyError if no available key fits, DecryptionError if it is damaged."""
        keys = (*((self.catalog,) if self.catalog else ()), *self.recovery)
        if not keys:
            raise WrongKeyError("no key is available")
        return encryption.decrypt(data, keys, MANIFEST_BYTES)

    def piece(self, data: bytes, most: int = PIECE_BYTES) -> bytes:
        """Decrypt a piece of at most `most` bytes; KeyNeededError without a recovery key, else see `manifest`."""
        if not self.recovery:
            raise KeyNeededError("the copy is encrypted")
        return encryption.decrypt(data, self.recovery, most)


@dataclass(frozen=True)
class MachineKeys:
    """The signing key and the catalog key of this machine. Nothing overwrites either."""

    folder: Path

    @classmethod
    def in_home(cls, home: Path) -> MachineKeys:
        """The keys in REFNET_HOME/keys."""
        return cls(home / "keys")

    @property
    def signing_file(self) -> Path:
        return self.folder / "signing"

    @property
    def catalog_file(self) -> Path:
        return self.folder / "catalog"

    @property
    def missing(self) -> tuple[Path, ...]:
        """The files of the keys that do not exist."""
        return tuple(one for one in (self.signing_file, self.catalog_file) if not one.exists())

    def make_missing(self) -> tuple[Path, ...]:
        """Create missing keys, readable only by this user; return their files."""
        make_folder(self.folder)
        made = []
        for path in self.missing:
            data = _new_signing_key() if path == self.signing_file else _new_catalog_key()
            if _create(path, data):
                made.append(path)
        return tuple(made)

    def signing(self) -> Ed25519PrivateKey:
        """Read the signing key; RefnetError if it is missing, damaged, or another user can read it."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_ssh_private_key

        data = self._read(self.signing_file, "signing key")
        try:
            key = load_ssh_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise _unusable(self.signing_file) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise _unusable(self.signing_file)
        return key

    def catalog(self) -> PrivateKey:
        """Read the catalog key; see `signing`."""
        keys = parse_keys(self._read(self.catalog_file, "catalog key"), str(self.catalog_file)).keys
        if len(keys) != 1:
            raise _unusable(self.catalog_file)
        return keys[0]

    def signer(self) -> Signer:
        """Return the public part of the signing key."""
        return Signer.of(self.signing())

    def sign(self, document: bytes, namespace: str) -> str:
        """Sign `document` for the purpose `namespace`; return the armored signature."""
        return sign(document, self.signing(), namespace)

    def _read(self, path: Path, what: str) -> bytes:
        message = f"this machine has no {what}: {path} does not exist"
        return _read_private(
            path,
            RefnetError(
                message,
                "Create it: `refnet key new`, or `refnet key new --machine` without a new recovery key.",
                Exit.USAGE,
            ),
        )


@dataclass(frozen=True)
class GivenKeys:
    """The recovery keys of a file or of a terminal, and the signers that the file names."""

    keys: tuple[PrivateKey, ...]
    #: Fingerprints, `SHA256:…`.
    signers: tuple[str, ...] = ()


def read_keys(path: Path) -> GivenKeys:
    """Read the recovery keys of the file `path`; RefnetError (USAGE) if another user can read it, or there is none."""
    missing = RefnetError(f"{trust.shown(path)} does not exist", "Check the path.", Exit.USAGE)
    return parse_keys(_read_private(path, missing), trust.shown(path))


def parse_keys(data: bytes, what: str) -> GivenKeys:
    """Parse a file with keys as age writes it: one in a line, comments, and `# signer: SHA256:…`.

    `what`: its name, for errors.
    """
    if data.startswith((b"age-encryption.org/", b"-----BEGIN AGE ")):
        hint = "Decrypt it to a file in memory: `age -d FILE > /dev/shm/key`, with umask 077."
        raise RefnetError(f"{what} is encrypted itself", hint, Exit.USAGE)
    keys, signers = [], []
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        try:
            if named := _SIGNER_LINE.fullmatch(line.strip()):
                signers.append(fingerprint(named[1]))
            elif line.strip() and not line.startswith("#"):
                keys.append(PrivateKey.parsed(line))
        except ValueError as error:
            message = f"{what}, line {number}: {error}"
            raise RefnetError(message, "Compare it with the recovery page.", Exit.USAGE) from None
    if not 0 < len(keys) <= _MOST_KEYS:
        hint = "Put the line AGE-SECRET-KEY-1… into it."
        raise RefnetError(f"{what} has {len(keys)} keys", hint, Exit.USAGE)
    return GivenKeys(tuple(keys), tuple(signers))


def _read_private(path: Path, missing: RefnetError) -> bytes:
    """Read the file `path`, which no other user may read or write; `missing` if it does not exist."""
    try:
        found = trust.read(path, _LARGEST_FILE)
    except FileNotFoundError:
        raise missing from None
    except OSError as error:
        raise explain(error, path) from error
    if found.readable_by_others:
        name = trust.shown(path)
        raise RefnetError(
            f"{name} can be read by others (mode {found.mode:04o}), which a private key must not",
            f"`chmod 600 {shlex.quote(name)}`. If there is a key in it and others use this machine, make a new one.",
            Exit.USAGE,
        )
    return found.content


def _create(path: Path, data: bytes) -> bool:
    """Create a file readable only by this user; False if it exists already."""
    with explained(path):
        hidden = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        replace_file(hidden, data)
        try:
            path.hardlink_to(hidden)
        except FileExistsError:
            return False
        finally:
            hidden.unlink()
        sync_folder(path.parent)
        return True


def _new_signing_key() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def _new_catalog_key() -> bytes:
    key = PrivateKey.new()
    return f"# opens the manifests of remote copies\n# public key: {key.recipient.text}\n{key.revealed()}\n".encode()


def _unusable(path: Path) -> RefnetError:
    return RefnetError(
        f"{path} does not contain the key that RefNet wrote",
        "Restore it from a backup of this machine, or move it away and make a new one: `refnet key new --machine`.",
        Exit.USAGE,
    )


class Event(StrEnum):
    """A line of the history."""

    #: The key was made, and its recovery page was written or printed.
    MADE = "made"
    #: Its page was made again.
    PAGE = "page"
    #: The key was typed in, and is one of the recipients.
    CHECKED = "checked"


_DIGESTS = checked.mapping(checked.text(LONGEST), checked.text(80, like="(SHA256:[0-9a-f]{64})?"), 1000)
_Url = Annotated[str, checked.text(4096, errors="strict")]


@dataclass(frozen=True)
class KeyEvent(Record):
    """One line."""

    LAYOUT = Layout(longest=64 << 10, more=True)

    at: datetime
    event: Event
    #: Of the key: `age1…`.
    recipient: Annotated[str, checked.text(100, like="age1[a-z0-9]+")]
    #: The recipient whose key a new one replaces; "": none.
    replaces: Annotated[str, checked.text(100, like="(age1[a-z0-9]+)?")] = ""
    #: The URLs of the stores on the page that was made; None: that is not known.
    stores: Annotated[tuple[_Url, ...], Most(1000)] | None = None
    #: The newest format of copies that the commands on that page read; 0: of the time before this was recorded.
    reads: Rare[Annotated[int, checked.integer(0, 1000)]] = 0
    #: Cluster → the digest of the powers of its roles on the page, "": none; None: of the time before pages had them.
    roles: Rare[Annotated[Mapping[str, str] | None, _DIGESTS]] = None


@dataclass(frozen=True)
class KeyHistory:
    """The lines, oldest first."""

    events: tuple[KeyEvent, ...]

    def made(self, recipient: str) -> KeyEvent | None:
        """When the key of `recipient` was made on this machine, or None."""
        return next(
            (one for one in self.events if one.event is Event.MADE and one.recipient == recipient),
            None,
        )

    def page(self, recipient: str) -> KeyEvent | None:
        """When the newest recovery page of `recipient` was made on this machine, or None."""
        pages = [one for one in self.events if one.event is not Event.CHECKED and one.recipient == recipient]
        return pages[-1] if pages else None

    def checked(self, recipient: str) -> KeyEvent | None:
        """When the key of `recipient` was last checked, or None."""
        found = (one for one in self.events if one.event is Event.CHECKED and one.recipient == recipient)
        return max(found, key=lambda one: one.at, default=None)

    def forgotten(self, named: Collection[str]) -> tuple[str, ...]:
        """Recipients made here that are neither `named` nor replaced."""
        made = dict.fromkeys(one.recipient for one in self.events if one.event is Event.MADE)
        return tuple(one for one in made if one not in named and not self.replacements(one))

    def replacements(self, recipient: str) -> tuple[KeyEvent, ...]:
        """Successive replacements of the key of `recipient`."""
        found: list[KeyEvent] = []
        while after := self._replacing(recipient, {one.recipient for one in found}):
            found.append(after)
            recipient = after.recipient
        return tuple(found)

    def _replacing(self, recipient: str, but: Collection[str]) -> KeyEvent | None:
        found = [one for one in self.events if one.replaces == recipient and one.recipient not in but]
        return found[-1] if found else None


@dataclass(frozen=True)
class HistoryFile:
    """The file, in REFNET_HOME/keys."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "recipients.jsonl"

    def read(self) -> KeyHistory:
        """Read the history; RefnetError if others can write the file, or it is too large."""
        events: list[KeyEvent] = []
        with explained(self.path):
            try:
                lines = trust.read(self.path, _HISTORY_BYTES).content.splitlines()
            except FileNotFoundError:
                lines = []
        for line in lines:
            with suppress(ValueError):
                events.append(KeyEvent.from_json(line))
        return KeyHistory(tuple(events))

    def add(self, event: KeyEvent) -> None:
        """Append a line."""
        make_folder(self.folder)
        with explained(self.path):
            if append_lines(self.path, event.to_json()):
                sync_folder(self.folder)


def history_file(settings: Settings) -> HistoryFile:
    """The history of recovery keys."""
    return HistoryFile(settings.home / "keys")


def stale_pages(settings: Settings) -> Iterator[str]:
    """Yield what is wrong on the newest page of each key in use: its stores, if they were recorded, and its commands."""
    history, wanted = (
        history_file(settings).read(),
        {one.url_to_read for one in settings.every_store.values()},
    )
    for one in settings.encryption_recipients:
        if (page := history.page(one)) is None:
            continue
        known, said = wanted if page.stores is None else {*page.stores}, []
        if lacks := sorted(wanted - known):
            said.append(f"lacks {some(lacks, 3)}")
        if old := sorted(known - wanted):
            said.append(f"names {some(old, 3)}, which is not used")
        if page.reads < FORMAT:
            said.append("has commands without RefNet that cannot read today's copies")
        if said:
            yield f"the page of {one} {' and '.join(said)}"
