"""Folders: their archives, restore and comparison."""
