"""The settings file of `refnet init`: what is written is what is read, whatever the answers contain."""

from __future__ import annotations

import os
import threading
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet.actions.init import QUESTIONS, SettingsDraft, start
from refnet.core.errors import Exit, RefnetError
from refnet.settings import load, read_file

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
VALUES = st.dictionaries(
    st.sampled_from(["database_url", "backup_dir", "config.entries", "schedule.database"]),
    TEXT | st.lists(TEXT, max_size=4),
)


@given(VALUES)
def test_the_file_is_toml_with_the_same_values(table: dict[str, object]) -> None:
    read = tomllib.loads(SettingsDraft(Path("/x"), {}, table).text())
    flat = {k: v for k, v in read.items() if not isinstance(v, dict)}
    nested = {
        f"{t}.{k}": v for t, values in read.items() if isinstance(values, dict) for k, v in values.items()
    }
    assert flat | nested == table


@given(TEXT.filter(bool))
def test_a_password_is_hidden_in_what_is_shown(password: str) -> None:
    draft = SettingsDraft(
        Path("/x"), {}, {"database_url": f"postgresql://u:pass{password}@h/d", "backup_dir": "/b"}
    )
    assert tomllib.loads(draft.text(hidden=True)) == {"database_url": "(hidden)", "backup_dir": "/b"}


def test_a_file_that_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "refnet.toml"
    file.write_text("jobs = 1\n")
    with pytest.raises(RefnetError) as raised:
        SettingsDraft(file, {}, {"jobs": 2}).write()
    assert raised.value.code is Exit.USAGE
    assert file.read_text() == "jobs = 1\n"


def test_of_several_at_once_one_writes_the_file(tmp_path: Path) -> None:
    begin = threading.Barrier(8)

    def write(number: int) -> int | None:
        begin.wait()
        try:
            SettingsDraft(tmp_path / "refnet.toml", {}, {"jobs": number}).write()
        except RefnetError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        wrote = [number for number in pool.map(write, range(8)) if number is not None]
    assert [path.name for path in tmp_path.iterdir()] == ["refnet.toml"]
    assert [tomllib.loads((tmp_path / "refnet.toml").read_text())["jobs"]] == wrote


def with_config(here: Path, folder: str | Path) -> SettingsDraft:
    """A draft with an answer to the second question, in the current folder `here`."""
    draft = start({"REFNET_HOME": str(here / "home")}, here)
    return draft.answered(QUESTIONS[1], str(folder))[0]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    return here


def test_a_configuration_of_many_files_is_written_so_that_it_can_be_read(here: Path, tmp_path: Path) -> None:
    (folder := tmp_path / "sites").mkdir()
    for number in range(150):
        (folder / f"site{number}.example.org.conf").touch()
    draft = with_config(here, folder)
    draft.write()
    found = load({"REFNET_HOME": str(here)}, here, root=False, cores=1, given=read_file(draft.file))
    assert len(found.config_entries) == 150


def test_a_settings_file_that_would_be_too_large_to_be_read_is_refused(here: Path, tmp_path: Path) -> None:
    (folder := tmp_path / "etc").mkdir()
    for number in range(400):
        (folder / f"{number:0200}").touch()
    with pytest.raises(RefnetError, match=r"--config-dir: .* larger than 65,536 bytes") as raised:
        with_config(here, folder)
    assert raised.value.code is Exit.USAGE


def test_names_that_config_entries_cannot_contain_are_left_out(here: Path, tmp_path: Path) -> None:
    (folder := tmp_path / "etc").mkdir()
    for name in (b"a.conf", b"b\nc", b"d\xff", b"e|f", b"g?", b" h", b"i,j"):
        (folder / os.fsdecode(name)).touch()
    draft = with_config(here, folder)
    assert draft.table["config.entries"] == ["a.conf?", "i,j?"]


@pytest.mark.parametrize("folder", ["/" + "a" * 300, "/a" * 3000, "/proc/1/cwd/nothing"])
def test_a_folder_that_cannot_be_opened_is_refused_in_two_lines(here: Path, folder: str) -> None:
    with pytest.raises(RefnetError) as raised:
        with_config(here, folder)
    assert raised.value.code is Exit.USAGE
