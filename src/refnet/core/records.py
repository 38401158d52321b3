"""Records: frozen dataclasses whose annotations also say how their JSON is checked and written.

    @dataclass(frozen=True)
    class Ended(Record):
        LAYOUT = Layout(longest=4 << 10)
        at: datetime
        code: Annotated[int, checked.integer(0, 255)]
        notes: Annotated[tuple[Words, ...], Most(10)] = ()

A field with a default may be missing. bool, datetime, StrEnum and Record need no check; `X | None` may be null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from enum import Enum, StrEnum, auto
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    NamedTuple,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)
from weakref import WeakValueDictionary

from refnet.core import checked
from refnet.core.checked import Check
from refnet.core.formatting import utf8

_T = TypeVar("_T")


class _Mark(Enum):
    RARE = auto()
    NEEDED = auto()
    FLAT = auto()


#: Not written if it is empty.
Rare = Annotated[_T, _Mark.RARE]
#: Refused if it is missing, although the class has a default.
Needed = Annotated[_T, _Mark.NEEDED]
#: A record whose fields stand among those of this one.
Flat = Annotated[_T, _Mark.FLAT]


@dataclass(frozen=True)
class Most:
    """The limit of the entries of a tuple or a mapping."""

    entries: int


@dataclass(frozen=True)
class Named:
    """The name of a field in JSON, if it differs from the name in the class."""

    name: str


@dataclass(frozen=True)
class Layout:
    """The document around the fields of a record."""

    #: Errors begin with `not WHAT: `.
    what: str = ""
    #: The size limit, in characters or bytes.
    longest: int = 4 << 20
    #: Drop unknown keys, which a later RefNet may write, instead of refusing them.
    more: bool = False
    #: The newest supported format, written before the fields unless it is one of them; 0: no format.
    format: int = 0
    #: The supported formats, for the error about a newer one; "": no such error.
    reads: str = ""
    indent: int | None = None
    ascii: bool = True
    end: str = "\n"
    #: Equal records of texts and integers are one object while it is in use.
    shared: bool = False


class _Field(NamedTuple):
    #: The names in the class and in JSON.
    own: str
    name: str
    check: Check
    required: bool
    rare: bool
    #: The class of a record whose fields stand among the others.
    flat: type[Record] | None


class _Plan(NamedTuple):
    """The fields, the format and the check that a class declares."""

    fields: tuple[_Field, ...]
    #: The format that is written before the fields; 0: none.
    constant: int
    read: Check


class Record:
    """The base class of records."""

    __slots__ = ()
    LAYOUT: ClassVar[Layout] = Layout()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a document; ValueError if it is malformed, for example cut short by a crash."""
        layout = cls.LAYOUT
        try:
            values = checked.document(text, layout.longest)
        except ValueError as error:
            raise _refusal(layout, error) from None
        return cls.from_values(values)

    @classmethod
    def from_values(cls, values: Any) -> Self:
        """Check parsed JSON; ValueError if `values` is not a record of this class."""
        layout = cls.LAYOUT
        written = _key(cls, values) if layout.shared else None
        if written and (known := _SHARED.get(written)):
            return known  # type: ignore[return-value]  # the class is in the key
        if layout.reads and type(values) is dict:
            number = values.get("format")
            if type(number) is int and layout.format < number < 1_000_000:
                raise ValueError(f"format {number} is not supported; this RefNet reads {layout.reads}")
        try:
            found = cls(**cls._arguments(_plan(cls).read(values)))
        except ValueError as error:
            raise _refusal(layout, error) from None
        if written:
            _SHARED[written] = found
        return found

    @classmethod
    def _arguments(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Constructor arguments from checked values; ValueError if values contradict each other."""
        return values

    def to_json(self) -> str:
        """Write the document."""
        layout = self.LAYOUT
        text = json.dumps(self.values(), indent=layout.indent, ensure_ascii=layout.ascii)
        return utf8(text) + layout.end

    def values(self) -> dict[str, Any]:
        """The JSON values of the document by name."""
        plan = _plan(type(self))
        found: dict[str, Any] = {"format": plan.constant} if plan.constant else {}
        for own, name, _, _, rare, flat in plan.fields:
            value = getattr(self, own)
            if flat:
                found |= value.values()
            elif value or not rare:
                found[name] = _written(value)
        return found


#: The names in their JSON, each combination once.
_NAMES: dict[tuple[str, ...], tuple[str, ...]] = {}
_MOST_NAMES = 1000
#: Records that are in use, by `_key`.
_SHARED: WeakValueDictionary[tuple[Any, ...], Record] = WeakValueDictionary()


def _key(kind: type[Record], values: Any) -> tuple[Any, ...] | None:
    """What tells the JSON `values` from all others; None if they have more than texts and integers."""
    if type(values) is not dict or not {*map(type, values.values())} <= {str, int}:
        return None
    names = tuple(values)
    return (kind, _NAMES.setdefault(names, names) if len(_NAMES) < _MOST_NAMES else names, *values.values())


def _refusal(layout: Layout, error: ValueError) -> ValueError:
    return ValueError(f"not {layout.what}: {error}") if layout.what else error


def utc(moment: datetime) -> str:
    """Format a time as records do: ISO 8601 in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _written(value: object) -> Any:
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, StrEnum):
        return value.value  # readers accept only str, also for documents in memory
    if isinstance(value, Record):
        return value.values()
    if isinstance(value, tuple):
        return [_written(one) for one in value]
    return dict(value) if isinstance(value, Mapping) else value


_PLANS: dict[type[Record], _Plan] = {}


def _plan(kind: type[Record]) -> _Plan:
    """The plan of `kind`, cached."""
    found = _PLANS.get(kind)
    if found is None:
        found = _PLANS[kind] = _planned(kind)
    return found


def _planned(kind: type[Any]) -> _Plan:
    found, hints = [], get_type_hints(kind, include_extras=True)
    for one in fields(kind):
        said = getattr(hints[one.name], "__metadata__", ())
        name = next((mark.name for mark in said if isinstance(mark, Named)), one.name)
        is_needed = _Mark.NEEDED in said or (one.default is MISSING and one.default_factory is MISSING)
        flat = get_args(hints[one.name])[0] if _Mark.FLAT in said else None
        check = _check(hints[one.name])
        found.append(_Field(one.name, name, check, is_needed, _Mark.RARE in said, flat))
    has_own_format = any(one.name == "format" for one in found)
    constant = 0 if has_own_format else kind.LAYOUT.format
    return _Plan(tuple(found), constant, _reader(found, constant, more=kind.LAYOUT.more))


def _reader(found: list[_Field], constant: int, *, more: bool) -> Check:
    """The check of a document; returns its values by field name."""
    flat = [(one.own, one.flat, _plan(one.flat).fields) for one in found if one.flat]
    every = [one for one in found if not one.flat] + [part for _, _, parts in flat for part in parts]
    required = {one.name: one.check for one in every if one.required}
    if constant:
        required["format"] = checked.integer(1, constant)
    optional = {one.name: one.check for one in every if not one.required}
    renamed = [(one.name, one.own) for one in every if one.name != one.own]
    check = checked.record(required, optional, more=more)
    if not (flat or renamed or constant):
        return check

    def read(value: Any) -> dict[str, Any]:
        values: dict[str, Any] = check(value)
        if constant:
            del values["format"]
        for name, own in renamed:
            if name in values:
                values[own] = values.pop(name)
        for own, kind, parts in flat:
            values[own] = kind(**{one.own: values.pop(one.own) for one in parts if one.own in values})
        return values

    return read


def _check(hint: Any, most: int = 0) -> Check:
    """The check that an annotation names, or that its type implies."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        named = next((one for one in args[1:] if callable(one)), None)
        return named or _check(args[0], next((one.entries for one in args[1:] if isinstance(one, Most)), 0))
    if origin in {Union, UnionType} and args[1:] == (NoneType,):
        return checked.or_none(_check(args[0], most))
    if origin is tuple and args[1:] == (...,):
        return checked.several(_check(args[0]), most)
    if origin is tuple:
        return checked.row(*map(_check, args))
    if origin in {dict, Mapping}:
        return checked.mapping(_check(args[0]), _check(args[1]), most)
    if hint in _OF_TYPES:
        return _OF_TYPES[hint]
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return checked.member(hint)
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.from_values
    raise TypeError(f"{hint} has no check")


_OF_TYPES: dict[Any, Check] = {bool: checked.flag, datetime: checked.moment}
