"""What is protected: the database, the configuration, the vault."""
