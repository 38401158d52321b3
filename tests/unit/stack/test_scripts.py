"""The scripts of the specification: which settings they are about."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("there", "here", "given", "expected"),
    [
        (True, False, "", "{clone}/refnet.toml"),
        (True, True, "", ""),
        (True, False, "/etc/mine.toml", "/etc/mine.toml"),
        (False, False, "", ""),
    ],
)
def test_a_script_uses_its_clones_settings_unless_others_are_named(
    tmp_path: Path, there: bool, here: bool, given: str, expected: str
) -> None:
    clone, folder, programs = tmp_path / "clone", tmp_path / "elsewhere", tmp_path / "bin"
    shutil.copytree(ROOT / "scripts", clone / "scripts")
    folder.mkdir()
    programs.mkdir()
    (programs / "refnet").write_text('#!/bin/sh\necho "$1 ${REFNET_CONFIG-}"\n')
    (programs / "refnet").chmod(0o755)
    for wanted, place in ((there, clone), (here, folder)):
        if wanted:
            (place / "refnet.toml").write_text("")
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"} | ({"REFNET_CONFIG": given} if given else {})
    said = subprocess.run(
        [clone / "scripts/monitor-backup.sh"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == f"monitor {expected.format(clone=clone)}".strip()
