"""The manual page: all commands and exit codes are in it, and other programs can read it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from refnet.cli.main import GROUPS
from refnet.cli.man import EXITS, _text, page
from refnet.core.errors import Exit
from refnet.settings import keys, variable

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def made() -> str:
    return page()


def test_every_command_option_setting_and_exit_code_is_in_it(made: str) -> None:
    for title, commands in GROUPS.items():
        assert f".SH {title.upper()}\n" in made
        for name in commands:
            assert f'.SS "refnet {name.replace("-", chr(92) + "-")}' in made
    for usage in (
        "refnet restore",
        "refnet undo",
        "refnet schedule install",
        "refnet network sample",
    ):
        assert f'.SS "{usage} ' in made
    assert "\n.B \\-\\-no\\-prove\n" in made
    assert {*map(variable, keys())} <= {*made.splitlines()}
    assert {"REFNET_CONFIG", "REFNET_IDENTITY_FILE", "REFNET_PROGRESS"} <= {
        *re.findall(r"^\.B (REFNET_\w+)$", made, re.MULTILINE)
    }
    assert {*EXITS} == {*Exit}


def test_the_exit_codes_are_those_of_the_guide() -> None:
    table = re.findall(r"^\| (\d) \| (.*) \|$", (ROOT / "docs" / "guide.md").read_text(), re.MULTILINE)
    assert table == [(str(code.value), text) for code, text in EXITS.items()]


def test_words_are_never_requests_of_roff() -> None:
    assert _text(".so /etc/passwd") == "\\&.so /etc/passwd"
    assert _text('\'a \\n --b\n"c"') == "\\&'a \\en \\-\\-b \\(dqc\\(dq"


@pytest.mark.parametrize(
    "command", [["man", "--warnings", "-l", "-"], ["mandoc", "-Tlint", "-Wwarning"]], ids=["man", "mandoc"]
)
def test_programs_read_it_without_a_warning(command: list[str], made: str) -> None:
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, input=made, capture_output=True, text=True, check=False)
    found = [line for line in (done.stderr + done.stdout * (command[0] == "mandoc")).splitlines() if line]
    assert [line for line in found if "missing date" not in line] == []  # so that builds are reproducible
    if command[0] == "man":
        assert "refnet restore " in done.stdout
