"""`refnet init` as a user runs it: its questions at a terminal, and every answer that is wrong."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import stat
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from benchmarks.throwaway import throwaway
from tests.command import url_of
from tests.conftest import fresh
from tests.integration.at_terminal import ASKED, CONFIRM, Machine
from tests.users import Ordinary

from refnet.actions import init
from refnet.core.errors import RefnetError
from refnet.postgres.binaries import Binaries
from refnet.postgres.cluster import Cluster
from refnet.postgres.session import Target


@pytest.fixture(scope="module")
def database(server: Cluster) -> Iterator[Target]:
    """A database with one table, which no test changes."""
    with fresh(server) as target:
        with target.connect() as session:
            session.execute("CREATE TABLE t AS SELECT generate_series(1, 10) AS n")
        yield target


@pytest.fixture
def machine(folder: Path, database: Target) -> Iterator[Machine]:
    found = Machine(folder, url_of(database))
    for one in (found.here, found.vault):
        one.mkdir()
    (found.vault / "note.md").write_text("# note\n")
    yield found
    shutil.rmtree(folder / "home", ignore_errors=True)


def everything(machine: Machine) -> list[tuple[str, str]]:
    none = "none"
    answers = (machine.url, none, none, none, str(machine.vault), none, str(machine.backups), "daily 03:30")
    return list(zip(ASKED, answers, strict=True))


def test_init_repeats_wrongly_answered_questions_and_ends_with_a_proof(
    machine: Machine,
) -> None:
    wrong = (
        "postgresql://u@localhost:1/d", "postgresql://u@localhost:1/e", "x", str(machine.folder / "none"), "nowhere",
        "nowhere", str(machine.vault / "b"), "now",
    )  # fmt: skip
    answers = [
        one for pair in zip(zip(ASKED, wrong, strict=True), everything(machine), strict=True) for one in pair
    ]
    done = machine.talk(*answers, (CONFIRM, "y"))
    assert done.code == 0, done.out
    for words in ("no PostgreSQL server answers", "does not exist", "inside", "must be like daily 02:00"):
        assert words in done.out
    assert "proven (1 table, 10 rows; digested)" in done.out
    assert stat.S_IMODE(machine.file.stat().st_mode) == 0o600
    assert tomllib.loads(machine.file.read_text()) == {
        "database_url": machine.url,
        "vault_dir": str(machine.vault),
        "backup_dir": str(machine.backups),
        "schedule": {"database": "daily 03:30"},
    }
    again = machine.run("backup", "--no-prove")
    assert again.code == 0, again.err
    listed = machine.run("list", "--json")
    assert [one["source"] for one in listed.json["artifacts"]].count("database") == 2


def test_databases_and_folders_become_tables_and_empty_means_the_default(
    machine: Machine,
) -> None:
    (machine.here / "compose.yaml").write_text(
        "services:\n  db:\n    image: postgres:18\n    environment:\n      POSTGRES_USER: refnet\n      POSTGRES_DB: papers\n    ports: ['127.0.0.1:5499:5432']\n"
    )
    for name in ("Photos & Scans", "b"):
        (machine.folder / name).mkdir()
        (machine.folder / name / "1.txt").write_text("one")
    answers = everything(machine)
    for number in (3, 7):  # the configuration, the time
        answers[number] = (ASKED[number], "")
    answers[5:6] = [
        ("Another folder", str(machine.folder / "Photos & Scans")),
        ("Another folder", str(machine.folder / "b")),
        ("Another folder", ""),
    ]
    name = machine.url.rpartition("/")[2].partition("?")[0]
    other = machine.url.replace(f"/{name}?", "/postgres?")
    answers[2:3] = [("Another database", one) for one in (machine.url, other, "none")]
    answers[0] = ("Database", "none")
    done = machine.talk(*answers, (CONFIRM, "y"))
    assert done.code == 0, done.out
    for checked in ("photos_scans", "b"):
        assert len(re.findall(rf"^OK +{checked} ", done.out, re.MULTILINE)) == 1, done.out
    written = tomllib.loads(machine.file.read_text())
    urls = {key: one["url"] for key, one in written["databases"].items()}
    assert urls == {name: machine.url, "postgres": other}
    paths = {one["path"] for one in written["folders"].values()}
    assert paths == {str(machine.folder / "Photos & Scans"), str(machine.folder / "b")}
    assert "photos_scans" in written["folders"]
    assert "database_url" not in written
    assert "postgresql://refnet@127.0.0.1:5499/papers" in done.out
    assert written["config_dir"] == str(machine.here)
    assert ".env?" in written["config"]["entries"]
    assert written["schedule"]["database"] == "daily 02:00"
    listed = machine.run("list", "--json")
    named = {"config", "obsidian", *written["databases"], *written["folders"]}
    assert {one["source"] for one in listed.json["artifacts"]} == named


def test_options_name_any_number_of_sources(machine: Machine) -> None:
    (machine.folder / "b").mkdir()
    (machine.folder / "b" / "1.txt").write_text("one")
    none = ("--database-url", "none", "--config-dir", "none", "--vault-dir", "none")
    none += ("--backup-dir", str(machine.backups))
    more = (
        "--cluster",
        machine.url,
        "--folder",
        str(machine.folder / "b"),
        "--another-database",
        machine.url,
    )
    done = machine.run("init", *none, *more, "--plan")
    assert done.code == 0, done.err
    for table in ("[clusters.main]", "[folders.b]", "[databases."):
        assert table in done.out
    machine.run("init", *none, "--folder", str(machine.folder / "no"), "--plan").fails(
        2, "--folder", "does not exist"
    )


def test_a_server_a_folder_or_a_file_of_sqlite_needs_no_database(machine: Machine) -> None:
    file = machine.folder / "Shop 1.db"
    with contextlib.closing(sqlite3.connect(file)) as session:
        session.execute("CREATE TABLE t (n)")
    papers = machine.folder / "論文"
    papers.mkdir()
    (papers / "1.txt").write_text("one")
    where = ("--vault-dir", "none", "--backup-dir", str(machine.backups), "--plan", "--yes")
    for options, table in (
        (("--cluster", machine.url), "[clusters.main]"),
        (("--folder", str(machine.vault)), "[folders.my-vault]"),
        (("--folder", str(papers)), "[folders.my-folders]"),
        (("--another-database", str(file)), f'[databases.shop_1]\npath = "{file}"'),
    ):
        done = machine.run("init", *options, *where)
        assert done.code == 0, done.err
        assert table in done.out
    (machine.folder / "no.db").write_text("no database")
    machine.run("init", "--another-database", str(machine.folder / "no.db"), *where).fails(
        2, "--another-database", "no.db"
    )
    machine.unchanged()


def test_enter_means_none_where_no_database_is_found(machine: Machine) -> None:
    answers = everything(machine)
    answers[0] = (ASKED[0], "")
    answers[-1] = (ASKED[-1], "off")
    done = machine.talk(*answers, (CONFIRM, ""))
    assert done.code == 6, done.out
    assert "or none [none]: " in done.out
    machine.unchanged()


def test_a_plan_shows_the_file_and_writes_nothing(machine: Machine) -> None:
    done = machine.run("init", *machine.options, "--plan")
    assert done.code == 0, done.err
    assert f'backup_dir = "{machine.backups}"' in done.out
    assert "PostgreSQL 18" in done.out
    machine.unchanged()


@pytest.mark.parametrize("name", ["refnet.toml", "link"])
def test_an_existing_settings_file_is_left_alone(machine: Machine, name: str) -> None:
    machine.file.symlink_to("/nowhere") if name == "link" else machine.file.write_text("jobs = 2\n")
    before = machine.file.readlink() if name == "link" else machine.file.read_text()
    done = machine.run("init", *machine.options, "--yes")
    done.fails(2, "already", str(machine.file), "refnet --config FILE init")
    assert (machine.file.readlink() if name == "link" else machine.file.read_text()) == before
    assert not machine.backups.exists()


def test_new_settings_never_hide_those_in_the_home_unless_a_file_is_named(machine: Machine) -> None:
    home = machine.folder / "home"
    home.mkdir()
    (home / "refnet.toml").write_text("jobs = 2\n")
    machine.run("init", *machine.options, "--yes").fails(2, "already", str(home / "refnet.toml"))
    machine.unchanged()
    named = machine.here / "other.toml"
    without = ("--database-url", "none", *machine.options[2:], "--config-dir", "none")
    done = machine.run("init", *without, "--yes", before=["--config", "other.toml"])
    assert done.code == 0, done.err
    assert named.exists()
    assert machine.run("backup", "obsidian", before=["--config", "other.toml"]).code == 0


def test_without_a_terminal_the_error_names_the_options(machine: Machine) -> None:
    options = ("--database-url", "--config-dir", "--vault-dir", "--backup-dir", "--schedule", "--yes")
    machine.run("init").fails(6, "not a terminal", *options)
    machine.run("init", *machine.options).fails(6, "not a terminal", *options)
    machine.run("init", "--yes").fails(2, "no database is configured", "database_url")
    machine.unchanged()


#: A wrong option → words of the error.
WRONG = {
    "no URL": ({"--database-url": "localhost"}, "postgresql://"),
    "server down": ({"--database-url": "postgresql://u@localhost:1/d"}, "no PostgreSQL server answers at localhost:1"),
    "no such database": ({"--database-url": "{url}_none"}, "has no database"),
    "vault missing": ({"--vault-dir": "{folder}/none"}, "{folder}/none", "does not exist"),
    "vault empty": ({"--vault-dir": "{folder}/empty"}, "{folder}/empty is empty", "mounted"),
    "vault is a file": ({"--vault-dir": "{folder}/vault/note.md"}, "note.md"),
    "config missing": ({"--config-dir": "{folder}/none"}, "{folder}/none", "does not exist"),
    "config empty": ({"--config-dir": "{folder}/empty"}, "{folder}/empty"),
    "backups in the vault": ({"--backup-dir": "{folder}/vault/backups"}, "inside", "which is backed up"),
    "backups are a file": ({"--backup-dir": "{folder}/vault/note.md"}, "note.md"),
    "no time": ({"--schedule": "at night"}, "at night", "daily 02:00"),
    "not UTF-8": ({"--vault-dir": "{folder}/\udcff"}, "UTF-8"),
    "control": ({"--backup-dir": "{folder}/a\nb"}, "control"),
    "empty": ({"--backup-dir": " "}, "empty"),
}  # fmt: skip

#: Those for which a database is looked at.
OF_A_DATABASE = {"no URL", "server down", "no such database", "no time"}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_option_is_refused_in_two_lines_and_nothing_is_written(machine: Machine, name: str) -> None:
    (machine.folder / "empty").mkdir()
    options, *words = WRONG[name]
    url = machine.url.replace(machine.url.rpartition("/")[2].partition("?")[0], "absent")
    filled = {
        k: url if v.startswith("{url}") else v.format(folder=machine.folder) for k, v in options.items()
    }
    given = dict(zip(machine.options[::2], machine.options[1::2], strict=True))
    if name not in OF_A_DATABASE:
        given["--database-url"] = "none"
    given |= filled
    done = machine.run("init", *(part for pair in given.items() for part in pair), "--yes")
    done.fails(2, *(word.format(folder=machine.folder) for word in words))
    machine.unchanged()


def interrupt(pid: int, _: int) -> None:
    os.kill(pid, signal.SIGINT)


def end_of_file(_: int, main: int) -> None:
    os.write(main, b"\x04")


@pytest.mark.parametrize(
    ("act", "code", "words"), [(interrupt, 1, "interrupted"), (end_of_file, 6, "Nothing was")]
)
@pytest.mark.parametrize("number", range(9))
def test_an_end_at_any_question_leaves_nothing(
    machine: Machine, act: Callable[[int, int], None], code: int, words: str, number: int
) -> None:
    answers = [*everything(machine), (CONFIRM, "y")]
    if 0 < number < 7:  # the time of backups is asked only where there is a database
        answers[0] = (ASKED[0], "none")
    done = machine.talk(*answers[:number], (answers[number][0], act))
    assert done.code == code, done.out
    assert words in done.out
    assert "Traceback" not in done.out
    machine.unchanged()


def test_no_at_the_last_question_leaves_nothing(machine: Machine) -> None:
    assert machine.talk(*everything(machine), (CONFIRM, "")).code == 6
    machine.unchanged()


def test_a_servers_first_backup_includes_and_schedules_its_databases(
    machine: Machine, wheel: Binaries, short_folder: Path
) -> None:
    with throwaway(wheel, base=short_folder / "own") as cluster:
        with cluster.target().connect() as session:
            session.execute("CREATE DATABASE shop")
        url = url_of(cluster.target())
        none = ("--database-url", "none", "--vault-dir", "none", "--backup-dir", str(machine.backups))
        done = machine.run("init", "--cluster", url, *none, "--yes")
        assert done.code == 0, done.err
        listed = machine.run("list", "--json")
    made = {one["source"] for one in listed.json["artifacts"]}
    assert made >= {"main-globals", "main-postgres", "main-shop"}
    assert tomllib.loads(machine.file.read_text())["schedule"]["database"] == "daily 02:00"


def test_wal_of_a_server_is_offered_with_what_it_contains_and_tried(
    machine: Machine, wheel: Binaries, short_folder: Path
) -> None:
    none = ("--database-url", "none", "--vault-dir", "none", "--backup-dir", str(machine.backups))
    machine.run("init", *none, "--wal", "--plan").fails(2, "--wal is for a cluster", "--cluster URL")
    with throwaway(
        wheel, base=short_folder / "wal", settings={"wal_level": "replica", "max_wal_senders": "5"}
    ) as cluster:
        named = ("init", "--cluster", url_of(cluster.target()), *none, "--plan")
        done = machine.run(*named, "--wal")
        assert done.code == 0, done.err
        assert re.search(r"^\[clusters\.main\]\nurl = .*\nwal = true$", done.out, re.MULTILINE), done.out
        said = " ".join(done.out.split())  # the table wraps
        assert "accepts replication connections" in said
        assert "the excluded ones too, and the verifiers of all passwords" in said
        assert "wal = " not in machine.run(*named, "--no-wal").out
        with cluster.target().connect() as session:
            session.execute("CREATE ROLE reader LOGIN")
        other = url_of(cluster.target()).replace("refnet@", "reader@")
        machine.run("init", "--cluster", other, *none, "--plan", "--wal").fails(2, "--wal: ", "REPLICATION")
        no, where = "none", str(machine.backups)
        answers = (no, url_of(cluster.target()), no, no, no, no, no, where, "daily 03:30")
        asked = (*ASKED[:2], "A server", *ASKED[2:])
        talked = machine.talk(
            *zip(asked, answers, strict=True),
            *[("Base backups and WAL", "maybe"), ("Base backups and WAL", "y"), (CONFIRM, "")],
        )
    assert talked.code == 6, talked.out
    assert "is neither yes nor no" in talked.out
    machine.unchanged()


def test_without_a_database_a_time_for_its_backups_is_refused(machine: Machine) -> None:
    none = ("--database-url", "none", "--backup-dir", str(machine.backups), "--yes")
    machine.run("init", *none, "--schedule", "daily 02:00").fails(2, "no database is backed up")
    machine.unchanged()


@pytest.mark.parametrize("option", ["--database-url", "--another-database", "--cluster"])
def test_a_url_without_a_database_is_named_by_its_option(machine: Machine, option: str) -> None:
    url = machine.url.replace(machine.url.rpartition("/")[2].partition("?")[0], "")
    none = () if option == "--database-url" else ("--database-url", "none")
    done = machine.run("init", option, url, *none, "--yes")
    done.fails(2, f"{option}: ", " names no database")
    assert "REFNET_" not in done.err


def test_every_entry_of_a_folder_without_a_compose_file_is_protected(machine: Machine) -> None:
    folder = machine.folder / "etc"
    (folder / "conf.d").mkdir(parents=True)
    (folder / "conf.d" / "a").write_text("a")
    (folder / "app.ini").write_text("b")
    (folder / "link").symlink_to("app.ini")
    without = ("--database-url", "none", *machine.options[2:])
    done = machine.run("init", *without, "--config-dir", str(folder), "--yes")
    assert done.code == 0, done.err
    assert tomllib.loads(machine.file.read_text())["config"]["entries"] == ["app.ini?", "conf.d/?"]
    backups = str(folder / "conf.d" / "b")
    inside = machine.run(
        "--config", "other.toml", "init", *machine.options[:-1], backups, "--config-dir", str(folder), "--yes"
    )
    inside.fails(2, "inside", str(folder / "conf.d"))


def test_a_full_disk_leaves_no_part_of_the_file(machine: Machine, small_disk: Path) -> None:
    filler = small_disk / "filler"
    handle = os.open(filler, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while os.write(handle, b"x" * 4096):
            pass
    os.close(handle)
    named = small_disk / "refnet.toml"
    done = machine.run("init", *machine.options, "--yes", before=["--config", str(named)])
    done.fails(1, "no space left")
    assert list(small_disk.iterdir()) == [filler]
    machine.unchanged()


def test_a_password_is_stored_only_as_given_and_never_shown(machine: Machine, server: Cluster) -> None:
    role, password = f"{machine.url.rpartition('/')[2].partition('?')[0]}_p", "s3cr3t-w0rd"
    hba = server.data / "pg_hba.conf"
    before = hba.read_text()
    with server.target().connect() as admin:
        admin.execute(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{password}'")
        hba.write_text(f"local all {role} scram-sha-256\n{before}")
        admin.execute("SELECT pg_reload_conf()")
    try:
        url = machine.url.replace("://refnet@", f"://{role}@")
        options = ["--vault-dir", str(machine.vault), "--backup-dir", str(machine.backups), "--yes"]
        machine.run("init", "--database-url", url, *options).fails(2, "requires a password", ".pgpass")
        wrong = url.replace("@", ":wr0ng@", 1)
        done = machine.run("init", "--database-url", wrong, *options)
        done.fails(2, "rejects the password")
        assert "wr0ng" not in done.out + done.err
        machine.unchanged()
        right = url.replace("@", f":{password}@", 1)
        secret = machine.folder / "secret"
        secret.write_text(right)
        secret.chmod(0o600)
        done = machine.run("init", *options, REFNET_DATABASE_URL_FILE=str(secret))
        assert done.code == 0, done.err
        assert password not in machine.file.read_text() + done.out + done.err
        machine.file.unlink()
        done = machine.talk(
            *[(ASKED[0], ""), *everything(machine)[1:], (CONFIRM, "y")], REFNET_DATABASE_URL=right
        )
        assert done.code == 0, done.out
        assert password not in done.out
        assert tomllib.loads(machine.file.read_text())["database_url"] == right
        assert stat.S_IMODE(machine.file.stat().st_mode) == 0o600
    finally:
        hba.write_text(before)
        with server.target().connect() as admin:
            admin.execute("SELECT pg_reload_conf()")
            admin.execute(f"DROP ROLE {role}")


def test_a_user_without_rights_gets_a_clear_error(machine: Machine, ordinary: Ordinary) -> None:
    for folder in (machine.folder, machine.here):
        folder.chmod(0o755)
    machine.vault.chmod(0o700)
    home = machine.folder / "his"
    home.mkdir()
    os.chown(home, ordinary.uid, ordinary.gid)
    environment = {"REFNET_HOME": str(home / "refnet"), "HOME": str(home)}
    vault, backups = init.QUESTIONS[2:4]

    def refused(act: Callable[[], object]) -> str:
        def tries() -> str:
            try:
                act()
            except RefnetError as error:
                return f"{error.code} {error.message}"
            return "done"

        return ordinary.does(tries)

    def answer(question: init.Question, text: Path) -> str:
        return refused(lambda: init.start(environment, home).answered(question, str(text)))

    assert (
        refused(lambda: init.start(environment, machine.here))
        == f"2 this user cannot write in {machine.here}"
    )
    assert answer(vault, machine.vault) == f"2 --vault-dir: this user cannot access {machine.vault}"
    assert answer(backups, machine.here / "b").startswith("2 --backup-dir: this user cannot write in")
    assert answer(backups, home / "b") == "done"
    assert refused(lambda: init.start(environment, home).write()) == "done"
    assert (home / "refnet.toml").stat().st_uid == ordinary.uid
    machine.unchanged()


def test_a_failed_first_backup_leaves_the_settings_and_says_what_to_do(machine: Machine) -> None:
    done = machine.run("init", *machine.options, "--yes", REFNET_DATABASE_REQUIRED_TABLES="absent")
    assert done.code == 4, done.err
    assert f"{machine.file} stays; fix the cause and run `refnet backup`" in done.err
    assert machine.file.exists()


def test_options_replace_answers_and_an_overriding_variable_is_named(
    machine: Machine,
) -> None:
    other = machine.folder / "other"
    done = machine.run("init", *machine.options, "--yes", REFNET_BACKUP_DIR=str(other))
    assert done.code == 0, done.err
    assert "REFNET_BACKUP_DIR is set in this environment and takes precedence" in done.err
    assert "REFNET_DATABASE_URL" not in done.err
    assert "proven" in done.out
    assert machine.file.exists()
    assert (other / "database").is_dir()
