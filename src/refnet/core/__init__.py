"""What everything else is built on: errors, files, locks, processes, clocks and text."""
