"""What a user meets first: the version, the groups of the help, and options by the names of other tools."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import pytest
import typer
from tests.unit.cli.commands import COMMANDS, ran
from typer.testing import CliRunner

from refnet.cli.command import DATABASES, titled
from refnet.cli.main import GROUPS, app
from refnet.cli.man import page
from refnet.core.errors import Exit, RefnetError

GROUPED = sorted({(words.split()[0],) for words in COMMANDS if " " in words})


def _printed(*arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert _printed("--version") == f"refnet {version('refnet')}\n"


def test_the_help_groups_commands_with_sentences_of_at_most_60_characters():
    text = _printed("--help")
    at = [text.index(f"\n{title}:\n") for title in GROUPS]
    assert at == sorted(at)
    for commands in GROUPS.values():
        for name, (_, _, line) in commands.items():
            assert line.endswith(".")
            assert len(line) <= 60
            assert f"  {name} " in text
            assert line in text


@pytest.mark.parametrize("command", [(), *(tuple(words.split()) for words in COMMANDS), *GROUPED])
def test_each_help_fits_in_80_columns_and_says_what_each_value_is(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = _printed(*command, "--help")
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"<int |--\w+ <list|None|[A-Z] <\w+[>\[]", text)
    several = (
        text.replace("[ARGS]...", "")
        .replace("[SOURCE]...", "")
        .replace("[ID]...", "")
        .replace("[WORD]...", "")
    )
    assert "..." not in several.replace("...]", "").replace("}...", "")
    assert "-q, --quiet" in text
    assert "-v, --verbose" in text


@pytest.mark.parametrize("command", [(), *(tuple(words.split()) for words in COMMANDS), *GROUPED])
def test_h_is_help_everywhere(command):
    assert _printed(*command, "-h") == _printed(*command, "--help")


@pytest.mark.parametrize("words", COMMANDS)
def test_a_commands_help_starts_with_a_sentence_of_at_most_60_characters(words):
    first = COMMANDS[words].help.partition("\n")[0]
    assert first == {name: line for group in GROUPS.values() for name, (*_, line) in group.items()}.get(
        words, first
    )
    assert first.endswith(".")
    assert len(first) <= 60


@pytest.mark.parametrize("words", COMMANDS)
def test_each_option_and_argument_is_explained(words):
    for param in COMMANDS[words].params:
        assert param.help
        assert param.help.endswith((".", "'."))


@pytest.mark.parametrize("command", ["init", "check", "backup", "restore", "undo", "recover"])
def test_the_help_ends_with_examples_that_are_read_without_an_error(command):
    lines = _printed(*command.split(), "--help").splitlines()
    examples = lines[lines.index("Examples:") + 1 :]
    assert len(examples) >= 2
    for line in examples:
        assert line.startswith(f"  refnet {command}")
        ran = CliRunner().invoke(app, [*shlex.split(line)[1:], "--help"])
        assert ran.exit_code == 0


@pytest.mark.parametrize(
    ("command", "message", "hint"),
    [
        ("lst", "'lst' is not a command of refnet", "Did you mean list? `refnet --help` lists the commands."),
        ("restore databse", "'databse' is not a source", "Did you mean database? The sources are: database, config, obsidian."),
        ("schedule shw", "'shw' is not a command of refnet schedule", "Did you mean show? `refnet schedule --help` lists the commands."),
        ("list --jsn", "there is no option --jsn", "Did you mean --json? See `refnet list --help`."),
        ("backup --jobs 65", "--jobs must be a number from 1 to 64", "See `refnet backup --help`."),
        ("show", "ARTIFACT is missing", "See `refnet show --help`."),
        ("restore database --at 1 --at 2", "--at is given twice", "Give it once."),
        ("-q list -v", "--quiet and --verbose exclude each other", "Omit one of them."),
        ("-v", "refnet needs a command", "See `refnet --help`."),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_answered_in_two_lines(command, message, hint):
    error = CliRunner().invoke(app, command.split()).exception
    assert isinstance(error, RefnetError)
    assert (error.message, error.hint, error.code) == (message, hint, Exit.USAGE)


@pytest.mark.parametrize(
    "command",
    [
        ("prune",), ("adopt",), ("accept",), ("recover",), ("restore",), ("undo",), ("schedule", "install"), ("network", "vault"),
    ],
)  # fmt: skip
def test_a_plan_is_also_called_a_dry_run(command):
    assert "--plan, --dry-run" in " ".join(_printed(*command, "--help").split())


@pytest.mark.parametrize(
    ("command", "message", "hint", "code"),
    [
        ("list confg", "'confg' is not a source", "Did you mean config? The sources are: database, config, obsidian.", Exit.USAGE),
        ("find x y", "'x' is not a source", "The sources are: database, config, obsidian.", Exit.USAGE),
        ("prune x", "'x' is not a source", "The sources are: database, config, obsidian.", Exit.USAGE),
        ("monitor x", "'x' is not a source", "The sources are: database, config, obsidian.", 3),
        ("verify --level written", "'written' is not a level", "The levels are: intact, restored, proven.", Exit.USAGE),
        ("recover --only Edge", "'Edge' is not a stage", "Did you mean edge? The stages are: config, database, vault, background, edge, check.", Exit.USAGE),
        ("restore database --mode add", "'add' is not a mode", "The modes are: missing, merge, replace.", Exit.USAGE),
        ("restore database --compare count", "'count' is not a comparison", "Did you mean counts? The comparisons are: content, counts.", Exit.USAGE),
        ("completion bsh", "'bsh' is not a shell", "Did you mean bash? The shells are: bash, zsh, fish.", Exit.USAGE),
    ],
)  # fmt: skip
def test_an_invalid_choice_is_answered_with_the_choices_and_the_nearest(command, message, hint, code):
    error = CliRunner().invoke(app, command.split()).exception
    assert isinstance(error, RefnetError)
    assert (error.message, error.hint, error.code) == (message, hint, code)


def test_a_standard_source_that_the_settings_leave_out_is_no_choice(monkeypatch):
    monkeypatch.setenv("REFNET_CONFIG_DIR", "none")
    error = CliRunner().invoke(app, ["find", "confi", "x"]).exception
    assert isinstance(error, RefnetError)
    assert error.hint == "The sources are: database, obsidian."


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("verify", "--level <intact|restored|proven>"),
        ("recover", "--from-stage <config|database|vault|background|edge|check>"),
        ("restore", "--mode <missing|merge|replace>"),
        ("restore", "--compare <content|counts>"),
    ],
)
def test_the_help_shows_the_choices(command, shown):
    assert shown in " ".join(_printed(*command.split(), "--help").split())


@pytest.mark.parametrize("command", ["recover", "restore", "undo"])
def test_force_is_also_called_yes(command):
    assert "--force, --yes" in " ".join(_printed(command, "--help").replace("-y, ", "").split())


@pytest.mark.parametrize(
    ("command", "name", "old"),
    [
        ("copy", "--store STORE", "--to"),
        ("restore", "--source NAME", "--from"),
        ("restore", "--source NAME", "--from-database"),
        ("recover", "--from-stage <", "--from "),
        ("cat", "--binary", "--force"),
    ],
)
def test_a_former_name_of_an_option_is_accepted_and_not_shown(command, name, old):
    text = " ".join(_printed(command, "--help").split())
    assert name in text
    assert f"{old} " not in text
    assert f"{old}," not in text
    assert old.strip() in {one for param in COMMANDS[command].params for one in param.opts}


@pytest.mark.parametrize(
    "command", ["copy", "fetch", "recover", "find", "log", "diff", "list", "show", "cat"]
)
def test_a_store_is_named_by_the_same_option_everywhere(command):
    assert "--store STORE" in _printed(command, "--help")


@pytest.mark.parametrize("command", ["restore", "undo"])
def test_help_and_manual_list_options_of_one_kind_under_their_own_title(command):
    root = typer.main.get_command(app)
    shown = titled(COMMANDS[command], typer.Context(root, info_name="refnet"))
    assert {"Arguments", "Options", DATABASES} <= {*shown}
    text, manual = _printed(command, "--help"), page()
    assert [title for title in shown if shown[title]] == re.findall(
        r"^(\w[\w ]*):$", text.partition("Examples")[0], re.MULTILINE
    )
    assert manual.count(f".I {DATABASES}:") == 2


@pytest.mark.parametrize(
    ("command", "message", "hint"),
    [
        ("restore obsidian --jobs 2", "--jobs is for databases only; obsidian is a folder", "Omit it."),
        ("restore vault --table t --compare content", "--compare, --table are for databases only; obsidian is a folder", "Omit them."),
        ("restore database --plan --only x", "--only is for folders only; database is a database", "Omit it."),
        ("undo config refnet_2 --plan", "NAME is for databases only; config is a folder", "Omit it."),
    ],
)  # fmt: skip
def test_an_option_that_does_not_fit_the_kind_of_the_source_is_refused(command, message, hint):
    error = CliRunner().invoke(app, command.split()).exception
    assert isinstance(error, RefnetError)
    assert (error.message, error.code) == (message, Exit.USAGE)
    assert error.hint == f"{hint} See `refnet {command.split()[0]} --help`."


@pytest.mark.parametrize("command", ["restore vault --plan", "undo vault --plan", "verify vault"])
def test_vault_is_another_name_of_obsidian(command, monkeypatch, tmp_path):
    monkeypatch.setenv("REFNET_HOME", str(tmp_path))
    error = CliRunner().invoke(app, command.split()).exception
    assert isinstance(error, RefnetError)
    assert "obsidian" in error.message


def test_config_names_the_settings_file_and_sets_no_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.toml").write_text("jobs = 7\n")
    monkeypatch.setenv("REFNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REFNET_CONFIG", str(tmp_path / "none.toml"))  # --config takes precedence
    code, out, err = ran(
        ["--config", str(tmp_path / "other.toml"), "settings", "--json"], monkeypatch, capsys
    )
    assert (code, json.loads(out)["file"]) == (0, str(tmp_path / "other.toml")), err
    assert os.environ["REFNET_CONFIG"] == str(tmp_path / "none.toml")


def test_a_current_folder_that_was_deleted_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    code, _, err = ran(["list"], monkeypatch, capsys)
    assert code == Exit.USAGE
    assert err == (
        "refnet: the current folder was deleted\n        Change to another one (cd /), and retry.\n"
    )


def test_a_umask_never_takes_rights_from_the_owner(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = os.umask(0o700)
    try:
        ran(["--version"], monkeypatch, capsys)
        assert os.umask(0o077) == 0o022
    finally:
        os.umask(before)
