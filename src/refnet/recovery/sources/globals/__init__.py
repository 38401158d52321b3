"""The roles and tablespaces of a server: what no dump of one database holds."""
