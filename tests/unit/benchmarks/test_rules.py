"""The rules that `./dev check` enforces find what breaks them."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.rules import forks, main

_PATH = Path("one.py")


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos.fork()",
        "import os\npid = os.forkpty()[0]",
        "from os import fork",
        "import subprocess\nsubprocess.Popen(['true'], preexec_fn=print)",
        "import multiprocessing",
        "from multiprocessing import get_context",
        "from multiprocessing.pool import Pool",
        "import multiprocessing.pool",
        "from concurrent.futures import ProcessPoolExecutor",
        "import concurrent.futures\nconcurrent.futures.ProcessPoolExecutor()",
        "from billiard import Process",
        "import multiprocessing.connection\nmultiprocessing.Process()",
        "import os as system\nsystem.fork()",
        "import subprocess\nsubprocess.Popen(['true'], **{'preexec_fn': print})",
    ],
)
def test_a_fork_without_exec_is_found(text: str) -> None:
    assert list(forks(_PATH, text))


@pytest.mark.parametrize(
    "text",
    [
        "import subprocess\nsubprocess.Popen(['true'], pass_fds=[3])",
        "from multiprocessing.connection import Connection",
        "from concurrent.futures import ThreadPoolExecutor",
    ],
)
def test_a_new_program_and_a_thread_are_no_fork(text: str) -> None:
    assert not list(forks(_PATH, text))


def test_a_tree_with_a_fork_fails_and_names_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "one.py").write_text("import os\nos.fork()\n")
    assert main() == 1
    assert "one.py:2: os.fork forks" in capsys.readouterr().err
