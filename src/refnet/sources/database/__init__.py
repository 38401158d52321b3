"""Databases of PostgreSQL: their artifacts, dump, restore and comparison."""
