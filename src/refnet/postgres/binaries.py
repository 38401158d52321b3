"""Where PostgreSQL's programs are, by major version. The only file that knows the wheel."""
