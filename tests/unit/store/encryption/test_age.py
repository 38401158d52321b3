"""Encryption to keys of age: what is accepted, what is refused, and that the program `age` agrees."""

from __future__ import annotations

import pickle
import random
import shutil
import subprocess
import time

import pyrage
import pytest

from refnet.store.age import DecryptionError, WrongKeyError, plain_size
from refnet.store.encryption import PrivateKey, decrypt, encrypt

KEY = PrivateKey.parsed("AGE-SECRET-KEY-1XFEQXUQM39RKF7EQGHC3EE47ZFZ60X3UQLF035AYQJWVMH9QYUKSRMMSYS")
OTHER = PrivateKey.new()
MOST = 1 << 20
needs_age = pytest.mark.skipif(shutil.which("age") is None, reason="the program age is not installed")


def test_each_of_several_keys_decrypts():
    sealed = encrypt(b"notes", [KEY.recipient, OTHER.recipient])
    assert decrypt(sealed, [KEY], MOST) == decrypt(sealed, [OTHER], MOST) == b"notes"


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537])
def test_every_size_comes_back_as_it_was(size):
    assert decrypt(encrypt(b"a" * size, [KEY.recipient]), [KEY], size) == b"a" * size


def test_another_key_is_named_as_the_reason():
    with pytest.raises(WrongKeyError, match="encrypted to other keys"):
        decrypt(encrypt(b"notes", [KEY.recipient]), [OTHER], MOST)


def test_nothing_is_encrypted_to_nobody():
    with pytest.raises(ValueError, match="no recipient"):
        encrypt(b"notes", [])


def test_a_change_of_any_byte_is_refused():
    sealed = encrypt(b"notes" * 5, [KEY.recipient])
    for at in range(len(sealed)):
        with pytest.raises(DecryptionError):
            decrypt(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], [KEY], MOST)


@pytest.mark.parametrize(
    "change",
    [
        lambda sealed: sealed[:-1],
        lambda sealed: sealed + b"x",
        lambda sealed: sealed[: sealed.index(b"---")],
        lambda sealed: sealed[:-65_000],
        lambda sealed: sealed[:0],
        lambda sealed: sealed * 2,
    ],
)
def test_what_was_cut_or_continued_is_refused(change):
    with pytest.raises(DecryptionError):
        decrypt(change(encrypt(b"a" * 100_000, [KEY.recipient])), [KEY], MOST)


def test_more_than_the_limit_is_refused():
    for size in (101, 5 << 20):
        with pytest.raises(DecryptionError, match="larger than 100 bytes"):
            decrypt(encrypt(b"a" * size, [KEY.recipient]), [KEY], 100)


def test_a_file_with_thousands_of_recipients_is_refused_at_once():
    stanza = b"-> X25519 " + b"A" * 43 + b"\n" + b"A" * 43 + b"\n"
    began = time.process_time()
    with pytest.raises(DecryptionError, match="too many recipients"):
        decrypt(b"age-encryption.org/v1\n" + stanza * 20_000 + b"--- " + b"A" * 43 + b"\n", [KEY], MOST * 4)
    assert time.process_time() - began < 0.5


def test_as_many_recipients_as_the_settings_allow_are_read():
    sealed = encrypt(b"notes", [OTHER.recipient] * 21 + [KEY.recipient])
    assert decrypt(sealed, [KEY], MOST) == b"notes"


def _identity(key: PrivateKey) -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.from_str(key.revealed())


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 3 * 65_536, 200_000])
def test_another_implementation_agrees_on_every_size(size):
    data = random.Random(size).randbytes(size)
    sealed = encrypt(data, [OTHER.recipient, KEY.recipient])
    assert pyrage.decrypt(sealed, [_identity(KEY)]) == data
    assert plain_size(sealed) == size
    theirs = pyrage.encrypt(data, [_identity(OTHER).to_public(), _identity(KEY).to_public()])
    assert decrypt(theirs, [KEY], size) == data
    assert plain_size(theirs) == size


def _chunks(sealed: bytes) -> tuple[bytes, list[bytes]]:
    begin = sealed.index(b"\n", sealed.index(b"\n--- ") + 1) + 1 + 16
    body = sealed[begin:]
    return sealed[:begin], [body[at : at + 65_552] for at in range(0, len(body), 65_552)]


@pytest.mark.parametrize(
    "order", [(0, 2, 1), (1, 0, 2), (0, 1), (0,), (0, 2), (0, 1, 2, 2), (0, 0, 1, 2), ()]
)
def test_chunks_that_are_moved_repeated_or_missing_are_refused(order):
    head, chunks = _chunks(encrypt(random.Random(1).randbytes(2 * 65_536 + 9), [KEY.recipient]))
    assert decrypt(head + b"".join(chunks), [KEY], MOST)
    with pytest.raises(DecryptionError):
        decrypt(head + b"".join(chunks[one] for one in order), [KEY], MOST)


def test_chunks_of_another_file_to_the_same_key_are_refused():
    one, other = (_chunks(encrypt(bytes([n]) * 100, [KEY.recipient])) for n in (1, 2))
    with pytest.raises(DecryptionError):
        decrypt(one[0] + other[1][0], [KEY], MOST)


def test_stanzas_that_are_not_known_are_passed_over():
    """A program may write them on purpose; the MAC is of them too."""
    head, rest = pyrage.encrypt(b"notes", [_identity(KEY).to_public()]).split(b"\n--- ", 1)
    for more in (
        b"-> other 1 2\n\n",
        b"-> other\n" + b"A" * 64 + b"\n\n",
        b"-> other\n" + b"A" * 64 + b"\nAA\n",
    ):
        with pytest.raises(DecryptionError, match="damaged"):
            decrypt(head + b"\n" + more[:-1] + b"\n--- " + rest, [KEY], MOST)
        with pytest.raises(WrongKeyError):
            decrypt(b"age-encryption.org/v1\n" + more[:-1] + b"\n--- " + rest, [KEY], MOST)


@pytest.mark.parametrize(
    "stanza",
    [
        b"-> X25519\nA\n",
        b"-> X25519 \n" + b"A" * 43 + b"\n",
        b"-> X25519 " + b"A" * 43 + b"\n" + b"A" * 43 + b"\n",  # a share that gives each key the same secret
        b"-> X25519 " + b"A" * 42 + b"B\n" + b"A" * 43 + b"\n",  # bits beside its bytes
        b"-> X25519 " + b"A" * 43 + b"=\n" + b"A" * 43 + b"\n",
        b"-> X25519 " + b"A" * 43 + b" B\n" + b"A" * 43 + b"\n",
        b"-> X25519 " + b"A" * 43 + b"\n" + b"A" * 65 + b"\n",
        b"-> X25519 " + b"A" * 43 + b"\n" + b"A" * 64 + b"\n",
        b"-> X25519 " + b"A" * 43 + b"\n",
        b"X25519 " + b"A" * 43 + b"\n" + b"A" * 43 + b"\n",
        b"\n",
        b"\r\n",
    ],
)
def test_a_malformed_stanza_is_refused(stanza):
    sealed = encrypt(b"notes", [KEY.recipient]).replace(b"v1\n", b"v1\n" + stanza, 1)
    with pytest.raises(DecryptionError):
        decrypt(sealed, [KEY], MOST)


@pytest.mark.parametrize("change", [str.lower, lambda text: f" {text[:20]} {text[20:40]}\n\t{text[40:]}\n"])
def test_a_key_may_be_typed_in_groups_and_in_any_case(change):
    assert PrivateKey.parsed(change(KEY.revealed())) == KEY


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a private key"),
        (KEY.revealed()[:-1], "not a private key"),
        (KEY.revealed()[:-1] + "Q", "checksum"),
        (KEY.revealed() * 2, "not a private key"),
        (KEY.recipient.text, "a recipient"),
        ("AGE-SECRET-KEY-PQ-1" + "Q" * 58, "post-quantum"),
        ("AGE-PLUGIN-YUBIKEY-1QQQQ", "plugin"),
        ("ssh-ed25519 AAAA", "SSH key"),
        ("é", "not a private key"),
        ("a" * 100_000, "not a private key"),
    ],
)
def test_what_is_not_a_private_key_is_refused_with_the_reason(text, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        PrivateKey.parsed(text)
    assert KEY.revealed()[20:40] not in str(caught.value)


def test_a_private_key_does_not_show_itself():
    for shown in (repr(KEY), str(KEY), f"{[KEY]}"):
        assert KEY.revealed() not in shown
    assert pickle.loads(pickle.dumps(KEY)) == KEY  # noqa: S301  # our own


@needs_age
def test_the_program_age_decrypts_what_refnet_encrypts(tmp_path):
    (tmp_path / "key").write_text(KEY.revealed())
    done = subprocess.run(
        ["age", "-d", "-i", tmp_path / "key"],
        input=encrypt(b"a" * 200_000, [OTHER.recipient, KEY.recipient]),
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"a" * 200_000


@needs_age
def test_refnet_decrypts_what_the_program_age_encrypts():
    command = ["age", "-r", KEY.recipient.text]
    done = subprocess.run(command, input=b"a" * 200_000, capture_output=True, check=True)
    assert decrypt(done.stdout, [OTHER, KEY], 200_000) == b"a" * 200_000
