"""The plan, the journal and the services of a recovery."""
