"""PostgreSQL clusters that RefNet itself makes, starts and stops: the embedded one, and scratch ones."""
