"""SQLite databases: files of programs, backed up while the programs run."""
