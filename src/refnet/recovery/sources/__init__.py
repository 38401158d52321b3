"""The sources: the database, the configuration, the vault."""
