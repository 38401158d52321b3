"""S3 as it is: versions, locks, credentials that may not delete, TLS, and keys that anybody with write access can plant."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from benchmarks.objects import write_certificates
from tests.fault_proxy import fault_proxy
from tests.seaweed import LOCKED, PATIENT, Seaweed

from refnet.core.errors import Exit, RefnetError
from refnet.store.buckets import s3_requests
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.buckets.cloud import CloudBucket


@pytest.fixture
def prefix() -> str:
    return secrets.token_hex(8)


def fails(kind: BucketFailure, call: Callable[[], object]) -> BucketError:
    with pytest.raises(BucketError) as caught:
        call()
    assert caught.value.kind is kind, caught.value
    return caught.value


def locked(s3: Seaweed, prefix: str, **more: object) -> CloudBucket:
    return s3.bucket(prefix, bucket=LOCKED, lock=timedelta(days=1), **more)  # type: ignore[arg-type]


def test_a_version_reads_behind_a_delete_marker_and_stays_while_locked(s3: Seaweed, prefix: str) -> None:
    bucket = locked(s3, prefix)
    version = bucket.put("data/1", b"one")
    bucket.delete("data/1")

    fails(BucketFailure.MISSING, lambda: bucket.get("data/1", 10))
    assert bucket.get("data/1", 10, version=version) == b"one"
    fails(BucketFailure.MISSING, lambda: bucket.get("data/1", 10, version="0" * 32))
    mark, kept = bucket.versions("data/")
    assert (mark.latest, mark.delete_marker, kept.delete_marker) == (True, True, False)
    assert (kept.id, kept.size) == (version, 3)
    assert (
        "is locked until"
        in fails(BucketFailure.LOCKED, lambda: bucket.delete("data/1", version=version)).message
    )
    bucket.delete("data/1", version=mark.id)
    assert bucket.get("data/1", 10) == b"one"


def test_a_lock_ends_when_asked_and_cannot_be_shortened(s3: Seaweed, prefix: str) -> None:
    bucket = locked(s3, prefix)
    assert bucket.requests
    version = bucket.put("data/1", b"one")
    until = bucket.requests.locked_until("data/1", version)

    assert until
    assert timedelta(days=1) <= until - datetime.now(UTC) <= timedelta(days=1, hours=1)
    fails(
        BucketFailure.REFUSED,
        lambda: bucket.requests.lock("data/1", version, datetime.now(UTC) + timedelta(hours=1)),
    )  # type: ignore[union-attr]
    assert bucket.requests.locked_until("data/1", version) == until
    bucket.requests.lock("data/1", version, until + timedelta(days=1))
    assert bucket.requests.locked_until("data/1", version) == until.replace(microsecond=0) + timedelta(days=1)

    free = s3.bucket(prefix)
    free.put("data/1", b"one")
    assert free.requests
    assert free.requests.locked_until("data/1") is None


def test_a_credential_that_may_not_delete_creates_reads_and_lists(s3: Seaweed, prefix: str) -> None:
    bucket = locked(s3, prefix, credential=s3.machine)
    version = bucket.put("data/1", b"one")

    assert bucket.put("data/1", b"one") == version
    assert bucket.get("data/1", 10) == b"one"
    assert [one.name for one in bucket.listed("data/")] == ["data/1"]
    assert [one.id for one in bucket.versions("data/")] == [version]
    assert bucket.folders() == bucket.folders(deleted=True) == ["data"]
    fails(BucketFailure.REFUSED, lambda: bucket.delete("data/1"))
    fails(BucketFailure.LOCKED, lambda: bucket.delete("data/1", version=version))


@pytest.mark.parametrize("off", [timedelta(minutes=-30), timedelta(days=365)], ids=str)
def test_a_clock_that_is_wrong_is_named(
    s3: Seaweed, prefix: str, off: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, zone: tzinfo | None = None) -> datetime:
            return datetime.now(zone) + off

    monkeypatch.setattr(s3_requests, "datetime", Clock)
    error = fails(BucketFailure.REFUSED, lambda: list(s3.bucket(prefix).listed("")))
    assert "RequestTimeTooSkewed" in error.message
    assert error.hint.startswith("Set the clock of this machine")


def test_keys_that_others_plant_are_not_listed_and_hide_nothing(s3: Seaweed, prefix: str) -> None:
    bucket = s3.bucket(prefix)
    assert bucket.requests
    bucket.put("manifests/good.age", b"x")
    planted = (
        "manifests/\ng",
        "manifests/\x01",
        "manifests/d/",
        "manifests/%2e%2e%2fh",
        "manifests/é <&>",
        "manifests/.h",
    )
    for name in planted:
        bucket.requests._send("create", "PUT", name, {}, b"x")

    assert [one.name for one in bucket.listed("")] == ["manifests/good.age"]
    assert [one.name for one in bucket.versions("manifests/")] == ["manifests/good.age"]
    for name in ("\ng/1", "é <&>/1", "%2e/1", ".h/1", "a%20b/1"):
        bucket.requests._send("create", "PUT", name, {}, b"x")
    assert bucket.folders() == bucket.folders(deleted=True) == ["manifests"]


def test_a_list_of_several_pages_is_complete(
    s3: Seaweed, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = locked(s3, prefix)
    assert bucket.requests
    names = [f"data/{number}" for number in range(7)]
    for name in names:
        bucket.put(name, name.encode())
        bucket.delete(name)
        bucket.put(name, name.encode())
    send, sent = bucket.requests._send, []

    def small_pages(verb: str, method: str, name: str, query: dict[str, str]) -> bytes:
        sent.append(query)
        return send(verb, method, name, {**query, "max-keys": "3"})

    monkeypatch.setattr(bucket.requests, "_send", small_pages)
    assert [one.name for one in bucket.listed("data/")] == names
    assert len(sent) == 3
    found = list(bucket.versions("data/"))
    assert [one.name for one in found if one.latest] == names
    assert len(found) == len({one.id for one in found}) == 21

    for number in range(5):
        bucket.put(f"{number}/1", b"x")
        bucket.delete(f"{number}/1")
    sent.clear()
    assert bucket.folders() == ["data"]
    assert bucket.folders(deleted=True) == [*"01234", "data"]
    assert len(sent) >= 3


def test_tls_is_verified_with_the_systems_certificates_or_ca_file(
    s3: Seaweed, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    write_certificates(tmp_path)
    authority = (tmp_path / "authority.pem").read_text()
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    with fault_proxy(s3.port, secure) as proxy:
        place = f"https://127.0.0.1:{proxy.port}"
        private = s3.bucket(prefix, endpoint=place, trusted=authority)
        private.put("data/1", b"one")
        assert private.get("data/1", 10) == b"one"
        assert [one.name for one in private.listed("")] == ["data/1"]

        unknown = s3.bucket(prefix, endpoint=place, patience=replace(PATIENT, longest=0.3))
        for call in (lambda: list(unknown.listed("")), lambda: unknown.put("data/2", b"two")):
            assert "certificate" in fails(BucketFailure.UNREACHABLE, call).message.lower()
    for wrong in ("nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(RefnetError) as caught:
            s3.bucket(prefix, trusted=wrong)
        assert caught.value.code is Exit.USAGE


def test_a_lock_of_the_mode_governance_is_bypassed_by_who_may(s3: Seaweed, prefix: str) -> None:
    admin = s3.bucket(prefix, bucket=LOCKED)
    assert admin.requests
    version = admin.put("data/1", b"one")
    until = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
    body = f"<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
    admin.requests._send("lock", "PUT", "data/1", {"retention": "", "versionId": version}, body.encode())
    machine = s3.bucket(prefix, bucket=LOCKED, credential=s3.machine)
    assert machine.requests

    fails(BucketFailure.LOCKED, lambda: admin.delete("data/1", version=version))
    with pytest.raises(BucketError):
        machine.requests.delete_anyway("data/1", version)
    assert admin.get("data/1", 10) == b"one"
    admin.requests.delete_anyway("data/1", version)
    fails(BucketFailure.MISSING, lambda: admin.get("data/1", 10))
