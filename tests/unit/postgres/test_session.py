from __future__ import annotations

import pytest
from psycopg.pq import Conninfo

from refnet.core.errors import Exit, RefnetError
from refnet.postgres.session import Target, options, own_parameters, reader_settings


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:sEcret@h:port/db",
        "postgresql://u:sEc%zzret@h/db",
        "postgresql://u:p@sEcret@h/db",
        "postgresql://u:pa/sEcret@h/db",
        "postgresql://u:12/sEcret@h/db",
        "postgresql://u:sEcret@h/db?nonsense=1",
    ],
)
def test_a_url_that_cannot_be_read_shows_no_part_of_its_password(url: str) -> None:
    with pytest.raises(RefnetError) as raised:
        Target.from_url(url)
    assert raised.value.code == Exit.USAGE
    assert "sEcret" not in raised.value.message + raised.value.hint + str(raised.value.__cause__)
    assert raised.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "display"),
    [
        ("postgresql://u:p@h:5433/db", "db on h:5433"),
        ("postgresql://u:%40%2F@h/db", "db on h:5432"),
        ("postgresql://u@/db?host=/run/postgresql", "db on /run/postgresql:5432"),
        ("postgresql://u@%2Frun%2Fpostgresql/db", "db on /run/postgresql:5432"),
        ("postgresql://u:p@h1:1,h2:2/db", "db on h1,h2:1,2"),
        ("postgresql://u:p@[::1]/db", "db on ::1:5432"),
    ],
)
@pytest.mark.usefixtures("no_postgres_variables")
def test_a_target_is_shown_without_its_secret(url: str, display: str) -> None:
    target = Target.from_url(url)
    assert target.display == display
    assert "p@h" not in repr(target)
    assert "password" not in repr(target)


@pytest.mark.parametrize(
    "url", ["postgresql://u:sEcret@h", "postgresql://u:sEcret@h/", "postgresql:///?host=/run"]
)
@pytest.mark.usefixtures("no_postgres_variables")
def test_a_url_without_a_database_does_not_mean_the_users_own(url: str) -> None:
    with pytest.raises(RefnetError, match="names no database") as refused:
        Target.from_url(url)
    assert refused.value.code == Exit.USAGE
    assert "sEcret" not in refused.value.message + refused.value.hint


def test_a_servers_own_parameters_leave_no_variable_to_be_read() -> None:
    by_variable = {option.keyword.decode() for option in Conninfo.get_defaults() if option.envvar}
    open_to_all = {
        "service",
        "client_encoding",
        "application_name",
    }
    assert by_variable - set(own_parameters(host="/x")) == open_to_all


def test_a_password_goes_to_a_child_by_its_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=1MB")
    target = Target.from_url("postgresql://u:sEcret@h:5433/db")
    child = target.environment({"search_path": "", "datestyle": "ISO, DMY"})
    assert child["PGPASSWORD"] == "sEcret"
    assert (child["PGHOST"], child["PGPORT"], child["PGDATABASE"]) == ("h", "5433", "db")
    assert child["PGOPTIONS"] == "-c work_mem=1MB -c idle_session_timeout=0 -c datestyle=ISO,\\ DMY"


def test_a_logins_functions_run_without_settings_that_would_break_them() -> None:
    """A login event trigger finds its tables by the search path, and writes."""
    target = Target.from_url("postgresql://u@h/db")
    settings = {
        "search_path": "",
        "row_security": "off",
        "default_transaction_read_only": "on",
        "timezone": "UTC",
    }
    child = target.environment(settings)
    assert child["PGOPTIONS"] == "-c idle_session_timeout=0 -c timezone=UTC"
    assert child["PGTZ"] == "UTC"
    assert (
        "default_transaction_read_only=off"
        in target.environment({"default_transaction_read_only": "off"})["PGOPTIONS"]
    )


def test_transaction_timeout_is_named_only_to_servers_that_know_it() -> None:
    assert "transaction_timeout" not in reader_settings(16)
    assert reader_settings(17)["transaction_timeout"] == "0"


@pytest.mark.parametrize(("value", "escaped"), [("a b", "a\\ b"), ("a\\b", "a\\\\b"), ("", "")])
def test_options_are_escaped_as_the_server_splits_them(value: str, escaped: str) -> None:
    assert options({"x.y": value}) == f"-c x.y={escaped}"
