"""One file a verb: settings and arguments in, a result out. Whatever runs RefNet calls these."""
