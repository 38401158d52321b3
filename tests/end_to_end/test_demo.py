"""`refnet demo`: the whole story runs, tells the truth, and leaves nothing running."""

from __future__ import annotations

import html
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import pytest

CHAPTER = re.compile(r"^(\d)\. ", re.MULTILINE)
PAPERS = 60
_SECONDS = 300.0
#: `refnet demo` in which the network and other chapters are those of a demo that was told: they are copied, not played.
_SHORTENED = """
import subprocess, sys
from refnet.cli import main
from refnet.demo import story

_, told, chapters, *sys.argv[1:] = sys.argv

def network(stage, papers):
    stage.chapter("A citation network is copied", "It has been collected by another demo.")
    kept = [f"{told}/{name}" for name in ("config", "vault", "home", "backups")]
    subprocess.run(["cp", "-a", *kept, stage.folder], check=True)
    stage.refnet("postgres", "start")

def left_out(stage, *_):
    stage.chapter("A chapter is left out", "It has been told by another demo.")

story._network = network
for name in chapters.split():
    assert hasattr(story, name)
    setattr(story, name, left_out)
main.run()
"""


def environment(folder: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {"REFNET_HOME": str(folder / "h")}


def start(
    folder: Path, place: Path, variables: Mapping[str, str], program: Sequence[str] = ("-m", "refnet")
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *program, "demo", "--papers", str(PAPERS), "--folder", str(place)],
        env=environment(folder) | variables,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def running_in(place: Path) -> list[str]:
    """Every process that works in `place`, or was started with a path in it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            at = str((folder / "cwd").readlink())
        except OSError:  # it has ended
            continue
        if str(place) in command or at.startswith(str(place)):
            found.append(command or at)
    return found


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


#: The place of a demo, and what starts it without some chapters.
Shortened = tuple[Path, Callable[[str], subprocess.Popen[str]]]


@pytest.fixture(scope="module")
def told(short_folder: Path, quick: dict[str, str]) -> tuple[Path, str]:
    """A demo that ran to its end: its folder, and what it said."""
    demo = start(short_folder, short_folder / "demo", quick)
    out, err = demo.communicate(timeout=900)
    assert demo.returncode == 0, out + err
    assert err == ""
    return short_folder / "demo", out


def test_demo_tells_the_whole_story_and_leaves_nothing_running(told: tuple[Path, str]) -> None:
    place, out = told
    assert len(set(CHAPTER.findall(out))) == 9
    for sentence in (
        "refnet crawl DOI:10.5555/",
        "is RefNet's own fake; it answered ",
        "$ refnet rank --top 5",
        "$ refnet summarize",
        "$ refnet notes",
        "proven (",
        "$ refnet restore obsidian --only",
        "$ refnet restore database --table citations --mode missing",
        "$ rm -rf -- config vault home",
        "refnet recover",
        "$ rm -rf -- config vault home backups",
        "refnet recover --store file://",
        "no difference: ",
        "(RTO)",
        "(RPO)",
        f"Everything is in {place}",
        f"The vault, for Obsidian: {place / 'vault'}; begin in its folder index",
    ):
        assert sentence in out
    assert running_in(place) == []


def test_what_came_back_is_what_stood_before_as_psql_and_sha256sum_saw_it(told: tuple[Path, str]) -> None:
    place, _ = told
    before = (place / "before.txt").read_text()
    papers = re.search(r"^papers\|(\d+)\|[0-9a-f]{32}$", before, re.MULTILINE)
    assert papers
    assert int(papers[1]) > PAPERS  # those that are cited, without details
    assert before.count("  vault/papers/") == PAPERS
    assert before == (place / "after.txt").read_text() == (place / "again.txt").read_text()
    sums = [line for line in before.splitlines() if "  " in line]
    check = ["sha256sum", "--check", "--quiet", "--strict"]
    subprocess.run(check, input="\n".join(sums), cwd=place, text=True, check=True)
    assert (
        place / "home" / "postgres" / "data"
    ).is_dir()  # where it was, not where root's server goes in need
    assert (place / "config" / ".env").stat().st_mode & 0o777 == 0o600


def test_the_page_is_self_contained_and_every_path_on_it_is_there(told: tuple[Path, str]) -> None:
    place, out = told
    page = (place / "story.html").read_text(encoding="utf-8")
    assert str(place / "story.html") in out
    assert not re.search(
        r"https?:|//[a-z]|<script|<img|<link|@import|url\(",
        page.replace("file:///", "").replace("http://127.0.0.1:", ""),
    )
    assert "(RTO)" in page
    assert "(RPO)" in page
    assert "AGE-SECRET-KEY-" not in page + out
    links = re.findall(r'href="([^"]+)"', page)
    assert {"backups/", "nas/", "paper/", "vault/", "config/", "home/"} < set(links)
    for link in links:
        assert (place / unquote(link)).exists(), link


def test_the_commands_that_the_page_says_to_try_next_run(
    told: tuple[Path, str], quick: dict[str, str]
) -> None:
    place, _ = told
    page = (place / "story.html").read_text(encoding="utf-8")
    shown = re.search(r'<pre id="next">(.*?)</pre>', page, re.DOTALL)
    assert shown
    lines = [line for line in html.unescape(shown[1]).splitlines() if "refnet drill" not in line]
    assert len(lines) > 6
    try:
        path, *rest = lines
        assert path.startswith("export PATH=")
        script = "\n".join(["set -e", path, f"PATH={quick['PYTHONPATH']}:$PATH", *rest])
        ran = subprocess.run(
            ["bash", "-c", script],
            env=environment(place) | quick,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert ran.stdout.count("proven") >= 3
    finally:
        stop = [sys.executable, "-m", "refnet", "postgres", "stop"]
        subprocess.run(stop, env=environment(place) | {"REFNET_HOME": str(place / "home")}, check=True)
    assert running_in(place) == []


@pytest.fixture
def shortened(told: tuple[Path, str], short_folder: Path, quick: dict[str, str]) -> Iterator[Shortened]:
    """Starts a demo in the place of the one that was told, which is put back afterwards."""
    place, _ = told
    aside = place.rename(short_folder / "told")

    def begin(left_out: str) -> subprocess.Popen[str]:
        return start(short_folder, place, quick, ("-c", _SHORTENED, str(aside), left_out))

    yield place, begin
    shutil.rmtree(place)
    aside.rename(place)


def test_a_demo_interrupted_twice_during_a_proof_leaves_nothing_running(shortened: Shortened) -> None:
    place, begin = shortened
    demo = begin("")
    until(lambda: any("/scratch-" in command for command in running_in(place)) or demo.poll() is not None)
    demo.send_signal(signal.SIGINT)
    demo.send_signal(signal.SIGINT)
    out, err = demo.communicate(timeout=_SECONDS)
    assert demo.returncode == 1, out + err
    assert "refnet: interrupted\n" in err
    assert running_in(place) == []
    assert not list((place / "home" / "scratch").glob("scratch-*"))


def rob(place: Path) -> None:
    for artifact in (place / "backups" / "database").iterdir():
        artifact.unlink()


def remember_more(place: Path) -> None:
    with (place / "before.txt").open("a") as file:
        file.write("a note that was never there\n")


@pytest.mark.parametrize(
    ("left_out", "chapter", "harm", "says", "shows"),
    [
        (
            "_backup",
            "4. ",
            rob,
            "`refnet restore database --table citations --mode missing` ended with",
            [],
        ),
        (
            "_backup _note _rows",
            "6. ",
            remember_more,
            "`diff before.txt after.txt` ended with 1",
            ["     < a note that was never there\n"],
        ),
    ],
    ids=["a restore that fails", "something that did not come back"],
)
def test_a_demo_in_which_a_step_goes_wrong_says_so_and_fails(
    shortened: Shortened,
    left_out: str,
    chapter: str,
    harm: Callable[[Path], None],
    says: str,
    shows: list[str],
) -> None:
    place, begin = shortened
    with begin(left_out) as demo:
        assert demo.stdout
        assert demo.stderr
        out = []
        for line in demo.stdout:
            out.append(line)
            if line.startswith(chapter):
                harm(place)
        said = demo.stderr.read()
        assert demo.wait(_SECONDS) == 1
    assert f"the demo failed: {says}" in said
    assert [line for line in out if line.startswith(("     <", "     >"))] == shows
    assert "Traceback" not in said
    assert not (place / "story.html").exists()
    assert running_in(place) == []


def test_demo_never_clears_a_folder_that_no_demo_made(short_folder: Path, quick: dict[str, str]) -> None:
    precious = short_folder / "precious"
    precious.mkdir()
    (precious / "thesis.md").write_text("years of work")
    demo = start(short_folder, precious, quick)
    _, err = demo.communicate(timeout=_SECONDS)
    assert demo.returncode == 2
    assert (precious / "thesis.md").read_text() == "years of work"
    assert "is not a demo's" in err
