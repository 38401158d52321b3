"""Completion in the shells themselves."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import forked

_SECONDS = 60
_BASH = """
source <(refnet completion bash)
COMP_WORDS=({line} "{word}") COMP_CWORD={at}
_refnet_completion refnet
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def _needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(shell), reason=f"{shell} is not installed")


@pytest.fixture
def environment(tmp_path: Path, folder: Path) -> Iterator[dict[str, str]]:
    (tmp_path / "config").mkdir()
    (tmp_path / "vault").mkdir()
    (tmp_path / "config" / ".env").write_text("COLOR=green\n")
    with forked.program(folder):
        yield {
            "PATH": f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "TERM": "xterm",
            "REFNET_HOME": str(tmp_path / "home"),
            "REFNET_BACKUP_DIR": str(tmp_path / "backups"),
            "REFNET_DATABASE_URL": "own",
            "REFNET_CONFIG_DIR": str(tmp_path / "config"),
            "REFNET_VAULT_DIR": str(tmp_path / "vault"),
            "REFNET_CONFIG_ENTRIES": ".env",
            "REFNET_LOG_FOLDER": "none",
        }


def _run(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        command, env=environment, cwd=environment["HOME"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


def _bash(environment: dict[str, str], line: str, word: str = "") -> list[str]:
    """Return what bash offers for `word` after `line`."""
    at = len(line.split())
    return _run(environment, "bash", "-c", _BASH.format(line=line, word=word, at=at)).split()


@_needs("bash")
def test_bash_completes_commands_options_and_values(environment: dict[str, str]) -> None:
    assert {"backup", "restore", "monitor"} <= {*_bash(environment, "refnet")}
    assert _bash(environment, "refnet", "ver") == ["verify"]
    assert _bash(environment, "refnet backup") == ["database", "config", "obsidian"]
    assert _bash(environment, "refnet backup", "--no") == ["--no-prove"]
    assert _bash(environment, "refnet copy", "--t") == []  # a former name
    assert _bash(environment, "refnet restore", "o") == ["obsidian"]
    assert _bash(environment, "refnet undo", "c") == ["config"]
    assert _bash(environment, "refnet diff config") == ["live", "database", "config", "obsidian"]
    assert _bash(environment, "refnet verify --level") == ["intact", "restored", "proven"]
    assert _bash(environment, "refnet recover --from-stage", "v") == ["vault"]
    assert _bash(environment, "refnet completion", "f") == ["fish"]
    assert _bash(environment, "refnet export", "g") == ["graphml"]
    assert _bash(environment, "refnet jobs --state", "f") == ["failed"]
    assert _bash(environment, "refnet --config /etc/refnet.toml drill", "d") == ["database"]


@_needs("bash")
def test_bash_completes_the_names_of_stores(environment: dict[str, str]) -> None:
    file = Path(environment["REFNET_HOME"]) / "refnet.toml"
    file.parent.mkdir(mode=0o700)
    file.write_text('[stores.near]\nurl = "file:///none"\n')
    file.chmod(0o600)
    for line in (
        "copy --store",
        "find obsidian x --store",
        "list --store",
        "store check",
        "store stats",
        "store accept",
        "key check --store",
    ):
        assert _bash(environment, f"refnet {line}") == ["near"], line
    assert _bash(environment, "refnet recover --store", "n") == ["near"]


@_needs("bash")
def test_bash_completes_artifacts_and_only_those(environment: dict[str, str]) -> None:
    assert _bash(environment, "refnet accept") == []  # the backup folder does not exist
    _run(environment, "refnet", "backup", "config")
    (made,) = [path.name for path in Path(environment["REFNET_BACKUP_DIR"], "config").glob("*.tar.gz")]
    hostile = ("config_$(touch planted).tar.gz", "config_`touch planted`.tar.gz", "config_*.tar.gz")
    for name in hostile:
        Path(environment["REFNET_BACKUP_DIR"], "config", name).write_text("")
    assert _bash(environment, "refnet accept") == [made]
    assert _bash(environment, "refnet verify", "c") == ["config", made]
    assert not Path(environment["HOME"], "planted").exists()


@_needs("bash")
def test_the_artifacts_of_the_named_source_alone_are_completed(environment: dict[str, str]) -> None:
    _run(environment, "refnet", "backup", "config", "--no-prove")
    (made,) = [path.name for path in Path(environment["REFNET_BACKUP_DIR"], "config").glob("*.tar.gz")]
    assert _bash(environment, "refnet restore config") == [made]
    assert _bash(environment, "refnet restore vault") == []
    assert _bash(environment, "refnet restore vault --source config") == [made]


@_needs("bash")
def test_only_configured_sources_are_completed(environment: dict[str, str]) -> None:
    del environment["REFNET_CONFIG_DIR"]
    assert _bash(environment, "refnet restore") == ["database", "obsidian"]


@_needs("bash")
def test_wrong_settings_complete_nothing_and_print_nothing(environment: dict[str, str]) -> None:
    assert _bash(environment | {"REFNET_JOBS": "many"}, "refnet show") == []
    assert _bash(environment | {"REFNET_JOBS": "many"}, "refnet restore") == []


@_needs("fish")
def test_fish_completes(environment: dict[str, str]) -> None:
    Path(environment["HOME"], "refnet.fish").write_text(_run(environment, "refnet", "completion", "fish"))

    def offered(line: str) -> list[str]:
        script = f"source refnet.fish; complete -C '{line}'"
        return [each.split("\t")[0] for each in _run(environment, "fish", "-N", "-c", script).splitlines()]

    assert offered("refnet ver") == ["verify"]
    assert sorted(offered("refnet restore ")) == ["config", "database", "obsidian"]
    assert sorted(offered("refnet verify --level ")) == ["intact", "proven", "restored"]


@_needs("zsh")
@pytest.mark.parametrize(
    "setup",
    [
        "autoload -Uz compinit; compinit -u -D; source <(refnet completion zsh)",
        "refnet completion zsh > _refnet; fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D",
    ],
)
def test_zsh_completes_a_typed_line(environment: dict[str, str], setup: str) -> None:
    terminal, inner = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"],
        env=environment | {"PS1": "> "},
        cwd=environment["HOME"],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
    )
    try:
        os.write(terminal, f"{setup}; echo re''ady\n".encode())
        _until(terminal, b"ready")
        os.write(
            terminal, b"refnet recover --from-stage vau\t\x01echo done: \n"
        )  # Ctrl-A: print the line, not run it
        assert b"done: refnet recover --from-stage vault" in _until(terminal, b"vault\r\n")
    finally:
        shell.kill()
        shell.wait()
        os.close(inner)
        os.close(terminal)


def _until(terminal: int, wanted: bytes) -> bytes:
    """Read from `terminal` until it prints `wanted`."""
    end, read = time.monotonic() + _SECONDS, b""
    while wanted not in read:
        assert select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0], read
        read += os.read(terminal, 4096)
    return read
