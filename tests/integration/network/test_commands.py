"""The network's commands as a user types them: what they print, and their exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from tests import forked

from refnet.postgres.session import Target


def url(target: Target) -> str:
    parts = target.parts
    return f"postgresql://{parts['user']}@/{parts['dbname']}?host={quote(parts['host'])}"


def environment(target: Target, home: Path) -> dict[str, str]:
    return {**os.environ, "REFNET_HOME": str(home), "REFNET_DATABASE_URL": url(target)}


def refnet(target: Target, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return forked.text(*arguments, environment=environment(target, home), folder=home)


def started(
    target: Target, home: Path, *arguments: str, code: str = "from refnet.cli.main import run; run()"
) -> subprocess.CompletedProcess[str]:
    """Run the command as its script does, so that whatever it warns of is an error."""
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(
        command, cwd=home, env=environment(target, home), capture_output=True, text=True, check=False
    )


def test_migrate_says_what_it_did_and_then_that_nothing_was_to_do(database: Target, tmp_path: Path) -> None:
    first = started(database, tmp_path, "network", "migrate")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.splitlines()[1:] == [f"{database.name}: schema 0005 (before: none)"]
    second = refnet(database, tmp_path, "network", "migrate", "--json")
    told = json.loads(second.stdout)
    assert told.pop("acts_on")["database"] == database.name
    assert told == {"database": database.name, "before": "0005", "after": "0005"}


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ("", ""),
        ('vault_dir = "{home}/vault"\n', ""),
        ('vault_dir = "none"\n', "vault_dir is none"),
        ('[folders.papers]\npath = "{home}/papers"\n', "the settings name other sources"),
        ('[folders.mine]\npath = "{home}/vault"\n', ""),
    ],
)
def test_notes_say_if_no_backup_contains_them(
    database: Target, tmp_path: Path, settings: str, why: str
) -> None:
    refnet(database, tmp_path, "network", "migrate")
    (tmp_path / "refnet.toml").write_text(settings.format(home=tmp_path))
    (tmp_path / "refnet.toml").chmod(0o600)
    done = refnet(database, tmp_path, "notes")
    assert done.returncode == 0
    vault = tmp_path / "vault"
    said = f'refnet: note: {vault} is not backed up, as {why}: vault_dir = "{vault}" makes it a source\n'
    assert done.stderr == (said if why else "")


def test_import_cora_migrates_and_counts(database: Target, tmp_path: Path) -> None:
    (tmp_path / "graph.cites").write_text("1\t2\n1\t3\n")
    done = refnet(database, tmp_path, "import", "cora", "graph.cites", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.pop("acts_on")["database"] == database.name
    assert told == {
        "database": database.name,
        "citations": 2,
        "new_papers": 3,
        "new_citations": 2,
    }
    again = refnet(database, tmp_path, "import", "cora", "graph.cites")
    said = [f"{database.name}: 2 lines read, 0 papers and 0 citations were new"]
    assert again.stdout.splitlines()[1:] == said


def test_import_semantic_scholar_counts_what_is_new_and_what_it_left_out(
    database: Target, tmp_path: Path
) -> None:
    (tmp_path / "paper.json").write_text('{"title": "A", "year": "?", "references": [{"title": "B"}, null]}')
    done = refnet(database, tmp_path, "import", "semantic-scholar", "paper.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [
        f"{database.name}: 1 paper with 1 citation read, 2 papers and 1 citations were new",
        "2 values of a wrong type left out",
    ]
    again = refnet(database, tmp_path, "import", "semantic-scholar", "paper.json", "--json")
    told = json.loads(again.stdout)
    del told["acts_on"]
    counts = {"papers": 1, "citations": 1, "new_papers": 0, "new_citations": 0, "dropped": 2}
    assert told == {"database": database.name, **counts}
    refused = refnet(database, tmp_path, "import", "semantic-scholar", ".")
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (2, "refnet: . is not a file")


def test_a_missing_file_is_a_usage_error_before_anything_is_made(database: Target, tmp_path: Path) -> None:
    done = refnet(database, tmp_path, "import", "cora", "nowhere.cites")
    assert done.returncode == 2
    assert done.stderr.startswith("refnet: nowhere.cites is not a file\n")
    with database.connect() as connection:
        assert connection.execute("SELECT to_regclass('papers')").fetchone() == (None,)


def test_a_sample_says_that_it_is_made_up(database: Target, tmp_path: Path) -> None:
    done = started(database, tmp_path, "network", "sample", "--papers", "120", "--seed", "3")
    assert done.returncode == 0, done.stderr
    assert "a made-up network of seed 3" in done.stdout
    assert "papers                 120 rows" in done.stdout
    again = refnet(database, tmp_path, "network", "sample")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.count("\n") == 2


@pytest.mark.parametrize("missing", ["alembic", "sqlalchemy"])
def test_without_the_extra_the_command_says_how_to_install_it(
    database: Target, tmp_path: Path, missing: str
) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from refnet.cli.main import run; run()"
    done = started(database, tmp_path, "network", "migrate", code=code)
    assert done.returncode == 1
    assert f"{missing} is not installed; it is part of the extra `network`" in done.stderr
