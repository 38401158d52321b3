"""The machine and its backup folder are gone: the recovery page and a credential that reads bring everything back."""

from __future__ import annotations

import io
import json
import secrets
import shlex
import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.command import Command
from tests.documents import ROOT, blocks
from tests.remote_store import NOW, Machine, delete, send_format_1
from tests.seaweed import LOCKED, REGION, Seaweed, credentials_file

from refnet.actions.fetch import FetchRequest
from refnet.cli import context, fetch, recover
from refnet.cli.options import StoreOptions
from refnet.cli.recover import Asked
from refnet.store.buckets.bucket import BucketError, BucketFailure
from refnet.store.buckets.folder import FolderBucket
from refnet.store.encryption import PrivateKey
from refnet.store.keys import GivenKeys, read_keys

NOTE = "# a note\n"


class Lost:
    """A machine with a configuration and a vault; its copies are in `store`, and then it is lost.

    `old`: sources whose copies have format 1.
    """

    def __init__(self, folder: Path, store: Mapping[str, str], old: Collection[str] = ()) -> None:
        self.folder, self.home = folder, folder / "home"
        self.url = store["url"]
        for name in ("config", "vault", "here"):
            (folder / name).mkdir()
        (folder / "vault" / "a.md").write_text(NOTE)
        refnet = self.machine("backups", REFNET_CONFIG_DIR=str(folder / "config"))
        made = refnet("key", "new", "--json").json
        self.signer = made["signer"]
        (folder / "key").write_text(made["recovery_key"])
        (folder / "key").chmod(0o600)
        keys = "".join(f"{name} = {json.dumps(value)}\n" for name, value in store.items())
        (folder / "config" / "compose.yaml").write_text("services: {}\n")
        (folder / "config" / ".env").write_text("PASSWORD=made-up\n")
        (folder / "config" / "refnet.toml").write_text(
            f'vault_dir = "{folder}/vault"\n[encryption]\nrecipients = [{json.dumps(made["recipient"])}]\n'
            f"[stores.nas]\n{keys}"
        )
        (folder / "config" / "refnet.toml").chmod(0o600)
        settings = ("--config", str(folder / "config" / "refnet.toml"))
        refnet(*settings, "backup", "config", "obsidian", "--no-prove").succeeds()
        for source in old:
            self._send_as_format_1(source)
        for name in ("home", "config", "vault", "backups"):
            shutil.rmtree(folder / name)

    def _send_as_format_1(self, source: str) -> None:
        """Replace the copy of a source in the store `nas` by one of format 1."""
        recovery = PrivateKey.parsed((self.folder / "key").read_text().strip())
        machine = Machine(self.home, FolderBucket(self.folder / "nas"), recovery, name="nas")
        machine.ticks = int((datetime.now(UTC) - NOW).total_seconds() // 60)
        [copy] = (one for one in machine.store().entries() if one.source == source)
        opened = machine.store(key=True).artifact(copy)
        with opened.open() as reader:
            data = reader.read()
        packed = opened.packed_files()
        delete(machine.store(), copy)
        send_format_1(machine, replace(opened, open=lambda: io.BytesIO(data), packed_files=lambda: packed))

    def machine(self, backups: str, **environment: str) -> Command:
        """The command with a backup folder of its own, and the page in a file."""
        self.home.mkdir(exist_ok=True)
        own = {"REFNET_DATABASE_URL": "", "REFNET_IDENTITY_FILE": str(self.folder / "key")} | environment
        return Command(self.home, self.folder / backups, "", own)


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Lost:
    folder = tmp_path_factory.mktemp("lost")
    (folder / "nas").mkdir(mode=0o700)
    return Lost(folder, {"url": f"file://{folder}/nas"})


@pytest.mark.parametrize("old", [("config",), ("obsidian",), ("config", "obsidian")])
def test_copies_of_format_1_are_recovered_beside_those_of_format_2(
    tmp_path: Path, old: tuple[str, ...]
) -> None:
    (tmp_path / "nas").mkdir(mode=0o700)
    lost = Lost(tmp_path, {"url": f"file://{tmp_path}/nas"}, old)
    assert len([*tmp_path.glob("nas/manifests/*.age")]) == len(old)
    assert len([*tmp_path.glob("nas/*/manifests/*.age")]) == 2 - len(old)

    done = lost.machine("recovered")("recover", "--from", lost.url, "--signer", lost.signer, "--force")

    assert done.code == 0, done.out + done.err
    assert (tmp_path / "vault" / "a.md").read_text() == NOTE
    assert (tmp_path / "config" / ".env").read_text() == "PASSWORD=made-up\n"
    given = ("--signer", lost.signer, "--identity-file", str(tmp_path / "key"))
    listed = lost.machine("recovered")("list", "--store", lost.url, *given, "--json").json
    assert {one["source"] for one in listed["artifacts"]} == {"config", "obsidian"}
    assert listed["gaps"] == []


def test_a_plan_names_what_would_be_fetched_and_who_signed_it(lost: Lost) -> None:
    refnet = lost.machine("planned")
    planned = refnet("recover", "--from", lost.url, "--signer", lost.signer, "--plan")
    planned.succeeds()
    assert planned.out.count(f"signed by {lost.signer}") == 2
    told = refnet("fetch", "--store", lost.url, "--signer", lost.signer, "--plan", "--json").json
    assert {one["source"]: one["new"] for one in told["copies"]} == {"config": True, "obsidian": True}
    assert all(one["size"] > 0 for one in told["copies"])
    assert not (lost.folder / "planned").exists()


def test_only_a_signer_of_the_page_and_its_key_are_used(lost: Lost, tmp_path: Path) -> None:
    refnet = lost.machine("refused")
    refnet("recover", "--from", lost.url, "--force").fails(4, lost.signer, "recovery page", "--signer")
    made = refnet("key", "new", "--json", REFNET_HOME=str(tmp_path)).json
    (tmp_path / "page").write_text(made["recovery_key"])
    (tmp_path / "page").chmod(0o600)
    other = ("--identity-file", str(tmp_path / "page"), "--signer", lost.signer)
    refnet("recover", "--from", lost.url, *other).fails(2, "opens none of 2 manifests")
    refnet("recover", "--from", "nase").fails(2, "neither a stage nor a remote store")
    refnet("recover", "--from", lost.url, "--store", "file:///other").fails(2, "two stores")
    refnet("fetch").fails(2, "--store")
    assert not (lost.folder / "refused").exists()


def test_what_was_removed_there_is_said_once(lost: Lost, tmp_path: Path) -> None:
    shutil.copytree(lost.folder / "nas", tmp_path / "nas")
    next((tmp_path / "nas").glob("*/manifests/*_config_*")).unlink()
    planned = lost.machine("gap")(
        "recover", "--from", f"file://{tmp_path}/nas", "--signer", lost.signer, "--plan"
    )
    assert planned.code == 4
    assert planned.err.count("missing: number 1") == 1


def test_a_recovery_from_a_rolled_back_store_exits_4_with_an_alarm(lost: Lost, tmp_path: Path) -> None:
    shutil.copytree(lost.folder / "nas", tmp_path / "nas")
    next((tmp_path / "nas").glob("*/manifests/*_config_*")).unlink()
    asked = ("recover", "--store", f"file://{tmp_path}/nas", "--signer", lost.signer)
    own = {"REFNET_VAULT_DIR": str(tmp_path / "vault")}

    done = lost.machine("rolled")(*asked, "--only", "vault", "--force", **own)
    told = lost.machine("rolled")(*asked, "--only", "vault", "--force", "--json", **own)

    assert (done.code, told.code) == (4, 4)
    assert done.out.splitlines()[-1].startswith("alarm: ")
    assert "missing: number 1" in done.out.splitlines()[-1]
    assert (tmp_path / "vault" / "a.md").read_text() == NOTE
    assert ["missing: number 1" in one for one in told.json["gaps"]] == [True]


def test_a_store_that_was_rolled_back_is_asked_about_at_a_terminal(
    lost: Lost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(lost.folder / "nas", tmp_path / "nas")
    next((tmp_path / "nas").glob("*/manifests/*_config_*")).unlink()
    asked: list[str] = []
    monkeypatch.setattr(recover, "at_terminal", lambda: True)
    monkeypatch.setattr(recover, "confirm", lambda question, **_: asked.append(question))
    for name, value in lost.machine("typed")._environment({}).items():
        monkeypatch.setenv(name, value)
    place = StoreOptions(store=f"file://{tmp_path}/nas", signer=[lost.signer])

    for options in (Asked(), Asked(plan=True), Asked(force=True)):  # the last two ask nothing
        recover._open(options, place)

    assert len(asked) == 1
    assert "missing: number 1" in asked[0]
    assert asked[0].endswith("Recover from the remaining copies?")


def test_the_recovery_key_is_asked_for_once_if_versions_cannot_be_listed(
    lost: Lost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def ask(file: Path | None) -> GivenKeys:
        asked.append(file)
        return read_keys(lost.folder / "key")

    def refuse(bucket: FolderBucket, prefix: str) -> None:
        raise BucketError(
            BucketFailure.REFUSED, f"versions of {prefix} refused by {bucket.shown}", "Permit it."
        )

    monkeypatch.setattr(context, "recovery_keys", ask)
    monkeypatch.setattr(FolderBucket, "versions", refuse)
    for name, value in lost.machine("asked")._environment({}).items():
        monkeypatch.setenv(name, value)
    _, found = fetch.opened(StoreOptions(store=lost.url, signer=[lost.signer]), FetchRequest())
    assert (len(asked), len(found.chosen)) == (1, 2)
    assert "this credential cannot list deleted" in capsys.readouterr().err


@pytest.mark.parametrize("page", ["runbook.md", "runbook.ja.md"])
def test_the_commands_of_the_runbook_bring_everything_back(lost: Lost, page: str) -> None:
    backups = lost.folder / page
    [block] = [one for one in blocks(ROOT / "docs" / page, "sh") if "recover --store file:///mnt/nas" in one]
    given = block.replace("file:///mnt/nas", lost.url).replace("SHA256:…", lost.signer)
    lines = [shlex.split(line, comments=True) for line in given.splitlines() if line.startswith("refnet ")]
    assert [line[1] for line in lines] == ["recover", "recover"]
    refnet = lost.machine(page)
    for line in lines:
        refnet(*line[1:]).succeeds()
    assert (lost.folder / "vault" / "a.md").read_text() == NOTE
    assert (lost.folder / "config" / ".env").read_text() == "PASSWORD=made-up\n"
    assert (lost.home / "keys" / "signing").exists()  # this machine can send copies again
    listed = lost.machine(page, REFNET_CONFIG_DIR="")("list", "--json").json["artifacts"]
    assert {one["state"] for one in listed} == {"intact"}
    assert all(one["path"].startswith(str(backups)) for one in listed)
    for name in ("home", "config", "vault"):
        shutil.rmtree(lost.folder / name)


def test_on_a_real_server_delete_markers_hide_no_copies_from_recovery(s3: Seaweed, tmp_path: Path) -> None:
    prefix = secrets.token_hex(8)
    own = {
        "url": f"s3://{LOCKED}/{prefix}",
        "endpoint": s3.endpoint,
        "region": REGION,
        "credentials_file": credentials_file(tmp_path / "s3.toml", s3.machine),
    }
    lost = Lost(tmp_path, own)
    admin = s3.bucket(prefix, bucket=LOCKED)
    for one in list(admin.listed("")):
        admin.delete(one.name)
    reading = credentials_file(tmp_path / "read.toml", s3.reader)
    url = f"{own['url']}?endpoint={s3.endpoint}&region={REGION}&credentials_file={reading}"
    refnet = lost.machine("back")
    refnet("recover", "--from", url, "--signer", lost.signer, "--force").succeeds()
    assert (tmp_path / "vault" / "a.md").read_text() == NOTE
    again = refnet("fetch", "--store", url, "--signer", lost.signer, "--json").json
    assert [one["new"] for one in again["copies"]] == [False, False]

    (tmp_path / "vault" / "a.md").write_text("# what the store does not have\n")
    refnet("backup", "obsidian", "--no-prove", REFNET_VAULT_DIR=str(tmp_path / "vault")).succeeds()
    refnet("recover", "--from", url, "--signer", lost.signer, "--force").succeeds()
    assert (tmp_path / "vault" / "a.md").read_text() == NOTE
