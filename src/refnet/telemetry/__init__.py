"""Metrics, messages and logs. A backup needs none of them, and none of them fails a backup."""
