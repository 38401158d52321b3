"""A manifest that is lost or damaged: list names it, adopt makes it again, and the artifact is as good as before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests import oracle
from tests.command import Command
from tests.faults.conftest import Live


def _lost(manifest: Path) -> None:
    manifest.unlink()


def _one_wrong_byte(manifest: Path) -> None:
    manifest.write_bytes(b"[" + manifest.read_bytes()[1:])


HARMS = (_lost, _one_wrong_byte)


def _adopted(refnet: Command, path: Path, harm: Callable[[Path], None], told_by: str) -> None:
    """Harm the manifest of the proven artifact at `path`, and adopt it."""
    (before,) = refnet("list", "--json").json["artifacts"]
    assert before["state"] == "proven"
    harm(path.with_name(f"{path.name}.json"))

    assert refnet("list", "--json").json["artifacts"] == []
    listed = refnet("list").out
    assert f"unreadable: {path}" in listed
    assert "`refnet adopt`" in listed
    assert path.name in refnet("monitor", path.parent.name).out
    refnet("prune").succeeds()
    planned = refnet("adopt", path, "--plan")
    planned.succeeds()
    assert f"a manifest is made from {told_by}" in planned.out
    assert refnet("list", "--json").json["artifacts"] == []
    refnet("adopt", path).succeeds()
    (after,) = refnet("list", "--json").json["artifacts"]
    assert (after["name"], after["size"], after["state"]) == (before["name"], before["size"], "intact")
    refnet("verify", path.parent.name).succeeds()
    (proven,) = refnet("list", "--json").json["artifacts"]
    assert proven["state"] == "proven"


def test_the_manifest_of_a_database_is_made_again_from_its_own_index(
    refnet: Command, live: Live, proven: Path
) -> None:
    (before,) = refnet("list", "--json").json["artifacts"]
    shown = refnet("show", before["name"], "--json").json["manifest"]
    del shown["details"]["unprotected"]  # the artifact cannot say what else was on the server
    for harm in HARMS:
        _adopted(refnet, proven, harm, "its own index")

        again = refnet("show", before["name"], "--json").json["manifest"]
        kept = ("created", "size", "sha256", "details", "partial")
        assert {key: again[key] for key in kept} == {key: shown[key] for key in kept}, harm
    portrait = live.portrait()
    live.run("DELETE FROM summaries")
    refnet("restore", "database", "--force").succeeds()
    assert oracle.differences(portrait.inside, live.portrait().inside) == []


def test_the_manifest_of_a_vault_is_made_again_from_its_list_of_files(
    refnet: Command, tmp_path: Path
) -> None:
    vault = tmp_path / "vault"
    (vault / "papers").mkdir(parents=True)
    (vault / "papers" / "note.md").write_text("# A note\n")
    refnet = Command(refnet.home, refnet.backups, refnet.url, {"REFNET_VAULT_DIR": str(vault)})
    refnet("backup", "obsidian").succeeds()
    (path,) = (refnet.backups / "obsidian").glob("*.tar.gz")
    for harm in HARMS:
        _adopted(refnet, path, harm, "its list of files")

    (vault / "papers" / "note.md").unlink()
    refnet("restore", "obsidian", "--force").succeeds()
    assert (vault / "papers" / "note.md").read_text() == "# A note\n"


def test_what_a_damaged_manifest_held_is_kept_beside(refnet: Command, written: Path) -> None:
    path = written
    manifest = path.with_name(f"{path.name}.json")
    _one_wrong_byte(manifest)
    damaged = manifest.read_bytes()
    told = refnet("verify", path)
    assert told.code == 4
    assert f"`refnet adopt {path}`" in told.err
    refnet("adopt", path).succeeds()

    assert manifest.with_name(f"{manifest.name}.damaged").read_bytes() == damaged
    refnet("adopt", path).fails(1, "has a manifest already")
