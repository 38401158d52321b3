"""The plan and the services of a recovery."""
