"""What a check of a store tries, and what each answer means, on buckets that behave as servers do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from tests.memory_bucket import MemoryBucket

from refnet.catalog.monitoring_stores import StoreCheck, Tried, Verdict, watch_checks
from refnet.store.buckets.bucket import BucketError, BucketFailure, Stored, Version
from refnet.store.store_check import Trial

NOW = datetime(2026, 11, 27, 20, 0, tzinfo=UTC)
MONTH = timedelta(days=30)


def no(kind: BucketFailure = BucketFailure.REFUSED) -> BucketError:
    return BucketError(kind, "AccessDenied 403", "Ask for the right.")


@dataclass
class Server(MemoryBucket):
    """A bucket whose credential has some rights only."""

    rights: frozenset[str] = frozenset({"put", "get", "list", "versions"})
    #: It knows conditional writes.
    conditional: bool = True
    #: Why `put` fails.
    trouble: BucketFailure | None = None
    now: Callable[[], datetime] = lambda: NOW

    def _check(self, right: str) -> None:
        if right not in self.rights:
            raise no()

    def put(self, name: str, data: bytes) -> str:
        self._check("put")
        if self.trouble:
            raise no(self.trouble)
        if not self.conditional:
            return self._add(name, data)
        return super().put(name, data)

    def get(self, name: str, most: int, *, version: str = "") -> bytes:
        self._check("get")
        return super().get(name, most, version=version)

    def listed(self, prefix: str) -> Iterator[Stored]:
        self._check("list")
        return super().listed(prefix)

    def delete(self, name: str, *, version: str = "") -> None:
        self._check("delete version" if version else "delete")
        super().delete(name, version=version)

    def versions(self, prefix: str) -> Iterator[Version]:
        self._check("versions")
        return super().versions(prefix)

    def folders(self, *, deleted: bool = False) -> list[str]:
        self._check("versions" if deleted else "list")
        return super().folders(deleted=deleted)


@dataclass
class Locks:
    until: datetime | None = NOW + MONTH
    enforced: bool = True
    #: A longer lock is accepted, and kept; or it is refused.
    extends: bool = False
    keeps: bool = True
    #: The credential may bypass locks of this bucket.
    bypassed: MemoryBucket | None = None

    def locked_until(self, name: str, version: str = "") -> datetime | None:
        return self.until

    def lock(self, name: str, version: str, until: datetime) -> None:
        if self.extends and self.until and until > self.until:
            self.until = until if self.keeps else self.until
            return
        if self.enforced:
            raise no(BucketFailure.LOCKED)
        self.until = until

    def delete_anyway(self, name: str, version: str) -> None:
        if self.bypassed is None:
            raise no()
        self.bypassed.lock = None
        MemoryBucket.delete(self.bypassed, name, version=version)


ALL = frozenset({"put", "get", "list", "versions", "delete", "delete version"})
LOCKED = Locks()


def tried(server: Server, now: datetime = NOW, **options: object) -> dict[str, Tried]:
    trial = Trial(server, lambda: now, **{"locks": LOCKED, "lock": True} | options)  # type: ignore[arg-type]
    return {one.what: one for one in trial.run()}


def alarms(found: dict[str, Tried]) -> list[str]:
    return [one.what for one in found.values() if one.answer is Verdict.ALARM]


def test_a_store_that_creates_and_reads_only_passes() -> None:
    server = Server(versioned=True, lock=MONTH)

    found = tried(server)

    assert alarms(found) == []
    assert list(found) == [
        *("list", "create", "clock", "read", "overwrite", "versions", "lock", "shorten the lock"),
        *("delete", "delete the version", "bypass the lock"),
    ]
    assert found["delete"].says == "refused: AccessDenied 403"
    assert found["lock"].says == "until 2026-12-27 20:00 UTC"
    assert len(server.contents) == 1, "only the object of the check is there"


def test_a_server_that_accepts_locks_and_does_not_enforce_them_is_named() -> None:
    found = tried(Server(rights=ALL, versioned=True), locks=Locks(enforced=False))

    assert alarms(found) == ["shorten the lock", "delete", "delete the version"]
    assert "accepted and not enforced" in found["delete the version"].says
    assert "an attacker can end the locks" in found["shorten the lock"].says


def test_an_extension_of_a_lock_is_tried_and_read_afterwards() -> None:
    def extended(locks: Locks) -> tuple[list[str], str]:
        found = tried(Server(versioned=True, lock=MONTH), locks=locks, extends=True)
        assert [*found].index("extend the lock") == [*found].index("lock") + 1
        return alarms(found), found["extend the lock"].says

    locks = Locks(extends=True)
    assert extended(locks) == ([], "until 2026-12-27 20:01 UTC")
    assert locks.until == NOW + MONTH + timedelta(minutes=1)
    assert extended(Locks(extends=True, keeps=False)) == (
        ["extend the lock"], "accepted, and the server does not keep the longer lock",
    )  # fmt: skip
    refused = "AccessDenied 403: pieces are sent again instead"
    assert extended(Locks()) == (["extend the lock"], refused)
    unreadable = Locks(extends=True)
    unreadable.locked_until = lambda *_: (_ for _ in ()).throw(no(BucketFailure.DAMAGED))  # type: ignore[method-assign]
    assert extended(unreadable) == (
        ["extend the lock"], "not tested, as the lock cannot be read: pieces are sent again instead",
    )  # fmt: skip
    none = tried(Server(versioned=True), locks=Locks(until=None, extends=True), extends=True)
    assert alarms(none) == ["lock"]
    assert "extend the lock" not in tried(Server(versioned=True, lock=MONTH), locks=Locks(extends=True))


def test_a_credential_that_may_only_hide_objects_is_an_alarm_too() -> None:
    found = tried(Server(rights=ALL, versioned=True, lock=MONTH))

    assert alarms(found) == ["delete"]
    assert "only a delete marker hides the object" in found["delete"].says
    assert found["delete the version"].says.startswith("refused: ")


def test_a_credential_that_may_bypass_locks_is_an_alarm() -> None:
    server = Server(versioned=True, lock=MONTH)

    found = tried(server, locks=Locks(bypassed=server))

    assert alarms(found) == ["bypass the lock"]
    assert "the object is gone" in found["bypass the lock"].says


def test_a_bucket_without_versions_and_locks_shows_what_is_missing() -> None:
    server = Server(rights=ALL)

    found = tried(server, locks=Locks(until=None))
    assert alarms(found) == ["versions", "lock", "delete"]
    assert found["lock"].says == "the object has none, although `lock` is set"
    assert server.contents == {}

    found = tried(Server(rights=ALL), locks=None, lock=False)
    assert alarms(found) == ["delete"]
    assert "this machine can delete every copy" in found["delete"].says
    assert found["lock"].says.startswith("not tested")


def test_a_folder_is_not_expected_to_refuse() -> None:
    found = tried(Server(rights=ALL), locks=None, lock=False, protects=False)

    assert alarms(found) == []
    assert found["delete"] == Tried(
        "delete", Verdict.NOTE, "accepted: this machine can delete the copies there"
    )


@pytest.mark.parametrize(
    ("off", "bad"),
    [
        (timedelta(minutes=2), False),
        *((sign * off, True) for sign in (1, -1) for off in (timedelta(minutes=30), timedelta(days=365))),
    ],
)
def test_a_clock_that_differs_from_the_servers_is_an_alarm(off: timedelta, bad: bool) -> None:
    found = tried(Server(versioned=True, lock=MONTH), now=NOW + off)

    assert (alarms(found) == ["clock"]) is bad
    assert found["clock"].says.startswith("differs from the server's by ")


def test_a_server_without_conditional_writes_is_an_alarm() -> None:
    assert alarms(tried(Server(versioned=True, conditional=False))) == ["overwrite"]


@pytest.mark.parametrize(
    ("missing", "expected"),
    [("put", ["create"]), ("get", ["read"]), ("versions", [])],
)
def test_a_missing_right_is_named(missing: str, expected: list[str]) -> None:
    server = Server(versioned=True, lock=MONTH)
    server.rights -= {missing}

    found = tried(server)

    assert alarms(found) == expected
    if missing == "versions":
        assert "cannot look behind delete markers" in found["versions"].says


def test_a_silent_server_is_an_alarm_and_nothing_else_is_tried() -> None:
    assert alarms(found := tried(Server(trouble=BucketFailure.UNREACHABLE))) == ["create"]
    assert list(found) == ["list", "create"]

    found = tried(Server(rights=frozenset()))
    assert alarms(found) == list(found) == ["list"]


def check(*answers: Verdict, at: datetime = NOW) -> StoreCheck:
    return StoreCheck("cloud", "s3://b", at, tuple(Tried("delete", one, "Zürich") for one in answers))


def test_a_record_of_a_check_is_read_as_it_was_written() -> None:
    assert StoreCheck.from_json(check(Verdict.OK, Verdict.NOTE).to_json()) == check(Verdict.OK, Verdict.NOTE)
    for text in ("", "{}", "[]", '{"format": 2}', check().to_json().replace("2026", "20000")):
        with pytest.raises(ValueError):
            StoreCheck.from_json(text)


def test_a_check_is_due_every_month_and_after_a_failure() -> None:
    assert not check(Verdict.OK).due(NOW + timedelta(days=26))
    assert check(Verdict.OK).due(NOW + timedelta(days=28))
    assert check(Verdict.ALARM).due(NOW)
    assert check(Verdict.OK, at=NOW + timedelta(days=365)).due(NOW)


def test_the_monitor_warns_of_a_check_that_is_missing_old_or_failed() -> None:
    def status(last: StoreCheck | None, now: datetime = NOW) -> str:
        (one,) = watch_checks({"cloud": last}, now)
        assert one.what == "store cloud"
        return one.status

    assert status(None) == "warning"
    assert status(check(Verdict.OK, Verdict.NOTE)) == "ok"
    assert status(check(Verdict.OK), NOW + timedelta(days=34)) == "ok"
    assert status(check(Verdict.OK), NOW + timedelta(days=36)) == "warning"
    assert status(check(Verdict.OK, at=NOW + timedelta(days=365))) == "warning"
    assert status(check(Verdict.OK, Verdict.ALARM)) == "critical"
