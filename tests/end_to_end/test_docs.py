"""Every command in the documents runs, in the order in which a reader meets it, in one shell, and prints what is shown.

The commands of one document run in one sandbox: a home, a backup folder and a current folder of their own. `# exit N`
after a command names a code other than 0. A document that is there in two languages has the same commands in both, so
it is run once.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from tests import forked
from tests.documents import (
    DOCUMENTS,
    ROOT,
    TRANSLATED,
    anchor,
    blocks,
    commands,
    essence,
    prose,
    text,
    titles,
    uncommented,
)

from refnet.cli.main import app
from refnet.settings.known_keys import setting

RUN = [path for path in DOCUMENTS if path not in TRANSLATED and blocks(path, "console")]
_TIME_LIMIT = 600
#: Before the output of each command.
_MARK = "\x01"

#: What would run this test within itself, takes minutes, or belongs to another machine; each is run elsewhere.
ELSEWHERE = re.compile(
    r"\./dev (?:test|bench|check|lock|demo|package)|sudo |apt|git clone|systemctl |docker "
)

#: What these documents take for granted: a library with a vault, backed up. They share it, the runbook is the last.
_LIBRARY = ["refnet network sample --papers 30", "refnet network vault", "refnet backup"]
GRANTED = {"guide.md", "runbook.md"}
#: What happens on the reader's machine before a command: everything but the backup folder is lost.
LOSSES = {"refnet recover": 'refnet postgres stop && rm -rf "$REFNET_HOME"/* "$REFNET_CONFIG_DIR"'}
#: Commands that the runbook shows with their output: it runs them there, and not where they come without.
SHOWN = {"refnet recover --plan", "refnet recover", "refnet verify"}
#: Backups whose proof the runbook does not show, but the README or the next command: they make none.
UNPROVEN = {
    *("refnet backup", "refnet backup database --to elsewhere"),
    "refnet backup database --table papers --to elsewhere",
}


@pytest.fixture(scope="module")
def library(short_folder: Path) -> Iterator[dict[str, str]]:
    with made(short_folder / "docs-library") as environment:
        prepare(_LIBRARY, environment)
        yield environment


@pytest.fixture
def sandbox(short_folder: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    if request.getfixturevalue("document").name in GRANTED:
        yield request.getfixturevalue("library")
        return
    with made(short_folder / f"docs-{abs(hash(request.node.name)) % 10_000}") as environment:
        yield environment


@contextmanager
def made(folder: Path) -> Iterator[dict[str, str]]:
    """A sandbox in `folder`."""
    for name in ("bin", "home", "config/monitoring", "config/scripts", "config/docs", "here"):
        (folder / name).mkdir(parents=True)
    (folder / "here" / "scripts").symlink_to(ROOT / "scripts")
    for name in ("compose.yaml", ".env", "refnet.toml"):
        (folder / "config" / name).write_text("\n")
    environment = {
        "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "REFNET_HOME": str(folder / "home"),
        "REFNET_BACKUP_DIR": str(folder / "backups"),
        "REFNET_LOG_FOLDER": "none",
        "REFNET_CONFIG_DIR": str(folder / "config"),
    }
    with forked.program(folder / "bin"):
        yield environment
        subprocess.run(
            ["refnet", "postgres", "stop"], env=environment, cwd=folder, capture_output=True, check=False
        )


def prepare(granted: list[str], sandbox: dict[str, str]) -> None:
    """Run what is `granted`, and let PostgreSQL's own programs find the server that it started."""
    for command in granted:
        subprocess.run(command.split(), env=sandbox, check=True, capture_output=True, timeout=_TIME_LIMIT)
    status = ["refnet", "postgres", "status", "--json"]
    told = json.loads(subprocess.run(status, env=sandbox, check=True, capture_output=True).stdout)
    sandbox["PATH"] = f"{told['programs']}:{sandbox['PATH']}"
    sandbox |= {"PGHOST": told["socket"], "PGUSER": "refnet"}


def script(document: Path) -> str:
    """All commands of `document` for one shell, which ends at the first that ends otherwise than it says."""
    lines = []
    for shown in commands(document):
        lines.append(f"printf '{_MARK}'")
        if ELSEWHERE.match(shown.line) or (shown.line in SHOWN and not shown.output):
            continue
        lines += [LOSSES[shown.line]] if shown.line in LOSSES else []
        more = " --no-prove" if shown.line in UNPROVEN and not shown.output else ""
        lines.append(
            f"{shown.line}{more}\n_code=$?; [ $_code = {shown.code} ] || {{ echo it ended with $_code; exit 1; }}"
        )
    return "\n".join(lines)


@pytest.mark.parametrize("document", RUN, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_in_the_document_runs_and_prints_what_is_shown(
    document: Path, sandbox: dict[str, str]
) -> None:
    ran = subprocess.run(
        ["bash", "-c", script(document)],
        env=sandbox,
        cwd=Path(sandbox["HOME"]) / "here",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TIME_LIMIT,
        check=False,
    )
    outputs = ran.stdout.split(_MARK)[1:]
    shown = list(commands(document))
    assert ran.returncode == 0, f"$ {shown[len(outputs) - 1].line}\n{outputs[-1]}"
    unlike = [
        f"$ {command.line}\nis shown with: {line}\nand printed:\n{output}"
        for command, output in zip(shown, outputs, strict=True)
        for line in command.output
        if essence(line) not in essence(output).splitlines()
    ]
    assert not unlike, "\n".join(unlike)


@pytest.mark.parametrize("document", TRANSLATED, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_translation_has_the_same_commands_outputs_and_sections(document: Path) -> None:
    original = document.with_name(document.name.replace(".ja.md", ".md"))
    for language in ("sh", "toml", "text"):
        translated = [uncommented(block) for block in blocks(document, language)]
        assert translated == [uncommented(block) for block in blocks(original, language)]
    told, meant = list(commands(document)), list(commands(original))
    assert [(uncommented(o.line), o.code) for o in told] == [(uncommented(o.line), o.code) for o in meant]
    for one, other in zip(told, meant, strict=True):
        assert one.output in ((), other.output)
    assert [depth for depth, _ in titles(document)] == [depth for depth, _ in titles(original)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_names_commands_settings_files_and_sections_that_exist(document: Path) -> None:
    for line in mentioned(document):
        assert_exists(line)
    for block in blocks(document, "toml"):
        assert [key for key in flat(tomllib.loads(block)) if not setting(key)] == []
    anchors = {anchor(title) for _, title in titles(document)}
    for target in re.findall(r"\]\(([^):]+)\)", prose(document)):
        path, _, section = target.partition("#")
        assert (document.parent / path).exists(), target
        assert path or section in anchors, target


def mentioned(document: Path) -> list[str]:
    """The commands of refnet that stand in the text or in blocks that cannot be run."""
    found = re.findall(r"`(?:sudo )?refnet ([^`]+)`", prose(document))
    for block in blocks(document, "sh"):
        found += re.findall(r"(?:^|&& )(?:sudo )?refnet (.+)$", uncommented(block), re.MULTILINE)
    return [line for line in found if re.match(r"[a-z-]", line)]


def assert_exists(line: str) -> None:
    """`line` (without `refnet`) is a command, with options that it has."""
    command: Any = typer.main.get_command(app)
    words = shlex.split(line.replace("[", "").replace("]", ""))
    for word in words[2:] if words[0] == "--config" else words:
        if word.startswith("--"):
            known = {option for each in command.params for option in each.opts} | {"--help"}
            assert word.split("=")[0] in known, f"refnet {line}: {word}"
        elif named := getattr(command, "commands", None):
            if word.isupper():  # SOURCE: any of them
                return
            assert word.split("|")[0] in named, f"refnet {line}: {word}"
            command = command.resolve_command(None, [word.split("|")[0]])[1]


def flat(table: dict[str, object], prefix: str = "") -> set[str]:
    """The keys of a TOML table, dotted."""
    found: set[str] = set()
    for key, value in table.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}"}
    return found


def test_the_runbook_shows_the_output_of_what_runs_there_alone() -> None:
    assert {one.line for one in commands(ROOT / "docs" / "runbook.md") if one.output} >= SHOWN


def test_the_readme_names_the_two_commands_first() -> None:
    assert [each.line for each in commands(ROOT / "README.md")][:2] == ["./dev demo", "./dev test"]


def test_continuous_integration_runs_the_readme_s_test_command() -> None:
    assert any(
        line.split(" || ")[0].endswith(" ./dev test") for line in text(ROOT / ".ci" / "run").splitlines()
    )
