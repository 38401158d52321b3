"""Restores and undos, one per file, given sources, stores and values."""
