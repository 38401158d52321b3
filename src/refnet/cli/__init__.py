"""A file per command, or for a few that belong together: parse, call, print."""
