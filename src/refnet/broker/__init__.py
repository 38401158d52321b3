"""Speaks to the broker that hands tasks to workers (Redis or Valkey); knows nothing of backups."""
