"""Encryption to keys of age: what is accepted, what is refused, and that the program `age` agrees."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import time

import pytest

from refnet.store.encryption import DecryptionError, PrivateKey, WrongKeyError, decrypt, encrypt

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
