"""Children of the dashboard, with the real command line: their end, output, lock and loss; and hostile files of theirs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from refnet.core.errors import Exit, RefnetError
from refnet.core.processes import until
from refnet.settings import Settings
from refnet.web import child_process
from refnet.web.children import KEPT, BusyError, Child, Children

GOOD = {
    "kind": "backup",
    "source": "database",
    "title": "Backup of database",
    "words": ["settings"],
    "started": "2026-11-28T01:02:03+00:00",
    "exclusive": "",
}
NAME = "20261128T010203-0123456789ab"


@pytest.fixture
def children(home: Path) -> Children:
    return Children(Settings(home=home))


def ended(children: Children, child: Child) -> Child:
    assert until(lambda: not children.one(child.id).running, 30)
    return children.one(child.id)


def start(children: Children, *words: str, exclusive: str = "") -> Child:
    return children.start(words, kind="backup", source="", title="A run", exclusive=exclusive)


def program(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let a child be the Python program `text`, which SIGINT interrupts, also where the tests run in the background."""
    text = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{text}"
    module = "from refnet.web import child_process as c; import sys; from pathlib import Path\n"
    module += f"c.command = lambda words: (sys.executable, '-c', {text!r})\n"
    module += "c.supervise(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:])"

    def around(folder: Path, name: str, lock: int) -> tuple[str, ...]:
        return (sys.executable, "-c", module, str(folder), name, str(lock))

    monkeypatch.setattr("refnet.web.children.around", around)


def test_a_child_is_the_command_line_and_the_next_server_finds_its_result(
    children: Children, home: Path
) -> None:
    child = start(children, "settings")
    assert (child.words, child.code, child.error) == (("settings",), None, None)
    after = ended(Children(Settings(home=home)), child)
    assert (after.code, after.error, after.running) == (0, None, False)
    assert after.seconds
    assert after.result
    assert [one.id for one in Children(Settings(home=home)).all()] == [child.id]


def test_what_failed_and_what_to_do_are_its_two_lines(children: Children) -> None:
    after = ended(children, start(children, "show", "nothing.sql.gz"))
    assert after.code == Exit.USAGE or after.code
    assert after.error
    assert "nothing.sql.gz" in after.error[0]
    assert after.log()[0][-2:] == (f"refnet: {after.error[0]}", f"        {after.error[1]}")


def test_a_second_child_of_one_key_is_refused_while_the_first_runs(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(
        monkeypatch,
        "import sys, time\n"
        'print(\'{"step": "load", "done": 5, "total": 10}\', file=sys.stderr, flush=True)\n'
        "try: time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    print('refnet: interrupted\\n        Nothing half-done is live; retry.', file=sys.stderr); sys.exit(1)",
    )
    child = start(children, "x", exclusive="restore:database")
    with pytest.raises(BusyError) as busy:
        start(children, "x", exclusive="restore:database")
    assert (busy.value.child.id, busy.value.code) == (child.id, Exit.LOCKED)
    assert until(lambda: children.one(child.id).progress is not None, 30)
    step = children.one(child.id).progress
    assert step
    assert (step.step, step.done, step.total) == ("load", 5, 10)
    children.stop(child)
    after = ended(children, child)
    assert (after.code, after.error) == (1, ("interrupted", "Nothing half-done is live; retry."))
    assert after.log()[0][0] == "refnet: interrupted"  # and the line of progress is no message
    program(monkeypatch, "pass")
    assert ended(children, start(children, "x", exclusive="restore:database")).code == 0


def test_endless_output_is_kept_up_to_a_bound_with_the_reason_at_its_end(
    children: Children, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(
        monkeypatch,
        "import sys\n"
        "for _ in range(30000): print('x' * 100); print('y' * 100, file=sys.stderr)\n"
        "print('z' * 1000000 + '\\nrefnet: it failed\\n        Fix it.', file=sys.stderr); sys.exit(1)",
    )
    after = ended(children, start(children, "x"))
    assert (after.result, after.error) == (None, ("it failed", "Fix it."))
    for file in (home / "web").iterdir():
        assert file.stat().st_size < child_process.LONGEST_RESULT
    seen, at = 0, 0
    while lines := after.log(at)[0]:
        at, seen = after.log(at)[1], seen + len(lines)
    assert seen < 6000
    assert after.log(1 << 70)[0] == after.log(at)[0] == ()


def test_a_child_that_was_killed_is_lost_and_not_running(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(monkeypatch, "import os, time; print('[%d]' % os.getppid(), flush=True); time.sleep(600)")
    child = start(children, "x")
    out = children.folder / f"{child.id}.out"
    assert until(lambda: out.exists() and out.read_bytes().endswith(b"]\n"), 30)
    around = int(out.read_text()[1:-2])
    os.killpg(around, signal.SIGKILL)  # its session: the process around it, and itself
    after = ended(children, child)
    assert (after.code, after.result) == (None, None)
    assert after.error
    assert "ended early" in after.error[0]


def test_a_short_command_gives_its_output_and_is_ended_in_time(children: Children) -> None:
    said = asyncio.run(children.output(["settings", "--json"]))
    assert said.code == 0
    assert json.loads(said.stdout)
    with pytest.raises(RefnetError, match="did not end within"):
        asyncio.run(children.output(["settings"], seconds=0.01))


def put(home: Path, name: str, kind: str, text: str | bytes) -> None:
    data = text.encode() if isinstance(text, str) else text
    (home / "web" / (name + kind)).write_bytes(data)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../runs",
        NAME + "/../x",
        NAME + "\n",
        NAME.upper(),
        "20261128T010203-0123456789abc",
        "２" + NAME[1:],
    ],
)
def test_no_other_name_is_an_id(children: Children, home: Path, name: str) -> None:
    (home / "runs.json").write_text(json.dumps(GOOD))
    with pytest.raises(RefnetError, match="there is no run"):
        children.one(name)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff" * 100,
        b"[" * 100_000,
        b" " * (1 << 20),
        json.dumps(GOOD | {"kind": "../x"}),
        json.dumps(GOOD | {"words": "x"}),
        json.dumps(GOOD | {"words": ["x"] * 101}),
        json.dumps(GOOD | {"title": "x" * 301}),
        json.dumps(GOOD | {"started": "2026-11-28"}),
        json.dumps(GOOD | {"more": 1}),
    ],
)
def test_a_malformed_start_is_skipped(children: Children, home: Path, text: str | bytes) -> None:
    put(home, NAME, child_process.STARTED, text)
    assert children.all() == []
    with pytest.raises(RefnetError, match="there is no run"):
        children.one(NAME)


def test_links_and_files_of_other_kinds_are_not_read(children: Children, home: Path) -> None:
    secret = home / "secret"
    secret.write_text(json.dumps(GOOD))
    (home / "web" / f"{NAME}.json").symlink_to(secret)
    assert children.all() == []
    (home / "web" / f"{NAME}.json").unlink()
    put(home, NAME, child_process.STARTED, json.dumps(GOOD))
    for kind in (child_process.MESSAGES, child_process.RESULT, child_process.LOCK):
        (home / "web" / (NAME + kind)).symlink_to(secret)
    os.mkfifo(home / "web" / f"{NAME}.step")
    child = children.one(NAME)
    assert (child.running, child.progress, child.result, child.log()) == (False, None, None, ((), 0))
    os.chmod(home / "web" / f"{NAME}.json", 0o666)  # noqa: PTH101, S103
    assert children.all() == []


def test_a_file_in_the_place_of_their_folder_is_named(children: Children, home: Path) -> None:
    (home / "web").rename(home / "other")
    (home / "web").write_text("")
    for look in (children.all, lambda: start(children, "list")):
        with pytest.raises(RefnetError, match="web"):
            look()


def test_what_is_shown_is_bounded_and_plain(children: Children, home: Path) -> None:
    put(home, NAME, child_process.STARTED, json.dumps(GOOD))
    put(home, NAME, child_process.END, '{"code": 1, "seconds": 1}')
    put(home, NAME, child_process.RESULT, '{"name": "a\\udcff", "n": 1}')
    put(
        home,
        NAME,
        child_process.MESSAGES,
        b"\x1b[31m<b>\xff\n" + b"x" * 10_000 + b"\nrefnet: a\n        b\nrefnet: note: c\n",
    )
    child = children.one(NAME)
    assert child.result == {"name": "a?", "n": 1}
    lines, _ = child.log()
    assert lines[0].startswith("\\x1b[31m<b>")
    assert len(lines[1]) == 2000
    assert child.error == ("a", "b")
    for text in ('{"n": 1e999}', "[" * 200_000, '{"a":' * 200_000, "[1]"):
        put(home, NAME, child_process.RESULT, text)
        assert children.one(NAME).result is None


def test_only_the_newest_are_kept(children: Children, home: Path) -> None:
    for number in range(KEPT + 5):
        name = f"20261128T010203-{number:012x}"
        put(home, name, child_process.STARTED, json.dumps(GOOD))
        put(home, name, child_process.MESSAGES, "x")
    child = ended(children, start(children, "settings"))
    assert len(children.all()) == KEPT
    assert children.all()[0].id == max(child.id, children.all()[0].id)
    assert not (home / "web" / f"20261128T010203-{0:012x}.err").exists()


def test_values_that_a_file_could_not_hold_start_nothing(children: Children, home: Path) -> None:
    for words in (["x\0"], ["x" * 5000]):
        with pytest.raises(RefnetError) as refused:
            start(children, *words)
        assert refused.value.code == Exit.USAGE
    assert [*(home / "web").iterdir()] == []


def test_no_module_of_the_current_folder_is_imported() -> None:
    assert child_process.command(["x"]) == (sys.executable, "-P", "-m", "refnet", "x")
