"""The table of jobs: one worker a job, lost claims, attempts, retries."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from refnet.network.jobs import Job, LostClaimError, NewJob, Worker, add, counts, list_jobs, retry_jobs
from refnet.postgres.session import Target

KIND = "summarize"


@pytest.fixture
def jobs(migrated: Target) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A session with an empty table of jobs."""
    with migrated.connect() as session:
        session.execute("TRUNCATE jobs, crawls CASCADE")
        yield session


def put(session: psycopg.Connection[tuple[object, ...]], *jobs: NewJob) -> int:
    with session.cursor() as cursor:
        return add(cursor, jobs)


def claimed(worker: Worker) -> Job:
    job = worker.claim()
    assert job is not None
    return job


def states(session: psycopg.Connection[tuple[object, ...]]) -> list[str]:
    return [one.state for one in reversed(list_jobs(session))]


def test_the_highest_priority_comes_first_and_other_kinds_are_left(
    migrated: Target, jobs: psycopg.Connection[tuple[object, ...]]
) -> None:
    put(jobs, NewJob(KIND, payload={"n": 1}), NewJob(KIND, payload={"n": 2}, priority=5), NewJob("generate"))
    with Worker(migrated, [KIND]) as worker:
        taken = [claimed(worker).payload["n"] for _ in range(2)]
        assert (taken, worker.claim()) == ([2, 1], None)
        assert worker.claim("generate") is not None


def test_many_workers_at_once_take_each_job_once(
    migrated: Target, jobs: psycopg.Connection[tuple[object, ...]]
) -> None:
    put(jobs, *(NewJob(KIND) for _ in range(60)))
    taken: list[int] = []

    def work() -> None:
        with Worker(migrated, [KIND]) as worker:
            while job := worker.claim():
                with worker.connection.transaction(), worker.connection.cursor() as cursor:
                    worker.done(cursor, job)
                taken.append(job.id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 60
    assert counts(jobs) == {KIND: {"succeeded": 60}}


def test_a_key_is_queued_once_until_its_job_has_ended(
    migrated: Target, jobs: psycopg.Connection[tuple[object, ...]]
) -> None:
    once = NewJob(KIND, dedupe_key="paper 1")
    assert (put(jobs, once), put(jobs, once)) == (1, 0)
    with Worker(migrated, [KIND]) as worker, worker.connection.cursor() as cursor:
        job = claimed(worker)
        assert put(jobs, once) == 0
        worker.done(cursor, job)
    assert put(jobs, once) == 1


def test_an_ended_sessions_job_is_taken_over_without_counting_an_attempt(
    migrated: Target, jobs: psycopg.Connection[tuple[object, ...]]
) -> None:
    put(jobs, NewJob(KIND))
    killed = Worker(migrated, [KIND])
    first = claimed(killed)
    killed.connection.close()
    with Worker(migrated, [KIND]) as worker:
        again = claimed(worker)
        assert (again.id, again.attempts) == (first.id, 1)


def test_a_hung_workers_job_is_freed_and_its_late_result_is_refused(
    migrated: Target, jobs: psycopg.Connection[tuple[object, ...]]
) -> None:
    put(jobs, NewJob(KIND))
    with Worker(migrated, [KIND]) as hangs, Worker(migrated, [KIND]) as worker:
        late = claimed(hangs)
        assert worker.claim() is None
        hangs.renew(late)
        jobs.execute("UPDATE jobs SET claimed_until = now() - interval '1 second'")
        job = claimed(worker)
        for change in (hangs.done, lambda cursor, one: hangs.failed(cursor, one, "late", 0)):
            with pytest.raises(LostClaimError), hangs.connection.cursor() as cursor:
                change(cursor, late)
        with pytest.raises(LostClaimError):
            hangs.renew(late)
        with worker.connection.cursor() as cursor:
            worker.done(cursor, job)
    assert states(jobs) == ["succeeded"]


@pytest.mark.parametrize("name", ["", "host", "host:1:2147483648000", "a:b:c"])
def test_a_claim_by_a_name_that_no_worker_has_is_lost(
    migrated: Target, jobs: psycopg.Connection[tuple[object, ...]], name: str
) -> None:
    put(jobs, NewJob(KIND))
    jobs.execute("UPDATE jobs SET state = 'running', claimed_by = %s, claimed_until = 'infinity'", [name])
    with Worker(migrated, [KIND]) as worker:
        claimed(worker)


def test_a_worker_that_ends_gives_its_job_back(
    migrated: Target, jobs: psycopg.Connection[tuple[object, ...]]
) -> None:
    put(jobs, NewJob(KIND), NewJob(KIND))
    with Worker(migrated, [KIND]) as worker:
        worker.give_back(claimed(worker), again_in=3600)
        claimed(worker)
    (second, first) = list_jobs(jobs)
    assert {(one.state, one.attempts, one.claimed_by) for one in (first, second)} == {("queued", 0, None)}
    assert first.run_after > second.run_after


def test_a_failing_job_is_tried_again_and_then_stays_listed_until_retried(
    migrated: Target, jobs: psycopg.Connection[tuple[object, ...]]
) -> None:
    put(jobs, NewJob(KIND, dedupe_key="a"))
    with Worker(migrated, [KIND]) as worker, worker.connection.cursor() as cursor:
        assert worker.failed(cursor, claimed(worker), "busy", again_in=3600)
        assert worker.claim() is None
        for again in (True, False):
            jobs.execute("UPDATE jobs SET run_after = now()")
            assert (
                worker.failed(cursor, claimed(worker), "bad\x1b[2J\nanswer" + "x" * 5000, again_in=0) is again
            )
    (job,) = list_jobs(jobs, states=["failed"])
    assert (job.attempts, job.error and job.error[:11], len(job.error or "")) == (3, "bad [2J ans", 1000)
    assert job.to_json()["finished_at"]
    assert (retry_jobs(jobs, plan=True), states(jobs)) == ([job.id], ["failed"])
    assert (retry_jobs(jobs, [job.id + 1]), retry_jobs(jobs, [job.id])) == ([], [job.id])
    (queued,) = list_jobs(jobs)
    assert (queued.state, queued.attempts, queued.finished_at) == ("queued", 0, None)


def test_two_failed_jobs_of_one_key_are_retried_as_one(
    migrated: Target, jobs: psycopg.Connection[tuple[object, ...]]
) -> None:
    with Worker(migrated, [KIND]) as worker, worker.connection.cursor() as cursor:
        for _ in range(2):
            put(jobs, NewJob(KIND, dedupe_key="a"))
            worker.failed(cursor, claimed(worker), "no")
    assert len(retry_jobs(jobs)) == 1
    assert retry_jobs(jobs) == []


def test_a_retried_job_wakes_its_crawl(
    migrated: Target, jobs: psycopg.Connection[tuple[object, ...]]
) -> None:
    crawl = jobs.execute(
        "INSERT INTO crawls (seeds, direction, depth, paper_limit, state, finished_at)"
        " VALUES ('{x}', 'both', 1, 10, 'succeeded', now()) RETURNING id"
    ).fetchone()
    assert crawl
    put(jobs, NewJob("crawl_edges", crawl_id=int(str(crawl[0]))))
    with (
        Worker(migrated, ["crawl_edges"], int(str(crawl[0]))) as worker,
        worker.connection.cursor() as cursor,
    ):
        worker.failed(cursor, claimed(worker), "no")
    retry_jobs(jobs)
    assert jobs.execute("SELECT state, finished_at FROM crawls").fetchone() == ("running", None)


def test_jobs_with_times_that_python_has_not_are_listed(
    jobs: psycopg.Connection[tuple[object, ...]],
) -> None:
    put(jobs, NewJob(KIND))
    jobs.execute("UPDATE jobs SET created_at = '3000-01-01 BC', run_after = 'infinity'")

    (found,) = list_jobs(jobs)
    assert (found.created_at.year, found.run_after.year, found.finished_at) == (2, 9998, None)
