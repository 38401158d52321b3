"""What a proof does beside something else (the server, the reference) never keeps it from its end."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import fresh

from refnet.catalog.artifact import Finding
from refnet.catalog.manifest import Level, Outcome
from refnet.core.errors import RefnetError
from refnet.core.processes import until
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.proof_run import ProofOptions
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.dump.parallel_dump import dump
from refnet.sources.database.proof import own_proof
from refnet.sources.database.proof.guarded_schema import GuardedSchema
from refnet.sources.database.proof.own_proof import Prover
from refnet.sources.database.restore import create_database
from refnet.sources.database.workers import Workers

SLEEPING = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'reference' AND query LIKE '%pg_sleep%'"


@pytest.fixture(scope="module")
def whole(server: Cluster, wheel: Binaries) -> Reader:
    out = io.BytesIO()
    with fresh(server) as database:
        with database.connect() as session:
            session.execute("CREATE TABLE papers (id int PRIMARY KEY, title text)")
            session.execute("INSERT INTO papers VALUES (1, 'row')")
        dump(database, out, Workers(wheel, 2))
    return Reader("refnet_20261125_020000.sql.gz", lambda: io.BytesIO(out.getvalue()))


def prover(whole: Reader, wheel: Binaries, folder: Path, jobs: int) -> Prover:
    return Prover(whole, wheel, ProofOptions(folder / "scratch", lambda *_, **__: wheel, jobs=jobs))


def asked(target: Target, query: str) -> int:
    with target.connect() as session:
        ((found,),) = session.execute(query.encode()).fetchall()
    return int(found)


@pytest.mark.parametrize(("jobs", "beside"), [(1, False), (2, True)])
def test_with_two_jobs_the_reference_is_restored_beside_the_load(
    whole: Reader,
    wheel: Binaries,
    short_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    jobs: int,
    beside: bool,
) -> None:
    load, found = own_proof.load, list[bool]()

    def later(reader: Reader, target: Target, *rest: Any) -> Any:
        tables = "SELECT count(*) FROM pg_database WHERE datname = 'reference'"
        found.append(until(lambda: asked(target, tables) == 1, 20 if beside else 0.5))
        return load(reader, target, *rest)

    monkeypatch.setattr(own_proof, "load", later)
    proof = prover(whole, wheel, short_folder, jobs).prove(Level.PROVEN)
    assert (proof.level, found) == (Level.PROVEN, [beside])


def test_a_load_that_fails_ends_the_restore_of_the_reference(
    whole: Reader, wheel: Binaries, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(self: GuardedSchema) -> None:
        self._session.execute("SELECT pg_sleep(3600)")

    def fails(_: Reader, target: Target, *__: Any) -> Any:
        assert until(lambda: asked(target, SLEEPING) > 0, 20)
        raise RefnetError("the disk is full", "Free some space.")

    monkeypatch.setattr(GuardedSchema, "create", endless)
    monkeypatch.setattr(own_proof, "load", fails)
    proof = prover(whole, wheel, short_folder, 2).prove(Level.PROVEN)
    assert proof.outcome is not Outcome.PASSED
    assert "the disk is full" in proof.reasons[0]


def test_the_server_starts_beside_the_reading_of_the_members(
    whole: Reader, wheel: Binaries, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready, check = threading.Event(), own_proof.sqlgz.check_intact
    prepared, found = own_proof._prepared, list[bool]()

    def signalled(*args: Any) -> Any:
        server = prepared(*args)
        ready.set()
        return server

    def later(*args: Any) -> Any:
        found.append(ready.wait(20))
        return check(*args)

    monkeypatch.setattr(own_proof, "_prepared", signalled)
    monkeypatch.setattr(own_proof.sqlgz, "check_intact", later)
    proof = prover(whole, wheel, short_folder, 2).prove(Level.RESTORED)
    assert (proof.level, found) == (Level.RESTORED, [True])


def test_a_damaged_artifact_is_damaged_whatever_becomes_of_the_server(
    whole: Reader, wheel: Binaries, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with whole.open() as file:
        content = bytearray(file.read())
    first = whole.index.members[0]
    content[first.offset + first.length // 2] ^= 1
    damaged = Reader(whole.name, lambda: io.BytesIO(bytes(content)))
    ran = prover(damaged, wheel, short_folder, 2).prove(Level.PROVEN)
    monkeypatch.setattr(own_proof, "scratch", _full)
    failed = prover(damaged, wheel, short_folder, 2).prove(Level.PROVEN)
    assert (ran.outcome, ran.level, ran.server) == (Outcome.FAILED, None, "")
    assert (failed.outcome, failed.findings) == (Outcome.FAILED, ran.findings)
    assert list(short_folder.glob("scratch/scratch-*")) == []


def test_a_server_that_does_not_start_leaves_the_artifact_intact(
    whole: Reader, wheel: Binaries, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_proof, "scratch", _full)
    proof = prover(whole, wheel, short_folder, 2).prove(Level.PROVEN)
    assert (proof.outcome, proof.level) == (Outcome.UNVERIFIED, Level.INTACT)
    assert proof.findings[-1] == Finding("the scratch server", Outcome.UNVERIFIED, "the disk is full")


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_difference_stays_damage_if_the_server_fails_during_the_checks(
    whole: Reader, wheel: Binaries, short_folder: Path, monkeypatch: pytest.MonkeyPatch, is_changed: bool
) -> None:
    load, compared = own_proof.load, threading.Event()

    def changed(reader: Reader, target: Target, *rest: Any) -> Any:
        left_out = load(reader, target, *rest)
        if is_changed:
            with target.connect() as session:
                session.execute("UPDATE papers SET title = 'wor'")
        return left_out

    def report(step: str, done: int, total: int | None) -> None:
        if step == "comparing rows" and done == total:
            compared.set()

    def crashed(_: Prover, target: Target, *__: Any) -> Finding:
        assert compared.wait(20)
        with target.connect() as session:
            session.execute("COPY (SELECT) TO PROGRAM 'kill -KILL $PPID'")
        raise AssertionError

    monkeypatch.setattr(own_proof, "load", changed)
    monkeypatch.setattr(Prover, "_structure", crashed)
    options = ProofOptions(short_folder / "scratch", lambda *_, **__: wheel, jobs=2, progress=report)
    proof = Prover(whole, wheel, options).prove(Level.PROVEN)
    differences = [one.what for one in proof.findings if one.outcome is Outcome.FAILED]
    assert (proof.outcome, differences) == (
        (Outcome.FAILED, ["table public.papers"]) if is_changed else (Outcome.UNVERIFIED, [])
    )
    assert (proof.level, proof.findings[-1].what) == (Level.RESTORED, "the scratch server")


def _full(*_: Any, **__: Any) -> Any:
    raise RefnetError("the disk is full", "Free some space.")


@pytest.mark.parametrize(("by_files", "is_logged"), [(True, False), (False, True)])
def test_a_database_that_is_copied_by_files_is_not_written_to_the_wal(
    server: Cluster, by_files: bool, is_logged: bool
) -> None:
    written = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"
    state = {"encoding": "UTF8", "provider": None, "locale": None, "owner": None}
    with server.target().connect() as admin:
        before = asked(server.target(), written)
        create_database.create_database(admin, "copied", state, by_files=by_files)
        after = asked(server.target(), written)
        admin.execute("DROP DATABASE copied")
    assert (after - before > 4 << 20) is is_logged
