"""Basics without knowledge of backups: errors, files, locks, processes, clocks and text."""
