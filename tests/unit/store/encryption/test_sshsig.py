"""Signatures of OpenSSH: ours pass `ssh-keygen -Y verify`, its own pass ours, and what is forged passes neither."""

from __future__ import annotations

import base64
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from refnet.store.encryption import SIGNATURE_LONGEST, SignatureError, Signer, sign, verify

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SPACE = "refnet-manifest"
MESSAGE = b'{"format":1}'
needs_ssh_keygen = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="the program ssh-keygen is not installed"
)


def armored(data: bytes) -> str:
    text = base64.b64encode(data).decode()
    lines = "\n".join(text[at : at + 70] for at in range(0, len(text), 70))
    return f"-----BEGIN SSH SIGNATURE-----\n{lines}\n-----END SSH SIGNATURE-----\n"


def raw(signature: str) -> bytes:
    return base64.b64decode("".join(signature.splitlines()[1:-1]))


def test_a_signature_names_its_signer():
    signature = sign(MESSAGE, KEY, SPACE)
    assert verify(MESSAGE, signature, SPACE) == Signer.of(KEY)
    assert armored(raw(signature)) == signature
    assert len(signature) < SIGNATURE_LONGEST // 4


def test_a_signature_of_another_message_or_for_another_purpose_is_refused():
    signature = sign(MESSAGE, KEY, SPACE)
    with pytest.raises(SignatureError, match="not one of this content"):
        verify(MESSAGE + b" ", signature, SPACE)
    with pytest.raises(SignatureError, match="another purpose"):
        verify(MESSAGE, signature, "refnet-drill")


def test_a_change_of_any_byte_is_refused():
    data = raw(sign(MESSAGE, KEY, SPACE))
    for at in range(len(data)):
        with pytest.raises(SignatureError):
            verify(MESSAGE, armored(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]), SPACE)


def test_a_signature_under_another_key_keeps_no_signer():
    data = raw(sign(MESSAGE, KEY, SPACE))
    public = Signer.of(Ed25519PrivateKey.generate()).key
    with pytest.raises(SignatureError):
        verify(MESSAGE, armored(data.replace(Signer.of(KEY).key, public)), SPACE)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:0],
        lambda text: text * 2,
        lambda text: " " + text,
        lambda text: text + "more",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", " \n", 2),
        lambda text: text.replace("=", ""),
        lambda text: text.replace("SSH SIGNATURE", "PGP SIGNATURE"),
        lambda text: text[:-60],
        lambda text: armored(raw(text) + b"\0"),
        lambda text: armored(raw(text)[:-1]),
        lambda text: armored(raw(text)[:6] + b"\xff" * 400),
        lambda text: armored(raw(text).replace(b"sha512", b"sha384")),
        lambda text: armored(raw(text).replace(b"ssh-ed25519", b"ssh-ed25518")),
        lambda text: armored(raw(text)[:0]),
        lambda text: text[:1] * 10_000_000,
        lambda text: text.replace("-", "é"),
    ],
)
def test_what_is_not_a_signature_is_refused(change):
    with pytest.raises(SignatureError):
        verify(MESSAGE, change(sign(MESSAGE, KEY, SPACE)), SPACE)


@pytest.mark.parametrize(
    "text",
    ["", "ssh-rsa AAAA", "ssh-ed25519", "ssh-ed25519 !!", "ssh-ed25519 AAAA", Signer.of(KEY).line[:-4]],
)
def test_what_is_not_a_public_key_is_refused(text):
    with pytest.raises(ValueError):
        Signer.parsed(text)


def test_a_public_key_is_read_as_it_is_shown():
    assert Signer.parsed(Signer.of(KEY).line + " refnet on db1\n") == Signer.of(KEY)


@needs_ssh_keygen
def test_ssh_keygen_accepts_our_signature_and_shows_the_same_fingerprint(tmp_path):
    signer = Signer.of(KEY)
    (tmp_path / "allowed").write_text(f"refnet {signer.line}\n")
    (tmp_path / "signature").write_text(sign(MESSAGE, KEY, SPACE))
    command = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "refnet", "-n", SPACE, "-s", "signature"]
    done = subprocess.run(command, input=MESSAGE, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert signer.fingerprint in done.stdout.decode()
    assert subprocess.run(command, input=b"no", cwd=tmp_path, capture_output=True, check=False).returncode


@needs_ssh_keygen
@pytest.mark.parametrize("hash_name", ["sha512", "sha256"])
def test_we_accept_the_signature_of_ssh_keygen(tmp_path, hash_name):
    (tmp_path / "key").write_bytes(
        KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    (tmp_path / "key").chmod(0o600)
    command = ["ssh-keygen", "-Y", "sign", "-f", "key", "-n", SPACE, "-O", f"hashalg={hash_name}"]
    done = subprocess.run(command, input=MESSAGE, cwd=tmp_path, capture_output=True, check=True)
    assert verify(MESSAGE, done.stdout.decode(), SPACE) == Signer.of(KEY)


@needs_ssh_keygen
def test_a_signature_of_another_kind_of_key_is_refused(tmp_path):
    make = ["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", "key"]
    subprocess.run(make, cwd=tmp_path, check=True)
    command = ["ssh-keygen", "-Y", "sign", "-f", "key", "-n", SPACE]
    done = subprocess.run(command, input=MESSAGE, cwd=tmp_path, capture_output=True, check=True)
    with pytest.raises(SignatureError, match="another kind"):
        verify(MESSAGE, done.stdout.decode(), SPACE)
