"""Keys for reading and signing copies: this machine's in REFNET_HOME/keys, and recovery keys from files."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refnet.catalog.remote import MANIFEST_BYTES, PIECE_BYTES
from refnet.core import trust
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import explain, explained, make_folder, replace_file, sync_folder
from refnet.store.sealing import age
from refnet.store.sealing.age import PrivateKey, WrongKeyError
from refnet.store.sealing.sshsig import Signer, fingerprint, sign

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: The largest file with keys, in bytes, and the most keys in one.
_LARGEST_FILE = 64 << 10
_MOST_KEYS = 64
_SIGNER_LINE = re.compile(r"#\s*signer:\s*(\S.*)")


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
        """Decrypt a manifest; WrongKeyError if no available key fits, SealedError if it is damaged."""
        keys = (*((self.catalog,) if self.catalog else ()), *self.recovery)
        if not keys:
            raise WrongKeyError("no key is available")
        return age.decrypt(data, keys, MANIFEST_BYTES)

    def piece(self, data: bytes) -> bytes:
        """Decrypt a piece; KeyNeededError without a recovery key, else see `manifest`."""
        if not self.recovery:
            raise KeyNeededError("the copy is encrypted")
        return age.decrypt(data, self.recovery, PIECE_BYTES)


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
            f"`chmod 600 {name}`. If there is a key in it and others use this machine, make a new one.",
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
