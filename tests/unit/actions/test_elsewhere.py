"""A restore to another place is refused by name where something else is, and where a password would be seen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from refnet.catalog.source_name import SourceName
from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings
from refnet.sources.database.database_restore import database_at
from refnet.sources.folder.source import folder_at


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a machine whose folders all exist."""
    folders = {name: tmp_path / name for name in ("home", "backups", "config", "vault")}
    for folder in folders.values():
        folder.mkdir()
    return Settings(
        home=folders["home"],
        backup_dir=folders["backups"],
        config_dir=folders["config"],
        config_entries=("docs/?",),
        vault_dir=folders["vault"],
    )


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("backups", "is the backup folder"),
        ("backups/obsidian", "is the backup folder, is in it"),
        ("home/x", "is REFNET_HOME"),
        ("", "is the backup folder, is in it, or contains it"),
        ("vault", "is the live folder of obsidian"),
        ("vault/papers/deep", "is the live folder of obsidian, is in it"),
        ("config/docs", "is the live folder of config"),
        ("to the vault", "is a link"),
        ("linked/vault/x", "is the live folder of obsidian, is in it"),
        ("file", "is not a folder"),
        ("file/x", "file is not a folder"),
        ("circle/x", "is not a folder"),
        ("full", "is not empty"),
        ("/", "is a folder of the system"),
        ("/etc", "is a folder of the system"),
        ("~", "is a folder of the system, or your home"),
        ("postgresql://other/shop", "is a URL, and obsidian is a folder"),
    ],
)
def test_a_folder_of_something_else_is_refused(
    settings: Settings, tmp_path: Path, asked: str, why: str
) -> None:
    (tmp_path / "to the vault").symlink_to("vault")
    (tmp_path / "linked").symlink_to(".")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    path = asked if asked.startswith(("/", "~", "postgresql:")) else str(tmp_path / asked)
    with pytest.raises(RefnetError, match=why) as refused:
        folder_at(settings, SourceName.OBSIDIAN, path, merge=False)
    assert refused.value.code is Exit.USAGE


@pytest.mark.parametrize("asked", ["new", "new/deep", "empty", "config/out"])
def test_a_new_or_empty_folder_is_taken_and_the_whole_of_it_is_written(
    settings: Settings, tmp_path: Path, asked: str
) -> None:
    (tmp_path / "empty").mkdir()
    target = folder_at(settings, SourceName.CONFIG, str(tmp_path / asked), merge=False)
    assert (target.folder, target.names, target.elsewhere) == (tmp_path / asked, None, True)


def test_a_folder_with_content_is_taken_for_a_merge(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    assert folder_at(settings, SourceName.OBSIDIAN, str(tmp_path / "full"), merge=True).elsewhere


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:geheim@other/shop",
        "postgresql://me@other/shop?password=geheim",
        "postgresql://me@other/shop?sslpassword=geheim",
        "host=other dbname=shop password=geheim",
        "postgresql://me:geheim@oth er/shop",
        "postgresql://me:ge/heim@other/shop",
        "postgresql://me:geheim@other",
    ],
)
def test_a_password_on_the_command_line_is_refused_and_not_repeated(
    url: str, no_postgres_variables: None
) -> None:
    with pytest.raises(RefnetError, match=r"^--to") as refused:
        database_at(url)
    assert refused.value.code is Exit.USAGE
    assert "heim" not in f"{refused.value.message} {refused.value.hint}"


def test_a_url_without_a_password_leaves_it_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "geheim")
    target = database_at("postgresql://me@other:6000/shop")
    assert target.display == "shop on other:6000"
    assert os.environ["PGPASSWORD"] not in target.conninfo


def test_the_name_of_a_previous_version_is_no_target() -> None:
    with pytest.raises(RefnetError, match="like a name that RefNet gives"):
        database_at("postgresql://me@other/shop_before_20261125_020000")
