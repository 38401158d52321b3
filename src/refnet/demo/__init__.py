"""The demo: the whole story on made-up data, in a folder of its own, told by the commands that a user types."""
