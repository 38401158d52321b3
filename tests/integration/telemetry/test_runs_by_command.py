"""What the real command leaves behind: a journal, a log, metrics that tell the truth; and what it never imports."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.integration.telemetry.conftest import REFNET, environment, refnet
from tests.unit.telemetry.conftest import World

_DOWN = "postgresql://u:hunter2@127.0.0.1:1/none"


def test_a_failed_backup_is_in_metrics_monitor_and_log_without_its_secret(home: World) -> None:
    given = {"REFNET_DATABASE_URL": _DOWN, "REFNET_LOG_FOLDER": str(home.home)}
    said = refnet(home.home, "backup", "database", **given)
    assert said.returncode == 1
    assert len(said.stderr.splitlines()) == 2
    metrics = refnet(home.home, "metrics", **given).stdout
    assert 'refnet_failures_total{reason="server",run="backup",source="database"} 1.0' in metrics
    assert 'refnet_last_run_failed{run="backup",source="database"} 1.0' in metrics
    assert "last run" in refnet(home.home, "monitor", **given).stdout
    text = (home.home / "refnet-backup.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["event"] for line in lines] == ["began", "failed"]
    assert len({line["run"] for line in lines}) == 1
    assert {line["database"] for line in lines} == {"none on 127.0.0.1:1"}
    assert "hunter2" not in text + metrics + (home.home / "runs" / "journal.jsonl").read_text()


def test_a_killed_backup_is_told_as_lost_and_the_one_at_work_as_at_work(home: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes the connection and never answers
        url = f"postgresql://u@127.0.0.1:{deaf.getsockname()[1]}/none"
        process = subprocess.Popen(
            [REFNET, "backup", "database"],
            env=environment(home.home, REFNET_DATABASE_URL=url),
            cwd=home.home,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 30
            while not home.journal.history().at_work and time.monotonic() < deadline:
                time.sleep(0.02)
            at_work = refnet(home.home, "metrics").stdout
        finally:
            process.kill()
            process.wait(20)
    assert 'refnet_at_work{run="backup",source="database"} 1.0' in at_work
    metrics = refnet(home.home, "metrics").stdout
    assert 'refnet_at_work{run="backup",source="database"} 0.0' in metrics
    assert 'refnet_failures_total{reason="lost",run="backup",source="database"} 1.0' in metrics


def test_a_restore_is_written_into_the_log_that_the_specification_names(home: World) -> None:
    given = {"REFNET_DATABASE_URL": _DOWN, "REFNET_LOG_FOLDER": str(home.home)}
    refnet(home.home, "restore", "database", "--force", **given)
    lines = [json.loads(line) for line in (home.home / "refnet-restore.log").read_text().splitlines()]
    assert lines[0]["event"] == "began"
    assert lines[0]["arguments"] == ["database", "--force"]
    assert lines[-1]["event"] in {"failed", "ended"}
    assert lines[-1]["database"] == "none on 127.0.0.1:1"
    assert len({line["run"] for line in lines}) == 1


def test_a_partial_backup_or_one_elsewhere_is_not_an_expected_run(home: World) -> None:
    for arguments in (["--table", "papers"], ["--to", str(home.home / "elsewhere")]):
        refnet(home.home, "backup", "database", *arguments, REFNET_DATABASE_URL=_DOWN)
    assert home.journal.history().runs == ()


def test_a_backup_imports_nothing_slow_that_it_does_not_need(home: World) -> None:
    script = (
        "import sys; from refnet.cli.main import app\n"
        "try: app(['backup', 'database'], standalone_mode=False)\n"
        "except BaseException as ended: print(type(ended).__name__)\n"
        "print(sorted({'prometheus_client', 'apprise', 'celery', 'alembic', 'rich.console'} & set(sys.modules)))\n"
        "print('structlog' in sys.modules)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(home.home, REFNET_DATABASE_URL=_DOWN),
        cwd=home.home,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.splitlines()[-2:] == ["[]", "True"]


def test_the_test_message_says_whether_every_service_took_it(home: World) -> None:
    nothing = refnet(home.home, "notify")
    assert (nothing.returncode, "notify.urls" in nothing.stderr) == (2, True)
    refused = refnet(home.home, "notify", REFNET_NOTIFY_URLS="json://127.0.0.1:1/secretsecretsecret?cto=1")
    assert refused.returncode == 1
    assert "entry 1 of notify.urls" in refused.stderr
    assert "secretsecret" not in refused.stderr + refused.stdout


def test_the_log_folder_that_is_missing_fails_no_backup_by_itself(home: World, tmp_path: Path) -> None:
    said = refnet(
        home.home, "backup", "database", REFNET_DATABASE_URL=_DOWN, REFNET_LOG_FOLDER=str(tmp_path / "no")
    )
    assert said.returncode == 1
    assert "no PostgreSQL server answers" in said.stderr
