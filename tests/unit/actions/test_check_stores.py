"""`refnet check` of remote stores: their credentials can be read, and they answer."""

from functools import partial
from pathlib import Path

import pytest

from refnet.actions.check import check_store_answers
from refnet.settings import FILE_NAME, load
from refnet.sources.check_result import CheckLine, CheckState, bounded


def _line(folder: Path, text: str) -> CheckLine:
    (folder / FILE_NAME).write_text(f"[stores.x]\n{text}")
    found = load({"REFNET_HOME": str(folder / "home")}, folder, root=False, cores=1)
    (line,) = bounded("store x", partial(check_store_answers, found, "x"))
    return line


def test_a_store_that_answers_is_ok_and_one_that_does_not_is_an_error(tmp_path: Path) -> None:
    text = f'url = "file://{tmp_path}/nas"\n'
    line = _line(tmp_path, text)
    assert (line.state, line.says) == (CheckState.ERROR, f"the folder {tmp_path}/nas does not exist")
    (tmp_path / "nas").mkdir(mode=0o700)
    assert _line(tmp_path, text) == CheckLine("store x", CheckState.OK, f"file://{tmp_path}/nas answers", "")


def test_a_folder_that_others_can_write_is_named(tmp_path: Path) -> None:
    text = f'url = "file://{tmp_path}/nas"\n'
    (tmp_path / "nas").mkdir()
    for mode, state, says in (
        (0o770, CheckState.WARNING, "its members can delete copies"),
        (0o707, CheckState.ERROR, "can be written by every user"),
        (0o755, CheckState.OK, "answers"),
    ):
        (tmp_path / "nas").chmod(mode)
        line = _line(tmp_path, text)
        assert line.state is state
        assert says in line.says


def test_a_credential_that_others_can_read_is_an_error_also_that_of_prune(tmp_path: Path) -> None:
    for name, mode in (("s3", 0o600), ("prune", 0o644)):
        (tmp_path / name).write_text('access_key_id = "a"\nsecret_access_key = "hunter2"\n')
        (tmp_path / name).chmod(mode)
    files = f'credentials_file = "{tmp_path}/s3"\nprune_credentials_file = "{tmp_path}/prune"\n'
    line = _line(tmp_path, 'url = "s3://bucket?endpoint=http://127.0.0.1:1"\n' + files)
    assert (line.state, line.says) == (
        CheckState.ERROR,
        f"the credential {tmp_path}/prune: can be read by others (mode 0644)",
    )


def test_a_program_that_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/none")
    assert "rclone is not installed" in _line(tmp_path, 'url = "rclone:x:y"\n').says
    assert "Debian's package is openssh-client" in _line(tmp_path, 'url = "sftp://nas/x"\n').says
