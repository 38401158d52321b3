"""Hooks around a backup and a restore: when they run, what they are told, and what a failed one stops."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refnet.actions.backup import Options, backup, plan
from refnet.actions.check import check_hooks
from refnet.actions.choose import choose_one
from refnet.actions.recovery_settings import Setup
from refnet.catalog.artifact import OpenArtifact
from refnet.catalog.source_name import Kind, SourceName
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.recovery.plan import Stage
from refnet.settings import load
from refnet.sources.folder.folder_restore import FolderRestore
from refnet.sources.folder.source import Folder
from refnet.sources.hooks import HookAction, listed
from refnet.sources.restoring import RestoreRequest

VAULT = SourceName.OBSIDIAN
NO_PROOF = Options(prove=False)
Make = Callable[..., Context]


@pytest.fixture
def told(tmp_path: Path) -> Callable[[], list[dict[str, str]]]:
    """Make `TELL` of a hook write its environment; what all hooks were told."""
    (tmp_path / "tell").write_text('#!/bin/sh\nenv -0 > "$(mktemp -p "$0.d" "$(date +%s%N).XXXX")"\n')
    (tmp_path / "tell").chmod(0o700)
    (tmp_path / "tell.d").mkdir()

    def read() -> list[dict[str, str]]:
        files = sorted((tmp_path / "tell.d").iterdir())
        parts = [file.read_text().rstrip("\0").split("\0") for file in files]
        return [dict(part.split("=", 1) for part in each) for each in parts]

    return read


@pytest.fixture
def context(tmp_path: Path, told: object) -> Make:
    """Return a context with a vault and these hooks; TELL is the path of the hook that tells."""
    assert told
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / "a.md").write_text("a")

    def made(**hooks: Any) -> Context:
        lines = [f"{name} = {json.dumps(value)}" for name, value in hooks.items()]
        text = "\n".join(
            [
                f"vault_dir = '{tmp_path / 'vault'}'",
                f"backup_dir = '{tmp_path / 'backups'}'",
                "database_url = 'postgresql://u:hunter22@h/d'",
                "[log]",
                f"folder = '{tmp_path}'",
                "[hooks]",
                *lines,
            ]
        )
        (tmp_path / "refnet.toml").write_text(text.replace("TELL", str(tmp_path / "tell")))
        environment = {"REFNET_HOME": str(tmp_path / "home")}
        return Context(load(environment, tmp_path, root=False, cores=2))

    return made


def refused(act: Callable[[], object]) -> RefnetError:
    with pytest.raises(RefnetError) as error:
        act()
    assert "hunter22" not in error.value.message + error.value.hint
    return error.value


def planned_restore(here: Context, chosen: OpenArtifact) -> FolderRestore:
    work = Folder(here.settings, VAULT).restoring(here, chosen, RestoreRequest())
    work.plan(here)
    return work


def hooks_of(told: Callable[[], list[dict[str, str]]]) -> list[tuple[str, str]]:
    return [(one["REFNET_HOOK"], one["REFNET_OUTCOME"]) for one in told()]


def test_hooks_are_told_what_is_done_and_no_secret(
    context: Make, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFNET_DATABASE_URL", "postgresql://u:hunter22@h/d")
    monkeypatch.setenv("REFNET_NOTIFY_URLS", "json://hunter22")
    monkeypatch.setenv("PGPASSWORD", "hunter22")
    here = context(before_backup=["TELL"], after_backup=[["TELL", "a b"]], on_error="TELL")
    made = backup(here, VAULT, NO_PROOF)
    assert made is not None

    before, after = told()
    for one in (before, after):
        assert (one["REFNET_SOURCE"], one["REFNET_ACTION"], one["REFNET_ERROR"]) == ("obsidian", "backup", "")
        assert "hunter22" not in str(one)
    assert (before["REFNET_HOOK"], before["REFNET_OUTCOME"], before["REFNET_ARTIFACT"]) == (
        "before_backup", "", "",
    )  # fmt: skip
    assert (after["REFNET_OUTCOME"], after["REFNET_ARTIFACT"]) == ("done", made.manifest.name)


def test_a_failed_hook_before_a_backup_stops_it_and_on_error_is_told_why(
    context: Make, told: Any, tmp_path: Path
) -> None:
    here = context(
        before_backup=["sh -c 'echo password=hunter22; exit 3'", "TELL"],
        after_backup=["TELL"],
        on_error=["TELL"],
    )
    error = refused(lambda: backup(here, VAULT, NO_PROOF))

    assert error.code is Exit.FAILED
    assert "the hook before_backup of obsidian failed: sh -c " in error.message
    assert error.message.endswith(": it ended with 3: password=(hidden)")
    assert here.store.entries() == ()
    assert hooks_of(told) == [("on_error", "failed")]
    assert "it ended with 3" in told()[0]["REFNET_ERROR"]
    log = (tmp_path / "refnet-backup.log").read_text()
    assert '"output": "password=(hidden)"' in log
    assert "hunter22" not in log + str(told())


def test_a_failed_after_backup_hook_fails_the_run_and_keeps_the_artifact(context: Make, told: Any) -> None:
    here = context(after_backup=["false"], on_error=["TELL", "false"])
    error = refused(lambda: backup(here, VAULT, NO_PROOF))

    (entry,) = here.store.entries()
    assert (error.code, error.hint.startswith(f"{entry.name} is complete.")) == (Exit.FAILED, True)
    assert [one["REFNET_ARTIFACT"] for one in told()] == [entry.name]


def test_a_failed_backup_runs_on_error_and_a_failure_there_hides_nothing(
    context: Make, told: Any, tmp_path: Path
) -> None:
    notes: list[str] = []
    here = context(before_backup=["TELL"], after_backup=["TELL"], on_error=["TELL", "false"])
    here = Context(here.settings, note=notes.append)
    with here.store.lock(VAULT):
        assert refused(lambda: backup(here, VAULT, NO_PROOF)).code is Exit.LOCKED

    assert hooks_of(told) == [("before_backup", ""), ("on_error", "failed")]
    assert "it ended with 1" in notes[0]


def test_a_hook_that_removes_the_artifact_fails_the_run(context: Make, tmp_path: Path) -> None:
    here = context(after_backup=[f"sh -c 'rm {tmp_path}/backups/obsidian/vault_*'"])
    assert "is gone" in refused(lambda: backup(here, VAULT, NO_PROOF)).message


def test_a_hook_that_hangs_is_ended(context: Make) -> None:
    here = context(before_backup=["sleep 300"], timeout=1)
    assert "did not end within 1 s" in refused(lambda: backup(here, VAULT, NO_PROOF)).message


def test_a_restore_runs_its_own_hooks_and_one_without_changes_runs_none(
    context: Make, told: Any, tmp_path: Path
) -> None:
    here = context(before_restore=["TELL"], after_restore=["TELL"], on_error=["TELL"])
    made = backup(here, VAULT, NO_PROOF)
    assert made is not None
    chosen = choose_one(here.store, made.manifest.name)
    planned_restore(here, chosen).restore(here)
    assert told() == []

    (tmp_path / "vault" / "a.md").write_text("other")
    work = planned_restore(here, chosen)
    assert [note for note in work.planned.notes if note.startswith("hook ")] == [
        f"hook {moment}: {tmp_path / 'tell'}" for moment in ("before_restore", "after_restore", "on_error")
    ]
    work.restore(here)
    assert hooks_of(told) == [("before_restore", ""), ("after_restore", "done")]
    assert {one["REFNET_ARTIFACT"] for one in told()} == {chosen.name}


def test_a_failed_hook_before_a_restore_leaves_what_is_live(context: Make, tmp_path: Path) -> None:
    here = context(before_restore=["false"])
    made = backup(here, VAULT, NO_PROOF)
    assert made is not None
    chosen = choose_one(here.store, made.manifest.name)
    (tmp_path / "vault" / "a.md").write_text("other")

    error = refused(lambda: planned_restore(here, chosen).restore(here))
    assert error.hint.startswith("Nothing was restored.")
    assert (tmp_path / "vault" / "a.md").read_text() == "other"


def test_a_plan_lists_the_hooks_and_runs_none(context: Make, told: Any, tmp_path: Path) -> None:
    here = context(before_backup=["TELL 'a b'"], on_error=["TELL"])
    assert plan(here, VAULT, NO_PROOF).hooks == (
        f"before_backup: {tmp_path / 'tell'} 'a b'", f"on_error: {tmp_path / 'tell'}",
    )  # fmt: skip
    assert told() == []


def test_a_source_with_its_own_table_has_its_own_hooks(context: Make, tmp_path: Path) -> None:
    text = "\n".join(
        ["[hooks]", "before_backup = ['all']", "on_error = ['all']", "[folders.notes]", f"path = '{tmp_path / 'n'}'",
         "before_backup = ['own']", "on_error = []", "[folders.others]", f"path = '{tmp_path / 'o'}'"]
    )  # fmt: skip
    (tmp_path / "refnet.toml").write_text(text)
    given = load({"REFNET_HOME": str(tmp_path / "home")}, tmp_path, root=False, cores=2)
    notes, others = (SourceName(name, Kind.FOLDER) for name in ("notes", "others"))
    assert listed(given, notes, HookAction.BACKUP) == ["before_backup: own"]
    assert listed(given, others, HookAction.BACKUP) == ["before_backup: all", "on_error: all"]


def test_a_named_sources_hooks_in_restored_settings_need_permission(context: Make, tmp_path: Path) -> None:
    context(before_restore=["all"])
    with (tmp_path / "refnet.toml").open("a") as file:
        file.write(
            f"\n[folders.notes]\npath = '{tmp_path / 'n'}'\nbefore_restore = ['own']\non_error = ['e']\n"
        )
    given = load({"REFNET_HOME": str(tmp_path / "home")}, tmp_path, root=False, cores=2)
    of_vault = {one.line: one for one in Setup(given, "", own=True).commands if one.stage is Stage.VAULT}
    assert {*of_vault} == {"all", "own", "e"}
    assert all(one.restored and one.hook for one in of_vault.values())
    assert not any(one.restored for one in Setup(given, "", own=False).commands)


def test_a_check_names_the_programs_of_hooks_that_cannot_be_run(context: Make, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("no program")
    given = context(
        before_backup=["TELL", "./tell x", "true"], on_error=["/no/such", "./plain", "no-such-1"]
    ).settings
    assert [line.says.split(" ")[0] for line in check_hooks(given)] == ["./plain", "/no/such", "no-such-1"]


def test_refnet_in_a_hook_reads_its_settings(context: Make) -> None:
    given = {f"REFNET_{name}": "x" for name in ("SOURCE", "ACTION", "HOOK", "OUTCOME", "ARTIFACT", "ERROR")}
    load({**given, "REFNET_HOME": os.fspath(context().settings.home)}, Path("/"), root=False, cores=2)


def test_refnet_in_a_hook_reads_the_settings_file_that_is_named(
    context: Make, told: Any, tmp_path: Path
) -> None:
    there = context(before_backup=["TELL"]).settings
    named = {"REFNET_HOME": os.fspath(there.home), "REFNET_CONFIG": os.fspath(tmp_path / "refnet.toml")}
    backup(Context(load(named, Path("/"), root=False, cores=2)), VAULT, NO_PROOF)
    assert [one["REFNET_CONFIG"] for one in told()] == [named["REFNET_CONFIG"]]
