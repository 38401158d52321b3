"""The style sheet has a rule for every class of the pages, and no other rules."""

from __future__ import annotations

import re
from pathlib import Path

import refnet.web

_WEB = Path(refnet.web.__file__).parent
#: For the script alone.
_NO_LOOK = {"copyable"}


def test_every_class_has_a_rule_and_every_rule_a_class() -> None:
    sheet = re.sub(r"/\*.*?\*/", "", (_WEB / "static" / "refnet.css").read_text(), flags=re.DOTALL)
    ruled = {
        name for rule in re.findall(r"([^{}]+){", sheet) for name in re.findall(r"\.([a-z][a-z-]*)", rule)
    }
    templates = "".join(file.read_text() for file in _WEB.glob("templates/*.j2"))
    given = re.sub(r"{%.*?%}|{{.*?}}", " ", " ".join(re.findall(r'class="((?:{{.*?}}|[^"])*)"', templates)))
    assert {*given.split()} - _NO_LOOK <= ruled
    files = [*_WEB.glob("pages/*.py"), _WEB / "static" / "refnet.js"]
    words = {*re.findall(r"[a-z][a-z-]*", templates + "".join(file.read_text() for file in files))}
    assert ruled <= words
