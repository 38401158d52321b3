"""Random folders come back as they were, for root and for an ordinary user; stock tools compare.

`./dev test` judges a few seeds. `JUDGES=1000 ./dev fuzz tests/judges/test_trees.py` judges 1,000 by each user, from a
random first seed (or from JUDGES_FIRST), in JUDGES_DIR instead of memory.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from tests.judges.trees import Tree, differences
from tests.memory import in_memory

from refnet import wiring
from refnet.actions import backup
from refnet.catalog.manifest import Entry
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.member_names import show
from refnet.settings import Settings
from refnet.sources.folder.source import Folder
from refnet.sources.restoring import RestoreRequest

FUZZ = os.environ.get("FUZZ_PROFILE") == "fuzz"
COUNT = int(os.environ.get("JUDGES", "25" if FUZZ else "8"))
FIRST = int(os.environ.get("JUDGES_FIRST", str(random.randrange(10**6) if FUZZ else 1)))
#: One of so many cases is proven as well.
PROVEN = 4


@pytest.fixture
def place() -> Iterator[Path]:
    for tool in ("rsync", "setfacl", "getfacl", "getfattr"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    folder = Path(tempfile.mkdtemp(prefix="rn-", dir=os.environ.get("JUDGES_DIR") or in_memory()))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def judge(place: Path, seed: int) -> str:
    """Back up a random folder, restore it elsewhere; what differs and is not named, or ""."""
    tree = Tree(place / "vault", seed)
    settings = Settings(home=place / "home", backup_dir=place / "backups", vault_dir=tree.root)
    context = Context(settings)
    made = backup.backup(context, SourceName.OBSIDIAN, backup.Options(prove=seed % PROVEN == 0))
    chosen = wiring.store(settings).artifact(Entry(made.manifest))
    folder = Folder(settings, SourceName.OBSIDIAN)
    work = folder.restoring(context, chosen, RestoreRequest(to=str(place / "out")))
    planned = work.plan(context)
    done = work.restore(context)
    named = "\n".join((*made.manifest.unchecked, *done.notes))
    if made.manifest.details["folders"] == 1 and not planned.changes:
        return ""  # nothing of an empty folder is restored
    found = differences(tree.root, place / "out")
    said = {path: any(show(one) in named for one in tree.names(path)) for path in (*found, *tree.odd)}
    wrong = [] if made.proof is None else list(made.proof.reasons)
    wrong += [f"{path!r}: {what}" for path, what in found.items() if not said[path]]
    wrong += [f"{path!r} is not named" for path in tree.odd if not said[path]]
    live = folder.restoring(context, chosen, RestoreRequest()).plan(context)
    return "; ".join([*wrong, *(f"{path!r} differs from itself" for path in live.changes.changed)])


@cache
def _imported() -> None:
    """Import what a judge needs: an ordinary user may not be able to read this Python."""
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        judge(Path(folder), PROVEN)


def as_user(place: Path, act: Callable[[], str]) -> str:
    """Run `act` as an ordinary user, in a child that writes its answer into `place`."""
    answer = place / "answer"
    answer.touch(mode=0o666)
    os.chown(place, 65534, 65534)
    answer.chmod(0o666)
    child = os.fork()
    if child == 0:
        said = "it ended with an exception"
        with suppress(BaseException):
            os.setgroups([65534, 100])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            try:
                said = act()
            except BaseException as error:  # noqa: BLE001  # the child only tells
                said = f"{type(error).__name__}: {error}"
            answer.write_text(said, encoding="utf-8", errors="backslashreplace")
        os._exit(0)
    os.waitpid(child, 0)
    return answer.read_text(encoding="utf-8")


@pytest.mark.parametrize("number", range(COUNT))
def test_a_random_folder_comes_back_as_it_was(place: Path, number: int) -> None:
    assert judge(place, FIRST + number) == "", f"JUDGES_FIRST={FIRST + number}"


@pytest.mark.parametrize("number", range(COUNT))
def test_a_random_folder_of_an_ordinary_user_comes_back_as_it_was(place: Path, number: int) -> None:
    if os.geteuid():
        pytest.skip("the other test is as an ordinary user already")
    _imported()
    assert as_user(place, lambda: judge(place, FIRST + number)) == "", f"JUDGES_FIRST={FIRST + number}"
