"""`refnet summarize` on a real server: what is stored, what a failing model leaves, and runs that share the work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.command import Command, url_of
from tests.scripted_server import STALL, answer, scripted

from refnet.network import EXTRACT_MODEL, summary_writers
from refnet.network.jobs import list_jobs, retry_jobs
from refnet.network.summarize import Summarized, plan, summarize
from refnet.postgres.session import Target
from refnet.settings import Settings, examine

Session = psycopg.Connection[tuple[Any, ...]]
ABSTRACT = (
    "Link prediction finds missing citations in citation networks. The weather was fine. We compare random walks and"
    " embeddings on three citation networks. Embeddings find more missing citations than random walks. It rained."
)
SUMMARY = "Embeddings find more missing citations than random walks do."
KEY = "sk-secret-0123456789"


@pytest.fixture
def session(migrated: Target) -> Iterator[Session]:
    """A session with an empty network."""
    with migrated.connect() as session:
        session.execute("TRUNCATE papers, jobs RESTART IDENTITY CASCADE")
        yield session


def settings(url: str = "") -> Settings:
    given = {"URL": f"{url}/v1", "MODEL": "small-model", "API_KEY": KEY} if url else {}
    environment = {
        "REFNET_HOME": "/nowhere",
        **{f"REFNET_SUMMARIZE_{name}": one for name, one in given.items()},
    }
    return examine(environment, Path("/nowhere"), root=False, cores=1).valid()


def add(session: Session, *abstracts: str | None) -> None:
    for abstract in abstracts:
        session.execute(
            "INSERT INTO papers (title, abstract, provenance, details_fetched_at) VALUES ('Links', %s, 'openalex', now())",
            [abstract],
        )


def summaries(session: Session) -> list[tuple[Any, ...]]:
    query = "SELECT paper_id, kind, model, prompt_version, content FROM summaries ORDER BY id"
    return session.execute(query).fetchall()


def chat(text: Any, **more: Any) -> bytes:
    return answer({"choices": [{"message": {"content": text}}], **more})


def counted(done: Summarized) -> tuple[int, int, int, int]:
    return done.made, done.before, done.failed, done.waiting


def test_a_tldr_counts_and_other_abstracts_are_extracted_once(migrated: Target, session: Session) -> None:
    add(session, ABSTRACT, ABSTRACT, None, " \n")
    session.execute(
        "INSERT INTO summaries (paper_id, kind, model, content) VALUES (1, 'tldr', 'tldr@v2', 'Short.')"
    )
    assert plan(migrated, settings()) == (1, EXTRACT_MODEL)
    assert summarize(migrated, settings()) == Summarized(EXTRACT_MODEL, 1, 1, 2, 0, 0)
    [tldr, made] = summaries(session)
    assert made == (
        2,
        "abstract",
        EXTRACT_MODEL,
        summary_writers.EXTRACT_VERSION,
        summary_writers.extract(ABSTRACT),
    )
    assert summarize(migrated, settings()) == Summarized(EXTRACT_MODEL, 0, 2, 2, 0, 0)
    assert summaries(session) == [tldr, made]


def test_the_best_papers_come_first_and_a_limit_ends_the_run(migrated: Target, session: Session) -> None:
    add(session, *[ABSTRACT] * 4)
    session.execute("INSERT INTO ranks SELECT id, 5 - id, 0.25, 0, 0 FROM papers WHERE id > 1")
    assert counted(summarize(migrated, settings(), limit=2)) == (2, 0, 0, 0)
    assert [row[0] for row in summaries(session)] == [4, 3]
    assert counted(summarize(migrated, settings(), limit=9)) == (2, 2, 0, 0)
    assert [row[0] for row in summaries(session)] == [4, 3, 2, 1]


def test_again_makes_each_summary_again(migrated: Target, session: Session) -> None:
    add(session, *[ABSTRACT] * 3)
    summarize(migrated, settings())
    session.execute("UPDATE summaries SET content = 'old'")
    assert counted(summarize(migrated, settings(), again=True)) == (3, 3, 0, 0)
    assert {row[4] for row in summaries(session)} == {summary_writers.extract(ABSTRACT)}


def test_an_extract_never_takes_the_place_of_a_better_summary(migrated: Target, session: Session) -> None:
    add(session, ABSTRACT)
    session.execute(
        "INSERT INTO summaries (paper_id, kind, model, content) VALUES (1, 'tldr', 'tldr@v2', 'Short.')"
    )
    assert counted(summarize(migrated, settings(), again=True)) == (0, 1, 0, 0)


def test_a_model_is_asked_again_only_on_request(migrated: Target, session: Session) -> None:
    add(session, *[ABSTRACT] * 3)
    with scripted(chat(SUMMARY)) as model:
        made = [summarize(migrated, settings(model.url), again=again).made for again in (False, False, True)]
        assert (made, len(model.heads)) == ([3, 0, 3], 6)


def test_a_model_is_stored_with_its_prompt_beside_other_summaries(migrated: Target, session: Session) -> None:
    add(session, ABSTRACT)
    summarize(migrated, settings())
    with scripted(chat(f"**{SUMMARY}**", usage={"prompt_tokens": 90, "completion_tokens": 12})) as model:
        assert counted(summarize(migrated, settings(model.url))) == (1, 1, 0, 0)
        assert counted(summarize(migrated, settings(model.url))) == (0, 1, 0, 0)
        [head] = model.heads
    assert head.startswith("POST /v1/chat/completions ")
    assert f"authorization: bearer {KEY}" in head.lower()
    assert summaries(session)[1] == (1, "abstract", "small-model", summary_writers.PROMPT_VERSION, SUMMARY)
    tokens = "SELECT input_tokens, output_tokens FROM summaries WHERE model = 'small-model'"
    assert session.execute(tokens).fetchall() == [(90, 12)]


@pytest.mark.parametrize(
    ("sent", "state", "attempts", "said"),
    [
        (chat("I am not able to do that, and I never was."), "failed", 3, "nothing in common with the paper"),
        (chat(""), "failed", 3, "the answer is not text"),
        (chat(None), "failed", 3, "the answer contains no text"),
        (answer([]), "failed", 3, "the answer contains no text"),
        (chat("citations " * 1_000_000), "failed", 3, "the answer has 10,000,000 characters"),
        (answer({"error": {"message": f"too long for {KEY}\x1b"}}, status="400 Bad"), "failed", 1, "too long for (the key)"),
        (answer("<html>", kind="text/html"), "queued", 1, "returned text/html instead of JSON"),
        (answer("{", status="500 Oh"), "queued", 1, "returned status 500"),
        (STALL, "queued", 1, "sent nothing for 0 s"),
    ],
)  # fmt: skip
def test_a_failure_is_the_state_of_one_job(
    migrated: Target, session: Session, monkeypatch: pytest.MonkeyPatch,
    sent: bytes, state: str, attempts: int, said: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(summary_writers, "_SILENCE", 0.05)
    add(session, ABSTRACT)
    with scripted(sent) as model:
        done = summarize(migrated, settings(model.url), pace=0)
    [job] = list_jobs(session)
    assert (job.state, job.attempts, done.stopped) == (state, attempts, None)
    assert said in str(job.error)
    assert str(job.error).isprintable()
    assert KEY not in str(job.error)
    assert counted(done) == (0, 0, state == "failed", state == "queued")
    assert session.execute("SELECT count(*) FROM papers").fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("sent", "message", "hint"),
    [
        (answer({}, status="401 No"), "refuses the key", "summarize.api_key"),
        (answer({}, status="404 No"), "has no /chat/completions, or no model small-model", "summarize.url"),
        (answer({}, status="429 Many"), "reports too many requests", "--limit"),
    ],
)
def test_what_fails_for_every_paper_ends_the_run_and_costs_no_attempt(
    migrated: Target, session: Session, sent: bytes, message: str, hint: str
) -> None:
    add(session, ABSTRACT, ABSTRACT)
    with scripted(sent) as model:
        done = summarize(migrated, settings(model.url), pace=0)
    assert done.stopped is not None
    assert message in done.stopped.message
    assert hint in done.stopped.hint
    assert {(job.state, job.attempts) for job in list_jobs(session)} == {("queued", 0)}
    assert counted(summarize(migrated, settings())) == (2, 0, 0, 0)


def test_one_failure_does_not_harm_the_others_and_is_retried_on_request(
    migrated: Target, session: Session
) -> None:
    add(session, ABSTRACT, ABSTRACT, ABSTRACT)
    with scripted(
        answer({}, status="400 Bad"), chat(""), chat(SUMMARY)
    ) as model:  # an empty one is asked again
        assert counted(summarize(migrated, settings(model.url))) == (2, 0, 1, 0)
        assert counted(summarize(migrated, settings(model.url))) == (0, 2, 0, 0)
        retry_jobs(session)
        assert counted(summarize(migrated, settings(model.url))) == (1, 2, 0, 0)
    assert sorted(row[0] for row in summaries(session)) == [1, 2, 3]


def test_failures_in_a_row_end_the_run(migrated: Target, session: Session) -> None:
    add(session, *[ABSTRACT] * 9)
    with scripted(chat("")) as model:
        done = summarize(migrated, settings(model.url))
        assert len(model.heads) == 5
    assert done.stopped is not None
    assert "5 failures in a row, the last one: the answer is not text" in done.stopped.message


def test_runs_at_once_share_the_papers(
    migrated: Target, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(session, *[ABSTRACT] * 60)
    extracted: list[str] = []
    genuine = summary_writers.extract
    monkeypatch.setattr(summary_writers, "extract", lambda text: (extracted.append(text), genuine(text))[1])
    done: list[Summarized] = []
    runs = [threading.Thread(target=lambda: done.append(summarize(migrated, settings()))) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert sum(one.made for one in done) == len(extracted) == 60
    assert sorted(row[0] for row in summaries(session)) == [*range(1, 61)]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_killed_or_interrupted_loses_nothing(
    migrated: Target, session: Session, short_home: Path, sent: signal.Signals
) -> None:
    add(session, *[ABSTRACT] * 3)
    refnet = Command(short_home, short_home / "backups", url_of(migrated))
    with scripted(chat(SUMMARY), STALL) as model:
        run = refnet.start("summarize", REFNET_SUMMARIZE_URL=f"{model.url}/v1", REFNET_SUMMARIZE_MODEL="m")
        run.until(lambda: len(model.heads) == 2, "the second request")
        run.send(sent)
        run.end()
    assert [row[0] for row in summaries(session)] == [1]
    if sent is signal.SIGINT:
        assert {(job.state, job.attempts) for job in list_jobs(session) if job.paper_id != 1} == {
            ("queued", 0)
        }
    done = refnet("summarize")
    done.succeeds()
    assert f"{migrated.name}: 2 papers summarized by refnet-extract; 1 had a summary before" in done.out
    assert sorted(row[0] for row in summaries(session)) == [1, 2, 3]


def test_the_command_says_what_stopped_it_and_never_the_key(
    migrated: Target, session: Session, short_home: Path
) -> None:
    add(session, ABSTRACT, None)
    with scripted(answer({"error": KEY}, status="401 No")) as model:
        given = {"URL": f"{model.url}/v1", "MODEL": "m", "API_KEY": KEY}
        environment = {f"REFNET_SUMMARIZE_{name}": value for name, value in given.items()}
        refnet = Command(short_home, short_home / "backups", url_of(migrated), environment)
        assert "would summarize 1 paper by m" in refnet("summarize", "--plan").out
        done = refnet("summarize")
        assert done.code == 1
        assert "waiting: 1 paper" in done.out
        assert "without an abstract: 1 paper" in done.out
        assert "refuses the key" in done.err
        told = refnet("summarize", "--json")
    assert told.json["stopped"]["hint"] == "Fix summarize.api_key."
    assert KEY not in done.out + done.err + told.out + told.err
