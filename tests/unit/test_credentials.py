"""The file of a store's credential, and that no message shows what is in it."""

import os
from pathlib import Path

import pytest

from refnet.core.errors import Exit, RefnetError
from refnet.settings import FILE_NAME, StoreKind, load
from refnet.settings.stores import Credentials, read_credentials
from refnet.telemetry.redact import redactor, secrets_of

S3 = 'access_key_id = "AKIDHUNTER2"\nsecret_access_key = "hunter2/hunter2"\n'


def _written(folder: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path = folder / "s3.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def _refused(path: Path, kind: StoreKind = StoreKind.S3) -> str:
    with pytest.raises(RefnetError) as error:
        read_credentials(path, kind)
    assert error.value.code is Exit.USAGE
    said = f"{error.value.message} | {error.value.hint}"
    assert "hunter2" not in said
    assert "\n" not in said
    return said


def test_a_credential_of_each_kind_is_read_and_never_shown(tmp_path: Path) -> None:
    found = read_credentials(_written(tmp_path, S3 + 'session_token = "t"'), StoreKind.S3)
    assert found.values == {
        "access_key_id": "AKIDHUNTER2",
        "secret_access_key": "hunter2/hunter2",
        "session_token": "t",
    }
    assert repr(found) == "Credentials()"
    assert read_credentials(_written(tmp_path, 'account = "a"\nkey = "k"'), StoreKind.AZ).values["key"] == "k"
    (tmp_path / "google.json").write_text("{}")
    (tmp_path / "google.json").chmod(0o600)
    named = _written(tmp_path, f'service_account = "{tmp_path}/google.json"')
    assert isinstance(read_credentials(named, StoreKind.GS), Credentials)
    (tmp_path / "google.json").chmod(0o644)
    assert "google.json: can be read by others" in _refused(named, StoreKind.GS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no access_key_id"),
        ('access_key_id = "x"', "has no secret_access_key"),
        (S3 + 'secret_key = "hunter2"', "Did you mean secret_access_key?"),
        (S3 + "session_token = 5", "session_token must be text"),
        (S3 + 'session_token = ""', "session_token must have 1 to 8,192"),
        (S3 + 'session_token = "hunter2 hunter2"', "session_token must be text without spaces"),
        (S3 + 'session_token = "hunter2\\n"', "session_token must be text without spaces"),
        (S3 + 'access_key_id = "hunter2"', "is not TOML"),
        ("secret_access_key = hunter2", "is not TOML"),
        ("[default]\naws_access_key_id = 'hunter2'", "has a key that s3 does not use"),
        ("x = " + "[" * 5000, "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        ("#" * 20_000, "is larger than"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_refused_without_its_content(
    tmp_path: Path, content, said: str
) -> None:
    assert said in _refused(_written(tmp_path, content))


def test_a_file_that_others_can_read_or_write_is_refused(tmp_path: Path) -> None:
    assert "can be read by others (mode 0640) | Run: chmod 600" in _refused(_written(tmp_path, S3, 0o640))
    assert "can be written by others" in _refused(_written(tmp_path, S3, 0o620))
    assert "cannot be read: No such file" in _refused(tmp_path / "nothing")
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert "is not a file" in _refused(tmp_path / "fifo")


def test_no_message_shows_a_secret_of_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _written(tmp_path, S3)
    text = f'[stores.a]\nurl = "s3://bucket"\ncredentials_file = "{path}"\n[stores.b]\nurl = "gs://bucket"\n'
    (tmp_path / FILE_NAME).write_text(text + f'credentials_file = "{tmp_path}/nothing"\n')
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-environment")
    given = load({"REFNET_HOME": str(tmp_path)}, tmp_path, root=False, cores=1)
    redact = redactor(secrets_of(given))
    told = redact(
        "key hunter2/hunter2, of-the-environment; secret_access_key=other1, AGE-SECRET-KEY-1QQQQ; AKIDHUNTER2."
    )
    assert told == "key (hidden), (hidden); secret_access_key=(hidden), (hidden); (hidden)."
