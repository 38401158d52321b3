"""SQLite databases: a file of a program, snapshot while the program runs."""
