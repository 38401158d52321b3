"""`refnet store check` on a real S3 server, with a credential that may not delete, one that may, and a wrong one."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.command import Command, Result
from tests.seaweed import BUCKET, LOCKED, REGION, Seaweed

from refnet.settings.stores import StoreSettings
from refnet.store.store_check import last_checks


class Checked:
    """The command with one store in its settings."""

    def __init__(self, folder: Path) -> None:
        for name in ("home", "nas"):
            (folder / name).mkdir()
        self.folder = folder
        self.refnet = Command(
            folder / "home", folder / "backups", "", {"REFNET_CONFIG": str(folder / "refnet.toml")}
        )

    def check(self, url: str, credential: Mapping[str, str] | None = None, **keys: str) -> Result:
        if credential:
            keys["credentials_file"] = str(self.folder / "s3.toml")
            lines = [f"{name} = {json.dumps(value)}\n" for name, value in credential.items()]
            (self.folder / "s3.toml").write_text("".join(lines))
            (self.folder / "s3.toml").chmod(0o600)
        table = {"url": url, **keys}
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in table.items()]
        (self.folder / "refnet.toml").write_text("[stores.cloud]\n" + "".join(lines))
        (self.folder / "refnet.toml").chmod(0o600)
        return self.refnet("store", "check", "cloud", "--json")


@pytest.fixture
def checked(tmp_path: Path) -> Checked:
    return Checked(tmp_path)


def _answers(ran: Result) -> dict[str, Any]:
    assert "Traceback" not in ran.err
    return {one["what"]: one for one in ran.json["tried"]}


def _alarms(ran: Result) -> list[str]:
    return [one["what"] for one in ran.json["tried"] if one["answer"] == "alarm"]


def test_a_store_that_refuses_deletions_passes_and_any_other_is_an_alarm(
    s3: Seaweed, checked: Checked
) -> None:
    there = {"endpoint": s3.endpoint, "region": REGION}
    url = f"s3://{LOCKED}/{secrets.token_hex(8)}"
    refnet = checked.refnet

    ran = checked.check(url, s3.machine, lock="1d", **there)
    assert (ran.code, _alarms(ran)) == (0, []), ran.out
    answers = _answers(ran)
    assert answers["delete"]["says"].startswith("refused: ")
    assert answers["delete the version"]["says"].startswith("refused: ")
    assert answers["bypass the lock"]["says"].startswith("refused: ")
    assert answers["shorten the lock"]["says"].startswith("refused: ")
    assert answers["lock"]["says"].startswith("until ")
    assert answers["versions"]["says"] == "kept and listed"
    assert s3.machine["secret_access_key"] not in ran.out + ran.err
    listed = refnet("store", "list", "--json").json["stores"]
    assert [(one["name"], one["check"]["alarm"]) for one in listed] == [("cloud", False)]
    assert "checked under 1 min ago" in refnet("monitor").out
    store = replace(StoreSettings.from_url(f"{url}?endpoint={s3.endpoint}"), name="cloud")
    [last] = last_checks(refnet.home / "remote", {"cloud": store}).values()
    assert last
    assert datetime.now(UTC) - last.at < timedelta(minutes=1)

    assert "extend the lock" not in answers
    ran = checked.check(url, s3.machine, lock="1d", extend_locks="true", **there)
    assert (ran.code, _alarms(ran)) == (0, []), ran.out
    assert _answers(ran)["extend the lock"]["says"].startswith("until ")
    assert _answers(ran)["shorten the lock"]["says"].startswith("refused: ")
    ran = checked.check(url, s3.writer, lock="1d", extend_locks="true", **there)
    assert (ran.code, _alarms(ran)) == (1, ["create"]), "it may not lock"

    ran = checked.check(url, s3.admin, lock="1d", **there)
    assert (ran.code, _alarms(ran)) == (1, ["delete"])
    assert "delete marker" in _answers(ran)["delete"]["says"]
    monitored = refnet("monitor")
    assert monitored.code == 2
    assert "the check under 1 min ago failed: delete: accepted" in monitored.out


def test_a_wrong_bucket_or_credential_or_missing_locks_are_named(s3: Seaweed, checked: Checked) -> None:
    there = {"endpoint": s3.endpoint, "region": REGION}
    ran = checked.check(f"s3://{BUCKET}/{secrets.token_hex(8)}", s3.admin, **there)
    assert (ran.code, _alarms(ran)) == (1, ["delete"])
    assert "this machine can delete every copy" in _answers(ran)["delete"]["says"]

    ran = checked.check("s3://another", s3.machine, **there)
    assert (ran.code, list(_answers(ran)), _alarms(ran)) == (1, ["connection", "list"], ["list"])
    assert "NoSuchBucket" in _answers(ran)["list"]["says"]

    ran = checked.check(f"s3://{LOCKED}", {**s3.machine, "secret_access_key": "wrong"}, **there)
    assert (ran.code, _alarms(ran)) == (1, ["list"])
    assert "SignatureDoesNotMatch" in _answers(ran)["list"]["says"]


def test_a_folder_is_checked_and_is_not_expected_to_refuse(checked: Checked) -> None:
    ran = checked.check(f"file://{checked.folder}/nas")

    assert (ran.code, _alarms(ran)) == (0, []), ran.out
    assert _answers(ran)["delete"]["says"] == "accepted: this machine can delete the copies there"
    assert list((checked.folder / "nas").iterdir()) == []

    (checked.folder / "nas").rmdir()
    ran = checked.refnet("store", "check", "cloud")
    assert ran.code == 1
    assert "does not exist" in ran.out
    checked.refnet("store", "check", "nowhere").fails(2, "'nowhere' is not configured")
