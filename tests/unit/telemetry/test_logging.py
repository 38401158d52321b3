"""A run id in every line, JSON in files, and no secret anywhere."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from refnet import settings
from refnet.core.errors import RefnetError
from refnet.telemetry import logging as log_module
from refnet.telemetry.logging import LogFile, logged, logger, to_stream
from refnet.telemetry.redact import redactor, secrets_of

SECRETS = {
    "REFNET_DATABASE_URL": "postgresql://u:hunter2%21x@db.example:5432/net",
    "REFNET_NOTIFY_URLS": "json://user:s3cr3tpw@localhost/hook tgram://123456789:AAAAbbbbCCCCddddEEEE/42",
    "REFNET_BROKER_URL": "redis://broker.example/0?password=br0ken",
    "REFNET_NOTIFY_BACKUP_PING": "https://ping.example/0123456789abcdef0123/backup",
}


def _settings(tmp_path: Path) -> settings.Settings:
    return settings.load({"REFNET_HOME": str(tmp_path), **SECRETS}, tmp_path, root=True, cores=1)


@pytest.mark.parametrize(
    "leak",
    [
        SECRETS["REFNET_DATABASE_URL"],
        "FATAL: the password hunter2!x is wrong",
        "hunter2%21x",
        "posted to json://user:s3cr3tpw@localhost/hook",
        "https://api.example/botAAAAbbbbCCCCddddEEEE/send",
        "GET https://ping.example/0123456789abcdef0123/backup/start: 500",
        "mysql://other:elsewhere@host/x",
        "PGPASSWORD=elsewhere psql",
        'token: "elsewhere"',
        "AUTH br0ken failed",
    ],
)
def test_a_secret_is_hidden_wherever_it_stands(tmp_path: Path, leak: str) -> None:
    shown = redactor(secrets_of(_settings(tmp_path)))(f"before {leak} after")
    for secret in ("hunter2", "s3cr3tpw", "AAAAbbbb", "0123456789abcdef0123", "elsewhere", "br0ken"):
        assert secret not in shown
    assert shown.startswith("before ")


def test_words_that_are_no_secret_stay(tmp_path: Path) -> None:
    text = "localhost: no space left in /var/backups/refnet for refnet_20261125_020000.sql.gz"
    assert redactor(secrets_of(_settings(tmp_path)))(text) == text


def test_every_line_of_a_command_carries_its_run_id_and_no_secret(tmp_path: Path) -> None:
    log = logger([LogFile(tmp_path / "refnet-restore.log")], redactor(secrets_of(_settings(tmp_path))))

    def restore() -> None:
        with logged(log, "restore", ["database", SECRETS["REFNET_DATABASE_URL"]]):
            log.info("halfway", nested={"url": [SECRETS["REFNET_DATABASE_URL"]]})
            raise RefnetError("the password hunter2!x is refused", "mend it")

    with pytest.raises(RefnetError):
        restore()
    text = (tmp_path / "refnet-restore.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["event"] for line in lines] == ["began", "halfway", "failed"]
    assert len({line["run"] for line in lines}) == 1
    assert "hunter2" not in text


def test_a_traceback_is_written_without_its_secrets(tmp_path: Path) -> None:
    log = logger([LogFile(tmp_path / "a.log")], redactor(secrets_of(_settings(tmp_path))))
    with pytest.raises(ZeroDivisionError), logged(log, "restore", []):
        raise ZeroDivisionError("hunter2!x")
    text = (tmp_path / "a.log").read_text()
    assert "Traceback" in text
    assert "hunter2" not in text


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_words_and_a_pipe_gets_json() -> None:
    terminal, pipe = _Terminal(), io.StringIO()
    log = logger([to_stream(terminal, "info"), to_stream(pipe, "warning")], str)
    log.info("began", source="database")
    log.warning("late")
    assert "began" in terminal.getvalue()
    assert "{" not in terminal.getvalue()
    (line,) = pipe.getvalue().splitlines()
    assert (json.loads(line)["event"], json.loads(line)["level"]) == ("late", "warning")


def test_processes_that_share_a_file_lose_no_line_when_it_is_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import sys; from pathlib import Path; from refnet.telemetry import logging as m\n"
        "m._LARGEST = 40_000\n"
        "for n in range(150): m.LogFile(Path(sys.argv[1]))('info', {'who': sys.argv[2], 'n': n, 'x': 'y' * 50})\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "refnet-backup.log")]
    writers = [subprocess.Popen([*command, str(who)]) for who in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    lines = [json.loads(line) for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    assert len({(line["who"], line["n"]) for line in lines}) == 600
    assert {file.name for file in tmp_path.iterdir()} == {"refnet-backup.log", "refnet-backup.log.1"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_large_log_in_a_folder_of_somebody_else_is_written_on(short_folder: Path) -> None:
    """As `/var/log`, where root has made the file for the user: it cannot be put aside."""
    path = short_folder / "log" / "refnet-backup.log"
    path.parent.mkdir(mode=0o755)
    path.write_text("x" * 100 + "\n")
    os.chown(path, 65534, 65534)
    script = (
        "import os, sys; from pathlib import Path; from refnet.telemetry import logging as m\n"
        "m._LARGEST = 10; os.setgid(65534); os.setuid(65534)\n"
        "m.LogFile(Path(sys.argv[1]))('info', {'event': 'still told'})\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert (said.stdout, said.stderr) == ("", "")
    assert json.loads(path.read_text().splitlines()[-1]) == {"event": "still told"}


def test_a_log_that_cannot_be_written_fails_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_module.LogFile(tmp_path / "missing" / "a.log")("info", {"event": "x"})
    assert "cannot be written" in capsys.readouterr().err


def test_the_log_of_an_ordinary_user_lies_in_a_private_folder_of_home(tmp_path: Path) -> None:
    own = settings.load({"REFNET_HOME": str(tmp_path / "home")}, tmp_path, root=False, cores=1)
    log_module.open_log(own, "backup").info("done")
    file = tmp_path / "home" / "logs" / "refnet-backup.log"
    assert json.loads(file.read_text())["event"] == "done"
    assert not file.parent.stat().st_mode & 0o066


def test_the_passwords_of_named_databases_are_hidden(tmp_path: Path) -> None:
    (tmp_path / "refnet.toml").write_text("[databases.shop]\nurl = 'postgresql://u:hunter22@h/shop'\n")
    given = settings.load({"REFNET_HOME": str(tmp_path / "home")}, tmp_path, root=False, cores=2)
    assert "hunter22" not in redactor(secrets_of(given))("it says hunter22")


def test_a_long_word_is_redacted_in_linear_time(tmp_path: Path) -> None:
    text = "a" * (1 << 20)
    assert redactor(secrets_of(_settings(tmp_path)))(text) == text
