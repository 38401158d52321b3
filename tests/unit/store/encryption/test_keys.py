"""The keys of this machine, and files with recovery keys."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess

import pytest

from refnet.core.errors import Exit, RefnetError
from refnet.store.age import WrongKeyError
from refnet.store.encryption import PrivateKey, Signer, encrypt, verify
from refnet.store.keys import KeyNeededError, MachineKeys, Opener, parse_keys, read_keys

KEY = PrivateKey.new()


@pytest.fixture
def keys(tmp_path):
    made = MachineKeys(tmp_path / "home" / "keys")
    made.make_missing()
    return made


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_keys_are_made_once_and_for_this_user_alone(tmp_path):
    keys = MachineKeys(tmp_path / "home" / "keys")
    before = os.umask(0)
    try:
        assert keys.missing == keys.make_missing() == (keys.signing_file, keys.catalog_file)
    finally:
        os.umask(before)
    assert (mode(keys.folder), mode(keys.signing_file), mode(keys.catalog_file)) == (0o700, 0o600, 0o600)
    before = keys.signing_file.read_bytes(), keys.catalog_file.read_bytes()
    assert keys.make_missing() == ()
    assert before == (keys.signing_file.read_bytes(), keys.catalog_file.read_bytes())
    assert len(list(keys.folder.iterdir())) == 2


def test_a_lost_key_is_made_again_and_the_other_one_stays(keys):
    before = keys.catalog()
    keys.signing_file.unlink()
    assert keys.make_missing() == (keys.signing_file,)
    assert keys.catalog() == before


def test_the_signing_key_signs_for_the_signer(keys):
    assert verify(b"document", keys.sign(b"document", "refnet-manifest"), "refnet-manifest") == keys.signer()


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="the program ssh-keygen is not installed")
def test_ssh_keygen_reads_the_signing_key(keys):
    done = subprocess.run(["ssh-keygen", "-y", "-f", keys.signing_file], capture_output=True, check=True)
    assert Signer.parsed(done.stdout.decode()) == keys.signer()


def test_a_key_that_others_can_read_is_refused(keys):
    for path, read in ((keys.signing_file, keys.signing), (keys.catalog_file, keys.catalog)):
        path.chmod(0o640)
        with pytest.raises(RefnetError, match="can be read by others") as caught:
            read()
        assert str(path) in caught.value.message
        assert caught.value.code is Exit.USAGE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_user_is_refused(keys):
    os.chown(keys.signing_file, 65534, 65534)
    with pytest.raises(RefnetError, match="belongs to"):
        keys.signing()


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 100, b"AGE-SECRET-KEY-1", b"-----BEGIN OPENSSH PRIVATE KEY-----\n"]
)
def test_a_damaged_key_is_named_and_not_replaced(keys, content):
    for path, read in ((keys.signing_file, keys.signing), (keys.catalog_file, keys.catalog)):
        path.write_bytes(content)
        with pytest.raises(RefnetError) as caught:
            read()
        assert str(path) in caught.value.message
        assert keys.make_missing() == ()
        assert path.read_bytes() == content


def test_a_missing_key_is_named_with_the_command_that_makes_it(tmp_path):
    keys = MachineKeys(tmp_path / "keys")
    for read in (keys.signing, keys.catalog, keys.signer):
        with pytest.raises(RefnetError, match="does not exist") as caught:
            read()
        assert "refnet key new" in caught.value.hint


def test_the_catalog_key_opens_manifests_and_no_pieces(keys):
    manifest = encrypt(b"manifest", [KEY.recipient, keys.catalog().recipient])
    piece = encrypt(b"piece", [KEY.recipient])
    machine, recovery = Opener(keys.catalog()), Opener(recovery=(PrivateKey.new(), KEY))
    assert machine.manifest(manifest) == recovery.manifest(manifest) == b"manifest"
    assert recovery.piece(piece) == b"piece"
    with pytest.raises(KeyNeededError, match="the recovery key is needed"):
        machine.piece(piece)
    with pytest.raises(WrongKeyError):
        machine.manifest(piece)
    with pytest.raises(WrongKeyError):
        Opener().manifest(manifest)


def test_a_file_of_age_with_comments_and_signers_is_read(tmp_path, keys):
    path = tmp_path / "key"
    line = keys.signer().fingerprint
    path.write_text(
        f"# created: 2026-11-27\n#signer: {line}\n\n{KEY.revealed()}\r\n# signer: {keys.signer().line} db1\n"
    )
    path.chmod(0o600)
    found = read_keys(path)
    assert found.keys == (KEY,)
    assert found.signers == (line, line)


@pytest.mark.skipif(shutil.which("age-keygen") is None, reason="the program age-keygen is not installed")
def test_a_file_of_age_keygen_is_read(tmp_path):
    subprocess.run(["age-keygen", "-o", tmp_path / "key"], capture_output=True, check=True)
    (key,) = read_keys(tmp_path / "key").keys
    assert key.recipient.text in (tmp_path / "key").read_text()


def test_a_file_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "key"
    path.write_text(KEY.revealed())
    path.chmod(0o644)
    with pytest.raises(RefnetError, match="can be read by others"):
        read_keys(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has 0 keys"),
        (b"# AGE-SECRET-KEY-1\n", "has 0 keys"),
        (b"age1" + b"q" * 58, "line 1: a recipient"),
        (b"# signer: nonsense\n", "line 1: not a public key"),
        (b"# signer: SHA256:abc\n", "line 1: not a fingerprint"),
        (b"\xff\xfe", "line 1: not a private key"),
        (b"age-encryption.org/v1\n-> scrypt", "is encrypted itself"),
        (b"-----BEGIN AGE ENCRYPTED FILE-----\n", "is encrypted itself"),
        (f"{KEY.revealed()}\n".encode() * 65, "has 65 keys"),
        pytest.param(
            KEY.revealed()[:-1].encode() + b"B\n", "line 1: not a private key", id="one wrong letter"
        ),
        (b"AGE-SECRET-KEY-PQ-1ABC", "post-quantum"),
    ],
    ids=range(11),  # the key is another one in each process
)
def test_what_is_not_a_file_with_keys_is_refused_without_repeating_it(content, reason):
    with pytest.raises(RefnetError, match=reason) as caught:
        parse_keys(content, "the file")
    assert caught.value.code is Exit.USAGE
    assert KEY.revealed()[30:50] not in caught.value.message + caught.value.hint


def test_a_file_is_not_read_beyond_its_limit(tmp_path):
    path = tmp_path / "key"
    path.touch(mode=0o600)
    os.truncate(path, 1 << 30)
    with pytest.raises(RefnetError, match="larger than"):
        read_keys(path)
    with pytest.raises(RefnetError, match="does not exist"):
        read_keys(tmp_path / "none")
    with pytest.raises(RefnetError, match="is not a file"):
        read_keys(tmp_path)
