"""log and find: the artifacts in which a file or table changed, and those that contain a path."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from refnet import wiring
from refnet.actions.choose import named_source
from refnet.catalog.artifact import Counted
from refnet.catalog.catalog import Catalog
from refnet.catalog.manifest import Entry, utc
from refnet.catalog.source_name import SourceName
from refnet.context import Context
from refnet.core.errors import Exit, RefnetError, did_you_mean
from refnet.core.member_names import show, spelled
from refnet.sources import kind_of, source_of
from refnet.sources.contents import MOST, Finder, ItemVersion


@dataclass(frozen=True)
class Step:
    """A change between an artifact and the previous one."""

    entry: Entry
    #: first seen, changed, deleted or seen again.
    what: str
    #: None: deleted.
    version: ItemVersion | None

    def to_json(self) -> dict[str, Any]:
        there = self.version
        return {
            "artifact": self.entry.name,
            "created": utc(self.entry.created),
            "change": self.what,
            "kind": there.kind if there else None,
            "size": there.size if there else None,
            "rows": there.rows if there else None,
            "digest": (there.digest or None) if there else None,
            "more": [spelled(one) for one in there.more] if there else [],
        }


@dataclass(frozen=True)
class ItemHistory:
    """The changes of one file or table over all artifacts of its source."""

    source: SourceName
    name: str
    #: Oldest first.
    steps: tuple[Step, ...]
    #: How many artifacts were read.
    read: int
    #: What was left out, a sentence each.
    notes: tuple[str, ...]
    #: Artifacts that record no digest of the table: only its rows, size and columns were compared.
    undigested: int = 0

    @property
    def exit(self) -> Exit:
        return Exit.UNVERIFIED if self.notes else Exit.DONE

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "name": spelled(self.name),
            "artifacts": self.read,
            "without_digest": self.undigested,
            "changes": [step.to_json() for step in self.steps],
            "notes": list(self.notes),
        }


@dataclass
class FoundItem:
    """A path or table that matches a pattern, and where it is."""

    name: str
    first: Entry
    last: Entry
    #: In how many artifacts it is.
    count: int = 1

    def to_json(self) -> dict[str, Any]:
        return {
            "name": spelled(self.name),
            "first": self.first.name,
            "first_created": utc(self.first.created),
            "last": self.last.name,
            "last_created": utc(self.last.created),
            "artifacts": self.count,
        }


@dataclass(frozen=True)
class Search:
    """The paths or tables that match a pattern, over all artifacts of a source."""

    source: SourceName
    pattern: str
    found: tuple[FoundItem, ...]
    read: int
    #: The newest artifact that was read.
    newest: Entry | None
    notes: tuple[str, ...]

    @property
    def exit(self) -> Exit:
        if self.notes:
            return Exit.UNVERIFIED
        return Exit.DONE if self.found else Exit.FAILED

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "pattern": spelled(self.pattern),
            "artifacts": self.read,
            "found": [one.to_json() for one in self.found],
            "notes": list(self.notes),
        }


def log(context: Context, meant: str) -> ItemHistory:
    """History of `meant`: SOURCE/PATH, or SOURCE/TABLE of a database (`database/papers`)."""
    word, slash, name = meant.partition("/")
    source = _source(context, word, f"{word}/…" if slash else meant)
    if not name.strip("/"):
        raise RefnetError(
            f"'{meant}' names no file or table", f"Give {source}/PATH or {source}/TABLE.", Exit.USAGE
        )
    look = _Look(context, source, source_of(context.settings, source).exactly(name))
    steps, last, undigested = list[Step](), None, 0
    for entry, versions in look.versions():
        now = _one(versions, name)
        if now and not (last and last.same(now)):
            what = "changed" if last else "seen again" if steps else "first seen"
            steps.append(Step(entry, what, now))
        elif last and not now:
            steps.append(Step(entry, "deleted", None))
        undigested += bool(now and now.rows is not None and not now.digest)
        last = replace(now, digest=now.digest or (last.digest if last else "")) if now else None
    if not steps:
        similar = shlex.quote(f"*{name.rpartition('/')[2]}*")
        raise RefnetError(
            f"'{name}' is in none of the {look.read:,} readable artifacts of {source}",
            f"`refnet find {source} {similar}` looks for similar names.",
        )
    return ItemHistory(source, name, tuple(steps), look.read, tuple(look.notes), undigested)


def find(context: Context, source: str, pattern: str) -> Search:
    """Search the artifacts of `source` for `pattern`."""
    name = _source(context, source, source)
    look, newest = _Look(context, name, source_of(context.settings, name).like(pattern)), None
    found: dict[str, FoundItem] = {}
    for entry, versions in look.versions():
        newest = entry
        for version in versions:
            if known := found.get(version.name):
                known.last, known.count = entry, known.count + 1
            else:
                found[version.name] = FoundItem(version.name, entry, entry)
        if len(found) > MOST:
            raise RefnetError(f"'{pattern}' matches more than {MOST:,} paths", "Give a narrower pattern.")
    return Search(name, pattern, tuple(found.values()), look.read, newest, tuple(look.notes))


def find_everywhere(context: Context, pattern: str) -> list[Search]:
    """Search the artifacts of every source that has files or tables; RefnetError if no source has an artifact."""
    sources = [one for one in wiring.known(context.settings) if kind_of(one).contains]
    backed_up = {one for one in sources if any(not e.manifest.partial for e in context.store.entries(one))}
    if not backed_up:
        raise RefnetError("there is no complete artifact", "Make one with `refnet backup`.")
    return [
        find(context, one, pattern) if one in backed_up else Search(one, pattern, (), 0, None, ())
        for one in sources
    ]


def _source(context: Context, word: str, meant: str) -> SourceName:
    source = named_source(context, word)
    if source and not kind_of(source).contains:
        raise source_of(context.settings, source).unlisted
    if source:
        return source
    near = did_you_mean(word, wiring.known(context.settings))
    raise RefnetError(
        f"'{meant}' does not begin with a source" if "/" in meant else f"'{meant}' is not a source",
        f"{near}The sources are: {', '.join(wiring.known(context.settings))}.",
        Exit.USAGE,
    )


def _one(versions: tuple[ItemVersion, ...], name: str) -> ItemVersion | None:
    if len(versions) > 1:
        raise RefnetError(
            f"'{name}' is ambiguous: {', '.join(show(one.name) for one in versions[:5])}",
            "Give SCHEMA.TABLE, or the path exactly as `refnet find` prints it.",
            Exit.USAGE,
        )
    return versions[0] if versions else None


@dataclass
class _Look:
    """The search through the artifacts of one source."""

    context: Context
    source: SourceName
    finder: Finder
    read: int = 0
    notes: list[str] = field(default_factory=list)

    def versions(self) -> Iterator[tuple[Entry, tuple[ItemVersion, ...]]]:
        """Yield readable artifacts, oldest snapshot first, with their matches."""
        entries = self._entries()
        for number, entry in enumerate(entries):
            self.context.progress(Counted("artifacts", "artifacts"), number, len(entries))
            try:
                versions = self.finder.versions(self.context.store.artifact(entry))
            except RefnetError as error:
                self.notes.append(f"left out: {error.message}")
                continue
            self.read += 1
            yield entry, versions

    def _entries(self) -> list[Entry]:
        target = source_of(self.context.settings, self.source).whose()
        catalog = Catalog.of(self.context.store.entries()).choices(target, None, self.source)
        complete = [entry for entry in catalog.of_source(self.source) if not entry.manifest.partial]
        if not complete:
            raise RefnetError(
                f"there is no complete artifact of {self.source}",
                "Make one with `refnet backup`; `refnet list` shows what there is.",
            )
        return sorted(complete, key=lambda entry: entry.created)
