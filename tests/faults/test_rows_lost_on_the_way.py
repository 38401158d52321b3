"""Rows that are lost or changed between the server and RefNet: no such artifact is ever proven."""

from __future__ import annotations

import gzip
import io
import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from tests.command import Command, url_of
from tests.faults.conftest import Live
from tests.row_proxy import RowFault, row_proxy

from refnet.catalog.artifact import Finding, silent
from refnet.catalog.manifest import SOURCE_ROWS, Outcome
from refnet.core.errors import Exit, RefnetError
from refnet.core.processes import until
from refnet.postgres.binaries import Binaries
from refnet.sources.database.dump import parallel_dump, row_copy, source_rows
from refnet.sources.database.dump.source_rows import DumpOptions, SourceRows
from refnet.sources.database.proof import row_digests
from refnet.sources.database.rows import live_catalog
from refnet.sources.database.rows.live_catalog import between
from refnet.sources.database.workers import Workers, run_checks

#: In each row of `papers`, which workers copy, and of `summaries`, which pg_dump copies.
_MARKERS = {"public.papers": (b" of a paper", 3000, 750), "public.summaries": (b"summary ", 100, 25)}


def _through(refnet: Command, live: Live, folder: Path) -> Command:
    """The command, connected through the socket in `folder`."""
    return Command(refnet.home, refnet.backups, url_of(live.target, host=str(folder)))


def _socket(live: Live) -> Path:
    return Path(live.target.parts["host"]) / f".s.PGSQL.{live.target.parts['port']}"


@pytest.mark.parametrize("table", _MARKERS)
def test_a_backup_whose_row_counts_differ_is_retried_and_never_published(
    refnet: Command, live: Live, short_folder: Path, table: str
) -> None:
    marker, rows, every = _MARKERS[table]
    for fault, sign in ((RowFault.LOST, -1), (RowFault.DOUBLED, 1)):
        folder = short_folder / f"wire-{fault.value}-{table[-9:]}"
        folder.mkdir(exist_ok=True)
        with row_proxy(folder, _socket(live), fault, marker, every) as proxy:
            made = _through(refnet, live, folder)("backup", "database")
        made.fails(4, table, f"{rows:,} rows on the server", f"{rows + sign * 4:,} in the backup")
        assert proxy.damaged == 2 * 4
        assert refnet.files() == []
    refnet("backup", "database", "--no-prove").succeeds()


def test_a_reader_that_skips_pages_publishes_nothing(
    live: Live, wheel: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_copy, "RANGE", 100_000)
    monkeypatch.setattr(row_copy, "between", lambda places: between(places)[::2])
    with pytest.raises(RefnetError, match=r"public\.papers has 3,000 rows on the server") as failed:
        parallel_dump.dump(live.target, io.BytesIO(), Workers(wheel, 2))
    assert failed.value.code is Exit.DAMAGED


def test_a_changed_row_is_damage_where_the_server_digested_it(
    refnet: Command, live: Live, short_folder: Path
) -> None:
    live.run(
        """CREATE TABLE notes AS SELECT id, replace(title, ' of a paper', ' of a note') AS title FROM papers;
        CREATE TABLE remarks AS SELECT id, replace(v, 'summary ', 'remark ') AS v FROM summaries"""
    )
    # Of the tables that workers copy and of those that pg_dump copies, each fault meets one.
    changed = {RowFault.CHANGED: (" of a paper", "summary "), RowFault.SWAPPED: (" of a note", "remark ")}
    upstream, proxies = _socket(live), []
    with ExitStack() as stack:
        for fault, (copied, dumped) in changed.items():
            for marker, every in ((copied, 750), (dumped, 25)):
                folder = short_folder / f"wire-{len(proxies)}"
                folder.mkdir()
                proxies.append(
                    stack.enter_context(row_proxy(folder, upstream, fault, marker.encode(), every))
                )
                upstream = folder / upstream.name
        made = _through(refnet, live, folder)("backup", "database")
        assert made.code == 4, made.out + made.err
        assert "rows of the source: the rows of public.notes (and 3 more) are not those" in made.out
        assert [proxy.damaged for proxy in proxies] == [2 * 4] * 4
        counted = _through(refnet, live, folder)("backup", "database", REFNET_PROVE_SOURCE="count")
    counted.succeeds()  # the numbers are right
    listed = refnet("list", "--json").json["artifacts"]
    assert [one["state"] for one in listed] == ["damaged", "damaged", "proven"]
    assert [one["compared"] for one in listed] == ["counted"] * 3  # no proof compared a digest


def test_what_the_server_digested_is_compared_by_each_later_proof(refnet: Command, live: Live) -> None:
    live.run(
        """CREATE TYPE mood AS ENUM ('happy', 'sad');
        CREATE TABLE odd (id int, m mood, j jsonb, t text, p point, "a,""b" numeric[]);
        INSERT INTO odd SELECT i, 'sad', '{"a": 1.0}', 'A', '(1,2)', '{1.0, NULL}' FROM generate_series(1, 9) i;
        CREATE TABLE made (id int, twice int GENERATED ALWAYS AS (id * 2) STORED);
        INSERT INTO made SELECT generate_series(1, 9);
        CREATE TABLE nothing ();
        INSERT INTO nothing SELECT FROM generate_series(1, 9)"""
    )
    refnet("backup", "database", "--no-prove", REFNET_PROVE_SOURCE="digest").succeeds()
    with gzip.open(refnet.artifact()) as text:
        index = b"".join(
            line[len(b"-- refnet-index ") : -1] for line in text if line.startswith(b"-- refnet-index ")
        )
    tables = {table["name"]: table for table in json.loads(index)["tables"]}
    assert {name: table.get("source", "").partition(":")[0] for name, table in tables.items()} == {
        **dict.fromkeys(("papers", "citations", "summaries", "made"), "record"),
        "odd": "text",
        "nothing": "",
    }
    assert tables["made"]["generated"].startswith("text:")
    (verified,) = refnet("verify", refnet.artifact().name, "--json").json["results"]
    found = {one["what"]: one["outcome"] for one in verified["findings"]}
    assert found["rows of the source"] == "passed"


def test_a_backup_of_one_table_reads_no_materialized_view(live: Live, wheel: Binaries) -> None:
    with live.target.connect(autocommit=False) as other:
        other.execute("REFRESH MATERIALIZED VIEW counted")
        index = parallel_dump.dump(live.target, io.BytesIO(), Workers(wheel, 2), ("papers",))
        other.rollback()
    assert index.unchecked == ()


def test_a_scratch_server_that_ends_during_digests_damages_nothing(live: Live, wheel: Binaries) -> None:
    index = parallel_dump.dump(
        live.target, io.BytesIO(), Workers(wheel, 2), options=DumpOptions(digest_up_to=1 << 40)
    )

    findings: list[Finding] = []

    def interrupt(_step: str, _done: int, _total: int | None) -> None:
        with live.cluster.target().connect() as admin:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'live'")

    with (
        row_digests.comparing(live.target, index, wheel.major, interrupt) as checks,
        pytest.raises(RefnetError) as failed,
    ):
        run_checks([checks], 2, findings)
    assert not findings
    assert failed.value.transient
    assert failed.value.code is not Exit.DAMAGED


def test_who_has_copied_helps_to_digest_the_source_and_each_range_counts_once(
    live: Live, wheel: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = DumpOptions(digest_up_to=1 << 40)

    def dumped() -> list[tuple[str, int, str]]:
        index = parallel_dump.dump(live.target, io.BytesIO(), Workers(wheel, 2), options=options)
        return [(table.name, table.rows, table.source) for table in index.tables]

    expected, helped = dumped(), list[int]()
    count, help_ = SourceRows.count, SourceRows.help

    def helps(source: SourceRows) -> None:
        before = source._todo.qsize()
        help_(source)
        helped.append(before - source._todo.qsize())

    monkeypatch.setattr(source_rows, "RANGE", 100_000)
    monkeypatch.setattr(SourceRows, "help", helps)
    # The thread that counts comes last.
    monkeypatch.setattr(SourceRows, "count", lambda source: until(lambda: bool(helped), 20) and count(source))
    assert dumped() == expected
    assert max(helped) > len(expected)


def test_the_rows_of_one_table_are_digested_by_all_workers_and_a_lost_one_is_found(
    live: Live, wheel: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = DumpOptions(digest_up_to=1 << 40)
    index = parallel_dump.dump(live.target, io.BytesIO(), Workers(wheel, 2), options=options)
    monkeypatch.setattr(live_catalog, "SHARE", 100_000)

    def found() -> tuple[int, list[Outcome]]:
        findings: list[Finding] = []
        with row_digests.comparing(live.target, index, wheel.major, silent) as checks:
            run_checks([checks], 2, findings)
        return len(checks.tasks), [one.outcome for one in findings if one.what == SOURCE_ROWS]

    tasks, outcomes = found()
    assert tasks > 2 * len(index.tables)
    assert outcomes == [Outcome.PASSED]
    live.run("DELETE FROM papers WHERE id = (SELECT max(id) FROM papers)")
    assert found() == (tasks, [Outcome.FAILED])


def test_what_a_restore_computes_otherwise_is_named_beside_the_proof(refnet: Command, live: Live) -> None:
    live.run(
        """CREATE FUNCTION half(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 / 2';
        CREATE TABLE made (id int, halved int GENERATED ALWAYS AS (half(id)) STORED);
        INSERT INTO made SELECT generate_series(1, 9);
        CREATE OR REPLACE FUNCTION half(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 / 3';
        CREATE MATERIALIZED VIEW stale AS SELECT id FROM papers;
        CREATE MATERIALIZED VIEW moved AS SELECT max(id) FROM summaries;
        CREATE MATERIALIZED VIEW fresh AS SELECT id FROM summaries;
        DELETE FROM summaries WHERE id = 100;
        INSERT INTO papers VALUES (3001, 'new')"""
    )
    findings = {
        "stored generated columns of public.made": "the source has other values than their expressions give now",
        "materialized view public.counted": "a restore gives it other values in its 1 rows than the source has",
        "materialized view public.fresh": "a restore gives it 99 rows, and the source has 100",
        "materialized view public.moved": "a restore gives it other values in its 1 rows than the source has",
        "materialized view public.stale": "a restore gives it 3001 rows, and the source has 3000",
    }
    made = refnet("backup", "database", "--json").json["results"][0]
    said = {one["what"]: one["reason"] for one in made["proof"]["findings"] if one["outcome"] != "passed"}
    assert said == findings
    assert made["proof"]["level"] == "proven"
    (listed,) = refnet("list", "--json").json["artifacts"]
    assert listed["gaps"] == [f"{what}: {reason}" for what, reason in said.items()]
    assert "proven, but  not verified: stored generated columns of public.made" in refnet("list").out
    monitored = refnet("monitor", "database").out
    assert "the newest is proven, but stored generated columns of public.made" in monitored
    verified = refnet("verify", listed["name"])
    verified.succeeds()
    assert (
        "proven, but stored generated columns of public.made and 4 more could not be verified ("
        in verified.out
    )
    count = ("--no-prove", "--json")
    counted = refnet("backup", "database", *count, REFNET_PROVE_SOURCE="count").json["results"][0]
    assert counted["manifest"]["unchecked"] == [
        "the stored generated columns of 1 table are not compared, as nothing was digested"
    ]


def test_between_two_proofs_a_backup_is_counted_without_an_alarm(refnet: Command) -> None:
    weekly = replace(refnet, environment={"REFNET_PROVE_EVERY": "7"})
    first, second = weekly("backup", "database"), weekly("backup", "database")
    for made, says in (
        (first, "proven (3 tables, 6,098 rows; digested)"),
        (second, "intact (3 tables, 6,098 rows; counted)"),
    ):
        made.succeeds()
        assert says in made.out
    listed = weekly("list", "--json").json["artifacts"]
    assert [(one["state"], one["compared"]) for one in listed] == [
        ("proven", "digested"),
        ("intact", "counted"),
    ]
    assert "one is proven every 7 d" in weekly("monitor", "database").out
    assert weekly("monitor", "database").code == 0
    assert "refnet verify" in refnet("monitor", "database").out
