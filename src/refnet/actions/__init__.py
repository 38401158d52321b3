"""A file per verb, or for a few that belong together: settings and arguments in, a result out. Whatever runs RefNet calls these."""
