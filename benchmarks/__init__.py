"""Measures RefNet beside the other ways to back up and restore the same database, in one run."""
