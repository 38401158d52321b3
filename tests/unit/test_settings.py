"""Settings: one frozen object, the environment before the file, and errors that name the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from refnet.catalog.schedule import Retention
from refnet.core.errors import Exit, RefnetError
from refnet.settings import Given, Settings, examine, keys, load, variable
from refnet.settings.known_keys import keys_of

ROOT = Path(__file__).parents[2]


def loaded(folder: Path, **environment: str) -> Settings:
    return load({"REFNET_HOME": str(folder / "home"), **environment}, folder, root=False, cores=4)


def test_variables_override_the_file_and_each_value_names_its_origin(tmp_path: Path) -> None:
    (tmp_path / "refnet.toml").write_text(
        'jobs = 3\nvault_dir = "/srv/vault"\n[postgres]\nbin_dir = "/opt/pg/bin"\n'
    )
    settings = loaded(tmp_path, REFNET_JOBS="5")
    assert (settings.jobs, settings.vault_dir, settings.postgres_bin_dir) == (
        5,
        Path("/srv/vault"),
        Path("/opt/pg/bin"),
    )
    assert settings.origins["jobs"] == "the environment"
    assert settings.origins["vault_dir"] == str(tmp_path / "refnet.toml")
    assert "backup_dir" not in settings.origins


def test_the_file_in_home_is_read_where_the_current_folder_has_none(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "refnet.toml").write_text("jobs = 7\n")
    assert loaded(tmp_path).jobs == 7


def test_the_settings_file_is_config_then_here_then_home_then_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, home, system = tmp_path / "named.toml", tmp_path / "home" / "refnet.toml", tmp_path / "etc.toml"
    home.parent.mkdir()
    monkeypatch.setattr("refnet.settings.reading.SYSTEM_FILE", system)
    for number, file in enumerate((system, home, tmp_path / "refnet.toml"), 1):
        file.write_text(f"jobs = {number}\n")
        assert (loaded(tmp_path).jobs, loaded(tmp_path).file) == (number, file)
    named.write_text("jobs = 9\n")
    assert loaded(tmp_path, REFNET_CONFIG=str(named)).file == named
    with pytest.raises(RefnetError, match="no settings file"):
        loaded(tmp_path, REFNET_CONFIG=str(tmp_path / "none.toml"))


@pytest.mark.parametrize("file", ["database = 'days=3, weekly=4'", "database = {days = 3, weekly = 4}"])
def test_retention_is_a_text_or_a_table(tmp_path: Path, file: str) -> None:
    (tmp_path / "refnet.toml").write_text(f"[retention]\n{file}\n")
    assert loaded(tmp_path).retention_database == Retention(days=3, weekly=4)
    assert str(loaded(tmp_path).retention_database) == "days=3 weekly=4"
    assert loaded(tmp_path).retention_obsidian == Retention(days=30)


@pytest.mark.parametrize("file", ["database = 'days=7 keep-last=3'", "database = {days = 7, keep-last = 3}"])
def test_retention_keeps_the_last_ones_by_number(tmp_path: Path, file: str) -> None:
    (tmp_path / "refnet.toml").write_text(f"[retention]\n{file}\n")
    assert loaded(tmp_path).retention_database == Retention(days=7, keep_last=3)
    assert str(loaded(tmp_path).retention_database) == "days=7 keep-last=3"


def test_settings_are_frozen(tmp_path: Path) -> None:
    with pytest.raises(AttributeError):
        loaded(tmp_path).jobs = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("file", "environment", "named"),
    [
        ("jbos = 3\n", {}, "jbos"),
        ("[recover]\nnothing = 3\n", {}, "recover.nothing"),
        ("", {"REFNET_JBOS": "3"}, "REFNET_JBOS"),
        ("jobs = 'many'\n", {}, "jobs"),
        ("jobs = true\n", {}, "jobs"),
        ("", {"REFNET_JOBS": "0"}, "REFNET_JOBS"),
        ("", {"REFNET_VAULT_DIR": "relative/path"}, "REFNET_VAULT_DIR"),
        ("", {"REFNET_DATABASE_URL": "mysql://x"}, "REFNET_DATABASE_URL"),
        ("jobs = \n", {}, "refnet.toml"),
        ("", {"REFNET_RETENTION_DATABASE": "7"}, "REFNET_RETENTION_DATABASE"),
        ("", {"REFNET_RETENTION_DATABASE": "days=-1"}, "REFNET_RETENTION_DATABASE"),
        ("", {"REFNET_RETENTION_DATABASE": "hourly=3"}, "REFNET_RETENTION_DATABASE"),
        ("[retention]\nconfig = {days = true}\n", {}, "retention.config"),
        ("", {"REFNET_MONITOR_MIN_BYTES": "1 MiB"}, "REFNET_MONITOR_MIN_BYTES"),
    ],
)
def test_an_unknown_key_or_a_bad_value_is_an_error_that_names_it(
    tmp_path: Path, file: str, environment: dict[str, str], named: str
) -> None:
    (tmp_path / "refnet.toml").write_text(file)
    with pytest.raises(RefnetError) as error:
        loaded(tmp_path, **environment)
    assert named in error.value.message
    assert error.value.code is Exit.USAGE


@pytest.mark.parametrize(
    ("file", "environment", "near"),
    [
        ("jbos = 3\n", {}, "Did you mean jobs?"),
        ("[retention]\ndatabse = 'days=3'\n", {}, "Did you mean retention.database?"),
        ("[retention]\ndaly = 5\n", {}, "refnet.toml.example lists every setting."),
        ("[schedule]\nvault_dir = 'x'\n", {}, "Did you mean vault_dir, outside of the table [schedule]?"),
        (
            "[databases.shop]\nurl = 'postgresql://x/y'\njobs = 2\n",
            {},
            "Did you mean jobs, outside of the table [databases.shop]?",
        ),
        ("[schedule]\ndril = 'off'\n", {}, "Did you mean schedule.drill?"),
        ("", {"REFNET_BACKUP_DIRR": "/x"}, "Did you mean REFNET_BACKUP_DIR?"),
        ("zzz = 3\n", {}, "refnet.toml.example lists every setting."),
    ],
)
def test_an_unknown_setting_is_answered_with_the_nearest_one(
    tmp_path: Path, file: str, environment: dict[str, str], near: str
) -> None:
    (tmp_path / "refnet.toml").write_text(file)
    with pytest.raises(RefnetError) as error:
        loaded(tmp_path, **environment)
    assert error.value.hint.startswith(near)


def test_all_problems_are_listed_and_the_other_settings_are_read(tmp_path: Path) -> None:
    (tmp_path / "refnet.toml").write_text('jobs = 0\njbos = 1\nvault_dir = "/srv/vault"\n')
    environment = {"REFNET_HOME": str(tmp_path / "home"), "REFNET_LOG_LEVEL": "loud", "REFNET_X": "1"}
    examined = examine(environment, tmp_path, root=False, cores=4)
    found = examined.problems
    assert sorted(each.key for each in found) == ["REFNET_X", "jbos", "jobs", "log.level"]
    assert (examined.settings.jobs, examined.settings.vault_dir) == (4, Path("/srv/vault"))
    with pytest.raises(RefnetError, match=r"\(and 3 more: refnet settings\)$") as error:
        loaded(tmp_path, **environment)
    assert error.value.hint == found[0].hint
    nothing = {"REFNET_HOME": str(tmp_path / "home")}
    assert examine(nothing, tmp_path / "none", root=False, cores=1).problems == ()


def test_a_file_that_is_refused_is_a_problem_and_nothing_of_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "refnet.toml").write_text("jobs = 2\n")
    (tmp_path / "refnet.toml").chmod(0o666)
    examined = examine({"REFNET_HOME": str(tmp_path / "home")}, tmp_path, root=False, cores=4)
    assert ["can be written by others" in each.message for each in examined.problems] == [True]
    assert (examined.settings.jobs, examined.settings.file) == (4, None)


def test_a_bad_secret_is_not_repeated_in_its_error(tmp_path: Path) -> None:
    with pytest.raises(RefnetError) as error:
        loaded(tmp_path, REFNET_DATABASE_URL="mysql://user:hunter2@host/db")
    assert "hunter2" not in error.value.message + error.value.hint


def test_root_and_users_have_homes_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load({}, tmp_path, root=True, cores=64).home == Path("/var/lib/refnet")
    assert load({}, tmp_path, root=False, cores=64).home == tmp_path / ".local/share/refnet"
    assert load({}, tmp_path, root=False, cores=64).jobs == 8


@pytest.mark.parametrize("home", ["~no-such-user", "relative"])
def test_a_user_without_a_home_folder_is_asked_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.setenv("HOME", home)
    with pytest.raises(RefnetError, match="no home folder") as error:
        load({}, tmp_path, root=False, cores=1)
    assert error.value.code is Exit.USAGE
    assert load({"REFNET_HOME": "/srv"}, tmp_path, root=False, cores=1).home == Path("/srv")


def test_logs_go_to_var_log_for_root_and_below_home_for_others(tmp_path: Path) -> None:
    assert load({}, tmp_path, root=True, cores=1).log_folder == Path("/var/log")
    assert loaded(tmp_path).log_folder == tmp_path / "home" / "logs"
    assert loaded(tmp_path, REFNET_LOG_FOLDER="none").log_folder is None


@pytest.mark.parametrize("name", ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"])
def test_a_folder_with_a_compose_file_is_the_configuration_s(tmp_path: Path, name: str) -> None:
    assert loaded(tmp_path).config_dir is None
    (tmp_path / name).write_text("services: {}\n")
    settings = loaded(tmp_path)
    assert settings.config_dir == tmp_path
    assert settings.origins["config_dir"] == f"the Compose file {tmp_path / name}"
    assert name in settings.config_entries[0]
    assert ".env?" in settings.config_entries
    assert ".env" in loaded(tmp_path, REFNET_CONFIG_DIR=str(tmp_path)).config_entries
    (tmp_path / name).chmod(0o666)
    settings = loaded(tmp_path)
    assert settings.config_dir is None
    assert "can be written by others" in settings.origins["config_dir"]


def test_the_example_file_shows_every_key(tmp_path: Path) -> None:
    import tomllib

    lines = (ROOT / "refnet.toml.example").read_text().splitlines()
    shown = "\n".join(line.removeprefix("# ") for line in lines if line.startswith(("# [",)) or " = " in line)
    flat = {}
    given = tomllib.loads(shown)
    hooks = {"before_backup", "after_backup", "before_restore", "after_restore", "on_error"}
    not_shown = {"shrunk_tables", "shrunk_bytes", "prove_source", *hooks} - {"before_backup"}
    databases = given.pop("databases")
    assert {*databases["app"], *databases["shop"]} == {*keys_of("databases")} - not_shown
    assert {*given.pop("clusters")["main"]} == {*keys_of("clusters")} - not_shown - {"before_backup"}
    assert {*given.pop("folders")["notes"]} == {*keys_of("folders")} - {
        "shrunk_bytes",
        "prove_source",
        *hooks,
    }
    assert {*given.pop("stores")["vaultcloud"]} == {*keys_of("stores")}
    for key, value in given.items():
        flat |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    assert sorted(flat) == sorted(keys())


def test_a_problem_of_settings_in_a_backup_names_the_backup(tmp_path: Path) -> None:
    given = Given.of(tmp_path / "refnet.toml", b"\njobs = 0\n", "refnet.toml in config_20261126.tar.gz")
    with pytest.raises(
        RefnetError, match=r"^refnet.toml in config_20261126.tar.gz, line 2: jobs = 0: must be"
    ):
        load({"REFNET_HOME": str(tmp_path)}, tmp_path, root=False, cores=1, given=given)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("database_url", "postgresql://u:a?b@h:5433/db"),
        ("database_url", "postgresql://u:p%40@[::1]:5432,h2/db?connect_timeout=5"),
        ("database_url", "postgresql:///db?host=/run/a@b:c"),
        ("database_url", "postgresql://%2Frun%2Fpostgresql/db"),
        ("notify.urls", "syslog://"),
        ("notify.urls", "46elks://user:password@15551234567"),
    ],
)
def test_every_url_of_libpq_and_apprise_is_read(tmp_path: Path, key: str, value: str) -> None:
    settings = loaded(tmp_path, **{variable(key): value})
    assert getattr(settings, keys()[key].name) in (value, (value,))
