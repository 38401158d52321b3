"""`refnet demo`: the whole story runs, tells the truth, and leaves nothing running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "refnet", *arguments],
        env=kept | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_demo_backs_up_proves_destroys_and_brings_back_and_leaves_nothing_running(short_folder: Path) -> None:
    place = short_folder / "demo"
    ran = run(
        short_folder, "demo", "--papers", "200", "--folder", str(place), REFNET_HOME=str(short_folder / "h")
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "proven (8 tables" in ran.stdout
    assert 'psql -c "DROP DATABASE refnet WITH (FORCE)"' in ran.stdout
    assert "as before the loss" in ran.stdout
    assert f"Everything lies in {place}" in ran.stdout
    status = run(short_folder, "postgres", "status", "--json", REFNET_HOME=str(place / "home"))
    assert '"running": false' in status.stdout


def test_demo_never_clears_a_folder_that_no_demo_made(short_folder: Path) -> None:
    precious = short_folder / "precious"
    precious.mkdir()
    (precious / "thesis.md").write_text("years of work")
    ran = run(short_folder, "demo", "--folder", str(precious), REFNET_HOME=str(short_folder / "h"))
    assert ran.returncode == 2
    assert (precious / "thesis.md").read_text() == "years of work"
    assert "no demo made it" in ran.stderr
