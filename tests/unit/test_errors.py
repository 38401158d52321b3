"""A failure as it travels: between processes, and as the words that a user reads."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import psycopg
import pytest

from refnet.core.errors import Exit, RefnetError, worst
from refnet.core.files import explained
from refnet.postgres.connect_error import explain
from refnet.sources.database.server_errors import Cause, of_program
from refnet.store.backup_folder import locked


def test_a_failure_reads_as_its_message_also_from_another_process():
    error = RefnetError("what is wrong", "what to do", Exit.LOCKED, transient=True)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert str(again) == "what is wrong"
    assert (again.message, again.hint, again.code, again.transient) == (
        "what is wrong",
        "what to do",
        Exit.LOCKED,
        True,
    )


def test_every_kind_of_failure_survives_the_way_to_another_process():
    error = explain(psycopg.OperationalError("nothing"), address="here", database="d", user="u")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (again.message, again.transient) == (error.message, True)


@pytest.mark.parametrize(
    ("said", "transient"),
    [
        ("connection refused", True),
        ("FATAL:  the database system is starting up", True),
        ("FATAL:  sorry, too many clients already", True),
        ('FATAL:  password authentication failed for user "u"', False),
        ('FATAL:  database "d" does not exist', False),
        ("fe_sendauth: no password supplied", False),
    ],
)
def test_a_server_that_is_down_can_pass_and_a_wrong_password_cannot(said, transient):
    found = explain(psycopg.OperationalError(said), address="here", database="d", user="u")
    assert found.transient is transient


@pytest.mark.parametrize(
    ("number", "transient"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False)]
)
def test_a_full_disk_can_pass_and_a_forbidden_one_cannot(tmp_path: Path, number, transient):
    with pytest.raises(RefnetError) as caught, explained(tmp_path / "x"):
        raise OSError(number, os.strerror(number))
    assert caught.value.transient is transient


def test_a_file_where_a_folder_belongs_is_named(tmp_path: Path):
    (tmp_path / "file").touch()

    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RefnetError, match="file is a file, not a folder"), explained(folder):
            folder.mkdir(exist_ok=True)


def test_a_lock_can_pass(tmp_path):
    with locked(tmp_path, "database"), pytest.raises(RefnetError) as caught, locked(tmp_path, "database"):
        pass
    assert (caught.value.code, caught.value.transient) == (Exit.LOCKED, True)


@pytest.mark.parametrize(
    ("said", "transient"),
    [
        (b"ERROR:  No space left on device", True),
        (b'ERROR:  could not extend file "base/5/1": wrote only 4096 of 8192 bytes at block 7', True),
        (b'ERROR:  role "x" does not exist', False),
    ],
)
def test_what_the_server_says_decides_whether_it_can_pass(said, transient):
    assert of_program("psql", said, "loading").transient is transient


@pytest.mark.parametrize(
    ("said", "where"),
    [
        (
            b'pg_restore: error: could not execute query: ERROR:  could not extend file "x": No space left on device',
            "the server",
        ),
        (
            b'pg_basebackup: error: could not write to file "x/base.tar": No space left on device',
            "this machine",
        ),
    ],
)
def test_a_full_disk_is_that_of_the_server_or_of_the_program(said: bytes, where: str) -> None:
    found = of_program("program", said, "backing up")
    assert where in found.hint
    assert found.transient


def test_a_missing_privilege_is_found_whatever_the_table_is_called():
    said = b'ERROR:  permission denied for table "ICU_STAYS"'

    assert of_program("pg_restore", said, "loading").cause is Cause.PRIVILEGE


@pytest.mark.parametrize(
    ("codes", "ends"),
    [
        ([], Exit.DONE),
        ([Exit.DONE, Exit.UNVERIFIED], Exit.UNVERIFIED),
        ([Exit.UNVERIFIED, Exit.LOCKED, Exit.DONE], Exit.LOCKED),
        ([Exit.FAILED, Exit.UNVERIFIED, Exit.DAMAGED], Exit.DAMAGED),
    ],
)
def test_several_results_end_with_the_worst(codes: list[Exit], ends: Exit) -> None:
    assert worst(codes) is worst(reversed(codes)) is ends


def test_an_errors_entry_and_sqlstate_are_parsed_and_steps_are_no_errors():
    said = (
        b'pg_restore: creating FUNCTION "public.ERROR:  no()"\n'
        b"pg_restore: while PROCESSING TOC:\n"
        b"pg_restore: from TOC entry 2; 3079 16385 EXTENSION pg_cron (no owner)\n"
        b"pg_restore: error: could not execute query: ERROR:  can only create extension in database x\n"
    )
    found = of_program("pg_restore", said, "creating the schema")
    assert (found.entry, found.lacks) == ("EXTENSION pg_cron (no owner)", True)
    assert found.message.endswith("said: can only create extension in database x")
    verbose = of_program(
        "psql", b"psql:<stdin>:3: ERROR:  23514: new row breaks it\nLOCATION:  x\n", "loading"
    )
    assert (verbose.sqlstate, verbose.message) == ("23514", "loading: psql said: new row breaks it")


@pytest.mark.parametrize(
    ("context", "is_in_function"),
    [
        (b"CONTEXT:  PL/pgSQL function public.f(integer) line 1 at RETURN\n", True),
        (
            b'CONTEXT:  SQL statement "SELECT g($1)"\nPL/pgSQL function public.f(integer) line 1 at PERFORM\n',
            True,
        ),
        (b'CONTEXT:  SQL function "f" during inlining\n', True),
        (b"CONTEXT:  COPY papers, line 1\n", False),
        (b"pg_restore: creating FUNCTION public.f()\n", False),
    ],
)
def test_an_error_in_a_function_of_users_is_known_by_its_context(
    context: bytes, *, is_in_function: bool
) -> None:
    said = b"psql:<stdin>:3: ERROR:  42883: function helper(integer) does not exist\n" + context
    assert of_program("psql", said, "loading").in_function is is_in_function
