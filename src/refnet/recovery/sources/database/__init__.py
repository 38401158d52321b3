"""The database as a source: one plain .sql.gz, parallel both ways."""
