"""The settings of `[encryption]`: age's recipients, and the signers that are trusted."""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Any

from refnet.settings.converters import InvalidError, names

_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
#: A recipient of age: its kind, and its data with the checksum. Kinds that are not known yet are `age1NAME1…`.
_RECIPIENT = re.compile(rf"(?P<kind>age(?:1[a-z0-9-]{{1,40}})?)1(?P<data>[{_BECH32}]{{58,2000}})")
_LENGTH = 58
_MOST = 20
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_PUBLIC_KEY = re.compile(r"ssh-ed25519 (?P<key>[A-Za-z0-9+/]{68})(?: .*)?")
_KEY_START = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"


def parse_recipients(value: Any) -> tuple[str, ...]:
    """Return the recipients of copies: public keys of age."""
    usage = 'Write a list of recipients, such as ["age1…"]; `refnet key new` makes one and its recovery key.'
    found = names(value)
    if any("SECRET-KEY" in one.upper() for one in found):
        raise InvalidError(
            "must be public: this is a recovery key",
            "Remove it from this machine, and make a new one: refnet key new.",
        )
    found = tuple(one.strip() for one in found)
    for number, one in enumerate(found, 1):
        if why := wrong_recipient(one):
            raise InvalidError(f"recipient {number} {why}", usage)
    if len(found) > _MOST or len({*found}) < len(found):
        raise InvalidError(f"must be at most {_MOST} different recipients", usage)
    return found


def wrong_recipient(text: str) -> str:
    """The reason why `text` is not a supported recipient; "" if it is."""
    found = _RECIPIENT.fullmatch(text)
    if text.startswith(("ssh-", "age1tag", "age1yubikey")):
        return "has a type without a recovery key on paper"
    if not found:
        return "is not of the form age1…, in lowercase"
    if _checksum(found["kind"], found["data"]) != 1:
        return "is mistyped: its checksum is wrong"
    if found["kind"] != "age":
        return f"has the type {found['kind']}1, which this version of RefNet does not support"
    return "" if len(found["data"]) == _LENGTH else f"must have {_LENGTH + 4} characters"


def _checksum(kind: str, data: str) -> int:
    """Bech32 checksum (BIP 173); 1: valid."""
    values = [
        *(ord(one) >> 5 for one in kind),
        0,
        *(ord(one) & 31 for one in kind),
        *map(_BECH32.index, data),
    ]
    found = 1
    for value in values:
        top = found >> 25
        found = (found & 0x1FFFFFF) << 5 ^ value
        for bit, factor in enumerate(_GENERATOR):
            found ^= factor if top >> bit & 1 else 0
    return found


def parse_signers(value: Any) -> tuple[str, ...]:
    """Parse trusted signers besides this machine: fingerprints or ssh public keys."""
    usage = 'Write a list such as ["SHA256:…"] or ["ssh-ed25519 AAAA…"]; the recovery page and `refnet key show` name it.'
    found = tuple(one.strip() for one in names(value))
    for number, one in enumerate(found, 1):
        if not _FINGERPRINT.fullmatch(one) and not _is_public_key(one):
            raise InvalidError(f"signer {number} is neither a fingerprint nor a key of Ed25519", usage)
    if len(found) > _MOST or len({*found}) < len(found):
        raise InvalidError(f"must be at most {_MOST} different signers", usage)
    return found


def _is_public_key(text: str) -> bool:
    found = _PUBLIC_KEY.fullmatch(text)
    return bool(found) and b64decode(found["key"] if found else "").startswith(_KEY_START)
