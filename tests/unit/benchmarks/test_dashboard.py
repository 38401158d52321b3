"""The bench of the dashboard sees every file that a page loads, and every other host that it would ask."""

from __future__ import annotations

import pytest
from benchmarks import dashboard
from benchmarks.dashboard import Loaded, loaded


def found(page: str, style: str = "", policy: str = "default-src 'none'; img-src 'self' data:") -> Loaded:
    """What is loaded from a server that has `page` at / and `style` everywhere else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dashboard, "_get", lambda _, path: (page if path == "/" else style, policy))
        return loaded(0)


def test_scripts_styles_and_pictures_are_counted_once() -> None:
    page = '<link rel="stylesheet" href="/a.css?v=1"><script src="/b.js" defer></script><script src="/b.js"></script>'
    assert found(page, "12345").files == {"/a.css": 5, "/b.js": 5}
    assert found(f'{page}<a href="/other">x</a><p>https://in.a.text</p>', "").elsewhere == []


def test_other_hosts_are_found_in_the_page_its_styles_and_its_policy() -> None:
    page = '<script src="https://cdn.test/x.js"></script><img src="//cdn.test/y.png"><link href="/a.css">'
    seen = found(
        page, "a { background: url(https://font.test/z) } @import '//style.test/w';", "img-src http://p.test"
    )
    hosts = {one.partition("//")[2].partition("/")[0] for one in seen.elsewhere}
    assert hosts == {"cdn.test", "font.test", "style.test", "p.test"}
