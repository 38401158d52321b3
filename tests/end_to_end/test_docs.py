"""Every command in the documents runs, in the order in which a reader meets it.

A ```console block holds commands after `$ ` and what they print. The commands of one document run in one sandbox:
a home, a backup folder and a current folder of their own. `# exit N` after a command names a code other than 0.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_EXIT = re.compile(r"\s+# exit (\d+)$")

#: What would run this test within itself, takes minutes, or belongs to another machine; each is run elsewhere.
ELSEWHERE = re.compile(r"\./dev (?:test|bench|check|lock|demo)|sudo |apt|git clone|systemctl |docker ")


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
    for name in ("compose.yaml", ".env", "refnet.toml"):
        (folder / "config" / name).write_text("\n")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{ROOT / 'scripts'}:{os.environ['PATH']}",
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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_in_the_document_runs(document: Path, sandbox: dict[str, str]) -> None:
    here = Path(sandbox["HOME"]) / "here"
    for command, wanted in commands(document):
        if ELSEWHERE.match(command):
            continue
        ran = subprocess.run(
            ["bash", "-c", command],
            env=sandbox,
            cwd=here,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == wanted, f"{command}\n{ran.stdout}{ran.stderr}"


def test_the_readme_names_the_two_commands_first() -> None:
    found = [command for command, _ in commands(ROOT / "README.md")]
    assert found[:2] == ["./dev demo", "./dev test"]


def test_continuous_integration_runs_the_readme_s_test_command() -> None:
    assert "./dev test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
