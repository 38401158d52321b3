"""Every command in the documents runs, in the order in which a reader meets it, in one shell.

A ```console block holds commands after `$ ` and what they print. The commands of one document run in one sandbox:
a home, a backup folder and a current folder of their own. `# exit N` after a command names a code other than 0.
A document that is there in two languages has the same commands in both, so it is run once.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TRANSLATED = [path for path in DOCUMENTS if path.suffixes == [".ja", ".md"]]
RUN = [path for path in DOCUMENTS if path not in TRANSLATED]
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SHELL = re.compile(r"^```(?:sh|toml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_EXIT = re.compile(r"\s+# exit (\d+)$")
_COMMENT = re.compile(r"\s+#.*$", re.MULTILINE)
_TIME_LIMIT = 120

#: What would run this test within itself, takes minutes, or belongs to another machine; each is run elsewhere.
ELSEWHERE = re.compile(r"\./dev (?:test|bench|check|lock|demo)|sudo |apt|git clone|systemctl |docker ")

#: What a document takes for granted: a library with a vault, backed up.
GRANTED = {
    "runbook.md": ["refnet network sample --papers 60", "refnet network vault", "refnet backup --no-prove"]
}
#: What happens on the reader's machine before a command: everything but the backup folder is lost.
LOSSES = {"refnet recover": 'refnet postgres stop && rm -rf "$REFNET_HOME"/* "$REFNET_CONFIG_DIR"'}


def commands(document: Path) -> Iterator[tuple[str, int]]:
    for block in _BLOCK.findall(document.read_text(encoding="utf-8")):
        for line in block.splitlines():
            if line.startswith("$ "):
                wanted = _EXIT.search(line)
                yield _EXIT.sub("", line[2:]), int(wanted[1]) if wanted else 0


@pytest.fixture
def sandbox(short_folder: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    folder = short_folder / f"docs-{abs(hash(request.node.name)) % 10_000}"
    for name in ("home", "config/monitoring", "config/scripts", "config/docs", "here"):
        (folder / name).mkdir(parents=True)
    (folder / "here" / "scripts").symlink_to(ROOT / "scripts")
    for name in ("compose.yaml", ".env", "refnet.toml"):
        (folder / "config" / name).write_text("\n")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "REFNET_HOME": str(folder / "home"),
        "REFNET_BACKUP_DIR": str(folder / "backups"),
        "REFNET_CONFIG_DIR": str(folder / "config"),
    }
    yield environment
    subprocess.run(
        ["refnet", "postgres", "stop"], env=environment, cwd=folder, capture_output=True, check=False
    )


def prepare(commands: list[str], sandbox: dict[str, str]) -> None:
    """Run `commands`, and let PostgreSQL's own programs find the server that they started."""
    for command in commands:
        subprocess.run(command.split(), env=sandbox, check=True, capture_output=True, timeout=_TIME_LIMIT)
    status = ["refnet", "postgres", "status", "--json"]
    told = json.loads(subprocess.run(status, env=sandbox, check=True, capture_output=True).stdout)
    sandbox["PATH"] = f"{told['programs']}:{sandbox['PATH']}"
    sandbox |= {"PGHOST": told["socket"], "PGUSER": "refnet"}


def script(document: Path) -> str:
    """All commands of `document` for one shell, which ends at the first that ends otherwise than it says."""
    lines = []
    for command, wanted in commands(document):
        if not ELSEWHERE.match(command):
            lines.append(f"echo {_quoted(f'$ {command}')}")
            lines += [LOSSES[command]] if command in LOSSES else []
            lines.append(
                f"{command}\n_code=$?; [ $_code = {wanted} ] || {{ echo it ended with $_code; exit 1; }}"
            )
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.mark.parametrize("document", RUN, ids=lambda path: path.name)
def test_every_command_in_the_document_runs(document: Path, sandbox: dict[str, str]) -> None:
    if document.name in GRANTED:
        prepare(GRANTED[document.name], sandbox)
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
    assert ran.returncode == 0, ran.stdout[ran.stdout.rfind("\n$ ") :]


@pytest.mark.parametrize("document", TRANSLATED, ids=lambda path: path.name)
def test_a_translation_has_the_same_commands_settings_and_sections(document: Path) -> None:
    original = document.with_name(document.name.replace(".ja.md", ".md"))
    assert without_comments(document) == without_comments(original)
    assert shell(document) == shell(original)
    assert levels(document) == levels(original)


def without_comments(document: Path) -> list[tuple[str, int]]:
    return [(_COMMENT.sub("", command), wanted) for command, wanted in commands(document)]


def shell(document: Path) -> list[str]:
    """The blocks that cannot be run here, without their comments."""
    return [_COMMENT.sub("", block) for block in _SHELL.findall(document.read_text(encoding="utf-8"))]


def levels(document: Path) -> list[str]:
    """The depth of each heading, in order."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^(#+) ", text, re.MULTILINE)


def test_the_readme_names_the_two_commands_first() -> None:
    found = [command for command, _ in commands(ROOT / "README.md")]
    assert found[:2] == ["./dev demo", "./dev test"]


def test_continuous_integration_runs_the_readme_s_test_command() -> None:
    assert "./dev test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
