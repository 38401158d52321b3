"""What did not change in a database gives the same members of its artifact, which copies in remote stores share."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.sources.database.artifact import member_rows
from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.dump import parallel_dump, row_copy
from refnet.sources.database.workers import Workers

#: Tables of several ranges, of values in TOAST, of values that do not compress, a small one, and large objects. The pages of
#: `log` have space.
_TABLES = """
CREATE TABLE log (id int PRIMARY KEY, what text) WITH (fillfactor = 90);
INSERT INTO log SELECT i, repeat(md5(i::text), 4) FROM generate_series(1, 40000) i;
CREATE TABLE pages (id int PRIMARY KEY, text text);
INSERT INTO pages SELECT i, (SELECT string_agg(md5((i * 977 + n)::text), ' ') FROM generate_series(1, 200) n)
FROM generate_series(1, 500) i;
CREATE TABLE noise (id int PRIMARY KEY, bytes bytea);
INSERT INTO noise SELECT i, decode((SELECT string_agg(md5((i * 977 + n)::text), '') FROM generate_series(1, 100) n), 'hex')
FROM generate_series(1, 2000) i;
CREATE TABLE small AS SELECT i FROM generate_series(1, 100) i;
SELECT lo_from_bytea(100000 + i, decode(repeat(md5(i::text), 30000), 'hex')) FROM generate_series(1, 24) i
"""
_MORE = """
INSERT INTO log SELECT i, repeat(md5(i::text), 4) FROM generate_series(40001, 60000) i;
INSERT INTO pages SELECT id + 1000, text FROM pages WHERE id <= 250;
INSERT INTO noise SELECT id + 10000, bytes FROM noise WHERE id <= 1000
"""
_CUT = ("log", "noise", "pages")


@pytest.fixture
def database(make_database: Callable[..., Target], monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setattr(row_copy, "RANGE", 1 << 20)
    return make_database(_TABLES, often=True)


class Members:
    """The members of a new artifact of `database` with rows and large objects: table by content."""

    def __init__(self, database: Target, binaries: Binaries, jobs: int) -> None:
        file = io.BytesIO()
        index = parallel_dump.dump(database, file, Workers(binaries, jobs))
        packed = file.getvalue()
        assert Reader("dump", lambda: io.BytesIO(packed)).index == index
        self.found = {
            packed[one.offset : one.offset + one.length]: ""
            if one.table is None
            else index.tables[one.table].name
            for one in index.members
            if one.kind in {MemberKind.BLOCK, MemberKind.DATA}
        }

    def without(self, other: Members) -> list[str]:
        """The table of each member that `other` does not have, in the order of their names."""
        return sorted(self.found[one] for one in self.found.keys() - other.found.keys())


@pytest.fixture(scope="module")
def _dumped() -> dict[int, Members]:
    return {}


@pytest.fixture
def first(database: Target, wheel: Binaries, _dumped: dict[int, Members]) -> Callable[[int], Members]:
    """The members of the database as it was made, by the number of workers; the databases of all tests are alike."""

    def of(jobs: int) -> Members:
        if jobs not in _dumped:
            _dumped[jobs] = Members(database, wheel, jobs)
        return _dumped[jobs]

    return of


@pytest.mark.parametrize(("jobs", "then"), [(1, 1), (1, 2), (2, 2)])
def test_an_unchanged_database_gives_the_same_members(
    first: Callable[[int], Members], database: Target, wheel: Binaries, jobs: int, then: int
) -> None:
    found = first(jobs).found
    assert all(list(found.values()).count(table) > 2 for table in _CUT)
    assert list(found.values()).count("") > 2
    assert Members(database, wheel, then).found == found


@pytest.mark.parametrize("jobs", [1, 2])
def test_rows_that_are_appended_change_only_the_last_range(
    first: Callable[[int], Members], database: Target, wheel: Binaries, jobs: int
) -> None:
    before = first(jobs)
    with database.connect() as session:
        session.execute(_MORE)
    after = Members(database, wheel, jobs)
    assert set(before.without(after)) <= set(_CUT)
    assert all(before.without(after).count(table) == 1 for table in _CUT)


def test_a_row_that_changes_in_its_page_changes_one_member(
    first: Callable[[int], Members], database: Target, wheel: Binaries
) -> None:
    before = first(2)
    with database.connect() as session:
        session.execute("UPDATE log SET what = 'another' WHERE id = 1")
    after = Members(database, wheel, 2)
    assert before.without(after) == after.without(before) == ["log"]


def test_a_range_is_cut_at_the_same_rows(
    database: Target, wheel: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_rows, "BLOCK", 300_000)
    first, second = Members(database, wheel, 2), Members(database, wheel, 1)
    assert len(first.found) > 40
    assert first.found == second.found


def test_a_large_object_that_is_added_changes_the_members_before_and_after_all_others(
    first: Callable[[int], Members], database: Target, wheel: Binaries
) -> None:
    before = first(1)
    with database.connect() as session:
        session.execute("SELECT lo_from_bytea(200000, 'another')")
    # pg_dump writes the first number and the last before them.
    assert before.without(Members(database, wheel, 1)) in ([""], ["", ""])
    assert list(before.found.values()).count("") > 3
