"""Set up in the browser: a retention with its simulation, a source, a store, a test message; a pin, a deletion, a prune."""

from __future__ import annotations

import json
import shutil
from typing import Any

from playwright.sync_api import Browser, expect
from tests.browser.test_restore import ended
from tests.browser.watched import PHONE, Watched, watched
from tests.browser.world import World
from tests.integration.listening import listening

from refnet.core.processes import until


def _text(world: World) -> str:
    return (world.folder / "config" / "refnet.toml").read_text()


def _written(found: Watched, button: str) -> None:
    """Write what the page shows, and come to the page that says so."""
    found.page.get_by_role("button", name=button).click()
    found.page.wait_for_url("**/settings/set-up?written=yes")
    assert found.problems() == []


def test_a_retention_is_simulated_shown_as_a_difference_and_written(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    before = _text(world)
    with watched(browser, url, storage_state=signed_in) as found:
        page = found.go("/settings")
        page.get_by_role("link", name="Set up").click()
        assert found.problems() == []
        page.get_by_role("link", name="database", exact=True).click()
        page.get_by_label("retention.database").fill("days=3 weekly=4")
        assert found.problems() == []
        page.get_by_role("button", name="Show the difference").click()
        shown = found.text()
        assert '-database = "days=90"\n+database = "days=3 weekly=4"' in shown
        assert "30 days" in shown
        assert "365 days" in shown
        assert "The next prune would also delete" in shown
        assert "open-sesame" not in page.content()
        assert found.problems() == []
        _written(found, "Write the settings file")
        expect(page.get_by_role("row", name="database")).to_contain_text("days=3 weekly=4")
        assert _text(world) == before.replace('database = "days=90"', 'database = "days=3 weekly=4"')
        assert "Restart" not in found.go("/settings").content()


def test_the_same_in_japanese_and_on_a_phone(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    with watched(browser, url, storage_state=signed_in, locale="ja-JP", viewport=PHONE) as found:
        page = found.go("/settings/set-up")
        assert found.sideways() == 0
        page.get_by_role("link", name="database", exact=True).click()
        page.get_by_label("retention.database").fill("days=120")
        page.get_by_role("button", name="差分を表示").click()
        assert "今保持されているバックアップが次回の期限切れ削除で削除されることはありません" in found.text()
        assert found.sideways() == 0
        _written(found, "設定ファイルに書き込む")
        assert 'database = "days=120"' in _text(world)


def test_a_folder_inside_of_a_source_is_added_and_one_outside_is_not(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    file, inside, before = (
        world.folder / "config" / "refnet.toml",
        world.folder / "config" / "docs",
        _text(world),
    )
    with watched(browser, url, storage_state=signed_in, wrong=True) as found:
        page = found.go("/settings/set-up")
        page.get_by_label("Name").fill("manuals")
        page.get_by_role("button", name="Continue").click()
        page.get_by_label("path").fill("/etc")
        page.get_by_label("schedule").fill("daily 05:30")
        page.get_by_role("button", name="Show the difference").click()
        assert "inside of a folder that is a source already" in page.get_by_role("alert").inner_text()
        assert page.get_by_label("schedule").input_value() == "daily 05:30"
        page.get_by_label("path").fill(str(inside))
        page.get_by_role("button", name="Show the difference").click()
        assert "database would no longer be backed up" in page.get_by_role("alert").inner_text()
        file.write_text('database_url = "own"\n' + before)
        page.get_by_role("button", name="Show the difference").click()
        assert "has changed since this form was made" in page.get_by_role("alert").inner_text()
        page.get_by_role("button", name="Show the difference").click()
        _written(found, "Write the settings file")
        expect(page.get_by_role("row", name="manuals")).to_contain_text("daily 05:30")
        assert "other values of: database_url" in found.go("/settings").content()
    assert _text(world) == (
        f'database_url = "own"\n{before}\n[folders.manuals]\npath = "{inside}"\nschedule = "daily 05:30"\n'
    )
    file.write_text(before)


def test_a_test_message_is_sent_and_lines_are_shown_for_what_no_page_writes(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    file = world.folder / "config" / "refnet.toml"
    before = _text(world)
    try:
        with watched(browser, url, storage_state=signed_in) as found, listening() as service:
            file.write_text(f'{before}\n[notify]\nurls = ["json://{service.url}/"]\n')
            page = found.go("/settings/set-up")
            page.locator("summary", has_text="Notifications:").click()
            assert '"mailtos://USER:PASSWORD@example.org?to=ADMIN@example.org"' in found.text()
            page.get_by_role("button", name="Send a test message").click()
            page.wait_for_url("**/runs/*")
            ended(page)
            assert service.titles == ["test"]
            file.write_text(before + '\n[notify]\nurls = ["json://127.0.0.1:1/"]\n')
            found.go("/settings/set-up").get_by_role("button", name="Send a test message").click()
            page.wait_for_url("**/runs/*")
            says = expect(page.locator("main"))
            says.to_contain_text("not every service accepted the test message", timeout=60_000)
    finally:
        file.write_text(before)


def test_an_artifact_is_pinned_tagged_and_unpinned(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    name = _names(world, "config")[0]
    with watched(browser, url, storage_state=signed_in) as found:
        page = found.go(f"/artifacts/config/{name}")
        page.get_by_role("button", name="Pin", exact=True).click()
        ended(page)
        page = found.go(f"/artifacts/config/{name}")
        page.get_by_role("textbox", name="Tag").fill("before-2027")
        page.get_by_role("button", name="Add the tag").click()
        ended(page)
        assert _marks(world, name) == {"pinned": True, "until": None, "tags": ["before-2027"]}
        unpin = page.get_by_role("button", name="Unpin")  # a page may be some seconds behind
        assert until(lambda: found.go(f"/artifacts/config/{name}") and unpin.is_visible(), 60)
        unpin.click()
        ended(page)
        remove = page.get_by_role("button", name="Remove the tag before-2027")
        assert until(lambda: found.go(f"/artifacts/config/{name}") and remove.is_visible(), 60)
        remove.click()
        ended(page)
        assert not (world.folder / "backups" / "config" / f"{name}.marks.json").exists()


def test_an_artifact_that_shrank_is_accepted(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    vault, whole = world.folder / "vault", world.folder / "whole"
    shutil.copytree(vault, whole)
    try:
        shutil.rmtree(vault / "papers")
        world.refnet("backup", "obsidian", code=1)
        name = _names(world, "obsidian")[-1]
        with watched(browser, url, storage_state=signed_in) as found:
            listed = found.page.locator(f'main a[href^="/artifacts/obsidian/{name}"]').first
            assert until(lambda: found.go("/timeline?source=obsidian") and listed.is_visible(), 60)
            listed.click()
            accept = found.page.get_by_role("link", name="Accept…")
            accept.click()
            assert name in found.text()
            assert found.problems() == []
            found.page.get_by_role("button", name="Do it").click()
            found.page.wait_for_url("**/runs/*")
            ended(found.page)
            accepted = found.page.locator("main .badge", has_text="accepted").first
            assert until(lambda: found.go(f"/artifacts/obsidian/{name}") and accepted.is_visible(), 60)
            assert not accept.is_visible()
    finally:
        shutil.rmtree(vault)
        whole.rename(vault)
        world.refnet("backup", "obsidian")


def test_an_artifact_is_deleted_once_its_name_is_typed(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    name = _names(world, "obsidian")[0]
    with watched(browser, url, storage_state=signed_in, wrong=True) as found:
        page = found.go(f"/artifacts/obsidian/{name}")
        page.get_by_role("link", name="Delete…").click()
        assert f"delete {name}" in found.text()
        assert found.problems() == []
        page.locator("#typed").fill("obsidian")
        page.get_by_role("button", name="Delete").click()
        assert "Nothing was started" in page.get_by_role("alert").inner_text()
        assert name in _names(world, "obsidian")
        page.locator("#typed").fill(name)
        page.get_by_role("button", name="Delete").click()
        page.wait_for_url("**/runs/*")
        ended(page)
        assert name not in _names(world, "obsidian")


def test_a_prune_shows_its_plan_in_japanese_and_deletes_once_confirmed(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    file, text, before = world.folder / "config" / "refnet.toml", _text(world), _names(world, "config")
    try:
        with watched(browser, url, storage_state=signed_in, locale="ja-JP") as found:
            page = found.go("/decide?verb=prune&source=config")
            assert "削除するものはありません。" in found.text()
            assert not page.locator("#typed").count()
            file.write_text(text.replace('config = "days=90"', 'config = "days=1"'))
            page = found.go("/stores")
            page.get_by_role("link", name="保持期間を過ぎたものを削除").click()
            assert before[0] in found.text()
            assert found.problems() == []
            page.locator("#typed").fill("prune")
            page.get_by_role("button", name="削除").click()
            page.wait_for_url("**/runs/*")
            expect(page.locator("main .badge", has_text="完了").first).to_be_visible(timeout=60_000)
    finally:
        file.write_text(text)
    assert before[-1] in _names(world, "config")
    assert before[0] not in _names(world, "config")


def _names(world: World, source: str) -> list[str]:
    listed = json.loads(world.refnet("list", "--json"))["artifacts"]
    return [one["name"] for one in listed if one["source"] == source]


def _marks(world: World, name: str) -> dict[str, Any]:
    file = world.folder / "backups" / "config" / f"{name}.marks.json"
    found = json.loads(file.read_text())
    return {key: found.get(key) for key in ("pinned", "until", "tags")} | {
        "pinned": bool(found.get("pinned"))
    }
