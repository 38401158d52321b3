"""The extensions that a server of installed programs could create, without starting it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from refnet.core.files import read_regular
from refnet.postgres.binaries import Binaries

_SUFFIX = ".control"
_LONGEST = 64 << 10
_VERSION = re.compile(rb"^[ \t]*default_version[ \t]*=[ \t]*'([^'\n]{1,100})'", re.MULTILINE)
#: Debian packages with names that `package` cannot derive from the extension.
_PACKAGES = {
    "postgis": "postgresql-{major}-postgis-3",
    "vector": "postgresql-{major}-pgvector",
    "pgaudit": "postgresql-{major}-pgaudit",
    "pgrouting": "postgresql-{major}-pgrouting",
    "pglogical": "postgresql-{major}-pglogical",
    "plpython3u": "postgresql-plpython3-{major}",
    "plperl": "postgresql-plperl-{major}",
    "plperlu": "postgresql-plperl-{major}",
    "pltcl": "postgresql-pltcl-{major}",
    "pltclu": "postgresql-pltcl-{major}",
}


def available(binaries: Binaries) -> Mapping[str, str] | None:
    """Extension → default version, "" if unknown; None if the folder of extensions is not found."""
    for folder in _folders(binaries):
        try:
            names = os.listdir(folder)  # noqa: PTH208  # names alone
        except OSError:
            continue
        found = [name for name in names if name.endswith(_SUFFIX)]
        return {name.removesuffix(_SUFFIX): _version(folder / name) for name in found}
    return None


def _folders(binaries: Binaries) -> Iterator[Path]:
    """Yield the possible folders of extension files: Debian's, then those of other builds."""
    above = binaries.folder.parent
    if above == Path("/usr/lib/postgresql", str(binaries.major)):
        yield Path("/usr/share/postgresql", str(binaries.major), "extension")
    yield from (above / "share" / "extension", above / "share" / "postgresql" / "extension")


def _version(control: Path) -> str:
    with suppress(OSError):
        found = _VERSION.search(read_regular(control, _LONGEST))
        return found[1].decode("utf-8", "replace") if found else ""
    return ""


def package(name: str, major: int) -> str:
    """Guess the Debian package of an extension."""
    family = name.split("_", maxsplit=1)[0] if name.startswith(("postgis_", "pgrouting")) else name
    known = _PACKAGES.get(family)
    plain = name.removeprefix("pg_").replace("_", "-")
    return known.format(major=major) if known else f"postgresql-{major}-{plain}"
