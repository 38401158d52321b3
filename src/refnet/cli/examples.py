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
    "restore database": (
        "refnet restore database --plan",
        "refnet restore database --at '2026-11-25 10:00' --force",
        "refnet restore database --table papers --mode missing",
    ),
    "restore config": (
        "refnet restore config --plan",
        "refnet restore config --only app/settings.yaml",
    ),
    "restore obsidian": (
        "refnet restore obsidian --plan",
        "refnet restore obsidian --only 'notes/My note.md'",
    ),
    "recover": (
        "refnet recover --plan",
        "refnet recover --at '2026-11-25 10:00'",
        "refnet recover --from vault --force",
    ),
}
