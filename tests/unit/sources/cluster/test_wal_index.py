"""What is in a folder of WAL, while pg_receivewal and prune change it."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread

from refnet.sources.cluster.wal_index import sizes_in


def test_a_file_that_is_renamed_meanwhile_hides_no_other_one(tmp_path: Path) -> None:
    (tmp_path / "stays").write_bytes(b"12345")
    over = Event()

    def rename() -> None:
        one, other = tmp_path / "a.partial", tmp_path / "a"
        one.touch()
        while not over.is_set():
            one, other = one.rename(other), one

    thread = Thread(target=rename)
    thread.start()
    try:
        assert all(sizes_in(tmp_path)["stays"] == 5 for _ in range(3000))
    finally:
        over.set()
        thread.join()


def test_a_folder_that_does_not_exist_has_nothing(tmp_path: Path) -> None:
    assert sizes_in(tmp_path / "none") == {}
