"""The command with bad settings: `refnet settings` lists everything, every other command names the first and stops."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.command import Command

BAD = """\
jobs = 2

[schedule]
database = "daily 25:00"
timezone = "Tokyo"

[retention]
config = "days=0"

[notify]
urls = ["hunter2"]
"""
FIRST = '{file}, line 4: schedule.database = "daily 25:00": hour must be 0-23'


@pytest.fixture
def command() -> Iterator[Command]:
    """A command with a settings file that has four bad values."""
    with TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        (folder / "refnet.toml").write_text(BAD)
        (folder / "refnet.toml").chmod(0o600)
        yield Command(folder / "home", folder / "backups", "", {"REFNET_CONFIG": str(folder / "refnet.toml")})


def file_of(command: Command) -> str:
    return command.environment["REFNET_CONFIG"]


def test_settings_prints_all_values_and_all_problems(command: Command) -> None:
    shown = command("settings")
    assert shown.code == 2
    rows = {line.split()[0]: line for line in shown.out.splitlines() if line}
    assert rows["jobs"].split()[1] == "2"
    assert rows["schedule.config"].split()[1:3] == ["sunday", "03:00"]
    for key in ("schedule.database", "schedule.timezone", "retention.config", "notify.urls"):
        assert rows[key].split()[1] == "INVALID"
    lines = shown.err.splitlines()
    assert lines[0] == "refnet: " + FIRST.format(file=file_of(command))
    assert lines[1].strip().startswith("Did you mean daily 23:00? Write")
    assert lines[2].startswith(f'refnet: {file_of(command)}, line 5: schedule.timezone = "Tokyo"')
    assert lines[3].strip().startswith("Did you mean Asia/Tokyo?")
    assert len(lines) == 8
    assert "hunter2" not in shown.out + shown.err


def test_settings_as_json_has_the_same(command: Command) -> None:
    shown = command("settings", "--json")
    assert shown.code == 2
    settings = {each["key"]: each for each in shown.json["settings"]}
    assert settings["jobs"] | {"from": ""} == {
        "key": "jobs", "value": 2, "valid": True, "from": "", "variable": "REFNET_JOBS",
        "default": min(len(os.sched_getaffinity(0)), 8), "description": "Parallel workers.",
    }  # fmt: skip
    assert (settings["schedule.timezone"]["valid"], settings["schedule.timezone"]["value"]) == (False, None)
    problems = shown.json["problems"]
    assert [each["key"] for each in problems] == [
        "schedule.database", "schedule.timezone", "retention.config", "notify.urls",
    ]  # fmt: skip
    assert problems[0]["message"] == FIRST.format(file=file_of(command))
    assert "hunter2" not in shown.out + shown.err


def test_the_settings_of_stores_are_shown_with_their_origins(tmp_path: Path) -> None:
    text = '[stores.cloud]\nurl = "s3://bucket/x?region=eu-west-1"\nretention.database = "days=30"\n'
    (tmp_path / "refnet.toml").write_text(text)
    (tmp_path / "refnet.toml").chmod(0o600)
    shown = Command(
        tmp_path / "home", tmp_path / "backups", "", {"REFNET_CONFIG": str(tmp_path / "refnet.toml")}
    )
    found = {
        one["key"]: one
        for one in shown("settings", "--json").json["settings"]
        if one["key"].startswith("stores.")
    }
    assert found["stores.cloud.url"]["value"] == "s3://bucket/x"
    assert (found["stores.cloud.region"]["value"], found["stores.cloud.region"]["from"]) == (
        "eu-west-1",
        "stores.cloud.url",
    )
    assert found["stores.cloud.retention"]["value"] == "database: days=30"
    assert found["stores.cloud.lock"]["variable"] == "REFNET_STORES_CLOUD_LOCK"


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"], ["backup"], ["verify"], ["prune", "--plan"], ["drill"], ["monitor"], ["metrics"], ["notify"],
        ["restore", "database", "--plan"], ["recover", "--plan"], ["undo", "obsidian"], ["schedule", "show"], ["beat"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_other_command_refuses_in_two_lines(command: Command, arguments: list[str]) -> None:
    refused = command(*arguments)
    code = 3 if arguments == ["monitor"] else 2  # monitor: unknown
    refused.fails(code, FIRST.format(file=file_of(command)), "(and 3 more: refnet settings)", "Did you mean")
    assert not (command.home).exists()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["backup", "--help"], ["completion", "bash"]]
)
def test_help_needs_no_settings(command: Command, arguments: list[str]) -> None:
    command(*arguments).succeeds()


def test_a_wrong_variable_is_named_and_a_refused_file_is_a_problem_too(command: Command) -> None:
    Path(file_of(command)).write_text("jobs = 2\n")
    command("list", REFNET_JOBS="many").fails(
        2, 'refnet: REFNET_JOBS = "many": must be an integer from 1 to 64'
    )
    Path(file_of(command)).write_text("jobs = 2\njobs = 3\n")
    shown = command("settings")
    shown.fails(2, f"{file_of(command)}, line 2: jobs is set twice, first in line 1", "Remove one")
    assert "settings file: none" in shown.out
