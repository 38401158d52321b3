"""`/settings/set-up`, `/settings/edit`: change sources, schedules, retentions and stores in the settings file.

A form shows the difference, what is kept, and what is refused; a second one writes. See `settings.writable` for the keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from refnet import sources, wiring
from refnet.core.errors import Exit, RefnetError
from refnet.settings import Settings, StoreSettings
from refnet.settings.converters import OWN_SERVER
from refnet.settings.known_keys import setting
from refnet.settings.report import ShownSetting, description_of, report, text_of
from refnet.settings.sources import SHORT
from refnet.settings.writable import OF_SHORT, Subject, subject
from refnet.web.pages.base import begin_run, form, page, reading, settings_of
from refnet.web.pages.simulation import Simulation, simulation
from refnet.web.settings_file import LAST_VERSION, Draft, SettingsFile

router = APIRouter(prefix="/settings", include_in_schema=False)
_FILE = "the settings file"
#: The fields of a form that are no keys.
_ABOUT = ("table", "name", "version")
#: What a page never takes: what it is, what else is to be done, and lines that `refnet settings` accepts once the places in
#: capitals and the files are there.
LINES = (
    (
        "A PostgreSQL database",
        "The file has one line, mode 0600, and belongs to the user of RefNet: postgresql://USER:PASSWORD@HOST:5432/DATABASE",
        '[databases.shop]\nurl_file = "/etc/refnet/shop.url"',
    ),
    (
        "Every database of a PostgreSQL server, its roles and, with wal, any second",
        "The file has one line, mode 0600, and belongs to the user of RefNet: postgresql://USER:PASSWORD@HOST:5432/postgres",
        '[clusters.main]\nurl_file = "/etc/refnet/main.url"\nwal = false',
    ),
    ("A folder that is in no source yet", "", '[folders.photos]\npath = "/srv/photos"'),
    (
        "The recovery key of the copies",
        "Every store needs it. `refnet key new` makes it, prints its page and the recipient.",
        '[encryption]\nrecipients = ["age1…"]',
    ),
    (
        "A store: Amazon S3, or what is compatible with it",
        "The file, mode 0600, sets access_key_id and secret_access_key, each as text in quotes. Without endpoint it is Amazon's.",
        (
            '[stores.offsite]\nurl = "s3://bucket/prefix"\nendpoint = "https://s3.example.org"\nregion = "eu-west-1"\n'
            'credentials_file = "/etc/refnet/offsite.toml"'
        ),
    ),
    (
        "A store: Google Cloud Storage",
        "It sets service_account to the path, in quotes, of the JSON file that Google gave. Both have mode 0600.",
        '[stores.offsite]\nurl = "gs://bucket/prefix"\ncredentials_file = "/etc/refnet/offsite.toml"',
    ),
    (
        "A store: Azure Blob Storage",
        "The file, mode 0600, sets account and key, each as text in quotes.",
        '[stores.offsite]\nurl = "az://container/prefix"\ncredentials_file = "/etc/refnet/offsite.toml"',
    ),
    (
        "A store: a folder on an SFTP server",
        "The folder is there, and `ssh user@host` needs no password.",
        '[stores.offsite]\nurl = "sftp://user@host/folder"',
    ),
    (
        "A store: a remote of rclone",
        "`rclone config` makes the remote.",
        '[stores.offsite]\nurl = "rclone:remote:path"',
    ),
    (
        "A store: a folder of another disk, or mounted here",
        "The folder is there.",
        '[stores.nas]\nurl = "file:///mnt/nas/refnet"',
    ),
    (
        "Notifications: mail, ntfy, Slack, Discord, Telegram, a webhook; a dead-man's switch",
        "Keep the lines that you use. They are secrets: the settings file has mode 0600.",
        (
            '[notify]\nurls = [\n    "mailtos://USER:PASSWORD@example.org?to=ADMIN@example.org",\n    "ntfys://ntfy.sh/TOPIC",\n'
            '    "slack://TEAM/BOT/TOKEN",\n'
            '    "discord://ID/TOKEN",\n'
            '    "tgram://123456789:TOKEN_OF_THE_BOT/CHAT",\n    "jsons://example.org/PATH",\n]\n'
            'backup_ping = "https://hc-ping.com/KEY/backup-{source}"\ndrill_ping = "https://hc-ping.com/KEY/drill-{source}"'
        ),
    ),
)


@dataclass(frozen=True)
class Field:
    """One setting in a form."""

    key: str
    #: None: it is not changed here, as the environment sets it, or no form shows its value.
    text: str | None
    description: str
    #: The value without a text; "": none.
    without: str
    #: `lines`, `flag` or `text`.
    kind: str
    #: Whether the environment sets it.
    by_environment: bool = False

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition(".")[2]


@router.get("/set-up")
async def set_up(request: Request, written: str = "") -> Response:
    """List what can be changed here, and the lines for what cannot."""
    problem, file = None, None
    try:
        file = await _file(request)
    except RefnetError as error:
        problem = error
    settings = file.found.settings if file else settings_of(request)
    found = await reading(request, "the settings", partial(_subjects, settings))
    return page(
        request, "set_up.html.j2", problem=problem, refusal=file.refusal if file else None, found=found,
        settings=settings, lines=LINES, own=_lines_of_defaults(settings), written=bool(written and file),
        kept=settings_of(request).home / LAST_VERSION,
    )  # fmt: skip


async def _file(request: Request) -> SettingsFile:
    return await reading(request, _FILE, partial(SettingsFile.read, settings_of(request)))


def _lines_of_defaults(settings: Settings) -> str:
    """The lines that name what is a source only by default; "": there is no such source."""
    own = [one for one in wiring.protected(settings) if settings.defaults_to(one)]
    return "\n".join(
        f"{SHORT[one]} = {json.dumps(str(settings.of(one).path or OWN_SERVER), ensure_ascii=False)}"
        for one in own
    )


def _subjects(settings: Settings) -> list[tuple[Subject, str, Any]]:
    """Each source, cluster and store, with its place and its settings."""
    found: list[tuple[Subject, str, Any]] = [
        (Subject("", one), sources.source_of(settings, one).what(), settings.of(one))
        for one in wiring.protected(settings)
        if one in OF_SHORT
    ]
    for named in settings.named:
        about = Subject(named.table, named.name)
        if isinstance(named, StoreSettings):
            found.append((about, named.shown, named))
        else:
            found.append((about, str(named.path or ""), settings.of(named.name)))
    return found


@router.get("/edit")
async def edit(request: Request, table: str = "", name: str = "") -> Response:
    """Show the form of a source, a store or of what belongs to none; of a new one also its place."""
    file = await _file(request)
    about = subject(file.found.settings, table, name)
    return await _form(request, file, about, {})


@router.post("/edit")
async def check(request: Request) -> Response:
    """Show the difference and what is kept; write nothing."""
    given = await form(request)
    file, about, draft = await _drafted(request, given)
    if not isinstance(draft, Draft):
        return draft
    simulated, trouble = None, None
    changes_kept = {about.key_of(one) for one in ("schedule", "retention")} & _keys(draft)
    if about.source and (about.is_new or changes_kept):
        try:
            simulated = await simulation(request, draft, about)
        except RefnetError as error:
            trouble = error
    return _checked(request, file, about, draft, given, simulated=simulated, trouble=trouble)


@router.post("/write")
async def write(request: Request) -> Response:
    """Write what the form confirms."""
    given = await form(request)
    file, about, draft = await _drafted(request, given)
    if not isinstance(draft, Draft):
        return draft
    try:
        await reading(request, _FILE, partial(file.write, draft))
    except RefnetError as error:
        return _checked(request, file, about, draft, given, 409, trouble=error)
    await reading(request, _FILE, partial(request.app.state.use, draft.found))
    return RedirectResponse("/settings/set-up?written=yes", 303)


@router.post("/test-message")
async def test_message(request: Request) -> Response:
    """Start `refnet notify`; RefnetError (USAGE) if no service is set."""
    file = await _file(request)
    if not file.found.settings.notify_urls:
        raise RefnetError("notify.urls is not set", "/settings/set-up shows the lines to add.", Exit.USAGE)
    return await begin_run(
        request, ["notify"], kind="notify", source="", title="Test message", exclusive="notify"
    )


async def _drafted(
    request: Request, given: Mapping[str, str]
) -> tuple[SettingsFile, Subject, Draft | Response]:
    """The draft of a form; or the form again with what is wrong: 400, or 409 if the file has changed meanwhile."""
    file = await _file(request)
    about = subject(file.found.settings, given.get("table", ""), given.get("name", ""))
    texts = {key: text for key, text in given.items() if key not in _ABOUT}
    if given.get("version") != file.version:
        changed = RefnetError(
            f"{file.path} has changed since this form was made; nothing was written",
            "The form now shows what the file has, with what you typed.",
            Exit.LOCKED,
        )
        return file, about, await _form(request, file, about, texts, 409, problem=changed)
    try:
        return file, about, await reading(request, _FILE, partial(file.draft, about, texts))
    except RefnetError as error:
        return file, about, await _form(request, file, about, texts, 400, problem=error)


def _keys(draft: Draft) -> set[str]:
    return {".".join(path) for path in draft.changes}


async def _form(
    request: Request,
    file: SettingsFile,
    about: Subject,
    typed: Mapping[str, str],
    status: int = 200,
    problem: RefnetError | None = None,
) -> Response:
    fields = await reading(request, _FILE, partial(_fields, file, about))
    return page(
        request, "set_up_edit.html.j2", status, subject=about, fields=fields, typed=typed, problem=problem,
        version=file.version, refusal=file.refusal, environment=[one for one in fields if one.by_environment],
    )  # fmt: skip


def _fields(file: SettingsFile, about: Subject) -> list[Field]:
    shown, texts = {one.key: one for one in report(file.found)}, file.texts(about)
    return [_field(key, text, shown.get(key)) for key, text in texts.items()]


def _field(key: str, text: str | None, shown: ShownSetting | None) -> Field:
    kind = str(setting(key).type)  # type: ignore[union-attr]
    as_input = "lines" if kind.startswith("tuple") else "flag" if kind.startswith("bool") else "text"
    without = "" if shown is None or shown.default is None else text_of(shown.default)
    by_environment = text is None and shown is not None and shown.origin == "the environment"
    return Field(key, text, description_of(key), without, as_input, by_environment)


def _checked(
    request: Request,
    file: SettingsFile,
    about: Subject,
    draft: Draft,
    given: Mapping[str, str],
    status: int = 200,
    *,
    simulated: Simulation | None = None,
    trouble: RefnetError | None = None,
) -> Response:
    return page(
        request, "set_up_check.html.j2", status, subject=about, draft=draft, given=given, file=file,
        refusal=file.refusal, simulated=simulated, trouble=trouble,
    )  # fmt: skip
