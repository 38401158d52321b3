"""What a recovery starts and waits for: processes of this machine, or the services of a Compose project."""
