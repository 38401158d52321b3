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
    "wal run": (
        "refnet wal run",
        "refnet wal run main",
    ),
    "wal status": (
        "refnet wal status",
        "refnet wal status main --json",
    ),
    "fetch": (
        "refnet fetch --store nas --plan",
        "refnet fetch database --store nas --at 2026-11-25",
    ),
    "key new": (
        "refnet key new",
        "refnet key new --page /dev/shm/page.html",
    ),
    "key rotate": (
        "refnet key rotate",
        "refnet key rotate --page /dev/shm/page.html",
    ),
    "key check": (
        "refnet key check",
        "refnet key check --identity-file /dev/shm/key",
    ),
    "show": (
        "refnet show refnet_20261125_020000.sql.gz",
        "refnet show obsidian --files 'papers/**'",
        "refnet show database --tables 'paper*' --at 2026-11-25",
    ),
    "cat": (
        "refnet cat obsidian papers/x.md",
        "refnet cat config app/settings.yaml --at 2026-11-25 > old.yaml",
    ),
    "query": (
        "refnet query database 'SELECT count(*) FROM papers'",
        "refnet query database 'TABLE papers' --at 2026-11-25 --csv",
        "refnet query old.dump 'TABLE orders' --json",
    ),
    "browse": (
        "refnet browse database",
        "refnet browse database --at 2026-11-25",
    ),
    "at": (
        "refnet at '2026-11-25 14:03:06+09:00' --source main-shop --psql",
        "refnet at 2026-11-25T14:03:06Z --source main-shop --table t --into t.sql",
    ),
    "log": (
        "refnet log obsidian/papers/x.md",
        "refnet log database/papers",
    ),
    "find": (
        "refnet find 'todo*'",
        "refnet find obsidian 'papers/**/*.md' --json",
    ),
    "restore": (
        "refnet restore database --plan",
        "refnet restore database --at '2026-11-25 10:00' --force",
        "refnet restore database --table papers --mode missing",
        "refnet restore database --as refnet_copy",
        "refnet restore database --to postgresql://backup@other/refnet --plan",
        "refnet restore config --only app/settings.yaml",
        "refnet restore obsidian --only 'notes/My note.md' --only 'papers/*.md'",
        "refnet restore obsidian --to /srv/copy",
        "refnet restore obsidian --merge --plan",
    ),
    "undo": (
        "refnet undo database --plan",
        "refnet undo obsidian --force",
    ),
    "recover": (
        "refnet recover --plan",
        "refnet recover --at '2026-11-25 10:00'",
        "refnet recover --from-stage vault --force",
        "refnet recover --store file:///mnt/nas --identity-file /dev/shm/key",
    ),
    "crawl": (
        "refnet crawl 10.18653/v1/N18-3011 --plan",
        "refnet crawl arXiv:2106.15928 --depth 2 --limit 500",
        "refnet crawl --from library.bib --plan",
        "refnet crawl",
    ),
    "find-papers": ("refnet find-papers open citation index --top 20",),
    "jobs": (
        "refnet jobs --state failed",
        "refnet jobs --retry --plan",
    ),
    "notes": (
        "refnet notes --plan",
        "refnet notes",
    ),
    "export": (
        "refnet export bibtex --to references.bib",
        "refnet export bibtex --tag thesis --top 50 --to thesis.bib",
        "refnet export csv --to network",
        "refnet export json | jq '.papers[].title'",
    ),
    "rank": (
        "refnet rank",
        "refnet rank --missing --top 50",
        "refnet rank --json",
    ),
    "summarize": (
        "refnet summarize --plan",
        "refnet summarize --limit 100",
        "refnet summarize --again",
    ),
}
