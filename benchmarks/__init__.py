"""Measure RefNet against other ways to back up and restore the same database, in one run."""
