"""Encrypted objects, signatures and keys, whatever bytes they are."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.strategies import damaged, documents, texts

from refnet.store import encryption, keys
from refnet.store.age import DecryptionError
from refnet.store.keys import Event, KeyEvent

KEY = encryption.PrivateKey.parsed(
    "AGE-SECRET-KEY-1XFEQXUQM39RKF7EQGHC3EE47ZFZ60X3UQLF035AYQJWVMH9QYUKSRMMSYS"
)
SEALED = encryption.encrypt(b"a manifest" * 20, [KEY.recipient, encryption.PrivateKey.new().recipient])
SIGNING = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_SIGNING_FILE = SIGNING.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
SIGNATURE = encryption.sign(b"a manifest", SIGNING, "refnet-manifest")
BLOB = base64.b64decode("".join(SIGNATURE.splitlines()[1:-1]))
_PASSPHRASE = b"age-encryption.org/v1\n-> scrypt rF0/NwblUHHTpgQgRpe5CQ 30\ngUjEymFKMVXQEKdMMHL24oYexjE3TIC0O0zGSqJ2aUY\n"


@fuzzed
@given(st.one_of(damaged(SEALED), damaged(_PASSPHRASE + SEALED[22:])))
def test_an_encrypted_object_is_decrypted_as_it_was_or_refused(data: bytes) -> None:
    found = outcome(lambda: encryption.decrypt(data, [KEY], 1 << 20), DecryptionError)
    assert found is None or found == b"a manifest" * 20


@fuzzed
@given(
    st.one_of(damaged(SIGNATURE.encode()).map(lambda text: text.decode(errors="replace")), texts),
    st.sampled_from([b"a manifest", b"another"]),
)
def test_a_signature_is_verified_or_refused(text: str, message: bytes) -> None:
    found = outcome(lambda: encryption.verify(message, text, "refnet-manifest"), encryption.SignatureError)
    assert found is None or (found == encryption.Signer.of(SIGNING) and message == b"a manifest")


@fuzzed
@given(damaged(BLOB))
def test_the_content_of_a_signature_is_verified_or_refused(data: bytes) -> None:
    text = f"{encryption.SIGNATURE_BEGIN}\n{base64.b64encode(data).decode()}\n-----END SSH SIGNATURE-----\n"
    found = outcome(
        lambda: encryption.verify(b"a manifest", text, "refnet-manifest"), encryption.SignatureError
    )
    assert found is None or data == BLOB


@fuzzed
@given(st.one_of(texts, damaged(KEY.revealed().encode()).map(lambda text: text.decode(errors="replace"))))
def test_a_key_is_read_or_refused(text: str) -> None:
    key = outcome(lambda: encryption.PrivateKey.parsed(text), ValueError)
    assert key is None or key == KEY
    outcome(lambda: encryption.Signer.parsed(text), ValueError)


_FILE = f"# created: 2026-11-27\n# signer: {encryption.Signer.of(SIGNING).fingerprint}\n{KEY.revealed()}\n".encode()


@fuzzed
@given(st.one_of(damaged(_FILE), texts.map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_a_file_with_keys_is_read_or_refused(data: bytes) -> None:
    found = outcome(lambda: keys.parse_keys(data, "the file"))
    assert found is None or {*found.keys} == {KEY}


@fuzzed
@given(damaged(_SIGNING_FILE))
def test_a_signing_key_is_read_or_refused(folder: Path, data: bytes) -> None:
    machine = keys.MachineKeys(folder)
    machine.signing_file.write_bytes(data)
    machine.signing_file.chmod(0o600)
    outcome(machine.signer)


_MADE = KeyEvent(datetime(2026, 11, 27, tzinfo=UTC), Event.MADE, KEY.recipient.text, "age1q")


@fuzzed
@given(documents([json.loads(_MADE.to_json())]))
def test_a_line_of_the_history_of_keys_is_read_or_refused(data: bytes) -> None:
    found = outcome(lambda: KeyEvent.from_json(data), ValueError)
    assert found is None or KeyEvent.from_json(found.to_json().encode()) == found
