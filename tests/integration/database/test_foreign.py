"""Dumps that RefNet did not make: restored into a new database, or refused by name; never a success that is none."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from tests.integration.database.library import everything, papers, pg_dump, restore

from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.session import Target
from refnet.sources.database.artifact.foreign_dump import ForeignDump
from refnet.sources.database.plan.restore_plan import PlanOptions
from refnet.sources.database.restore import copy_and_swap
from refnet.store.open_artifacts import artifact_at, folder_at

GENTLE = "-- just some SQL\nCREATE TABLE papers (id int);\nINSERT INTO papers VALUES (1), (2);\n"


@pytest.fixture
def library(small_library: Target) -> Target:
    return small_library


def foreign(path: Path, binaries: Binaries) -> ForeignDump:
    return ForeignDump(folder_at(path) if path.is_dir() else artifact_at(path, SourceName.DATABASE))


def gzipped(content: bytes, path: Path) -> Path:
    path.write_bytes(gzip.compress(content, 1))
    return path


@pytest.mark.parametrize("form", ["p", "c", "d", "t"])
def test_every_format_of_pg_dump_is_restored(
    library: Target, wheel: Binaries, tmp_path: Path, form: str
) -> None:
    path = pg_dump(library, wheel, tmp_path / "old.dump", f"-F{form}")
    with library.connect() as session:
        session.execute("DELETE FROM jobs; DELETE FROM citations; DELETE FROM papers")
        session.execute(f"ALTER DATABASE {library.name} SET work_mem = '7MB'")
    done = restore(library, foreign(path, wheel), wheel)
    assert papers(library) == 50
    assert any(note.startswith("could not verify: content") for note in done.notes)
    with library.connect() as session:
        assert session.execute("SHOW work_mem").fetchall() == [("7MB",)]


@pytest.mark.parametrize("form", ["c", "d", "t"])
def test_an_archives_missing_owner_is_in_the_plan_with_its_create_role(
    library: Target, wheel: Binaries, tmp_path: Path, form: str
) -> None:
    with library.connect() as session:
        session.execute('CREATE ROLE "The owner"; ALTER TABLE jobs OWNER TO "The owner"')
        try:
            dump = foreign(pg_dump(library, wheel, tmp_path / "old.dump", f"-F{form}"), wheel)
            assert (
                copy_and_swap.read_and_decide(
                    library, dump, PlanOptions(2, create_roles=True), count=False
                ).problems
                == ()
            )
            session.execute('ALTER TABLE jobs OWNER TO CURRENT_USER; DROP ROLE "The owner"')
            for create_roles in (False, True):
                options = PlanOptions(2, create_roles=create_roles)
                (problem,) = copy_and_swap.read_and_decide(library, dump, options, count=False).problems
                assert problem.message == "roles missing on the server: The owner"
                assert problem.hint == 'CREATE ROLE "The owner";'
            with pytest.raises(RefnetError, match="roles missing on the server: The owner"):
                restore(library, dump, wheel)
        finally:
            session.execute('DROP ROLE IF EXISTS "The owner"')


def test_the_specifications_gzipped_dump_restores_a_missing_database(
    library: Target, wheel: Binaries, tmp_path: Path
) -> None:
    plain = pg_dump(library, wheel, tmp_path / "plain.sql").read_bytes()
    new = library.database(f"{library.name}_new")
    done = restore(new, foreign(gzipped(plain, tmp_path / "refnet_20231201_020000.sql.gz"), wheel), wheel)
    assert papers(new) == 50
    assert done.previous is None


def test_sql_of_unknown_origin_is_restored_and_reported_as_such(
    library: Target, wheel: Binaries, tmp_path: Path
) -> None:
    path = tmp_path / "hand.sql"
    path.write_text(GENTLE)
    done = restore(library, foreign(path, wheel), wheel)
    assert papers(library) == 2
    assert "could not verify: the PostgreSQL version of the dump" in done.notes


@pytest.mark.parametrize(
    ("name", "content", "message", "code"),
    [
        ("empty.sql", b"", "is not a dump", Exit.FAILED),
        ("noise.sql.gz", b"\x00\x01\x02" * 500, "is not a dump", Exit.FAILED),
        ("packed.sql.zst", b"\x28\xb5\x2f\xfd123", "compressed with zstd", Exit.FAILED),
        ("inner.gz", gzip.compress(b"PGDMP\x01\x10"), "gzipped dump in the custom format", Exit.FAILED),
        ("half.sql.gz", gzip.compress(GENTLE.encode() * 9000)[:-900], "cut short", Exit.DAMAGED),
        ("garbled.sql.gz", b"\x1f\x8b" + b"x" * 400, "damaged", Exit.DAMAGED),
        ("cut.sql", b"--\n-- PostgreSQL database dump\n--\n\nSELECT 1;\n", "cut short", Exit.DAMAGED),
        (
            "create.sql",
            b"-- PostgreSQL database dump\nCREATE DATABASE other;\n\\connect other\n-- PostgreSQL database dump complete\n",
            "creates databases itself",
            Exit.FAILED,
        ),
        (
            "cluster.sql",
            b"-- PostgreSQL database cluster dump\n\nCREATE ROLE x;\n",
            "pg_dumpall",
            Exit.FAILED,
        ),
        ("shell.sql", GENTLE.encode() + b"\\! touch /tmp/owned\n", "backslash commands", Exit.FAILED),
        ("late.sql", GENTLE.encode() + b"SELECT 1/0;\nSELECT 1;\n", "division by zero", Exit.FAILED),
        (
            "lacks.sql",
            GENTLE.encode() + b'ALTER TABLE papers OWNER TO "no one";\n',
            'role "no one"',
            Exit.FAILED,
        ),
        (
            "newer.sql",
            b"-- PostgreSQL database dump\n-- Dumped from database version 99.1\n-- PostgreSQL database dump complete\n",
            "comes from PostgreSQL 99",
            Exit.FAILED,
        ),
        ("broken.dump", b"PGDMP\x01\x63\x00\x04\x08\x01", "unsupported version", Exit.FAILED),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_restored_is_refused_and_nothing_live_changes(
    library: Target, wheel: Binaries, tmp_path: Path, name: str, content: bytes, message: str, code: Exit
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RefnetError) as caught:
        restore(library, foreign(path, wheel), wheel)
    assert message in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.code is code
    assert everything(library) == [library.name]
    assert papers(library) == 50


def test_a_folder_without_a_dump_is_none(wheel: Binaries, tmp_path: Path) -> None:
    with pytest.raises(RefnetError, match=r"is a folder without a dump$"):
        foreign(tmp_path, wheel).wanted()


def test_a_dump_made_with_create_is_refused_wherever_it_says_so(
    library: Target, wheel: Binaries, tmp_path: Path
) -> None:
    path = pg_dump(library, wheel, tmp_path / "with_create.sql", "-C")
    with pytest.raises(RefnetError, match="creates databases itself"):
        restore(library, foreign(path, wheel), wheel)
    assert everything(library) == [library.name]


def test_a_dump_that_unlocks_its_own_restriction_still_runs_no_command(
    library: Target, wheel: Binaries, tmp_path: Path
) -> None:
    sign = tmp_path / "sign"
    path = tmp_path / "sly.sql"
    path.write_text(f"\\restrict key\n{GENTLE}\\unrestrict key\n\\! touch {sign}\n")
    with pytest.raises(RefnetError, match="backslash commands are restricted"):
        restore(library, foreign(path, wheel), wheel)
    assert not sign.exists()
    assert papers(library) == 50


def test_a_newer_pg_dumps_output_loads_if_nothing_else_in_it_is_newer(
    system_database: Target, library: Target, wheel: Binaries, tmp_path: Path
) -> None:
    with system_database.connect() as session:
        session.execute(GENTLE)
    path = pg_dump(system_database, wheel, tmp_path / "from_old.sql")
    assert b"SET transaction_timeout" in path.read_bytes()
    new = system_database.database(f"{system_database.name}_new")
    restore(new, foreign(path, wheel), wheel)
    assert papers(new) == 2
    with system_database.connect() as session:
        session.execute(f'DROP DATABASE "{new.name}"')


def test_the_closing_restrict_line_is_found_wherever_the_text_is_cut(
    library: Target, wheel: Binaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pg_dump(library, wheel, tmp_path / "plain.sql")
    for piece in (997, 4096):
        monkeypatch.setattr("refnet.sources.database.artifact.foreign_dump._PIECE", piece)
        text = b"".join(foreign(path, wheel)._text(18, lambda *_: None))
        assert b"restrict" not in text
        assert text.rstrip().endswith(b"-- PostgreSQL database dump complete\n--")
