"""Roles and tablespaces of a server."""
