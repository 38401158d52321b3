"""The rows of one table come back into the live one, in one transaction, or nothing of it changes."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from psycopg.conninfo import make_conninfo
from tests.integration.database.library import artifact_of, role
from tests.integration.database.shelf import answer, ordinary, reader, restore

from refnet.core.errors import Exit, RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target
from refnet.sources.database.artifact.index_values import MemberKind
from refnet.sources.database.artifact.sqlgz import Reader
from refnet.sources.database.plan.table_plan import Difference, TableSelection
from refnet.sources.database.restore.tables_in_place import staged
from refnet.sources.restore_options import Mode


def test_missing_adds_lost_rows_and_leaves_later_changes_and_additions(shelf: Target, backup: Reader) -> None:
    with shelf.connect() as session:
        session.execute("DELETE FROM citations; DELETE FROM papers WHERE id <= 10")
        session.execute(
            "UPDATE papers SET title = 'mine' WHERE id = 50; INSERT INTO papers (title) VALUES ('new')"
        )
    plan = restore(shelf, backup, "papers", "missing")
    assert plan.difference == Difference(missing=10, changed=1, extra=1, same=89)
    assert (plan.add, plan.change, plan.delete) == (10, 0, 0)
    assert answer(shelf, "SELECT count(*) FROM papers") == [(101,)]
    assert answer(shelf, "SELECT title, decade FROM papers WHERE id IN (5, 50, 101) ORDER BY id") == [
        ("paper 5", 195),
        ("mine", 200),
        ("new", None),
    ]


def test_replace_makes_the_table_what_was_backed_up_and_cascades_nowhere(
    shelf: Target, backup: Reader
) -> None:
    before = answer(shelf, "SELECT id, title, year, decade, extra::text FROM papers ORDER BY id")
    with shelf.connect() as session:
        session.execute("UPDATE papers SET year = 1 WHERE id > 90; INSERT INTO papers (title) VALUES ('new')")
    plan = restore(shelf, backup, "public.papers", "replace")
    assert (plan.add, plan.change, plan.delete) == (0, 10, 1)
    assert answer(shelf, "SELECT id, title, year, decade, extra::text FROM papers ORDER BY id") == before
    assert answer(shelf, "SELECT count(*) FROM citations") == [(100,)]


def test_an_emptied_table_comes_back_and_its_sequence_continues(shelf: Target, backup: Reader) -> None:
    with shelf.connect() as session:
        session.execute("TRUNCATE papers RESTART IDENTITY CASCADE")
    restore(shelf, backup, "papers", "missing")
    restore(shelf, backup, "citations", "missing")
    assert answer(shelf, "INSERT INTO papers (title) VALUES ('next') RETURNING id") == [(101,)]
    assert answer(shelf, "SELECT count(*) FROM citations") == [(100,)]


def test_a_second_run_finds_nothing_to_do(shelf: Target, backup: Reader) -> None:
    with shelf.connect() as session:
        session.execute("DELETE FROM citations")
    assert restore(shelf, backup, "citations", "replace").add == 100
    assert restore(shelf, backup, "citations", "replace").nothing


def test_odd_names_and_rows_that_look_like_commands_come_back(shelf: Target, backup: Reader) -> None:
    before = answer(shelf, 'SELECT * FROM "odd ""one\n" ORDER BY a')
    with shelf.connect() as session:
        session.execute('DELETE FROM "odd ""one\n"')
    restore(shelf, backup, 'odd "one\n', "replace")
    assert answer(shelf, 'SELECT * FROM "odd ""one\n" ORDER BY a') == before


def test_only_the_bytes_of_that_table_and_of_the_definitions_are_read(shelf: Target, wheel: Binaries) -> None:
    content = bytearray(artifact_of(shelf, wheel))
    whole = Reader("whole", lambda: io.BytesIO(content))
    papers = next(n for n, table in enumerate(whole.index.tables) if table.name == "papers")
    for member in whole.index.members:
        if member.table != papers and member.kind is not MemberKind.PRE:
            content[member.offset : member.offset + member.length] = b"x" * member.length
    with shelf.connect() as session:
        session.execute("DELETE FROM citations; DELETE FROM papers")
    assert restore(shelf, whole, "papers", "missing").add == 100


class Counted(io.BytesIO):
    """A file that counts the bytes that are read of it."""

    def __init__(self, content: bytes, counts: list[int]) -> None:
        super().__init__(content)
        self.counts = counts

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.counts.append(len(data))
        return data


def test_only_the_tables_bytes_the_definitions_and_the_index_are_read(shelf: Target, wheel: Binaries) -> None:
    with shelf.connect() as session:
        session.execute(
            "INSERT INTO papers (title) SELECT repeat(i || '.', 99) FROM generate_series(1, 20000) i"
        )
    content, counts = artifact_of(shelf, wheel), []
    source = Reader("whole", lambda: Counted(content, counts))
    citations = next(n for n, table in enumerate(source.index.tables) if table.name == "citations")
    members = source.index.members
    of_table = sum(one.length for one in members if one.table == citations or one.kind is MemberKind.PRE)
    with shelf.connect() as session:
        session.execute("DELETE FROM citations")
    assert restore(shelf, source, "citations", "missing").add == 100
    assert sum(counts) == of_table + len(content) - source.index_offset
    assert sum(counts) < len(content) / 2


def test_an_artifact_of_some_tables_gives_its_tables_back(shelf: Target, wheel: Binaries) -> None:
    some = reader(shelf, wheel, ("citations",))
    with shelf.connect() as session:
        session.execute("DELETE FROM citations")
    assert restore(shelf, some, "citations", "missing").add == 100


@pytest.mark.parametrize(
    "change",
    ["INSERT INTO papers (title) VALUES ('late')", "DELETE FROM citations; DELETE FROM papers WHERE id = 1"],
)
def test_a_table_that_changes_after_the_plan_is_left_alone(
    shelf: Target, backup: Reader, change: str
) -> None:
    with shelf.connect() as session:
        session.execute("UPDATE papers SET year = 1")
        with staged(shelf, backup, TableSelection(("papers",), Mode.REPLACE)) as work:
            session.execute(change)
            with pytest.raises(RefnetError, match="changed after the plan was made"):
                work.apply()
    assert answer(shelf, "SELECT DISTINCT year FROM papers WHERE title <> 'late'") == [(1,)]


def test_a_deletion_that_others_refer_to_is_refused_and_names_the_key(shelf: Target, backup: Reader) -> None:
    with shelf.connect() as session:
        session.execute("INSERT INTO papers (title) VALUES ('new')")
        session.execute("INSERT INTO citations SELECT id, 1 FROM papers WHERE title = 'new'")
    with pytest.raises(RefnetError, match="citations_citing_fkey"):
        restore(shelf, backup, "papers", "replace")
    assert answer(shelf, "SELECT count(*) FROM papers") == [(101,)]


def test_rows_that_would_refer_to_nothing_are_refused(shelf: Target, backup: Reader) -> None:
    with shelf.connect() as session:
        session.execute("DELETE FROM citations; DELETE FROM papers WHERE id = 7")
    with pytest.raises(RefnetError, match="would refer to rows that do not exist") as caught:
        restore(shelf, backup, "citations", "missing")
    assert "nothing was changed" in caught.value.hint
    assert answer(shelf, "SELECT count(*) FROM citations") == [(0,)]


def test_a_row_that_meets_another_unique_key_is_refused(shelf: Target, backup: Reader) -> None:
    with shelf.connect() as session:
        session.execute("DELETE FROM citations; DELETE FROM papers WHERE id = 7")
        session.execute("INSERT INTO papers (title) VALUES ('paper 7')")
    with pytest.raises(RefnetError, match="papers_title_key"):
        restore(shelf, backup, "papers", "missing")


def test_a_row_that_meets_a_key_that_is_checked_late_is_refused(
    make_database: Callable[..., Target], wheel: Binaries
) -> None:
    target = make_database("""
        CREATE TABLE notes (id int PRIMARY KEY, title text UNIQUE DEFERRABLE INITIALLY DEFERRED);
        INSERT INTO notes VALUES (1, 'one'), (2, 'two'), (3, NULL), (4, NULL);
    """)
    source = reader(target, wheel)
    with target.connect() as session:
        session.execute("DELETE FROM notes WHERE id IN (1, 3); INSERT INTO notes VALUES (5, 'one')")
    with pytest.raises(RefnetError, match="1 value of the key notes_title_key would be duplicated"):
        restore(target, source, "notes", "missing")
    assert answer(target, "SELECT id FROM notes ORDER BY id") == [(2,), (4,), (5,)]
    assert restore(target, source, "notes", "replace").delete == 1
    assert answer(target, "SELECT count(*) FROM notes") == [(4,)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "DELETE FROM papers WHERE id > 1; ALTER TABLE papers ADD EXCLUDE (year WITH =) DEFERRABLE",
            "exclusion constraints, which RefNet cannot check",
        ),
        ("ALTER TABLE papers ADD COLUMN doi text", "other columns than the artifact: doi"),
        ("ALTER TABLE papers DROP COLUMN extra", "other columns than the artifact: extra"),
        ("DELETE FROM papers WHERE id > 9; ALTER TABLE papers ALTER title TYPE varchar(7)", "value too long"),
        ("ALTER TABLE papers ALTER year TYPE numeric(8, 1)", "types that differ from the artifact"),
        ("CREATE RULE r AS ON DELETE TO papers DO INSTEAD NOTHING", "has rules"),
        ("ALTER TABLE papers RENAME TO books", "public.papers_id_seq exists already, as a sequence"),
    ],
)
def test_a_table_that_is_another_one_now_is_refused_by_name(
    shelf: Target, backup: Reader, change: str, message: str
) -> None:
    with shelf.connect() as session:
        session.execute("DELETE FROM citations")
        if "ALTER year" in change:
            session.execute(
                "ALTER TABLE papers DROP COLUMN decade; ALTER TABLE papers ADD COLUMN decade int GENERATED ALWAYS AS (1) STORED"
            )
        session.execute(change)
    with pytest.raises(RefnetError, match=message):
        restore(shelf, backup, "papers", "replace")


def test_a_table_that_is_not_in_the_artifact_is_a_matter_of_usage(shelf: Target, backup: Reader) -> None:
    with pytest.raises(RefnetError, match="contains no table 'nowhere'") as caught:
        restore(shelf, backup, "nowhere", "missing")
    assert caught.value.code is Exit.USAGE
    with pytest.raises(RefnetError, match="contains no table 'paper'") as caught:
        restore(shelf, backup, "paper", "missing")
    assert caught.value.hint.startswith("Did you mean papers? ")


def test_a_role_that_cannot_disable_triggers_is_refused_when_they_fire(
    shelf: Target, backup: Reader, busy_server: Cluster
) -> None:
    with shelf.connect() as session:
        session.execute("DELETE FROM citations WHERE citing <= 5")
    with ordinary(shelf, busy_server) as plain:
        assert restore(plain, backup, "citations", "replace").add == 5
        with pytest.raises(RefnetError, match="deleting rows would cascade by citations_citing_fkey"):
            restore(plain, backup, "papers", "replace")
        with shelf.connect() as session:
            session.execute(
                "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
            )
            session.execute(
                "CREATE TRIGGER swallow BEFORE INSERT ON citations FOR EACH ROW EXECUTE FUNCTION f()"
            )
            session.execute("DELETE FROM citations WHERE citing <= 5")
        with pytest.raises(RefnetError, match="the triggers swallow would fire"):
            restore(plain, backup, "citations", "missing")
    assert restore(shelf, backup, "citations", "missing").add == 5
    assert answer(shelf, "SELECT count(*) FROM citations") == [(100,)]


def test_a_partitioned_table_means_its_leaves(make_database: Callable[..., Target], wheel: Binaries) -> None:
    target = make_database("""
        CREATE TYPE mood AS ENUM ('good', 'bad');
        CREATE TABLE log (at date, what text, PRIMARY KEY (at, what)) PARTITION BY RANGE (at);
        CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
        CREATE TABLE log_2 (what text NOT NULL, at date NOT NULL);
        ALTER TABLE log ATTACH PARTITION log_2 FOR VALUES FROM ('2026-07-01') TO ('2027-01-01');
        INSERT INTO log SELECT '2026-01-01'::date + i, 'day ' || i FROM generate_series(0, 364) i;
        CREATE TABLE feelings (m mood, id int, PRIMARY KEY (m, id)) PARTITION BY HASH (m);
        CREATE TABLE feelings_0 PARTITION OF feelings FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE feelings_1 PARTITION OF feelings FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        INSERT INTO feelings SELECT CASE i % 2 WHEN 0 THEN 'good' ELSE 'bad' END::mood, i FROM generate_series(1, 50) i;
    """)
    source = reader(target, wheel)
    with target.connect() as session:
        session.execute(
            "DELETE FROM log WHERE what LIKE '%3%'; UPDATE log SET what = 'x' WHERE what = 'day 9'"
        )
        session.execute("DELETE FROM feelings WHERE id > 10; DELETE FROM log_2")
    plan = restore(target, source, "log", "replace")
    assert (plan.delete, plan.difference.changed) == (1, 0)
    assert answer(target, "SELECT count(*), count(DISTINCT what), min(what) FROM log") == [
        (365, 365, "day 0")
    ]
    assert restore(target, source, "feelings", "missing").add == 40
    with target.connect() as session:
        session.execute("DELETE FROM log")
    assert restore(target, source, "log_2", "missing").add == 184
    assert answer(target, "SELECT count(*) FROM log") == [(184,)]


def test_keys_of_a_type_with_an_equality_of_its_own_are_compared_by_it(
    make_database: Callable[..., Target], wheel: Binaries
) -> None:
    target = make_database("""
        CREATE EXTENSION citext;
        CREATE TABLE journals (name citext PRIMARY KEY);
        CREATE TABLE issues (id int PRIMARY KEY, journal citext REFERENCES journals);
        INSERT INTO journals VALUES ('Nature'), ('Cell');
        INSERT INTO issues VALUES (1, 'NATURE'), (2, 'cell');
    """)
    source = reader(target, wheel)
    with target.connect() as session:
        session.execute("DELETE FROM issues; UPDATE journals SET name = 'nature' WHERE name = 'Nature'")
    plan = restore(target, source, "journals", "replace")
    assert (plan.add, plan.change, plan.delete) == (0, 1, 0)
    assert restore(target, source, "issues", "missing").add == 2


@pytest.mark.parametrize(("table", "mode"), [("papers", "missing"), ("citations", "replace")])
def test_missing_rights_of_a_role_are_named_and_the_grants_suffice(
    shelf: Target, backup: Reader, busy_server: Cluster, table: str, mode: str
) -> None:
    with shelf.connect() as session, role(busy_server, "O'Neil", "LOGIN"):
        session.execute("DELETE FROM citations; REVOKE ALL ON SCHEMA public FROM PUBLIC")
        session.execute("DELETE FROM papers WHERE id <= 10 AND %s", (table == "papers",))
        humble = Target(make_conninfo(shelf.conninfo, user="O'Neil"), own=True)
        with pytest.raises(RefnetError, match="permission denied for schema public"):
            restore(humble, backup, table, mode)
        session.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")
        with pytest.raises(RefnetError, match=r"may not restore rows in .*: rights are missing on") as caught:
            restore(humble, backup, table, mode)
        assert f'"public"."{table}"' in caught.value.message
        session.execute(caught.value.hint.partition("; or ")[0].encode())
        restore(humble, backup, table, mode)
        assert answer(shelf, f"SELECT count(*) FROM {table}") == [(100,)]
        session.execute("""DROP OWNED BY "O'Neil" """)
