"""RefNet: a citation network in PostgreSQL, and backups that prove themselves by being restored."""

__version__ = "0.1.0"
