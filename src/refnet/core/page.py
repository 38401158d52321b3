"""Render HTML pages from Jinja2 templates: self-contained files without scripts, with everything escaped."""

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from refnet.core import formatting


def render(template: str, zone: tzinfo | None, **values: Any) -> str:
    """Return the page of `template` (in templates/) for `values`, with moments in `zone` (None: the machine's)."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "moment": lambda when: _moment(when, zone),
        "number": "{:,}".format,
        "seconds": _or_dash(formatting.seconds),
        "age": _or_dash(lambda seconds: formatting.age(timedelta(seconds=seconds))),
        "size": _or_dash(formatting.size),
    }
    return environment.get_template(template).render(values)


def _moment(when: datetime | str, zone: tzinfo | None) -> str:
    moment = datetime.fromisoformat(when) if isinstance(when, str) else when
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def _or_dash(shown: Callable[[float], str]) -> Callable[[float | None], str]:
    return lambda count: "–" if count is None else shown(count)
