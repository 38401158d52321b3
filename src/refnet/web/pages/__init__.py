"""The pages of the dashboard, one file each. They call the same actions as the commands."""
