"""encryption.local: kill -9 at each step of sealing leaves the artifact in one of its two places, and never readable in the backup folder."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.command import Command

from refnet import settings
from refnet.actions import seal
from refnet.actions.backup import Options, backup
from refnet.catalog.source_name import Kind, SourceName
from refnet.context import Context
from refnet.core.errors import RefnetError
from refnet.sources.folder.source import Folder
from refnet.store.buckets.folder import FolderBucket

NOTES = SourceName("notes", Kind.FOLDER)
NOTE = random.Random(1).randbytes(8000)
_UNPROVEN = Options(prove=False)
#: What changes names: the steps of a seal.
STEPS = ("link", "rename", "replace", "unlink")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A machine that backs up one folder, encrypted."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "notes").mkdir()
    (folder / "notes" / "a.bin").write_bytes(NOTE)
    made = Command(folder / "home", folder / "backups", "")("key", "new", "--json").json
    (folder / "refnet.toml").write_text(
        f'home = "{folder}/home"\nbackup_dir = "{folder}/backups"\nlog.folder = "none"\n[folders.notes]\n'
        f'path = "{folder}/notes"\n[encryption]\nlocal = true\nrecipients = ["{made["recipient"]}"]\n'
    )
    (folder / "refnet.toml").chmod(0o600)
    return Context(settings.load({"REFNET_CONFIG": str(folder / "refnet.toml")}, folder, root=True, cores=2))


def _killed_at(context: Context, last: int) -> bool:
    """Back up in a process that is killed at the step `last` after the artifact was made; return whether it was."""
    if (child := os.fork()) == 0:
        steps, whole = 0, seal.seal

        def stepping(call: Callable[..., object]) -> Callable[..., object]:
            def step(*given: object, **named: object) -> object:
                nonlocal steps
                steps += 1
                if steps == last:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*given, **named)

            return step

        def sealing(*given: Any) -> object:
            for name in STEPS:
                setattr(os, name, stepping(getattr(os, name)))
            return whole(*given)

        seal.seal = sealing  # type: ignore[assignment]
        backup(context, NOTES, _UNPROVEN)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def _files(folder: Path) -> list[Path]:
    return [
        one
        for one in folder.rglob("*")
        if one.is_file() and one.name not in {".refnet-lock", ".refnet-store.json"}
    ]


def test_a_seal_killed_at_any_step_loses_nothing_and_exposes_nothing(
    context: Context, tmp_path: Path
) -> None:
    unsealed, backups = context.local.root, context.settings.backup_dir
    backup(context, NOTES, _UNPROVEN)
    for folder in (context.settings.home, backups):
        shutil.copytree(folder, tmp_path / folder.name)
    last, places = 1, set()
    while _killed_at(context, last):
        for path in _files(backups):
            data = path.read_bytes()
            sealed_or_empty = not data or data.startswith(b"age-encryption.org/v1\n")
            assert path.name.startswith(".") or sealed_or_empty, path
            assert NOTE[400:440] not in data
        left = {one.name for one in context.local.entries()}
        sealed = {one.name for one in context.catalog.entries()}
        places.add((bool(left), bool(left & sealed)))
        known = left | sealed
        backup(context, NOTES, _UNPROVEN)
        assert {one.name for one in context.catalog.entries()} > known
        assert {one.state for one in context.catalog.entries()} == {"fetched"}
        assert _files(unsealed) == []
        assert context.catalog.contents().gaps == ()  # type: ignore[union-attr]
        last += 1
        for folder in (context.settings.home, backups):  # few artifacts: each backup reads them all
            shutil.rmtree(folder)
            shutil.copytree(tmp_path / folder.name, folder)
    assert last > 12
    assert places >= {(True, False), (True, True), (False, False)}


def test_the_next_run_seals_what_failed_to_seal_and_makes_no_new_artifact(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {one.name for one in context.catalog.entries()}

    def full(_self: FolderBucket, _name: str, _data: bytes) -> str:
        raise RefnetError("the disk is full", "Free space there.")

    with monkeypatch.context() as patch:
        patch.setattr(FolderBucket, "put", full)
        with pytest.raises(RefnetError, match="is not encrypted into") as caught:
            backup(context, NOTES, _UNPROVEN)
    assert "until the next run" in caught.value.hint
    assert {one.name for one in context.catalog.entries()} == before
    [left] = context.local.entries()
    made = backup(context, NOTES, Options(prove=False, since=left.published))
    assert made is not None
    assert made.earlier
    assert {one.name for one in context.catalog.entries()} == {*before, left.name}
    assert _files(context.local.root) == []


def test_a_damaged_artifact_is_not_sealed_and_goes_with_the_next_run(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Folder.opened

    def damaged(artifact: Any) -> Any:
        path = artifact.path
        path.write_bytes(path.read_bytes()[:-200] + bytes(200))
        return whole(artifact)

    before = {one.name for one in context.catalog.entries()}
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "opened", staticmethod(damaged))
        made = backup(context, NOTES)
    assert made is not None
    assert made.damaged
    assert {one.name for one in context.catalog.entries()} == before
    assert [one.damaged for one in context.local.entries()] == [True]
    backup(context, NOTES, _UNPROVEN)
    assert _files(context.local.root) == []
