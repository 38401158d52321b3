"""RefNet: a citation network in PostgreSQL, and backups that prove themselves by being restored."""
