"""Encryption in the format of age (age-encryption.org/v1), to X25519 keys; pyrage does the work.

Encryption does not authenticate the sender: `sshsig.py` signs. Errors never repeat a key.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_PRIVATE = re.compile(r"AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}")
#: Keys that age or its plugins know and RefNet does not: (prefix, name).
_OTHERS = (
    ("AGE1PQ1", "a post-quantum key"),
    ("AGE-SECRET-KEY-PQ-1", "a post-quantum key"),
    ("AGE1TAG", "a key of a hardware token"),
    ("AGE-PLUGIN-", "a key of a plugin"),
    ("SSH-", "an SSH key"),
)
#: The largest header that is read, in bytes: one recipient takes about 100. The time to read it grows with its square.
_HEADER = 8 << 10
#: The start of a header's last line.
_LAST_LINE = b"\n--- "
#: age adds 16 bytes to each 64 KiB, and 16 at the start.
_CHUNK = 64 << 10
_TAG = 16


class SealedError(ValueError):
    """Data that cannot be decrypted, because it is damaged or not of this format."""


class WrongKeyError(SealedError):
    """Data that is encrypted to other keys."""


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
    """Encrypt `data` to `recipients`, one or more, as one age file.

    Needs twice the memory of `data` and blocks all other threads: 16 MiB take 20 ms.
    """
    import pyrage

    if not recipients:
        raise ValueError("no recipient")
    out = io.BytesIO()  # its content is not copied, as what pyrage.encrypt returns is
    into = [pyrage.x25519.Recipient.from_str(one.text) for one in recipients]
    pyrage.encrypt_io(io.BytesIO(data), out, into)
    return out.getvalue()


def decrypt(data: bytes, keys: Sequence[PrivateKey], most: int) -> bytes:
    """Decrypt the age file `data` with the matching one of `keys`; returns only fully authenticated data.

    Args:
        most: the largest plaintext, in bytes.

    WrongKeyError if it is encrypted to other keys; SealedError if it is damaged, or larger.
    """
    import pyrage

    if len(data) > most + _HEADER + _TAG * (2 + most // _CHUNK):
        raise SealedError(f"larger than {most:,} bytes")
    if not data.startswith(b"age-encryption.org/v1\n"):
        raise SealedError("not a file of age")
    if _LAST_LINE not in data[:_HEADER]:
        raise SealedError("not a file of age, or one with too many recipients")
    try:
        out = io.BytesIO()
        given = [pyrage.x25519.Identity.from_str(key.revealed()) for key in keys]
        pyrage.decrypt_io(io.BytesIO(data), out, given)
    except (pyrage.DecryptError, OSError) as error:  # the latter for a chunk
        if "No matching keys" in str(error):
            raise WrongKeyError("encrypted to other keys") from None
        raise SealedError("damaged, or not a file of age") from None
    found = out.getvalue()
    if len(found) > most:
        raise SealedError(f"larger than {most:,} bytes")
    return found
