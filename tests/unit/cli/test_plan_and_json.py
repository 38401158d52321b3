"""The promise of the runbook: what changes something takes --plan, what reports takes --json. Every command is listed."""

from __future__ import annotations

from tests.unit.cli.commands import COMMANDS

CHANGES = {
    "init", "backup", "copy", "prune", "forget", "pin", "unpin", "tag", "adopt", "accept", "store accept", "store installer", "restore", "undo", "recover", "fetch",
    "schedule install", "schedule remove", "broker start", "broker stop", "notify", "network migrate", "network sample",
    "network vault", "notes", "export", "import cora", "import semantic-scholar", "postgres start", "postgres stop", "demo", "key new",
    "key rotate", "key page", "crawl", "jobs",
    "rank", "summarize",
}  # fmt: skip
REPORTS = {
    "at", "check", "list", "show", "log", "find", "query", "verify", "drill", "diff", "monitor", "settings", "database sizes",
    "schedule show", "wal status", "store list", "store check", "store stats", "broker status", "postgres status", "key show", "key check",
    "find-papers", "papers",
}  # fmt: skip
#: They run until they are stopped, or print what another program reads.
SERVES = {"worker", "beat", "serve", "wal run", "metrics", "completion", "cat", "browse"}


def _with(option: str) -> set[str]:
    return {words for words, command in COMMANDS.items() if any(option in one.opts for one in command.params)}


def test_every_command_is_classified_once() -> None:
    assert sorted([*CHANGES, *REPORTS, *SERVES]) == sorted(COMMANDS)


def test_what_changes_something_takes_plan_and_what_reports_takes_json() -> None:
    assert _with("--plan") == CHANGES
    assert _with("--json") >= REPORTS
    assert not _with("--json") & SERVES


def test_every_command_takes_quiet_and_verbose() -> None:
    for option in ("-q", "--quiet", "-v", "--verbose"):
        assert _with(option) == {*COMMANDS}
