"""Commands and groups of the command line, with shared options and checks of arguments."""

from __future__ import annotations

import inspect
import re
import unicodedata
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import typer
from typer.core import (  # type: ignore[attr-defined]  # Typer's own annotation names RuntimeParam
    RuntimeParam,
    TyperCommand,
    TyperGroup,
)

from refnet.cli.examples import EXAMPLES
from refnet.cli.output import output
from refnet.core.errors import Exit, RefnetError, did_you_mean

_Function = TypeVar("_Function", bound=Callable[..., Any])
#: `-h` is `--help`, for every command of the root that has these settings.
HELP = {"help_option_names": ["-h", "--help"]}
#: Typer exports BadParameter of its errors of usage; the others are told apart by their names.
_UsageError: Any = typer.BadParameter.__base__
#: Former names of options, which still work and which nothing shows, by the names that took their place.
OLD = {
    "--store": ("--to",),
    "--source": ("--from", "--from-database"),
    "--from-stage": ("--from",),
    "--binary": ("--force",),
}
#: Titles in the help: what is under one fits only sources of that kind, and is refused with others.
DATABASES, FOLDERS, CLUSTERS = "For databases", "For folders", "For clusters"
#: The type that Typer shows after the name of an argument.
_TYPE = re.compile(r"(?<=[A-Z]) <[\w\[\]]+>$")
#: The most characters of an argument; a path on Linux has at most 4095 bytes.
_LONGEST = 4096
#: The arguments of several lines, and the control characters that may be in them.
_OF_LINES, _SPACES = {"sql"}, str.maketrans("\n\r\t", "   ")


def _quiet(value: bool) -> None:
    output.quiet |= value


def _verbose(value: bool) -> None:
    if value:
        output.print_details()


def _shared(
    *,
    _q: Annotated[
        bool,
        typer.Option(
            "-q", "--quiet", callback=_quiet, help="Print only errors, warnings and requested output."
        ),
    ] = False,
    _v: Annotated[
        bool,
        typer.Option(
            "-v", "--verbose", callback=_verbose, help="Also print each phase, program, server and check."
        ),
    ] = False,
) -> None:
    """Declare the options of every command."""


class _Shared:
    """The shared options, the checks of arguments, and the examples in the help."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        command: Any = self
        command.params = [*command.params, *_OPTIONS]

    def get_params(self, ctx: Any) -> list[Any]:
        parent: Any = super()
        return [_read_without_pydantic(param) for param in parent.get_params(ctx)]  # --help too

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments, and return the rest; RefnetError (USAGE) for invalid ones."""
        parent: Any = super()
        if ctx.parent is None:
            output.reset()
        try:
            if args and not ctx.resilient_parsing:
                _check(self, ctx, args)
            parsed: list[str] = parent.parse_args(ctx, args)
            if not ctx.resilient_parsing:
                _refuse_other_kind(self, ctx)
        except _UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                raise
            raise _usage(error, ctx) from None
        if output.quiet and output.verbose:
            raise RefnetError("--quiet and --verbose exclude each other", "Omit one of them.", Exit.USAGE)
        return parsed

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        parent: Any = super()
        old = {name for one in self.get_params(ctx) if one.param_type_name == "option" for name in _old(one)}
        return [one for one in parent.shell_complete(ctx, incomplete) if one.value not in old]

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if lines := EXAMPLES.get(ctx.command_path.partition(" ")[2]):
            with formatter.section("Examples"):
                for line in lines:
                    formatter.write(f"  {line}\n")


@dataclass(frozen=True)
class _Value(RuntimeParam):
    """Parser for the text of one parameter."""

    #: Text → value; ValueError if it is none.
    read: Callable[[str], Any]

    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return [*map(self.read, value)] if isinstance(value, (list, tuple)) else self.read(value)
        except ValueError as error:
            raise typer.BadParameter(str(error), ctx=ctx, param=param) from None


def _read_without_pydantic(param: Any) -> Any:
    """Let `param` parse its own text; unknown types stay with Typer.

    Typer parses with pydantic, which takes longer to import than most commands run.
    """
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


class Command(_Shared, TyperCommand):
    """A command."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for title, params in titled(self, ctx).items():
            if lines := help_lines(params, ctx):
                with formatter.section(title):
                    formatter.write_dl(lines)


class Group(_Shared, TyperGroup):
    """A group of commands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            near = did_you_mean(args[0], self.commands)
            raise RefnetError(
                f"'{args[0]}' is not a command of {ctx.command_path}",
                f"{near}`{ctx.command_path} --help` lists the commands.",
                Exit.USAGE,
            )
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        if not ctx._protected_args:
            raise RefnetError(f"{ctx.command_path} needs a command", _help(ctx), Exit.USAGE)
        return super().invoke(ctx)


class Commands(typer.Typer):
    """A group of commands under construction."""

    def __init__(self, about: str) -> None:
        super().__init__(help=about, cls=Group, no_args_is_help=True, rich_markup_mode=None)

    def command(self, name: str | None = None, **attributes: Any) -> Callable[[_Function], _Function]:
        return super().command(name, cls=Command, **attributes)


def titled(command: Any, ctx: Any) -> dict[str, list[Any]]:
    """Parameters of a command, by section of its help."""
    found: dict[str, list[Any]] = {"Arguments": [], "Options": []}
    for one in command.get_params(ctx):
        common = "Arguments" if one.param_type_name == "argument" else "Options"
        found.setdefault(getattr(one, "rich_help_panel", None) or common, []).append(one)
    return found


def help_lines(params: Iterable[Any], ctx: Any) -> list[tuple[str, str]]:
    """Term and text of each parameter for the help; arguments without their type, but with their choices."""
    lines = [(one, line) for one in params if (line := one.get_help_record(ctx))]
    return [(_TYPE.sub("", _without(term, _old(one))), text) for one, (term, text) in lines]


def _without(term: str, old: Iterable[str]) -> str:
    for name in old:
        term = re.sub(rf", {name}(?![\w-])", "", term)
    return term


def spread(function: Callable[..., None]) -> Callable[..., None]:
    """Expand each dataclass parameter into one option per field, in the section PANEL of the help if the class names it."""
    taken = inspect.signature(function, eval_str=True).parameters
    fields = {
        name: _in_panel(one.annotation)
        for name, one in taken.items()
        if isinstance(one.annotation, type) and is_dataclass(one.annotation)
    }

    def command(**values: Any) -> None:
        groups = {
            name: taken[name].annotation(**{each: values.pop(each) for each in names})
            for name, names in fields.items()
        }
        function(**groups, **values)

    together = [each for name, one in taken.items() for each in fields.get(name, {name: one}).values()]
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in together]
    )
    command.__doc__ = function.__doc__
    return command


def _in_panel(options: Any) -> dict[str, inspect.Parameter]:
    """The fields of a dataclass of options."""
    found = dict(inspect.signature(options, eval_str=True).parameters)
    for name, one in found.items() if hasattr(options, "PANEL") else ():
        kind, option = get_args(one.annotation)
        option = copy(option)
        option.rich_help_panel = options.PANEL
        found[name] = one.replace(annotation=Annotated[kind, option])
    return found


def _options() -> list[Any]:
    parent = typer.Typer(add_completion=False)
    parent.command()(_shared)
    options: Any = typer.main.get_command(parent).params
    for option in options:
        option.expose_value = False
    return [*options]


_OPTIONS = _options()
#: The options that may also come before the command.
SHARED = {name for option in _OPTIONS for name in option.opts}


def _check(command: Any, ctx: Any, args: list[str]) -> None:
    """Reject unusable values, and repeated options that take one value."""
    values, _, given = command.make_parser(ctx).parse_args(args=[*args])
    for param in given:
        name = _name(param)
        if given.count(param) > 1 and not (param.multiple or param.is_flag):
            raise RefnetError(f"{name} is given twice", "Give it once.", Exit.USAGE)
        value = values.get(param.name)
        for each in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(each, str) and (wrong := _wrong(each, lines=param.name in _OF_LINES)):
                raise RefnetError(f"{name} {wrong}", f"Give another value. {_help(ctx)}", Exit.USAGE)


def _refuse_other_kind(command: Any, ctx: Any) -> None:
    """Reject options that do not fit the kind of SOURCE."""
    source, groups = ctx.params.get("source"), titled(command, ctx)
    given = [
        (one, title.removeprefix("For "))
        for title in (DATABASES, FOLDERS, CLUSTERS)
        for one in groups.get(title, ())
        if ctx.get_parameter_source(one.name).name == "COMMANDLINE"
    ]
    if not given or not hasattr(source, "kind"):
        return
    from refnet.sources import kind_of  # `refnet --help` does not wait for it

    kind = kind_of(source)
    wrong = [
        (_name(one), title)
        for one, title in given
        if title != kind.options and one.name not in kind.more_options
    ]
    if wrong:
        names, only = zip(*wrong, strict=True)
        are, them = ("is", "it") if len(wrong) == 1 else ("are", "them")
        raise RefnetError(
            f"{', '.join(names)} {are} for {' and '.join(dict.fromkeys(only))} only; {source} is {kind.called}",
            f"Omit {them}. {_help(ctx)}",
            Exit.USAGE,
        )


def _wrong(value: str, *, lines: bool = False) -> str:
    if not value.strip():
        return "is empty"
    if len(value) > _LONGEST:
        return f"has {len(value):,} characters; at most {_LONGEST:,} are accepted"
    kept = value.translate(_SPACES) if lines else value
    controls = any(unicodedata.category(character) == "Cc" for character in kept)
    return "contains a control character" if controls else ""


def _usage(error: Any, ctx: Any) -> RefnetError:
    near, kind = "", type(error).__name__
    if kind == "NoSuchOption":
        message = f"there is no option {error.option_name[:100]}"
        near = f"Did you mean {error.possibilities[0]}? " if error.possibilities else ""
    elif kind == "MissingParameter":
        message = f"{_name(error.param)} is missing"
    elif isinstance(error, typer.BadParameter):
        param: Any = error.param
        numeric = getattr(param, "min", None) is not None
        wrong = (
            f"must be a number from {param.min:,} to {param.max:,}"
            if numeric
            else f"is wrong: {error.message[:200]}"
        )
        message = f"{_name(param)} {wrong}"
    else:
        message = error.format_message()[:200].rstrip(".")
        message = message[:1].lower() + message[1:]
    return RefnetError(message, f"{near}{_help(ctx)}", Exit.USAGE)


def _name(param: Any) -> str:
    if param.param_type_name != "option":
        return str(param.name.upper())
    old = _old(param)
    return str(max((one for one in param.opts if one not in old), key=len))


def _old(param: Any) -> set[str]:
    """Former names of an option."""
    return {old for name in param.opts for old in OLD.get(name, ()) if old in param.opts}


def _help(ctx: Any) -> str:
    return f"See `{ctx.command_path} --help`."
