"""The values of options and arguments, without pydantic, which takes longer to load than most commands run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import typer
from typer.core import RuntimeParam  # type: ignore[attr-defined]  # Typer's own annotation names it


@dataclass(frozen=True)
class _Value(RuntimeParam):
    """A reader of the text of one parameter."""

    #: Text → value; ValueError if it is none.
    read: Callable[[str], Any]

    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return [*map(self.read, value)] if isinstance(value, (list, tuple)) else self.read(value)
        except ValueError as error:
            raise typer.BadParameter(str(error), ctx=ctx, param=param) from None


def read_without_pydantic(param: Any) -> Any:
    """Return `param`, of a command of Typer, reading its own text; Typer reads one of a type that is not known here."""
    described = param.type_descriptor
    about = described.parameter_info
    kind = get_args(described.annotation)[0] if described.is_list else described.annotation
    read = about.parser or {str: str, Path: Path, bool: bool}.get(kind)
    if kind is int and about.min is not None:
        read = _number(about.min, about.max)
    if read:
        value = _Value(about, described.annotation, read)
        param.get_runtime_param = lambda: value
    return param


def _number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise ValueError(text)
        return value

    return read
