"""forget, pin, unpin, tag: what a user decides about one artifact, and what is never deleted by mistake."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.actions.conftest import Lab

from refnet.actions import marks
from refnet.actions.prune import Rules
from refnet.catalog.artifact import Made
from refnet.catalog.evidence import Marks
from refnet.catalog.manifest import Evidence, Level, Manifest, Outcome
from refnet.catalog.schedule import Retention
from refnet.catalog.source_name import SourceName
from refnet.core.clock import Clock
from refnet.core.errors import Exit, RefnetError
from refnet.store.local import LocalStore

NOW = datetime(2026, 11, 25, 17, 0, 1, tzinfo=UTC)
DATABASE = SourceName.DATABASE


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "backups")


@pytest.fixture
def make(store: LocalStore) -> Callable[..., str]:
    """Make an artifact of `days` ago, proven unless it is said otherwise; its name."""

    def made(days: float, *, proven: bool = True, **values: Any) -> str:
        created = NOW - timedelta(days=days)
        details = {"database": values.pop("database", "shop"), "system_identifier": "1"}
        with store.draft(DATABASE) as draft:
            draft.out.write(b"x" * 10)
            manifest: Manifest = draft.publish(Made(created, details, **values), created, 1.0)
        entry = next(entry for entry in store.entries() if entry.name == manifest.name)
        if proven:
            store.record(entry, Evidence(created, Level.PROVEN, Outcome.PASSED, 1.0))
        return manifest.name

    return made


@pytest.fixture
def lab(store: LocalStore) -> Any:
    return Lab(store, None, Clock(lambda: NOW, lambda: 0.0))


def names(store: LocalStore) -> list[str]:
    return [entry.name for entry in store.entries()]


def refused(act: Callable[[], object]) -> RefnetError:
    with pytest.raises(RefnetError) as error:
        act()
    return error.value


def test_what_is_forgotten_is_gone_with_all_its_files(store: LocalStore, make: Any, lab: Any) -> None:
    old, new = make(3), make(1)
    planned = marks.plan_forgetting(lab, [old, old])
    assert [entry.name for entry in planned.entries] == [old]
    assert (planned.bytes_freed, planned.done, names(store)) == (10, False, [old, new])

    assert marks.forget(lab, planned).done
    assert names(store) == [new]
    assert not [path for path in store.folder(DATABASE).iterdir() if path.name.startswith(old)]
    assert store.leftovers() == ()


def test_each_databases_last_proven_artifact_stays_unless_forced(
    store: LocalStore, make: Any, lab: Any
) -> None:
    older, last, of_wiki = make(3), make(2), make(1, database="wiki")
    for name in (last, of_wiki):
        error = refused(lambda name=name: marks.plan_forgetting(lab, [older, name]))
        assert (error.code, error.message) == (Exit.USAGE, f"{name} is needed: the last proven one")

    planned = marks.plan_forgetting(lab, [last], force_last=True)
    assert planned.needed == {last: "the last proven one"}
    marks.forget(lab, planned)
    assert names(store) == [older, of_wiki]


def test_the_one_before_a_loss_that_nobody_accepted_stays(make: Any, lab: Any) -> None:
    before = make(3)
    make(1, shrunk=("8 tables of 9 are gone",), shrunk_from=before)

    assert "shrank" in refused(lambda: marks.plan_forgetting(lab, [before])).message


def test_a_pinned_one_is_forgotten_by_no_option(store: LocalStore, make: Any, lab: Any) -> None:
    old, _new = make(3), make(1)
    marks.mark(lab, marks.pin(lab, old))

    error = refused(lambda: marks.plan_forgetting(lab, [old], force_last=True))
    assert (error.code, error.message) == (Exit.USAGE, f"{old} is pinned")
    marks.mark(lab, marks.unpin(lab, old))
    marks.forget(lab, marks.plan_forgetting(lab, [old]))
    assert old not in names(store)


def test_a_pin_after_the_plan_still_holds(store: LocalStore, make: Any, lab: Any) -> None:
    old, older, _new = make(3), make(4), make(1)
    planned = marks.plan_forgetting(lab, [older, old])
    marks.mark(lab, marks.pin(lab, old))

    assert refused(lambda: marks.forget(lab, planned)).message == f"{old} is pinned"
    assert older in names(store)


def test_a_plan_is_refused_if_the_newer_artifact_is_damaged_meanwhile(
    store: LocalStore, make: Any, lab: Any
) -> None:
    old, new = make(3), make(1)
    planned = marks.plan_forgetting(lab, [old])
    newest = next(entry for entry in store.entries() if entry.name == new)
    store.record(newest, Evidence(NOW, Level.INTACT, Outcome.FAILED, 1.0))

    assert "the last proven one" in refused(lambda: marks.forget(lab, planned)).message
    assert names(store) == [old, new]


def test_of_two_that_forget_the_same_the_second_is_told(store: LocalStore, make: Any, lab: Any) -> None:
    old, _new = make(3), make(1)
    planned = marks.plan_forgetting(lab, [old])
    with store.lock(DATABASE):
        assert refused(lambda: marks.forget(lab, planned)).code is Exit.LOCKED
    marks.forget(lab, planned)

    assert refused(lambda: marks.forget(lab, planned)).message == f"{old} is gone: another run deleted it"


def test_what_is_not_in_the_catalog_is_neither_forgotten_nor_marked(
    make: Any, lab: Any, tmp_path: Path, store: LocalStore
) -> None:
    name = make(3)
    for file in store.folder(DATABASE).glob(f"{name}*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    outside = str(tmp_path / name)
    for act in (lambda: marks.plan_forgetting(lab, [outside]), lambda: marks.pin(lab, outside)):
        assert refused(act).message == f"{name} is not in the catalog"
    assert refused(lambda: marks.plan_forgetting(lab, ["nothing"])).code is Exit.USAGE


def test_marks_are_listed_and_removed_with_the_last_of_them(store: LocalStore, make: Any, lab: Any) -> None:
    name = make(1)
    done = marks.mark(lab, marks.tag(lab, name, ["b", "a", "a"]))
    assert (done.done, store.entries()[0].marks) == (True, Marks(tags=("a", "b")))
    marks.mark(lab, marks.pin(lab, name, "2026-12-31"))
    assert store.entries()[0].marks.tags == ("a", "b")
    assert store.entries()[0].marks.pin(NOW).startswith("pinned until 2026-12-31")
    (file,) = store.folder(DATABASE).glob("*.marks.json")
    assert file.stat().st_mode & 0o777 == 0o600

    assert marks.tag(lab, name, ["a"]).changes_nothing
    marks.mark(lab, marks.unpin(lab, name))
    marks.mark(lab, marks.tag(lab, name, ["a", "b"], remove=True))
    assert not file.exists()


@pytest.mark.parametrize("until", ["2026-11-24", "2026-11-25T17:00:01+00:00", "tomorrow", "0001-01-01"])
def test_a_pin_ends_in_the_future(make: Any, lab: Any, until: str) -> None:
    name = make(1)
    assert refused(lambda: marks.pin(lab, name, until)).code is Exit.USAGE


@pytest.mark.parametrize("damage", [b"", b"{}", b"\0" * 100_000, "link", "folder"])
def test_unreadable_marks_keep_an_artifact_until_they_are_removed(
    store: LocalStore, make: Any, lab: Any, damage: Any, tmp_path: Path
) -> None:
    old, _new = make(30), make(1)
    file = store.folder(DATABASE) / f"{old}.marks.json"
    if damage == "link":
        (tmp_path / "target").write_bytes(Marks().to_file())
        file.symlink_to(tmp_path / "target")
    elif damage == "folder":
        file.mkdir()
    else:
        file.write_bytes(damage)

    (kept, _) = Rules(store, Retention(days=7), NOW).prune(DATABASE).decisions
    assert kept.keep
    assert kept.reasons[0].startswith("pinned, could not verify: ")
    for act in (
        lambda: marks.plan_forgetting(lab, [old], force_last=True),
        lambda: marks.pin(lab, old),
        lambda: marks.tag(lab, old, ["a"]),
    ):
        assert "cannot be read" in refused(act).message
    if damage != "folder":
        marks.mark(lab, marks.unpin(lab, old))
        assert [d.entry.name for d in Rules(store, Retention(days=7), NOW).prune(DATABASE).deleted] == [old]


def test_marks_that_changed_since_the_plan_are_not_overwritten(
    store: LocalStore, make: Any, lab: Any
) -> None:
    name = make(1)
    planned = marks.pin(lab, name)
    marks.mark(lab, marks.tag(lab, name, ["a"]))

    assert "has other marks now" in refused(lambda: marks.mark(lab, planned)).message
    assert store.entries()[0].marks == Marks(tags=("a",))
