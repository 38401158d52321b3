"""Signatures in OpenSSH's format (SSHSIG) with Ed25519 keys: `ssh-keygen -Y verify` accepts them."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_MAGIC = b"SSHSIG"
_VERSION = (1).to_bytes(4, "big")
_KIND = b"ssh-ed25519"
_HASHES = {b"sha512": hashlib.sha512, b"sha256": hashlib.sha256}
BEGIN = "-----BEGIN SSH SIGNATURE-----"
_END = "-----END SSH SIGNATURE-----"
#: Characters of a line of the armor, as ssh-keygen writes it.
_WIDTH = 70
#: The longest armored signature that is read; an Ed25519 one takes about 300 characters.
LONGEST = 2048


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
    return "\n".join((BEGIN, *lines, _END, ""))


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


def _signed(message: bytes, namespace: bytes, hash_name: bytes) -> bytes:
    """Return the bytes that the key signs."""
    return _MAGIC + b"".join(map(_string, (namespace, b"", hash_name, _HASHES[hash_name](message).digest())))


def _parsed(armored: str) -> tuple[bytes, bytes, bytes, bytes]:
    """Return (public key, namespace, name of the hash, signature) of an armored signature."""
    lines = armored[: LONGEST + 1].rstrip("\n").split("\n")
    if len(armored) > LONGEST or lines[0] != BEGIN or lines[-1] != _END:
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
