"""The bucket of a store, by its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from refnet.core.errors import Exit, RefnetError
from refnet.settings.stores import StoreSettings
from refnet.store.buckets.cloud import CloudBucket
from refnet.store.buckets.folder import FolderBucket
from refnet.store.buckets.opening import Announced, Paced, open_bucket
from refnet.store.buckets.rclone import RcloneBucket
from refnet.store.buckets.sftp import SftpBucket


@pytest.fixture(autouse=True)
def no_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION", "DEFAULT_REGION"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)


def opened(url: str, **more: bool) -> object:
    """The bucket itself, without what announces that a store does not answer."""
    found = open_bucket(StoreSettings.from_url(url), **more)
    return found._inner if isinstance(found, Announced) else found


def secret(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_each_kind_of_store_has_its_bucket(tmp_path: Path) -> None:
    folder = opened(f"file://{tmp_path}")
    assert isinstance(folder, FolderBucket)
    assert folder.root == tmp_path
    cloud = opened("s3://bucket/a/b?endpoint=https://s3.example.org&region=eu&lock=30d")
    assert isinstance(cloud, CloudBucket)
    assert cloud.shown == "s3://bucket/a/b at s3.example.org"
    assert cloud.requests is None
    assert isinstance(opened(f"file://{tmp_path}?bandwidth=20 MiB/s"), Paced)
    assert isinstance(opened("gs://bucket"), CloudBucket)
    assert isinstance(opened("sftp://nas/copies"), SftpBucket)
    assert isinstance(opened("rclone:box:copies"), RcloneBucket)


def test_the_credential_is_that_of_the_file_or_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    creates = secret(tmp_path / "s3.toml", 'access_key_id = "CREATES"\nsecret_access_key = "s3cr3t"\n')
    deletes = secret(tmp_path / "prune.toml", 'access_key_id = "DELETES"\nsecret_access_key = "s3cr3t"\n')
    url = f"s3://bucket?credentials_file={creates}&prune_credentials_file={deletes}"

    for more, expected in (({}, "CREATES"), ({"deleting": True}, "DELETES")):
        found = opened(url, **more)
        assert isinstance(found, CloudBucket)
        assert found.requests
        assert found.requests._credential.access_key_id == expected
        assert "s3cr3t" not in repr(vars(found)) + repr(vars(found.requests))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENVIRONMENT")
    with pytest.raises(RefnetError, match="Missing SecretAccessKey"):
        opened("s3://bucket")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    assert opened("s3://bucket").requests._credential.access_key_id == "ENVIRONMENT"  # type: ignore[attr-defined]


def test_what_cannot_be_opened_says_what_to_correct(tmp_path: Path) -> None:
    key = secret(tmp_path / "az.toml", 'account = "account"\nkey = "!!s3cr3t"\n')
    (tmp_path / "ca.pem").write_text("é")
    for url, said in (
        (f"az://container?credentials_file={key}", "az://container: cannot open it"),
        (f"s3://bucket?ca_file={tmp_path}/ca.pem", "is not in PEM"),
        (f"s3://bucket?ca_file={tmp_path}/none.pem", "No such file"),
    ):
        with pytest.raises(RefnetError, match=said) as caught:
            opened(url)
        assert caught.value.code is Exit.USAGE
        assert "s3cr3t" not in caught.value.message
