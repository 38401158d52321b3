"""Speaks to PostgreSQL and knows nothing of backups."""
