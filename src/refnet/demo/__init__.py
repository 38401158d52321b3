"""The demo: the complete story on made-up data, in a separate folder, by the commands that a user types.

The data too: made-up papers (`sample.py`, also `refnet network sample`), and the fake providers that serve them.
"""
