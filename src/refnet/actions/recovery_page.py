"""The recovery page: one sheet of paper that brings everything back from a remote store.

It contains the recovery key, so it must not reach a disk of this machine unless the user wants it. A printed page is read for
ever: every later version runs its command (tests/golden/pages), so options in it are never renamed or taken away.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from shlex import quote
from textwrap import wrap

import segno
from markupsafe import Markup

from refnet.catalog.remote import NAMESPACE
from refnet.core.page import render
from refnet.settings import StoreKind, StoreSettings
from refnet.sources.permitted import Power, digest
from refnet.store.buckets.object_storage import REGION
from refnet.store.encryption import PrivateKey, Signer
from refnet.store.installers import Installer

_WIDTH = 78
#: Where the recovery key of the page is written while the last resort runs: a disk in memory.
_KEY = "/dev/shm/key"  # noqa: S108  # only shown
#: The same, for the credential of curl.
_CREDENTIAL = "/dev/shm/s3"  # noqa: S108  # only shown
#: Without RefNet, after the files of a store are in the folder `copies`.
_BY_HAND = f"""\
umask 077; cat > {_KEY}   # type the recovery key without spaces, Enter, Ctrl-D
ls copies/*/manifests         # TIME_SOURCE_ID.age: choose the newest of a source
age -d -i {_KEY} copies/MACHINE/manifests/NAME | gunzip > manifest
head -n 1 manifest > line; tail -n +2 manifest > line.sig
echo 'refnet SIGNER' > signers
ssh-keygen -Y verify -f signers -I refnet -n {NAMESPACE} -s line.sig < line
grep -o '"name":"[^"]*/pieces/[^"]*","plain":[0-9]*,"sha256":"[0-9a-f]*"' line |
  sed 's/"name":"\\(.*\\)","plain":.*"sha256":"\\(.*\\)"/\\2  copies\\/\\1/' > sums
sha256sum -c sums
ranges() {{ grep -o '"ranges":[^a-z]*' line | grep -o '[0-9]*,[0-9]*,[0-9]*' | tr , ' '; }}
pieces() {{ ranges | while read -r n start length; do
  age -d -i {_KEY} "$(sed -n "$((n + 1))s/^[0-9a-f]*  //p" sums)" |
  tail -c "+$((start + 1))" | head -c "$length"; done; }}
pieces | zcat | psql -X -v ON_ERROR_STOP=1 -d DATABASE   # of a database, into an empty one
pieces | tar -xzf - -C FOLDER                          # of a folder
rm {_KEY}"""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    #: Sentences.
    notes: tuple[str, ...] = ()
    #: (name, value).
    facts: tuple[tuple[str, str], ...] = ()
    #: Lines for a shell.
    commands: Sequence[str] = ()
    #: What its QR code contains; "": it has none.
    code: str = ""
    #: Names before lines to fill in by hand.
    blanks: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecoveryPage:
    """The page of one recovery key."""

    key: PrivateKey
    signer: Signer
    made: datetime
    #: The name of this machine.
    host: str
    stores: tuple[StoreSettings, ...] = ()
    #: The recipient whose key this one replaces; "": none.
    replaces: str = ""
    #: Source with the roles of a server → the powers of all of them; None: the server did not answer.
    roles: Mapping[str, tuple[Power, ...] | None] = field(default_factory=dict)

    #: Store → the installer of this version that it has.
    installers: Mapping[str, Installer] = field(default_factory=dict)

    @property
    def permits(self) -> Mapping[str, str]:
        """Source → the digest of its roles' powers, "" where no role has any; sources whose servers answered."""
        return {
            source: digest(found) if found else ""
            for source, found in self.roles.items()
            if found is not None
        }

    @property
    def recipient(self) -> str:
        """The public part of the key."""
        return self.key.recipient.text

    def html(self, zone: tzinfo | None) -> str:
        """The page as HTML for a printer, with times in `zone` (None: the machine's)."""
        return render("recovery.html.j2", zone, page=self, sections=self.sections, qr=_qr)

    def text(self, zone: tzinfo | None) -> str:
        """The page as plain text of at most 78 columns, except long commands and URLs."""
        head = f"Recovery page of {self.host}, {self.made.astimezone(zone):%Y-%m-%d %H:%M %Z}"
        lines = [head, "=" * len(head)]
        for one in self.sections:
            lines += ["", one.title, "-" * len(one.title)]
            lines += [line for note in one.notes for line in wrap(note, _WIDTH)]
            width = max((len(name) for name, _ in one.facts), default=0)
            lines += [f"{name:{width}}  {value}" for name, value in one.facts]
            lines += [f"  {line}" for line in one.commands]
            lines += [f"{name}: ".ljust(_WIDTH, "_") for name in one.blanks]
        return "\n".join(lines) + "\n"

    @property
    def sections(self) -> tuple[Section, ...]:
        """The parts, in order."""
        return (
            self._key(),
            Section(
                "The signer",
                ("Only copies that this key signed are genuine. It is public.",),
                (("fingerprint", self.signer.fingerprint), ("public key", self.signer.line)),
                code=self.signer.line,
            ),
            *map(_store, self.stores),
            *self._roles(),
            *self._install(),
            self._with_refnet(),
            self._by_hand(),
            Section(
                "To fill in",
                blanks=("Holder", "Place of this page", "Place of the second page", "Checked on"),
            ),
        )

    def _key(self) -> Section:
        notes: tuple[str, ...] = (
            "It decrypts every copy that was sent to its recipient.",
            "Anyone who has it and can read a store can read the copies: lock this page away.",
        )
        if self.replaces:
            notes += (f"It replaces the key of {self.replaces}; older copies need that one: keep its page.",)
        facts = (("recovery key", grouped(self.key.revealed())), ("recipient", self.recipient))
        return Section("The recovery key: secret", notes, facts, code=self.key.revealed())

    def _with_refnet(self) -> Section:
        notes = (
            "On an empty machine, as root: install RefNet and PostgreSQL, and run this; it asks for the recovery key.",
            "Give it a credential that reads the store: its file as credentials_file=FILE in the URL, or variables.",
        )
        urls = tuple(one.url_to_read for one in self.stores) or ("URL",)
        given = [
            f"--signer {self.signer.fingerprint}",
            *(f"--permit {one}" for one in self.permits.values() if one),
        ]
        lines = [
            line
            for one in urls
            for line in (
                f"refnet recover --store {quote(one)} \\",
                *(f"  {word} \\" for word in given[:-1]),
                f"  {given[-1]}",
            )
        ]
        return Section("Recover with RefNet", notes, commands=lines)

    def _install(self) -> Iterator[Section]:
        """The section that installs RefNet from a store, or says how to put the installer there."""
        title, found = "Install RefNet from a store", next(iter(self.installers.values()), None)
        if not found:
            lacks = (
                "No store has the installer of this RefNet, so the machine below needs a package registry."
            )
            yield Section(
                title,
                (lacks, "Put it there: `refnet store installer FILE --sha256 HEX`. Then print a new page."),
            )
            return
        notes = (
            "It needs Linux with glibc, python3 and no package registry. Fetch the installer from one store, as root:",
            "If sha256sum does not say OK, somebody changed the file: do not run it.",
        )
        lines = [
            line
            for one in self.stores
            if one.name in self.installers
            for line in _fetch_file(one, found.object)
        ]
        check = f"echo '{found.sha256}  refnet.pyz' | sha256sum -c && python3 -I refnet.pyz"
        facts = (("installer", found.object), ("SHA-256", found.sha256))
        yield Section(title, notes, facts, (*lines, check))

    def _roles(self) -> Iterator[Section]:
        """The section with the powers of roles, which the command permits; none without clusters."""
        listed = [(source, str(power)) for source, found in self.roles.items() for power in found or ()]
        notes: tuple[str, ...] = ()
        if listed:
            notes = (
                "The command below gives roles these powers, and no others: whoever can write a backup can ask for more.",
                "If a role gets or loses one, print a new page; `refnet check` says so.",
            )
        for source, found in self.roles.items():
            if found is None:
                notes += (
                    f"The roles of {source} are not on this page, as their server did not answer: a recovery asks.",
                )
        if notes:
            yield Section("Powers of roles", notes, tuple(listed))

    def _by_hand(self) -> Section:
        notes = ("It needs age, ssh-keygen, gzip, sed, and psql or tar. Fetch the files of a store first:",)
        lines = _BY_HAND.replace("SIGNER", self.signer.line).splitlines()
        return Section("Recover without RefNet", notes, commands=(*map(_fetch, self.stores), *lines))


def grouped(key: str) -> str:
    """A private key in groups of four characters after its prefix."""
    prefix, one, rest = key.partition("-1")
    return " ".join([prefix + one, *(rest[at : at + 4] for at in range(0, len(rest), 4))])


def _store(store: StoreSettings) -> Section:
    place = store.place
    where = {StoreKind.SFTP: "host", StoreKind.RCLONE: "remote of rclone", StoreKind.AZ: "container"}
    cloud = place.kind in {StoreKind.S3, StoreKind.GS, StoreKind.AZ}
    facts = {
        "endpoint": store.endpoint,
        where.get(place.kind, "bucket"): f"{place.user}@{place.place}" if place.user else place.place,
        "port": place.port,
        "prefix" if cloud else "folder": place.path,
        "region": store.region,
        "credential on this machine": store.credentials_file,
    }
    return Section(
        f"The store {store.name}: {place.kind}",
        facts=tuple((name, str(value)) for name, value in facts.items() if value),
        blanks=() if place.kind is StoreKind.FILE else ("A credential that reads it is kept at",),
    )


def _fetch(store: StoreSettings) -> str:
    """Command that fetches all files of a store into the folder `copies`."""
    place, url = store.place, quote(str(store.place))
    if place.kind is StoreKind.S3:
        options = {"--endpoint-url": store.endpoint, "--region": store.region}
        given = "".join(f" {name} {quote(value)}" for name, value in options.items() if value)
        return f"aws s3 sync {url} copies{given}"
    if place.kind is StoreKind.SFTP:
        host = f"[{place.place}]" if ":" in place.place else place.place
        host = f"{place.user}@{host}" if place.user else host
        folder = f"{host}:{place.path.removeprefix('~/')}"
        port = f"-P {place.port} " if place.port else ""
        return f"sftp {port}-r {quote(folder)} copies"
    azure = quote(f"https://ACCOUNT.blob.core.windows.net/{place.place}/{place.path}/*".replace("//*", "/*"))
    return {
        StoreKind.GS: f"gcloud storage rsync --recursive {url} copies",
        StoreKind.AZ: f"azcopy copy {azure} copies --recursive",
        StoreKind.RCLONE: f"rclone copy {quote(f'{place.place}:{place.path}')} copies",
        StoreKind.FILE: f"cp -r {quote(place.path)} copies",
    }[place.kind]


def _fetch_file(store: StoreSettings, name: str) -> Iterator[str]:
    """Yield the commands that fetch the object `name` as refnet.pyz. No secret is among the words of a command."""
    place = store.place
    if place.kind is StoreKind.S3:
        region = store.region or REGION
        endpoint = store.endpoint or f"https://s3.{region}.amazonaws.com"
        url = "/".join(filter(None, (endpoint, place.place, place.path, name)))
        yield f'umask 077; cat > {_CREDENTIAL}   # type: user = "ACCESS_KEY:SECRET_KEY", Enter, Ctrl-D'
        yield f"curl --fail --aws-sigv4 aws:amz:{region}:s3 --config {_CREDENTIAL} --output refnet.pyz {quote(url)}; rm {_CREDENTIAL}"
    elif place.kind is StoreKind.SFTP:
        *_, folder, _ = shlex.split(_fetch(store))
        port = f"-P {place.port} " if place.port else ""
        path = f"{folder}/{name}".replace(" ", "\\ ")  # sftp itself splits it
        yield f"sftp {port}{quote(path)} refnet.pyz"
    elif place.kind is StoreKind.AZ:
        path = "/".join(filter(None, (place.place, place.path, name)))
        yield f"azcopy copy {quote(f'https://ACCOUNT.blob.core.windows.net/{path}')} refnet.pyz"
    elif place.kind is StoreKind.GS:
        yield f"gcloud storage cp {quote(f'{place}/{name}')} refnet.pyz"
    elif place.kind is StoreKind.RCLONE:
        below = f"{place.path}/{name}" if place.path else name
        yield f"rclone copyto {quote(f'{place.place}:{below}')} refnet.pyz"
    else:
        yield f"cp {quote(f'{place.path}/{name}')} refnet.pyz"


def _qr(text: str) -> object:
    """Return the QR code of `text` as SVG for a page."""
    return Markup(segno.make_qr(text, error="q").svg_inline(omitsize=True, border=4, title="QR code"))  # noqa: S704  # segno's
