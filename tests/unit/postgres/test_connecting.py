from __future__ import annotations

import psycopg
import pytest

from refnet.postgres.connect_error import explain

_ADDRESS = 'connection failed: connection to server at "127.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "sqlstate", "says"),
    [
        (
            'FATAL:  password authentication failed for user "u"',
            "28P01",
            "the server at h:1 rejects the password of u",
        ),
        (
            'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "u", database "d", no encryption',
            "28000",
            "does not accept u",
        ),
        ('FATAL:  role "u" does not exist', "28000", "does not accept u"),
        ('FATAL:  database "d" does not exist', "3D000", "the server at h:1 has no database d"),
        ("FATAL:  sorry, too many clients already", "53300", "no free connection"),
        ('FATAL:  too many connections for role "u"', "53300", "no free connection"),
        (
            "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
            "53300",
            "no free connection",
        ),
        ("FATAL:  the database system is starting up", "57P03", "is not ready"),
        ("FATAL:  the database system is shutting down", "57P03", "is not ready"),
        (
            'FATAL:  database "d" is not currently accepting connections',
            "55000",
            "does not allow connections",
        ),
        ('FATAL:  permission denied for database "d"', "42501", "does not let u connect to the database d"),
        ('FATAL:  unrecognized configuration parameter "foo"', "22023", "rejects the session"),
        ('FATAL:  データベース"d"は存在しません', "3D000", "the server at h:1 has no database d"),
        ('FATAL:  ロール"u"は存在しません', "28000", "does not accept u"),
        ('FATAL:  ユーザー"u"のパスワード認証に失敗しました', "28P01", "rejects the password of u"),
        ("FATAL:  データベースシステムは起動処理中です", "57P03", "is not ready"),
        ("FATAL:  現在クライアント数が多すぎます", "53300", "no free connection"),
        ("FATAL:  Datenbank »d« existiert nicht", "XX000", "Datenbank »d« existiert nicht"),
        (
            "Connection refused\n\tIs the server running on that host?",
            None,
            "no PostgreSQL server answers at h:1",
        ),
        ("fe_sendauth: no password supplied", None, "requires a password for u"),
        ("server does not support SSL, but SSL was required", None, "no encrypted connection"),
    ],
)
def test_every_refusal_is_told_by_its_reason(text: str, sqlstate: str | None, says: str) -> None:
    error = explain(psycopg.OperationalError(_ADDRESS + text), address="h:1", database="d", user="u")
    assert error.sqlstate == sqlstate
    assert says in error.message
    assert "\n" not in error.message + error.hint
    assert error.no_such_database == (sqlstate == "3D000")


def test_both_attempts_of_libpq_are_told_as_one_reason() -> None:
    text = (
        _ADDRESS
        + 'FATAL:  no pg_hba.conf entry for host "h", SSL encryption\n'
        + (
            'connection to server at "127.0.0.1", port 5432 failed: FATAL:  no pg_hba.conf entry for host "h", no encryption'
        )
    )
    error = explain(psycopg.OperationalError(text), address="h:1", database="d", user="u")
    assert error.message.endswith('from here: no pg_hba.conf entry for host "h", no encryption')


def test_the_grant_that_is_missing_is_printed_as_sql() -> None:
    error = psycopg.OperationalError('FATAL:  permission denied for database "My shop"')
    found = explain(error, address="here", database="My shop", user="user")
    assert found.hint == 'GRANT CONNECT ON DATABASE "My shop" TO "user";'


@pytest.mark.parametrize(
    ("named", "hint"),
    [
        ("databases.shop.url", "fix host and port in databases.shop.url."),
        ("", "RefNet itself started that server"),
    ],
)
def test_the_remedy_names_what_gave_the_url(named: str, hint: str) -> None:
    error = psycopg.OperationalError("connection refused")
    assert hint in explain(error, address="h:1", database="d", user="u", named=named).hint


@pytest.mark.parametrize(("variable", "file"), [("", "~/.pgpass"), ("/srv/passwords", "/srv/passwords")])
def test_the_remedy_names_the_file_of_passwords_that_libpq_reads(
    monkeypatch: pytest.MonkeyPatch, variable: str, file: str
) -> None:
    monkeypatch.setenv("PGPASSFILE", variable)
    error = psycopg.OperationalError(_ADDRESS + "fe_sendauth: no password supplied")
    found = explain(error, address="h:1", database="d", user="u", named="clusters.main.url")
    assert found.hint == f"Put it into clusters.main.url, or into {file}."
