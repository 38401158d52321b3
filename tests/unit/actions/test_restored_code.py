"""Which command lines run what is in a folder that a backup brings."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from refnet.sources.restored_places import runs


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `brought` with a program, and programs outside of it: bin is on PATH, and so is brought/bin."""
    for name in ("brought/deploy/prepare", "brought/stop", "bin/pause", "bin/make", "own/run"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o700)
    (tmp_path / "bin" / "linked").symlink_to("../brought/deploy/prepare")
    (tmp_path / "bin" / "through").symlink_to("../brought/way/out")
    (tmp_path / "way").symlink_to("brought/deploy")
    (tmp_path / "bin" / "py").symlink_to("/usr/bin/python3.99")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin:{tmp_path / 'brought' / 'bin'}")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "cwd", "expected"),
    [
        ("{}/brought/deploy/prepare", "own", True),
        ("{}/brought/not-there-yet", "own", True),
        ("{}/own/../brought/stop", "own", True),
        ("{}/way/prepare", "own", True),
        ("linked", "own", True),
        ("through", "own", True),
        ("deploy/prepare", "brought", True),
        ("./run", "brought", True),
        ("only-later", "own", True),  # it may come to be in brought/bin, which is on PATH
        ("sh {}/brought/stop", "own", True),
        ("sh -c 'cd {}/brought && ./stop'", "own", True),
        ("env FOO=1 PATH={}/brought/bin:/bin x", "own", True),
        ("make -C {}/brought", "own", True),
        ("make up", "brought", True),  # its Makefile
        ("python3.13 -m tool", "brought", True),
        ("py tool", "brought", True),
        ("pause {}/brought/deploy/prepare", "own", True),
        ("pause --script={}/brought/deploy/prepare", "own", True),
        ("pause stop", "brought", True),
        ("pause", "own", False),
        ("pause now", "brought", False),
        ("pause stop", "own", False),
        ("make up", "own", False),
        ("{}/own/run", "brought", False),
        ("chown -R backup: {}/brought", "own", False),
        ("sh -c 'echo done'", "own", False),
        ("{}/brought-not/x", "own", False),
    ],
)
def test_a_command_runs_what_was_brought_whatever_leads_there(
    machine: Path, line: str, cwd: str, expected: bool
) -> None:
    words = shlex.split(line.format(machine))
    if words[0] == "chown":
        words[0] = "/bin/chown"
    assert runs(words, machine / cwd, [machine / "brought"]) is expected


@pytest.mark.parametrize("program", ["pause", "sh", "{}/own/run"])
def test_an_argument_that_is_too_long_for_a_name_is_no_file(machine: Path, program: str) -> None:
    line = [program.format(machine), "--data", "x" * 300, f"{machine}/{'x' * 300}"]
    assert not runs(line, machine / "own", [machine / "brought"])
    assert runs([*line, f"{machine}/brought/stop"], machine / "own", [machine / "brought"])


def test_restored_folders_are_recognised_through_links_and_may_be_none(machine: Path) -> None:
    (machine / "alias").symlink_to("brought")
    line = [str(machine / "brought" / "stop")]
    assert runs(line, machine, [machine / "alias"])
    assert runs([str(machine / "alias" / "stop")], machine, [machine / "brought"])
    assert not runs(line, machine, [])


def test_a_circle_of_links_ends(machine: Path) -> None:
    (machine / "a").symlink_to("b")
    (machine / "b").symlink_to("a")
    assert not runs([str(machine / "a")], machine, [machine / "brought"])
