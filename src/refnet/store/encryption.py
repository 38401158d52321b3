"""Encryption and signatures of copies, in formats that other programs read. Errors never repeat a key.

- Encryption in the format of age (age-encryption.org/v1), to X25519 keys; see `age.py`. pyrage makes and reads keys. age does not
  authenticate the sender: that is what the signatures are for.
- Signatures in OpenSSH's format (SSHSIG) with Ed25519 keys: `ssh-keygen -Y verify` accepts them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from refnet.store import age

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


_PRIVATE = re.compile(r"AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}")
#: Keys that age or its plugins know and RefNet does not: (prefix, name).
_OTHERS = (
    ("AGE1PQ1", "a post-quantum key"),
    ("AGE-SECRET-KEY-PQ-1", "a post-quantum key"),
    ("AGE1TAG", "a key of a hardware token"),
    ("AGE-PLUGIN-", "a key of a plugin"),
    ("SSH-", "an SSH key"),
)
#: Of a signature.
_MAGIC = b"SSHSIG"
_VERSION = (1).to_bytes(4, "big")
_KIND = b"ssh-ed25519"
_HASHES = {b"sha512": hashlib.sha512, b"sha256": hashlib.sha256}
SIGNATURE_BEGIN = "-----BEGIN SSH SIGNATURE-----"
_END = "-----END SSH SIGNATURE-----"
#: Characters of a line of the armor, as ssh-keygen writes it.
_WIDTH = 70
#: The longest armored signature that is read; an Ed25519 one takes about 300 characters.
SIGNATURE_LONGEST = 2048


@dataclass(frozen=True)
class Recipient:
    """The public part of a key; the settings have checked its text."""

    #: `age1…`, 62 characters.
    text: str


@dataclass(frozen=True)
class PrivateKey:
    """A private key (age: identity). Only `revealed` shows its text."""

    _text: str = field(repr=False)
    recipient: Recipient

    @classmethod
    def new(cls) -> PrivateKey:
        from pyrage import x25519

        made = x25519.Identity.generate()
        return cls(str(made), Recipient(str(made.to_public())))

    @classmethod
    def parsed(cls, text: str) -> PrivateKey:
        """Read `AGE-SECRET-KEY-1…`, in any case and with white space in it; ValueError says what is wrong with it."""
        from pyrage import IdentityError, x25519

        found = "".join(text.split()).upper()
        for prefix, name in _OTHERS:
            if found.startswith(prefix):
                raise ValueError(f"{name}, which is not supported: use an X25519 key (age1…)")
        if found.startswith("AGE1"):
            raise ValueError("a recipient (age1…), where its private key belongs")
        if not _PRIVATE.fullmatch(found):
            raise ValueError("not a private key: AGE-SECRET-KEY-1 and 58 letters and digits")
        try:
            return cls(found, Recipient(str(x25519.Identity.from_str(found).to_public())))
        except IdentityError:
            raise ValueError("a private key with a typing error: its checksum differs") from None

    def revealed(self) -> str:
        """Return `AGE-SECRET-KEY-1…`, 74 characters. It must not reach a log, an error or an argument."""
        return self._text


def encrypt(data: bytes, recipients: Sequence[Recipient]) -> bytes:
    """Encrypt `data` to `recipients`, one or more, as one age file. Needs twice the memory of `data`."""
    if not recipients:
        raise ValueError("no recipient")
    return age.encrypt(data, [age.raw(one.text) for one in recipients])


def decrypt(data: bytes, keys: Sequence[PrivateKey], most: int) -> bytes:
    """Decrypt the age file `data` with the matching one of `keys`; returns only fully authenticated data.

    Args:
        most: the largest plaintext, in bytes.

    WrongKeyError if it is encrypted to other keys; DecryptionError if it is damaged, or larger.
    """
    return age.decrypt(data, [age.raw(one.revealed()) for one in keys], most)


class SignatureError(ValueError):
    """An invalid signature: malformed, of another kind or purpose, or of another message."""


@dataclass(frozen=True)
class Signer:
    """The public part of a signing key."""

    #: The 32 bytes of the Ed25519 key.
    key: bytes

    @classmethod
    def parsed(cls, text: str) -> Signer:
        """Read `ssh-ed25519 AAAA… [comment]`; ValueError says what is wrong with it."""
        kind, _, rest = text.strip().partition(" ")
        if kind != _KIND.decode():
            raise ValueError("not a public key of the kind ssh-ed25519")
        return cls(_public_key(_decoded(rest.split(" ", 1)[0])))

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> Signer:
        return cls(private.public_key().public_bytes_raw())

    @property
    def line(self) -> str:
        """The public key as OpenSSH writes it, without a comment."""
        return f"{_KIND.decode()} {base64.b64encode(self._blob).decode()}"

    @property
    def fingerprint(self) -> str:
        """`SHA256:…`, as `ssh-keygen -l` shows it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self._blob).digest()).decode().rstrip("=")

    @property
    def _blob(self) -> bytes:
        return _string(_KIND) + _string(self.key)


def fingerprint(text: str) -> str:
    """Fingerprint of a signer, from its fingerprint or public key; ValueError for neither."""
    if not text.startswith("SHA256:"):
        return Signer.parsed(text).fingerprint
    digest = text.strip().removeprefix("SHA256:")
    if len(_decoded(digest + "=")) != 32:
        raise ValueError("not a fingerprint: SHA256: and 43 characters")
    return f"SHA256:{digest}"


def sign(message: bytes, private: Ed25519PrivateKey, namespace: str) -> str:
    """Sign `message` for the purpose `namespace`; return the armored signature, which ends with a newline."""
    signature = private.sign(_signed(message, namespace.encode(), b"sha512"))
    parts = (
        Signer.of(private)._blob,
        namespace.encode(),
        b"",
        b"sha512",
        _string(_KIND) + _string(signature),
    )
    text = base64.b64encode(_MAGIC + _VERSION + b"".join(map(_string, parts))).decode()
    lines = (text[at : at + _WIDTH] for at in range(0, len(text), _WIDTH))
    return "\n".join((SIGNATURE_BEGIN, *lines, _END, ""))


def verify(message: bytes, armored: str, namespace: str) -> Signer:
    """Return the signer of `message`; SignatureError if `armored` is not a signature of it for `namespace`.

    The caller decides whether the signer is to be trusted.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    public, purpose, hash_name, signature = _parsed(armored)
    if purpose != namespace.encode():
        raise SignatureError("a signature for another purpose")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _signed(message, purpose, hash_name))
    except InvalidSignature:
        raise SignatureError("the signature is not one of this content") from None
    return Signer(public)


def verified_line(text: bytes, namespace: str) -> tuple[bytes, Signer]:
    """Return the first line of `text` with its end, and who signed it: the signature follows. ValueError if it is not signed."""
    line, end, signature = text.partition(b"\n")
    if not end or not signature.isascii():
        raise ValueError("not signed")
    return line + end, verify(line + end, signature.decode("ascii"), namespace)


def _signed(message: bytes, namespace: bytes, hash_name: bytes) -> bytes:
    """Return the bytes that the key signs."""
    return _MAGIC + b"".join(map(_string, (namespace, b"", hash_name, _HASHES[hash_name](message).digest())))


def _parsed(armored: str) -> tuple[bytes, bytes, bytes, bytes]:
    """Return (public key, namespace, name of the hash, signature) of an armored signature."""
    lines = armored[: SIGNATURE_LONGEST + 1].rstrip("\n").split("\n")
    if len(armored) > SIGNATURE_LONGEST or lines[0] != SIGNATURE_BEGIN or lines[-1] != _END:
        raise SignatureError("not an armored SSH signature")
    data = _decoded("".join(lines[1:-1]))
    if not data.startswith(_MAGIC + _VERSION):
        raise SignatureError("not an SSH signature of version 1")
    public, namespace, reserved, hash_name, signature = _strings(data[len(_MAGIC + _VERSION) :], 5)
    if reserved or hash_name not in _HASHES:
        raise SignatureError("an SSH signature with an unknown hash or extension")
    kind, raw = _strings(signature, 2)
    if kind != _KIND or len(raw) != 64:
        raise SignatureError("a signature of another kind than Ed25519")
    return _public_key(public), namespace, hash_name, raw


def _public_key(blob: bytes) -> bytes:
    kind, raw = _strings(blob, 2)
    if kind != _KIND or len(raw) != 32:
        raise SignatureError("a key of another kind than Ed25519")
    return raw


def _decoded(text: str) -> bytes:
    """Decode canonical base64."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise SignatureError("not base64") from None
    if base64.b64encode(data).decode() != text:
        raise SignatureError("not base64")
    return data


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _strings(data: bytes, count: int) -> list[bytes]:
    """Split `data` into exactly `count` strings, each with its length before it."""
    found = []
    for _ in range(count):
        size = int.from_bytes(data[:4], "big")
        if len(data) < 4 or size > len(data) - 4:
            raise SignatureError("it ends too early")
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    if data:
        raise SignatureError("it continues after its end")
    return found
