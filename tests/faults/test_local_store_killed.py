"""The local store and its runs: killed at every step, told to end, and several at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.faults.store import NOW, publish, visible

from refnet.catalog.artifact import Made
from refnet.catalog.evidence import Marks
from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.store.local import LocalStore

PINNED, NEW = Marks(pinned=True), Marks(tags=("new",))


def killed_at(root: Path, work: str, step: int, when: str) -> bool:
    """Whether the run died at `step` (one call of the operating system), before or after it was done."""
    child = os.fork()
    if child == 0:
        try:
            _die_at(step, when)
            _run(LocalStore(root), work)
            os._exit(0)
        except BaseException:  # noqa: BLE001  # nothing of the child may go on with the parent's tests
            traceback.print_exc()
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, -signal.SIGKILL}
    return code != 0


def _die_at(last: int, when: str) -> None:
    """Have this process kill itself at its call number `last` of what changes a disk."""
    steps = 0

    def stepping(call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == last and when == "early":
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return call(*arguments, **named)
            finally:
                if steps == last:
                    os.kill(os.getpid(), signal.SIGKILL)

        return step

    for name in ("open", "write", "fsync", "link", "unlink", "rename", "replace"):
        setattr(os, name, stepping(getattr(os, name)))


def _run(store: LocalStore, work: str) -> None:
    with store.lock(SourceName.OBSIDIAN):
        if work == "publish":
            with store.draft(SourceName.OBSIDIAN) as draft:
                draft.out.write(b"second")
                draft.publish(Made(NOW, {}, files=b"[2]"), NOW, 1.0)
            return
        entry = next(entry for entry in store.entries() if entry.name.endswith("_170001.tar.gz"))
        if work == "delete":
            store.delete(entry)
        else:
            store.mark(entry, NEW)


@pytest.mark.parametrize("when", ["early", "late"])
@pytest.mark.parametrize("work", ["publish", "delete", "mark"])
def test_a_kill_at_any_step_leaves_each_artifact_whole_or_gone(tmp_path: Path, work: str, when: str) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        store = LocalStore(tmp_path / str(step))
        publish(store, b"first", b"[1]")
        if work != "publish":
            publish(store, b"second", b"[2]")
            marked = next(entry for entry in store.entries() if entry.name.endswith("_170001.tar.gz"))
            store.mark(marked, PINNED)
        killed = killed_at(store.root, work, step, when)

        contents = []
        for entry in store.entries():
            assert not entry.damaged
            was_marked = work != "publish" and entry.name.endswith("_170001.tar.gz")
            assert entry.marks in ([PINNED, NEW] if was_marked else [Marks()])
            held = store.artifact(entry)
            with held.open() as reader:
                contents.append((reader.read(), held.files()))
        first, second = (b"first", b"[1]"), (b"second", b"[2]")
        assert contents in ([first], [first, second])
        assert store.unlisted() == ()

        for leftover in store.leftovers():
            store.clean(leftover)
        assert store.leftovers() == ()
        marks = [name for name in visible(store) if name.endswith(".marks.json")]
        assert len(visible(store)) == 3 * len(contents) + len(marks)
        publish(store, b"the next one just works")
    assert step > (5 if work == "mark" else 10)


HOLD = """
import sys, time
from pathlib import Path

from refnet.catalog.source_name import SourceName
from refnet.store.local import LocalStore
with LocalStore(Path(sys.argv[1])).lock(SourceName.DATABASE):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_runs_lock_is_told_by_process_and_ends_with_it(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(RefnetError, match=f"process {holder.pid}") as refused,
            store.lock(SourceName.DATABASE),
        ):
            pass
        assert refused.value.code is Exit.LOCKED
        holder.kill()
        holder.wait()
        with store.lock(SourceName.DATABASE):
            pass


WRITE = """
import sys
from datetime import datetime, UTC
from pathlib import Path

from refnet.catalog.artifact import Made
from refnet.catalog.source_name import SourceName
from refnet.store.local import LocalStore
NOW = datetime(2026, 11, 25, 17, 0, 1, tzinfo=UTC)
store = LocalStore(Path(sys.argv[1]), flat=True)
sys.stdin.readline()
for number in range(20):
    with store.draft(SourceName.OBSIDIAN) as draft:
        data = f"{sys.argv[2]} {number}".encode()
        draft.out.write(data)
        print(draft.publish(Made(NOW, {"data": data.decode()}, files=data), NOW, 1.0).name)
"""


def test_two_runs_writing_into_one_folder_never_take_each_others_names(tmp_path: Path) -> None:
    """Such a folder has no lock (--to DIR)."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, str(tmp_path), who],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for who in ("one", "two")
    ]  # fmt: skip
    names: list[str] = []
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("go\n")
        run.stdin.flush()
    for run in runs:
        told, failed = run.communicate(timeout=300)
        assert run.returncode == 0, failed
        names += told.split()

    store = LocalStore(tmp_path, flat=True)
    assert len(set(names)) == len(names) == 40
    assert {entry.name for entry in store.entries()} == set(names)
    for entry in store.entries():
        held = store.artifact(entry)
        with held.open() as reader:
            assert reader.read() == held.files() == entry.manifest.details["data"].encode()


DRAFT = """
import sys
from pathlib import Path
import typer
from refnet.cli import main

from refnet.catalog.source_name import SourceName
from refnet.store.local import LocalStore

@main.app.command("hold")
def hold(folder: Path) -> None:
    with LocalStore(folder).draft(SourceName.DATABASE) as draft:
        draft.out.write(bytes(3 << 20))
        print("half", flush=True)
        sys.stdin.read()

sys.argv = ["refnet", "hold", sys.argv[1]]
main.run()
"""


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_run_that_is_told_to_end_takes_its_half_written_file_with_it(
    tmp_path: Path, ending: signal.Signals
) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", DRAFT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with run:
        assert run.stdout is not None
        assert run.stdout.readline() == "half\n"
        assert len(visible(LocalStore(tmp_path))) == 1
        run.send_signal(ending)
        _, told = run.communicate(timeout=120)

    assert run.returncode == Exit.FAILED
    assert told.startswith("refnet: interrupted")
    assert visible(LocalStore(tmp_path)) == []
