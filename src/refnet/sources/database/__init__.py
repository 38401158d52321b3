"""Databases of PostgreSQL. `source.py` answers for one; below are:

- `artifact`: the formats, RefNet's own and foreign dumps, and what opens them
- `dump`: from a server to an artifact
- `plan`: what a restore would do; pure
- `rows`: live tables, and changes of their rows
- `restore`: from an artifact to a server in use, and back (the previous versions)
- `proof`: from an artifact to a scratch server, and every comparison
- `query`: a scratch server that answers questions
"""
