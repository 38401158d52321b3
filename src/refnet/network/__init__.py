"""The citation network: its schema, and what fills it."""
