"""The services that a recovery starts and waits for: local processes, or services of a Compose project."""
