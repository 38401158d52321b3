"""A restore in the browser: the plan, the name, live progress, the result, its undo; and a browser that closes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import replace
from typing import Any

from playwright.sync_api import Browser, Page, expect
from tests.browser.watched import Watched, watched
from tests.browser.world import World


def plan_of(world: World) -> str:
    """The path of the plan of the newest artifact of the database."""
    listed = json.loads(world.refnet("list", "--json"))["artifacts"]
    names = [one["name"] for one in listed if one["source"] == "database"]
    return f"/restore/plan?source=database&artifact={names[-1]}"


def confirm(page: Page, verb: str, name: str = "refnet") -> None:
    """Type the name, and start."""
    page.locator("#typed").fill(name)
    page.get_by_role("button", name=verb, exact=True).click()


def ended(page: Page) -> None:
    """The page shows, without a reload, that the run is done."""
    expect(page.locator("main .badge", has_text="done").first).to_be_visible(timeout=60_000)


def test_a_restore_needs_the_name_is_watched_to_its_result_and_undone(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    before = world.citations()
    world.lose()
    lost = world.citations()
    assert lost < before
    with watched(browser, url, storage_state=signed_in, wrong=True) as found:
        page = found.go(plan_of(world))
        assert "create a database beside refnet" in found.text()
        assert found.problems() == []
        confirm(page, "Restore", "refnett")
        assert "Nothing was started" in page.get_by_role("alert").inner_text()
        confirm(page, "Restore")
        page.wait_for_url("**/restore/runs/*")
        ended(page)
        assert world.citations() == before
        page.get_by_role("link", name="Undo").click()
        confirm(page, "Undo")
        page.wait_for_url("**/restore/runs/*")
        ended(page)
        assert world.citations() == lost
        assert not [one for one in found.wrong if "400" not in one], found.wrong


def test_a_restore_survives_its_browser_and_a_second_one_is_refused(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    world.hold.touch()
    try:
        with watched(browser, url, storage_state=signed_in) as found:
            found.go(plan_of(world))
            confirm(found.page, "Restore")
            found.page.wait_for_url("**/restore/runs/*")
        with watched(browser, url, storage_state=signed_in) as found:
            page = found.go(plan_of(world))
            assert "is already running" in page.get_by_role("alert").inner_text()
            assert page.locator("#typed").count() == 0
            found.go("/restore")
            page.locator("main tr", has_text="running").get_by_role("link").first.click()
            _still_running(found)
            world.hold.unlink()
            ended(page)
    finally:
        world.hold.unlink(missing_ok=True)


def _still_running(found: Watched) -> None:
    expect(found.page.locator("main .badge", has_text="running")).to_be_visible()
    assert found.problems() == []


def test_a_moment_before_the_first_artifact_is_answered_by_the_first_moment(
    browser: Browser, url: str, signed_in: Any
) -> None:
    for locale, button, earlier, first_one in (
        (
            "en-GB",
            "Show the plan",
            "{} is earlier than the first moment",
            r"The first one is (20[\d-]+) ([\d:]+)\+00:00: vault_",
        ),
        (
            "ja-JP",
            "計画を表示",
            "{} は、復元できる最初の時点より前です",
            r"最初の時点は (20[\d-]+) ([\d:]+)\+00:00（vault_",
        ),
    ):
        with watched(browser, url, storage_state=signed_in, wrong=True, locale=locale) as found:
            page = found.go("/restore?source=obsidian")
            page.locator("#at").fill("2020-01-01T02:00")
            page.get_by_role("button", name=button).click()
            said = page.get_by_role("alert").inner_text()
            assert earlier.format("2020-01-01 02:00:00+00:00") in said
            assert page.locator("#at").input_value() == "2020-01-01T02:00"
            first = re.search(first_one, said)
            assert first
            page.locator("#at").fill(f"{first[1]}T{first[2]}")
            page.get_by_role("button", name=button).click()
            assert "vault_" in page.locator("pre").first.inner_text()


def test_a_copy_in_a_store_shows_the_complete_command_and_asks_for_no_key(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    with watched(browser, url, storage_state=signed_in) as found:
        page = found.go("/restore?source=obsidian")
        page.get_by_role("link", name="nas (").click()
        assert found.problems() == []
        page.locator("main tbody a").first.click()
        here, far = (page.locator("pre code").nth(n).inner_text().strip() for n in (0, 2))
        assert page.locator("main input:not([type=hidden])").count() == 0
        assert found.problems() == []
    assert "--store=nas --plan" in here
    other = {name: value for name, value in world.environment.items() if name != "REFNET_CONFIG"}
    other |= {
        f"REFNET_{name}": str(world.folder / "other" / name) for name in ("HOME", "BACKUP_DIR", "VAULT_DIR")
    }
    (world.folder / "other").mkdir(mode=0o755)
    for machine, command in ((world, here), (replace(world, environment=other), far)):
        words = shlex.split(command)
        assert words[0] == "refnet"
        assert "vault_" in machine.refnet(*words[1:], f"--identity-file={world.paper}")
    assert f"--store={(world.folder / 'nas').as_uri()}" in far
    assert "--signer=SHA256:" in far


def test_a_folder_is_restored_under_another_name_and_merged_but_not_anywhere(
    browser: Browser, url: str, signed_in: Any, world: World
) -> None:
    new = world.folder / "vault as it was"
    listed = json.loads(world.refnet("list", "--json"))["artifacts"]
    name = next(one["name"] for one in reversed(listed) if one["source"] == "obsidian")
    path = f"/restore/plan?source=obsidian&artifact={name}"
    with watched(browser, url, storage_state=signed_in) as found:
        page = found.go(path)
        page.locator("#to").fill("/etc/cron.d")
        page.locator("#elsewhere ~ form").get_by_role("button").click()
        assert "only into a new folder beside the source" in found.text()
        assert (
            f"refnet restore obsidian {name} --to=/etc/cron.d" in page.locator("pre code").nth(1).inner_text()
        )
        assert page.locator("#typed").count() == 0
        page.locator("#to").fill(str(new))
        page.locator("#elsewhere ~ form").get_by_role("button").click()
        confirm(page, "Restore", "obsidian")
        page.wait_for_url("**/restore/runs/*")
        ended(page)
        assert len([*new.rglob("*.md")]) > 10
        shutil.rmtree(new)
        page = found.go(path)
        page.get_by_label("Merge").check()
        page.locator("#elsewhere ~ form").get_by_role("button").click()
        assert f"{name} --merge --plan" in found.text()
        confirm(page, "Restore", "obsidian")
        ended(page)
