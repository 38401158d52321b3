"""Metrics, messages and logs. Failures here never fail a backup."""
