"""What a user meets first: the version, the groups of the help, and options by the names of other tools."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from refnet.cli.main import GROUPS, app


def _printed(*arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert _printed("--version") == f"refnet {version('refnet')}\n"


def test_the_help_has_groups_and_a_full_sentence_of_60_characters_at_most_for_each_command():
    text = _printed("--help")
    at = [text.index(f"\n{title}:\n") for title in GROUPS]
    assert at == sorted(at)
    for commands in GROUPS.values():
        for name, (_, _, line) in commands.items():
            assert line.endswith(".")
            assert len(line) <= 60
            assert f"  {name} " in text
            assert line in text


@pytest.mark.parametrize(
    "command",
    [
        ("prune",), ("adopt",), ("accept",), ("recover",), ("restore", "database"), ("restore", "obsidian"),
        ("undo", "database"), ("schedule", "install"), ("network", "vault"),
    ],
)  # fmt: skip
def test_a_plan_is_also_called_a_dry_run(command):
    assert "--plan, --dry-run" in " ".join(_printed(*command, "--help").split())


@pytest.mark.parametrize(
    "command", [("recover",), ("restore", "database"), ("restore", "config"), ("undo", "config")]
)
def test_force_is_also_called_yes(command):
    assert "--force, --yes" in " ".join(_printed(*command, "--help").replace("-y, ", "").split())
