"""The demo: the complete story on made-up data, in a separate folder, told with the commands of a user.

Also the data: made-up papers (`sample.py`, also `refnet network sample`), and the fake providers that serve them.
"""
