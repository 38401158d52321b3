"""restore and undo of the configuration and the vault, and their comparison with an artifact."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from refnet.context import Context
from refnet.core.errors import Exit, RefnetError
from refnet.recovery.model.artifact import Outcome
from refnet.recovery.model.source import Finding, OpenArtifact
from refnet.recovery.model.source_name import SourceName
from refnet.recovery.sources.files.files_artifact import FilesArtifact
from refnet.recovery.sources.files.member_names import some
from refnet.recovery.sources.files.target import FolderTarget
from refnet.recovery.verbs import restore_files, undo_files
from refnet.recovery.verbs.restore_files import FolderPlan, Restored
from refnet.recovery.verbs.undo_files import Undone, UndoPlan
from refnet.sources import hooks, source_of
from refnet.sources.elsewhere import folder_at
from refnet.sources.folder import Folder
from refnet.sources.hooks import Action
from refnet.sources.identify import take_over

_NO_LIST = "another program made the archive, so it has no list of files to compare with"


@dataclass(frozen=True)
class Asked:
    """The options of a restore of a folder."""

    #: Paths of files or folders of the artifact, or patterns of them; empty: everything.
    only: tuple[str, ...] = ()
    #: The source that is restored; None: that of the artifact.
    source: SourceName | None = None
    #: The folder that is written; None: the live one.
    to: str | None = None
    #: Add what is missing and replace what is older; delete nothing.
    merge: bool = False
    #: The artifact was named, or confirmed with a recovery: it may be of another machine.
    named: bool = False


ALL = Asked()


def plan(
    context: Context, chosen: OpenArtifact, asked: Asked = ALL, *, damaged_anyway: bool = False
) -> FolderPlan:
    """Return what a restore of `chosen` would do."""
    source = asked.source or chosen.source
    target = _target(context, source, asked.to, merge=asked.merge)
    planned = restore_files.plan(FilesArtifact(chosen), target, asked.only, merge=asked.merge)
    refusals = (
        *chosen.refusals(anyway=damaged_anyway),
        *_of_another(context, source, chosen, asked, planned),
    )
    other = [f"it is an artifact of {chosen.source}"] if chosen.source != source else []
    asks = [f"{line} is in what is restored: asked for" for line in restored_commands(context, planned)]
    return replace(
        planned,
        problems=(*refusals, *planned.problems),
        notes=(
            *other,
            *chosen.notes,
            *planned.notes,
            *(_hooks(context, source) if asked.to is None else ()),
            *asks,
        ),
        damage=chosen.damage,
    )


def _of_another(
    context: Context, source: SourceName, chosen: OpenArtifact, asked: Asked, planned: FolderPlan
) -> Iterator[RefnetError]:
    """Yield why an artifact that nobody named does not replace what this machine has, and never made an artifact of."""
    whose = chosen.manifest.whose if chosen.manifest else None
    if whose is None or asked.named or planned.target.elsewhere or not (planned.replaces and planned.changes):
        return
    if source_of(context.settings, source).whose() != whose:
        yield RefnetError(
            f"{chosen.name} is of another machine, or of another REFNET_HOME: here no artifact of {source} was made yet",
            f"To replace what is live with it, name it: `refnet restore {source} {chosen.name}`.",
            Exit.USAGE,
        )


def _hooks(context: Context, source: SourceName) -> list[str]:
    """Return the hooks of a restore as notes of its plan."""
    return [f"hook {line}" for line in hooks.listed(context.settings, source, Action.RESTORE)]


def restored_commands(context: Context, planned: FolderPlan) -> tuple[str, ...]:
    """Return the hooks, of backups too, that run what is in the folder that `planned` writes: code out of the backup."""
    return hooks.in_folders(context.settings, [planned.target.folder]) if planned.changes else ()


def restore(
    context: Context, chosen: OpenArtifact, planned: FolderPlan, permitted: Collection[str] = ()
) -> Restored:
    """Do what `planned` says.

    permitted: those of `restored_commands` that the user has seen and permitted; RefnetError (CONFIRM) for another.
    """
    source, is_live = planned.target.source, not planned.target.elsewhere
    if new := [one for one in restored_commands(context, planned) if one not in permitted]:
        raise _not_permitted(new)
    around = hooks.around(context, source, Action.RESTORE, chosen.name)
    with around if is_live and planned.changes else nullcontext(), context.restore_lock(source):
        done = restore_files.restore(FilesArtifact(chosen), planned, context.clock, context.progress)
        if is_live and not planned.only and planned.merge is None:
            take_over(context, source, chosen)
    return done


def _not_permitted(lines: Sequence[str]) -> RefnetError:
    """Return the error for commands out of a backup that nobody has permitted."""
    return RefnetError(
        f"commands from the backup would run: {some(lines, 3)}",
        "Let the settings name copies of them outside of what is restored.",
        Exit.CONFIRM,
    )


def _target(context: Context, source: SourceName, to: str | None, *, merge: bool = True) -> FolderTarget:
    if to is None:
        return Folder(context.settings, source).target()
    return folder_at(context.settings, source, to, merge=merge)


def plan_undo(context: Context, source: SourceName, to: str | None = None) -> UndoPlan:
    """Return what `undo` would do. `to`: the folder that was restored; None: the live one."""
    return undo_files.plan(_target(context, source, to))


def undo(context: Context, source: SourceName, to: str | None = None) -> Undone:
    """Swap the previous version and what is live, or in `to`."""
    target = _target(context, source, to)
    with context.restore_lock(source):
        return undo_files.undo(target, context.clock.now())


def compare(context: Context, chosen: OpenArtifact) -> tuple[Finding, ...]:
    """Compare what is live with an artifact, file by file."""
    planned = plan(context, chosen)
    found, what = planned.changes, f"files of {chosen.source}"
    counts = f"{len(found.added)} missing, {len(found.changed)} changed, {len(found.removed)} more"
    findings = (Finding(what, Outcome.FAILED if found else Outcome.PASSED, counts if found else ""),)
    if planned.listed:
        return findings
    return (*findings, Finding(f"list of {what}", Outcome.UNVERIFIED, _NO_LIST))


def replaced(context: Context, source: SourceName) -> str:
    """Return the live folder of `source` if it has any entry, else ""."""
    folder = Folder(context.settings, source).target().folder
    return str(folder) if folder.is_dir() and any(folder.iterdir()) else ""
