"""The sources `config` and `obsidian`: folders as plain tar.gz archives, each with its list of files."""
