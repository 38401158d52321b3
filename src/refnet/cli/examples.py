"""The examples at the end of a command's help."""

#: The command → its examples.
EXAMPLES = {
    "init": (
        "refnet init",
        "refnet init --plan",
        "refnet init --database-url postgresql://db/shop --backup-dir /srv/b --yes",
    ),
    "check": (
        "refnet check",
        "refnet check --json",
    ),
    "backup": (
        "refnet backup",
        "refnet backup database --jobs 4",
        "refnet backup --table papers --to /mnt/disk",
    ),
    "restore": (
        "refnet restore database --plan",
        "refnet restore database --at '2026-11-25 10:00' --force",
        "refnet restore database --table papers --mode missing",
        "refnet restore config --only app/settings.yaml",
        "refnet restore obsidian --only 'notes/My note.md'",
    ),
    "undo": (
        "refnet undo database --plan",
        "refnet undo obsidian --force",
    ),
    "recover": (
        "refnet recover --plan",
        "refnet recover --at '2026-11-25 10:00'",
        "refnet recover --from vault --force",
    ),
}
