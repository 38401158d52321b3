"""Artifacts, runs and copies, and all decisions about them. Pure: values in, values out; `now` is an argument."""
