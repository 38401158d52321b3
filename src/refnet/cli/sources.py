"""The sources that a command line names."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from refnet.errors import Exit, RefnetError
from refnet.recovery.model.artifact import SourceName
from refnet.recovery.model.identity import Identity
from refnet.recovery.model.source import OpenArtifact
from refnet.recovery.model.store import Store
from refnet.recovery.verbs.choose import Chosen, choose, choose_one

#: What configures a source that the settings may leave out.
CONFIGURED_BY = {
    SourceName.DATABASE: "REFNET_DATABASE_URL",
    SourceName.CONFIG: "REFNET_CONFIG_DIR",
    SourceName.OBSIDIAN: "REFNET_VAULT_DIR",
}


def named(text: str | None) -> tuple[SourceName, ...]:
    """The source that `text` names, or all of them where it is None; RefnetError where there is none such."""
    if text is None:
        return tuple(SourceName)
    try:
        return (SourceName(text),)
    except ValueError:
        raise RefnetError(
            f"'{text}' is not a source", f"The sources are: {', '.join(SourceName)}.", Exit.USAGE
        ) from None


def not_configured(source: SourceName) -> RefnetError:
    """For a command that needs `source` where the settings leave it out."""
    return RefnetError(
        f"the source {source} is not configured",
        f"Set {CONFIGURED_BY[source]}; see refnet.toml.example.",
        Exit.USAGE,
    )


def artifacts(
    store: Store,
    meant: str | None,
    configured: Collection[SourceName],
    target: Callable[[], Identity | None],
) -> tuple[list[Chosen], tuple[SourceName, ...]]:
    """What `verify` and `drill` work on: an artifact, a source's newest, or (None) every source's newest.

    Beside them, the sources that are configured but have no whole artifact. RefnetError (UNVERIFIED) where there is
    none at all. `target`: says which database is meant.
    """
    if meant is not None and meant not in list(SourceName):
        return [_dump_folder(Path(meant).expanduser()) or choose_one(store, meant)], ()
    sources = named(meant)
    try:
        chosen = choose(store, sources, target=target() if SourceName.DATABASE in sources else None)
    except RefnetError as error:
        code = Exit.UNVERIFIED if error.code is Exit.FAILED else error.code
        raise RefnetError(error.message, error.hint, code) from error
    found = {one.source for one in chosen}
    return chosen, tuple(name for name in sources if name not in found and name in configured)


def _dump_folder(path: Path) -> Chosen | None:
    """The dump in pg_dump's directory format at `path`, where there is one."""
    if not (path / "toc.dat").is_file():
        return None
    held = OpenArtifact(path.name, lambda: (path / "toc.dat").open("rb"), None, path=path)
    return Chosen(SourceName.DATABASE, held)
