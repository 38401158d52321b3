"""What is known of artifacts, runs and copies, and what follows from it: pure; `now` is an argument."""
