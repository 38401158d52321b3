"""Stores of artifacts."""
