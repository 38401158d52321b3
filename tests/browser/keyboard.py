"""Hands on the keyboard alone."""

from __future__ import annotations

from playwright.sync_api import Locator, Page

_MOST = 400
_SEEN = """
() => {
    const at = document.activeElement, box = at.getBoundingClientRect(), style = getComputedStyle(at);
    return {
        what: at.outerHTML.slice(0, 160),
        body: at === document.body,
        shown: box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0,
        marked: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0,
    };
}
"""


def reach(page: Page, wanted: Locator) -> None:
    """Press Tab until `wanted` has the focus."""
    target = wanted.element_handle()
    for _ in range(_MOST):
        page.keyboard.press("Tab")
        if page.evaluate("target => document.activeElement === target", target):
            return
    raise AssertionError(f"Tab never reaches {wanted}")


def walk(page: Page) -> list[str]:
    """Press Tab through the whole page; return each element that has the focus and is not seen to have it."""
    wrong = []
    for _ in range(_MOST):
        page.keyboard.press("Tab")
        seen = page.evaluate(_SEEN)
        if seen["body"]:
            break
        if not (seen["shown"] and seen["marked"]):
            wrong.append(seen["what"])
    return wrong
