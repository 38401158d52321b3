"""The service of an installation, made from the settings, and the checks of its permissions.

Its user must be able to run it. What units of root run must be root's: otherwise another owner could become root.
"""

import os
import pwd
import shlex
import shutil
import stat
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from refnet.core import trust
from refnet.core.errors import Exit, RefnetError
from refnet.core.files import OPEN_FOLDER, explained, names_in, opened
from refnet.core.processes import run
from refnet.scheduling.units import Service
from refnet.settings import (
    BY_COMPOSE_FILE,
    CONFIG,
    Settings,
    StoreKind,
    all_keys,
    secret_file_variable,
    user_path,
    variable,
)
from refnet.settings.sources import SHORT

#: Environment variables of stores that a timer needs too, and the one that is secret.
_OF_STORES, _SECRET = (
    ("RCLONE_CONFIG", "AWS_REGION", "AWS_DEFAULT_REGION", "SSL_CERT_FILE"),
    "AWS_SECRET_ACCESS_KEY",
)
#: Variables of libpq that belong to no option of a connection, those that name a file or a folder, and its one secret.
_FILES_OF_LIBPQ = {
    "PGPASSFILE",
    "PGSERVICEFILE",
    "PGSYSCONFDIR",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLCRL",
    "PGSSLCRLDIR",
}
_OF_LIBPQ, _SECRET_OF_LIBPQ = ("PGSERVICEFILE", "PGSYSCONFDIR"), "PGPASSWORD"
_ROOT = frozenset({0})


def service(settings: Settings, *, user: str | None, configured: Collection[str]) -> Service:
    """Return the service of `settings` for the system user `user`; None: for this user's systemd manager.

    configured: the protected sources. RefnetError if a secret setting is set only in this process's environment, as a
    unit file must not contain it.
    """
    standard = (name for name in SHORT if name in settings.sources or settings.defaults_to(name))
    protected = [settings.of(name).path for name in dict.fromkeys((*standard, *settings.sources))]
    places = [store.place for store in settings.stores.values()]
    return Service(
        program=_program(),
        folder=settings.file.parent if settings.file else settings.home,
        user=user,
        writable=tuple(dict.fromkeys((settings.home, settings.backup_dir))),
        logs=settings.log_folder if "log.folder" in settings.origins or user == "root" else None,
        stores=tuple(Path(place.path) for place in places if place.kind is StoreKind.FILE),
        opened=tuple(
            dict.fromkeys(one.path.parent for one in settings.sources.values() if one.is_file and one.path)
        ),
        beside=tuple(dict.fromkeys(folder.parent for folder in protected if folder)),
        seen=(*(folder for folder in protected if folder), *_socket_folders(settings)),
        environment=_environment(settings),
        own_server=settings.database_url is None,
        server_to_come=None if "database" in configured else settings.home / "postgres",
        vault_to_come=None if "obsidian" in configured else settings.vault_dir,
        instance=settings.instance or "",
        vault=settings.vault_dir,
    )


def ordinary_user(settings: Settings, asked: str | None, environment: Mapping[str, str]) -> str:
    """Return the user of system units: `asked`, the user of sudo, the owner of the backup folder or of REFNET_HOME."""
    if asked is None:
        asked = environment.get("SUDO_USER") or _owner(settings.backup_dir) or _owner(settings.home) or "root"
    try:
        return pwd.getpwnam(asked).pw_name
    except KeyError:
        raise RefnetError(
            f"this machine has no user '{asked}'",
            "Create one (useradd --system), or name another.",
            Exit.USAGE,
        ) from None


def prepare(service: Service) -> None:
    """Create the writable folders; RefnetError if the user of `service` lacks permissions.

    systemd refuses a unit if its writable folders do not exist.
    """
    user = pwd.getpwnam(service.user) if service.user else None
    for folder in service.writable:
        if not folder.exists():
            _make(folder, user)
    if user is None or user.pw_uid == 0:
        return
    for folder in service.writable:
        if not _can(user, "test -w", folder):
            raise RefnetError(
                f"the user {user.pw_name} cannot write in {folder}",
                f"Give it to that user (chown -R {user.pw_name} {shlex.quote(str(folder))}), or run the units as another user (--as).",
            )
    program = Path(service.program[0])
    if not _can(user, "test -x", program):
        raise RefnetError(
            f"the user {user.pw_name} cannot run {program}",
            "Install RefNet where that user can enter, or run the units as another user (--as).",
        )


def _make(folder: Path, user: pwd.struct_passwd | None) -> None:
    """Create `folder` and give it to `user`, unless somebody replaces it meanwhile."""
    with explained(folder):
        folder.mkdir(mode=0o700, parents=True)
        with opened(folder, OPEN_FOLDER) as handle:
            if user and os.fstat(handle).st_uid == os.geteuid() and not names_in(handle):
                os.fchown(handle, user.pw_uid, user.pw_gid)


def _can(user: pwd.struct_passwd, test: str, path: Path) -> bool:
    command = ["/bin/sh", "-c", f'{test} "$1"', "sh", str(path)]
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    return run(command, user=user.pw_uid, group=user.pw_gid, extra_groups=groups, cwd="/").returncode == 0


def check_privileged(service: Service, settings: Settings) -> None:
    """RefnetError with the first path of program, environment and settings that another user can write."""
    own, program = Path(__file__).parents[1], Path(service.program[0])
    files = [program, Path(sys.executable), service.folder, settings.file, *_server_programs(settings)]
    for path in filter(None, files):
        _check(path)
    for tree in dict.fromkeys([own, *_import_folders()]):
        check_tree(tree)


def check_tree(folder: Path) -> None:
    """RefnetError if another user than root can write `folder`, a folder above it, or anything in it."""
    _check(folder)
    for at, folders, files in os.walk(folder):
        for path in (Path(at, name) for name in (*folders, *files)):
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISLNK(status.st_mode):
                _check(path)
            elif wrong := trust.fault(path, status, _ROOT):
                raise _not_installed(wrong)


def _check(path: Path) -> None:
    """RefnetError if `path` or a folder above it is not root's; a missing path is fine."""
    try:
        trust.check(path, _ROOT)
    except (FileNotFoundError, NotADirectoryError):
        return
    except RefnetError as wrong:
        raise _not_installed(wrong) from None


def _not_installed(wrong: RefnetError) -> RefnetError:
    return RefnetError(
        f"units that run as root are not installed: {wrong.message}",
        "Install RefNet where only root can write (and give its settings to root), or run the units as another user: --as USER.",
        Exit.USAGE,
    )


def _import_folders() -> Iterator[Path]:
    """Return the folders that this Python imports from."""
    for folder in (sys.prefix, *sys.path):
        if folder and Path(folder).is_dir() and Path(folder) not in {Path("/"), Path("/usr"), Path.cwd()}:
            yield Path(folder)


def _server_programs(settings: Settings) -> Iterable[Path]:
    for folder in (settings.postgres_bin_dir, settings.prove_bin_dir):
        if folder and folder.is_dir():
            yield from (folder, *folder.iterdir())


def _program() -> tuple[str, ...]:
    """Return the command `refnet` of this installation."""
    own = Path(sys.executable).parent / "refnet"
    found = str(own) if os.access(own, os.X_OK) else shutil.which("refnet")
    return (found,) if found else (sys.executable, "-m", "refnet")


def _owner(folder: Path) -> str | None:
    """Return the owner of `folder`; None if it does not exist or its owner has no name."""
    try:
        return pwd.getpwuid(folder.stat().st_uid).pw_name
    except (OSError, KeyError):
        return None


def _environment(settings: Settings) -> dict[str, str]:
    """Return REFNET_HOME and the settings that are set only in this process's environment."""
    values = {"REFNET_HOME": str(settings.home), **libpq_variables()}
    if os.environ.get(_SECRET_OF_LIBPQ):
        raise RefnetError(
            f"{_SECRET_OF_LIBPQ} is set only in this environment, which systemd timers do not have",
            "Put the password into ~/.pgpass of the units' user, or into a file that PGPASSFILE names (chmod 600).",
            Exit.USAGE,
        )
    if settings.file and settings.variables:
        values[CONFIG] = str(settings.file)
    if settings.instance:
        values[variable("instance")] = settings.instance
    if settings.origins.get("config_dir", "").startswith(BY_COMPOSE_FILE):
        values[variable("config_dir")] = str(settings.config_dir)
    if settings.stores:
        values |= {name: os.environ[name] for name in _OF_STORES if os.environ.get(name)}
    for store in settings.stores.values():
        if store.place.kind is StoreKind.S3 and not store.credentials_file and os.environ.get(_SECRET):
            raise RefnetError(
                f"{_SECRET} is set only in this environment, which systemd timers do not have",
                f"Put the credential into a file (chmod 600), and name it in stores.{store.name}.credentials_file.",
                Exit.USAGE,
            )
    for key, field in all_keys(settings.named).items():
        file = secret_file_variable(key)
        if os.environ.get(file) and field.metadata["secret"]:
            values[file] = str(user_path(os.environ[file]).absolute())
        if settings.origins.get(key) != "the environment" or key == "home":
            continue
        if field.metadata["secret"]:
            raise RefnetError(
                f"{variable(key)} is set only in this environment, which systemd timers do not have",
                f"Put {key} into {settings.file or settings.home / 'refnet.toml'} (chmod 600); a unit must "
                "not contain a secret.",
                Exit.USAGE,
            )
        values[variable(key)] = os.environ[variable(key)]
    return values


def libpq_variables() -> dict[str, str]:
    """Return the variables of this process's environment that libpq reads, without secrets; files have absolute paths."""
    named = (option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar)
    values = {name: os.environ[name] for name in (*_OF_LIBPQ, *named) if os.environ.get(name)}
    values.pop(_SECRET_OF_LIBPQ, None)
    return {
        name: str(Path(value).absolute()) if name in _FILES_OF_LIBPQ else value
        for name, value in values.items()
    }


def _socket_folders(settings: Settings) -> list[Path]:
    """Return the folders of the server's Unix sockets."""
    urls = [one.url for one in settings.sources.values()]
    hosts = [host for url in urls for host in str(conninfo_to_dict(url or "").get("host") or "").split(",")]
    return [Path(host) for host in dict.fromkeys(hosts) if host.startswith("/")]
