"""Backup, proof, restore: what RefNet is for."""
