"""Copies on a real S3 server: delete markers hide nothing with --deleted, and only the second credential prunes."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from tests.command import Command
from tests.seaweed import LOCKED, REGION, Seaweed, credentials_file


def test_prune_deletes_due_copies_and_names_deleted_and_locked_ones(s3: Seaweed, tmp_path: Path) -> None:
    for name in ("home", "notes"):
        (tmp_path / name).mkdir()
    refnet = Command(tmp_path / "home", tmp_path / "backups", "", {"REFNET_DATABASE_URL": ""})
    keys = {
        "url": f"s3://{LOCKED}/{secrets.token_hex(8)}",
        "endpoint": s3.endpoint,
        "region": REGION,
        "credentials_file": credentials_file(tmp_path / "s3.toml", s3.machine),
        "retention": "keep-last=1",
    }

    def write(**more: str) -> None:
        store = "".join(f"{name} = {json.dumps(value)}\n" for name, value in {**keys, **more}.items())
        key = f"[encryption]\nrecipients = [{json.dumps(recipient)}]\n"
        (tmp_path / "refnet.toml").write_text(
            f"[folders.notes]\npath = '{tmp_path}/notes'\n{key}[stores.cloud]\n{store}"
        )
        (tmp_path / "refnet.toml").chmod(0o600)

    made = refnet("key", "new", "--json").json
    recipient = made["recipient"]
    (tmp_path / "key").write_text(made["recovery_key"])
    (tmp_path / "key").chmod(0o600)
    pruner = credentials_file(tmp_path / "prune.toml", s3.pruner)
    for number, more in enumerate(({}, {"lock": "1d"}, {})):
        write(**more)
        (tmp_path / "notes" / "a.md").write_text(f"# {number}\n" * 1000)
        assert refnet("backup", "notes", "--no-prove").code == 0
    first, second, third = sorted(path.name for path in (tmp_path / "backups" / "notes").glob("*.tar.gz"))

    admin = s3.bucket(keys["url"].rpartition("/")[2], bucket=LOCKED)
    for one in list(admin.listed("")):
        admin.delete(one.name)  # only a mark
    hidden = refnet("list", "--store", "cloud", "--json").json
    assert (hidden["artifacts"], len(hidden["gaps"])) == ([], 1)
    listed = refnet("list", "--store", "cloud", "--deleted", "--json").json
    assert ([one["name"] for one in listed["artifacts"]], listed["gaps"]) == ([first, second, third], [])
    read = ["cat", third, "a.md", "--store", "cloud", "--deleted", "--identity-file", str(tmp_path / "key")]
    assert refnet(*read).out == "# 2\n" * 1000

    planned = refnet("prune", "--store", "cloud", "--plan", "--json").json
    assert planned["sources"] == []
    [plan] = planned["stores"]
    assert {one["name"]: one["keep"] for one in plan["artifacts"]} == {
        first: False,
        second: False,
        third: True,
    }
    refnet("prune", "--store", "cloud").fails(2, "no credential that may delete", "prune_credentials_file")
    assert "cloud" not in refnet("prune", "notes").out

    write(prune_credentials_file=pruner)
    done = refnet("prune", "notes")
    assert done.code == 0, done.err
    assert f"deleted  {first}" in done.out
    assert "locked" in next(line for line in done.out.splitlines() if second in line)
    assert "deleted 1 (" in done.out
    assert "kept 2 copies in cloud" in done.out
    assert [len(one["artifacts"]) for one in refnet("prune", "--plan", "--json").json["stores"]] == [2]
    assert s3.pruner["secret_access_key"] not in done.out + done.err

    (tmp_path / "empty").mkdir()
    empty = Command(tmp_path / "empty", tmp_path / "none", "", {"REFNET_DATABASE_URL": ""})
    page = (
        "--identity-file",
        str(tmp_path / "key"),
        "--signer",
        refnet("key", "show", "--json").json["signer"],
    )
    seen = empty("list", "--store", "cloud", "--deleted", *page, "--json").json
    assert ([one["name"] for one in seen["artifacts"]], seen["gaps"]) == ([second, third], [])
