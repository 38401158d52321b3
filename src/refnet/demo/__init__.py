"""The demo: the complete story on made-up data, in a separate folder, by the commands that a user types."""
