"""The keys of remote copies: what is made, what is never overwritten, and what `check` reports."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from refnet.actions import keys
from refnet.actions.keys import check_key
from refnet.actions.overview import facts_reader
from refnet.catalog.remote import FORMAT
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings, StoreSettings
from refnet.sources.check_result import CheckState
from refnet.store.encryption import PrivateKey
from refnet.store.keys import MachineKeys

NOW = datetime(2026, 11, 29, tzinfo=UTC)
NAS = {"nas": StoreSettings.from_url("file:///mnt/nas")}


@pytest.fixture
def context(tmp_path):
    return Context(Settings(home=tmp_path / "home", stores=NAS))


def with_recipients(context, *recipients):
    return Context(replace(context.settings, encryption_recipients=recipients))


def everything(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_new_recovery_key_is_on_no_disk(context, tmp_path):
    done = keys.make(context, keys.plan_new(context, None))
    assert len(done.files) == 2
    assert done.recipients_after == (done.page.key.recipient.text,)
    stored = everything(tmp_path)
    assert done.page.key.recipient.text.encode() in stored
    for part in (done.page.key.revealed(), done.page.key.revealed()[20:40]):
        assert part.encode() not in stored
    assert done.to_json()["recovery_key"] == done.page.key.revealed()


@pytest.mark.parametrize(
    ("name", "start"), [("page.html", "<!DOCTYPE html>"), ("page.txt", "Recovery page of ")]
)
def test_a_page_is_written_where_the_user_says_for_the_user_alone(context, tmp_path, name, start):
    path = tmp_path / name
    done = keys.make(context, keys.plan_new(context, path))
    assert path.read_text().startswith(start)
    assert path.stat().st_mode & 0o777 == 0o600
    assert "recovery_key" not in done.to_json()
    assert done.page.key.revealed() not in json.dumps(done.to_json())


def test_a_page_is_made_again_for_a_key_that_the_user_has(context, tmp_path):
    with pytest.raises(RefnetError, match="no signing key"):
        keys.plan_page(context, tmp_path / "again.txt")
    made = keys.make(context, keys.plan_new(context, None))
    again = replace(keys.plan_page(context, tmp_path / "again.txt"), key=made.page.key)
    done = keys.make(context, again)
    assert (done.files, done.recipients_after) == ((), ())
    assert done.page.sections[:3] == made.page.sections[:3]
    assert "recovery_key" not in done.to_json()
    events = keys.history_file(context.settings).read().events
    assert [one.event for one in events] == ["made", "page"]


def test_a_page_is_stale_once_a_store_or_the_local_encryption_changes(context, tmp_path):
    made = keys.make(context, keys.plan_new(context, tmp_path / "page.txt"))
    settings = with_recipients(context, made.page.recipient).settings
    moved = replace(settings, stores={"nas": StoreSettings.from_url("file:///mnt/other")})
    local = replace(settings, encryption_local=True, backup_dir=tmp_path)

    def wrong(now):
        lines = [one for one in keys.check_keys(now) if one.what == "recovery page"]
        assert all(one.state is CheckState.WARNING for one in lines)
        return [one.says.removeprefix(f"the page of {made.page.recipient} ") for one in lines]

    assert wrong(settings) == []
    assert wrong(moved) == ["lacks file:///mnt/other and names file:///mnt/nas, which is not used"]
    assert wrong(local) == [f"lacks file://{tmp_path}/encrypted"]
    watched = facts_reader(moved, lambda: NOW)(None).checks()
    assert [one.says for one in watched if one.what == "recovery page"] == [
        (
            f"the page of {made.page.recipient} lacks file:///mnt/other and names file:///mnt/nas, which is not used:"
            " make it again: `refnet key page`"
        )
    ]
    here = Context(moved)
    keys.make(here, replace(keys.plan_page(here, tmp_path / "again.txt"), key=made.page.key))
    assert wrong(moved) == []


def test_of_a_page_from_before_its_stores_were_recorded_nothing_is_said(context):
    made = keys.make(context, keys.plan_new(context, None))
    file = keys.history_file(context.settings)
    line = json.loads(file.path.read_text())
    del line["stores"]
    file.path.write_text(json.dumps(line) + "\n")
    assert list(keys.stale_pages(with_recipients(context, made.page.recipient).settings)) == []


def test_a_page_whose_commands_read_an_older_format_of_copies_is_stale(context, tmp_path):
    made = keys.make(context, keys.plan_new(context, None))
    settings = with_recipients(context, made.page.recipient).settings
    file = keys.history_file(context.settings)
    line = json.loads(file.path.read_text())
    assert line.pop("reads") == FORMAT
    for without in ({}, {"stores": None}):
        file.path.write_text(json.dumps(line | without) + "\n")
        [said] = keys.stale_pages(settings)
        assert (
            said
            == f"the page of {made.page.recipient} has commands without RefNet that cannot read today's copies"
        )
    warned = [one.what for one in keys.check_keys(settings) if one.state is CheckState.WARNING]
    assert "recovery page" in warned
    here = Context(settings)
    keys.make(here, replace(keys.plan_page(here, tmp_path / "again.txt"), key=made.page.key))
    assert list(keys.stale_pages(settings)) == []


def test_a_page_overwrites_nothing(context, tmp_path):
    path = tmp_path / "page.html"
    planned = keys.plan_new(context, path)
    path.symlink_to(tmp_path / "elsewhere")
    for act in (lambda: keys.plan_new(context, path), lambda: keys.make(context, planned)):
        with pytest.raises(RefnetError, match="exists") as caught:
            act()
        assert caught.value.code is Exit.USAGE
    assert not (tmp_path / "elsewhere").exists()


def test_a_page_that_cannot_be_written_leaves_no_recipient(context, tmp_path):
    with pytest.raises(RefnetError):
        keys.make(context, keys.plan_new(context, tmp_path / "none" / "page.html"))
    assert keys.history_file(context.settings).read().events == ()


def test_a_plan_makes_nothing(context, tmp_path):
    planned = keys.plan_new(context, tmp_path / "page.html")
    assert planned.to_json()["done"] is False
    assert list(tmp_path.iterdir()) == []


def test_the_keys_of_a_machine_are_made_without_a_recovery_key(context):
    done = keys.make(context, keys.plan_new(context, None, machine=True))
    assert len(done.files) == 2
    assert done.page is None
    assert keys.make(context, keys.plan_new(context, None, machine=True)).files == ()


def test_a_rotation_replaces_one_recipient_and_names_it_on_the_page(context):
    first = keys.make(context, keys.plan_new(context, None)).page.key.recipient.text
    other = PrivateKey.new().recipient.text
    here = with_recipients(context, first, other)
    with pytest.raises(RefnetError, match="2 recovery keys are in use"):
        keys.plan_rotation(here, None, None)
    with pytest.raises(RefnetError, match="not one of"):
        keys.plan_rotation(here, None, "age1none")
    done = keys.make(here, keys.plan_rotation(here, None, first))
    assert done.recipients_after == (other, done.page.key.recipient.text)
    assert first in done.page.text(None)
    with pytest.raises(RefnetError, match="is not set"):
        keys.plan_rotation(context, None, None)


def test_a_page_that_is_two_rotations_old_is_recognized(context):
    here, made = context, [keys.make(context, keys.plan_new(context, None)).page.key]
    for _ in range(2):
        here = with_recipients(context, made[-1].recipient.text)
        made.append(keys.make(here, keys.plan_rotation(here, None, None)).page.key)
    here = with_recipients(context, made[-1].recipient.text)
    old, new, foreign = check_key(here, [made[0], made[2], PrivateKey.new()], ()).keys
    assert [one.recipient for one in old.replaced_by] == [key.recipient.text for key in made[1:]]
    assert (old.exit, new.exit, foreign.exit) == (Exit.DAMAGED, Exit.DONE, Exit.DAMAGED)
    assert old.checked is foreign.checked is foreign.made is None
    assert new.checked


def test_check_reports_missing_keys_and_pages_that_were_never_checked(context):
    def states():
        return [(line.what, line.state) for line in keys.check_keys(here.settings)]

    here = Context(replace(context.settings, stores={}))
    assert states() == []
    here = context
    assert states() == [
        ("signing key", CheckState.ERROR),
        ("catalog key", CheckState.ERROR),
        ("recovery key", CheckState.ERROR),
    ]
    key = keys.make(here, keys.plan_new(here, None)).page.key
    here = with_recipients(here, key.recipient.text)
    assert states() == [("recovery key", CheckState.WARNING)]
    check_key(here, [key], ())
    assert states() == [("recovery key", CheckState.OK)]
    MachineKeys.in_home(here.settings.home).signing_file.chmod(0o644)
    assert states() == [("signing key", CheckState.ERROR), ("recovery key", CheckState.OK)]


def test_show_has_no_private_part(context):
    assert keys.show(context).to_json() == {
        "signer": None, "public_key": None, "catalog": None, "recipients": [], "signers": [],
    }  # fmt: skip
    keys.make(context, keys.plan_new(context, None))
    shown = json.dumps(keys.show(context).to_json())
    assert MachineKeys.in_home(context.settings.home).signer().fingerprint in shown
    assert "SECRET" not in shown


def test_show_names_a_key_that_was_made_and_is_not_in_the_settings(context):
    made = [keys.make(context, keys.plan_new(context, None)).page.key.recipient.text for _ in range(2)]
    named = with_recipients(context, made[1])
    assert [(one.recipient, one.current) for one in keys.show(named).recipients] == [
        (made[1], True), (made[0], False),
    ]  # fmt: skip
