"""The pages of the dashboard, one file each. They read through the same actions as the commands."""
