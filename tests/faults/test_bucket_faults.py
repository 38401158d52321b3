"""What networks and servers do to a bucket: each fault ends in the right object, or in an error that says what happened."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pytest
from tests.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.seaweed import PATIENT, Seaweed

from refnet.core.processes import until
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.buckets.cloud import CloudBucket, Patience

DATA = bytes(range(256)) * 256
#: Gives up a stalled connection soon.
WATCHFUL = replace(PATIENT, read=0.5, upload=0.5, small=replace(PATIENT.small, answer=0.5))
#: Gives up soon.
IMPATIENT = replace(PATIENT, longest=0.5, small=replace(PATIENT.small, longest=0.3))


@pytest.fixture(scope="module")
def proxy(s3: Seaweed) -> Iterator[FaultProxy]:
    with fault_proxy(s3.port) as proxy:
        yield proxy


@pytest.fixture
def place(s3: Seaweed, proxy: FaultProxy) -> Callable[[Patience], CloudBucket]:
    """A bucket behind the proxy, with a patience of its own."""
    proxy.faults.clear()
    proxy.seen.clear()
    proxy.speed = 0
    return lambda patience: s3.bucket(secrets.token_hex(8), port=proxy.port, patience=patience)


@pytest.fixture
def bucket(place: Callable[[Patience], CloudBucket]) -> CloudBucket:
    return place(PATIENT)


def fails(kind: BucketFailure, call: Callable[[], object]) -> BucketError:
    with pytest.raises(BucketError) as caught:
        call()
    assert caught.value.kind is kind, caught.value
    return caught.value


@pytest.mark.parametrize(
    "faults",
    [
        [Fault.UNAVAILABLE] * 5,
        [Fault.RESET] * 3,
        [Fault.LOST],
        [Fault.LOST] * 2,
        [Fault.ERROR_BODY],
        [Fault.FLIP_UP],
        [Fault.UNAVAILABLE, Fault.FLIP_UP, Fault.RESET, Fault.LOST],
    ],
    ids=lambda faults: " ".join(one.value for one in faults),
)
def test_an_object_is_created_once_whatever_happens_to_its_requests(
    bucket: CloudBucket, proxy: FaultProxy, faults: list[Fault]
) -> None:
    proxy.plan("PUT", *faults)

    bucket.put("data/1", DATA)

    assert not proxy.faults["PUT"]
    assert bucket.get("data/1", len(DATA)) == DATA
    assert [(one.name, one.size) for one in bucket.listed("")] == [("data/1", len(DATA))]


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.RESET, Fault.CUT], ids=lambda one: one.value)
@pytest.mark.parametrize("method", ["get", "list", "versions"])
def test_an_object_is_read_and_listed_whatever_happens_to_a_request(
    bucket: CloudBucket, proxy: FaultProxy, method: str, fault: Fault
) -> None:
    bucket.put("data/1", DATA)
    proxy.plan("GET", fault, fault)

    if method == "get":
        assert bucket.get("data/1", len(DATA)) == DATA
    else:
        found = bucket.listed("") if method == "list" else bucket.versions("")
        assert [one.name for one in found] == ["data/1"]
    assert not proxy.faults["GET"]


def test_a_stalled_connection_is_given_up_and_the_request_is_sent_again(
    place: Callable[[Patience], CloudBucket], proxy: FaultProxy
) -> None:
    bucket = place(WATCHFUL)
    proxy.plan("PUT", Fault.STALL)
    bucket.put("data/1", DATA)
    proxy.plan("GET", Fault.STALL)
    assert bucket.get("data/1", len(DATA)) == DATA
    proxy.plan("GET", Fault.STALL)
    assert [one.name for one in bucket.listed("")] == ["data/1"]


def test_an_error_with_status_200_is_not_an_empty_list(
    place: Callable[[Patience], CloudBucket], proxy: FaultProxy
) -> None:
    bucket = place(IMPATIENT)
    bucket.put("data/1", DATA)
    proxy.plan("GET", Fault.ERROR_BODY, Fault.ERROR_BODY)
    assert [one.name for one in bucket.listed("")] == ["data/1"]

    proxy.plan("GET", *[Fault.ERROR_BODY] * 1000)
    fails(BucketFailure.UNREACHABLE, lambda: list(bucket.listed("")))


def test_an_endless_storm_is_one_transient_error_line_without_a_secret(
    place: Callable[[Patience], CloudBucket], proxy: FaultProxy, s3: Seaweed
) -> None:
    bucket = place(IMPATIENT)
    storm = [Fault.UNAVAILABLE] * 1000
    for method, call in (
        ("PUT", lambda: bucket.put("data/1", DATA)),
        ("GET", lambda: bucket.get("data/1", 10)),
        ("GET", lambda: list(bucket.listed("data/"))),
        ("DELETE", lambda: bucket.delete("data/1")),
    ):
        proxy.plan(method, *storm)
        error = fails(BucketFailure.UNREACHABLE, call)
        proxy.plan(method)
        assert error.transient
        assert len(error.message) <= 300
        assert error.message.isprintable()
        assert "SlowDown 503" in error.message
        assert s3.admin["secret_access_key"] not in error.message


def test_what_is_retried_for_long_is_a_detail_of_the_run(
    place: Callable[[Patience], CloudBucket], proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    bucket = place(replace(PATIENT, unreported=0.01))
    caplog.set_level("DEBUG", "refnet.detail")
    for method, faults, call in (
        ("PUT", 30, lambda: bucket.put("data/1", DATA)),  # more than obstore tries in that time
        ("GET", 3, lambda: list(bucket.listed(""))),
    ):
        proxy.plan(method, *[Fault.UNAVAILABLE] * faults)
        call()

    for what in ("cannot create data/1", "cannot list"):
        assert [one for one in caplog.messages if what in one and "503" in one and one.endswith("; retried")]


def test_a_slow_line_is_not_a_stalled_one(
    place: Callable[[Patience], CloudBucket], proxy: FaultProxy
) -> None:
    bucket = place(replace(PATIENT, read=0.3))
    proxy.speed = 400_000
    data = secrets.token_bytes(400_000)  # a second, longer than the time in which an answer must begin

    begun = time.monotonic()
    bucket.put("data/1", data)

    assert time.monotonic() - begun > 0.8
    assert proxy.seen["PUT"] == 1
    proxy.speed = 0
    assert bucket.get("data/1", len(data)) == data


def test_a_bit_that_is_flipped_on_the_way_down_is_returned_as_it_came(
    bucket: CloudBucket, proxy: FaultProxy
) -> None:
    bucket.put("data/1", DATA)
    proxy.plan("GET", Fault.FLIP_DOWN)

    assert bucket.get("data/1", len(DATA)) != DATA  # the reader compares the SHA-256 of the manifest
    assert bucket.get("data/1", len(DATA)) == DATA


def test_a_lost_answer_does_not_hide_that_another_object_has_the_name(
    bucket: CloudBucket, proxy: FaultProxy
) -> None:
    bucket.put("data/1", b"another")
    proxy.plan("PUT", Fault.LOST)

    fails(BucketFailure.EXISTS, lambda: bucket.put("data/1", DATA))
    assert bucket.get("data/1", 10) == b"another"


def test_a_refused_credential_is_said_at_once(s3: Seaweed, proxy: FaultProxy, bucket: CloudBucket) -> None:
    wrong = {**s3.admin, "secret_access_key": "wrong"}
    revoked = s3.bucket("x", port=proxy.port, credential=wrong)

    for call in (
        lambda: revoked.put("a", b"x"),
        lambda: list(revoked.listed("")),
        lambda: revoked.get("a", 1),
    ):
        error = fails(BucketFailure.REFUSED, call)
        assert "SignatureDoesNotMatch" in error.message
        assert not error.transient
    assert proxy.seen == {"PUT": 1, "GET": 2}


def test_a_missing_bucket_is_not_an_empty_one(s3: Seaweed) -> None:
    wrong = s3.bucket("x", bucket="elsewhere", credential=s3.machine)

    assert "NoSuchBucket" in fails(BucketFailure.REFUSED, lambda: list(wrong.listed(""))).message
    assert "NoSuchBucket" in fails(BucketFailure.REFUSED, lambda: wrong.get("a", 1)).message
    fails(BucketFailure.REFUSED, lambda: wrong.put("a", b"x"))


def test_a_signal_ends_a_request_that_is_not_answered(
    place: Callable[[Patience], CloudBucket], proxy: FaultProxy, request: pytest.FixtureRequest
) -> None:
    # A shell ignores SIGINT for what it starts in the background.
    request.addfinalizer(partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    bucket = place(replace(PATIENT, longest=60, read=60, upload=60))
    for method, call in (
        ("PUT", lambda: bucket.put("data/1", DATA)),
        ("GET", lambda: bucket.get("data/1", 10)),
    ):
        proxy.plan(method, Fault.STALL)
        threading.Thread(target=_interrupt_after, args=(proxy, method, proxy.seen[method])).start()
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            call()
        assert time.monotonic() - begun < 10


def _interrupt_after(proxy: FaultProxy, method: str, seen: int) -> None:
    until(lambda: proxy.seen[method] > seen, 10)
    os.kill(os.getpid(), signal.SIGINT)
