"""The HTTP API and its server: `refnet serve`."""
