"""The folders of scratch servers: removed at the end, or by the next run if a run is killed.

The folder's lock distinguishes a leftover from a running server.
"""

import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from refnet.core.errors import RefnetError
from refnet.core.files import check_own, remove_tree
from refnet.core.locks import locked
from refnet.postgres import ending
from refnet.postgres.account import STATE, Account, make_enterable
from refnet.postgres.tempdirs import remove_leftovers

PREFIX = "scratch-"
_OWNER = "owner"


def new_folder(base: Path, user: Account, stack: ExitStack) -> Path:
    """Create a folder below `base` with a folder `data` of `user`; `stack` removes it. First remove leftovers."""
    place = _enterable(base, user)
    with locked(place / ".lock"):
        remove_leftovers(place, PREFIX, _OWNER, end=ending.end_leftover)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        stack.callback(_remove, folder)
        stack.enter_context(locked(folder / _OWNER))
    folder.chmod(0o711)
    (folder / "data").mkdir()
    user.own(folder / "data")
    return folder


def _enterable(base: Path, user: Account) -> Path:
    """Return `base`, created if it is missing, or /var/lib/refnet-scratch if the server's user cannot enter it."""
    for place in (base, STATE / "refnet-scratch"):
        make_enterable(place)
        check_own(place, "the folder of scratch servers", "set REFNET_HOME to another folder")
        if user.can_enter(place):
            return place
    raise RefnetError(
        f"the user {user.name}, which runs scratch servers, cannot enter {place}",
        f"Let other users enter {place} and the folders above it (chmod o+x).",
    )


def _remove(folder: Path) -> None:
    ending.wait(folder)
    with suppress(OSError):  # the next run tries again
        remove_tree(folder)
