"""A whole server, to any second: base backups, and the stream of its WAL."""
