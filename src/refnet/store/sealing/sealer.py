"""Encryption and signing of copies."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from refnet.catalog.remote import NAMESPACE
from refnet.store.sealing import age
from refnet.store.sealing.age import Recipient
from refnet.store.sealing.keys import MachineKeys


@dataclass(frozen=True)
class Sealer:
    """The public keys that copies are encrypted to, and this machine's keys, which sign them."""

    recipients: tuple[Recipient, ...]
    keys: MachineKeys

    @property
    def digest(self) -> str:
        """Digest of the recipients."""
        return hashlib.sha256("\n".join(sorted(one.text for one in self.recipients)).encode()).hexdigest()

    def piece(self, data: bytes) -> bytes:
        return age.encrypt(data, self.recipients)

    def manifest(self, line: bytes) -> tuple[bytes, bytes]:
        """Sign a manifest's line; return the plaintext, and the ciphertext for the recipients and this machine."""
        plaintext = line + self.keys.sign(line, NAMESPACE).encode("ascii")
        return plaintext, age.encrypt(plaintext, (*self.recipients, self.keys.catalog().recipient))
